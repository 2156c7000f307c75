// An answer as nodes and edges that the graph, the table and the filter share.

import type { Answer, Difference, Group, Groups, Link, Look, LookEdge, LookNode, Rise, Who } from './types.ts'
import { end, number, visible } from './text.ts'

export type EdgeState = 'alive' | 'failing' | 'ended' | 'silent'
/**
 * `unknown`: nobody who could tell was heard at the other time. `unsure`: at
 * one time only, and no difference: it comes and goes, or was another's.
 */
export type Change = 'same' | 'new' | 'gone' | 'changed' | 'unknown' | 'unsure'
export type Told = 'both' | 'active' | 'passive'

export interface Node {
  /** The same in every answer that has it. */
  key: string
  kind: 'process' | 'unseen' | 'peer' | 'group' | 'others'
  probe: boolean
  root: boolean
  /** Who, made visible. */
  title: string
  /** Where, made visible. */
  place: string
  /** How many nodes it stands for. */
  weight: number
  change: Change
  look?: LookNode
  group?: Group
}

export interface Edge {
  key: string
  active: number
  passive: number
  directed: boolean
  state: EdgeState
  told: Told
  /** How many edges it stands for. */
  count: number
  change: Change
  first: number
  last: number
  look?: LookEdge
  link?: Link
  /** At the other time, where it was there. */
  was?: Edge
  /** What the collector says of the two times. */
  differences?: Difference[]
  /** It is no edge, but a listener that differs. */
  listens?: Difference
}

export interface Model {
  nodes: Node[]
  edges: Edge[]
  /** By key. */
  at: Map<string, number>
  edgeAt: Map<string, number>
  folded: boolean
  /** What it is folded by. */
  by: string
  /** It is of two times. */
  compared: boolean
  /** Nothing of it was cut, and it is of everything: a walk in it is right. */
  whole: boolean
  /** The end of its window: when it was answered, where that is open. */
  until: number
  /** It is of a time that is over: no clock moves it. */
  past: boolean
  /** It is of a part of the time that is kept. */
  windowed: boolean
}

/** How far apart in time a host's words may be: `TOLERANCE` in src/look.rs. */
const TOLERANCE = 120_000

/** 53 bits of a text, in 36 digits: enough to tell the nodes of one answer apart. */
export function hash(text: string): string {
  let a = 0xdeadbeef
  let b = 0x41c6ce57
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    a = Math.imul(a ^ code, 2654435761)
    b = Math.imul(b ^ code, 1597334677)
  }
  a = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909)
  b = Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(a ^ (a >>> 13), 3266489909)
  return (4294967296 * (2097151 & b) + (a >>> 0)).toString(36)
}

/** Makes keys differ that are the same: the second gets `+2`. */
function distinct(): (key: string) => string {
  const seen = new Map<string, number>()
  return (key) => {
    const times = (seen.get(key) ?? 0) + 1
    seen.set(key, times)
    return times === 1 ? key : `${key}+${times}`
  }
}

/** Process groups are not part of it: a restart would make another node. */
export function keyOf(node: Who): string {
  const { process, host_id, scope, port } = node
  const address = node.probe ? undefined : node.address
  const all = [host_id, scope, port, address, process?.name, process?.exe, process?.user, process?.unit, process?.container, process?.pod]
  const who = process?.name ?? (port === undefined ? '' : `:${port}`)
  const where = node.host ?? address ?? ''
  return `${who.slice(0, 32)}@${where.slice(0, 32)}~${hash(JSON.stringify(all))}`
}

export function titleOf(node: LookNode): string {
  if (node.process !== undefined) return visible(node.process.name)
  if (node.probe) return node.port === undefined ? 'process not seen' : `:${node.port} (process not seen)`
  return end(node.address ?? '', node.port)
}

export function placeOf(node: LookNode): string {
  const label = node.label?.name
  if (!node.probe && label !== undefined) return `${visible(label)}, no probe there`
  if (!node.probe) return (node.claimed_by?.length ?? 0) > 0 ? 'address of several hosts' : 'no probe there'
  const host = visible(label ?? node.host ?? node.host_id ?? '')
  return node.scope === undefined || node.scope === '' ? host : `${host} [${visible(node.scope).slice(0, 24)}]`
}

/** What was counted: in the time that is looked at, or in all, where that is all. */
export function countedOf({ look }: Edge, { windowed }: Model): Partial<Rise> {
  return (windowed ? look?.window : look) ?? {}
}

/** Payload both ways, as far as it is counted. */
export function bytesOf(edge: Edge, model: Model): number | undefined {
  const { bytes_to_passive, bytes_to_active } = countedOf(edge, model)
  const [to, from] = [number(bytes_to_passive), number(bytes_to_active)]
  return to === undefined && from === undefined ? undefined : (to ?? 0) + (from ?? 0)
}

/** It went on after the time that is looked at: what is known beside its sums is of later. */
export function isLater(edge: Edge, model: Model): boolean {
  return model.past && edge.last > model.until
}

/** Connections that were open when it was last seen; of a time that is over, where that was then. */
export function openOf(edge: Edge, model: Model): number | undefined {
  return isLater(edge, model) ? undefined : number(edge.look?.open)
}

/** What an edge was like at the end of the window, not now. */
function stateOf(edge: LookEdge, until: number | null): EdgeState {
  if (until === null) return edge.state
  const last = Date.parse(edge.last_seen)
  const lived = edge.state === 'ended' ? last >= until : last >= until - TOLERANCE
  if (!lived) return edge.state
  return failedBy(edge, last, until) ? 'failing' : 'alive'
}

/** Whether it failed then: what is kept of an edge beside its sums is only how it was last. */
function failedBy(edge: LookEdge, last: number, until: number): boolean {
  if (last <= until) return edge.failing
  const [opened, failed] = [number(edge.window?.opened), number(edge.window?.failed)]
  return failed !== undefined && failed > 0 && failed >= (opened ?? 0)
}

function ofLook(answer: Look, ofGroup: boolean): Model {
  const differ = distinct()
  const places = new Map<number, number>()
  const nodes = answer.nodes.map((look, place): Node => {
    places.set(look.id, place)
    return {
      key: differ(keyOf(look)),
      kind: look.process !== undefined ? 'process' : look.probe ? 'unseen' : 'peer',
      probe: look.probe,
      // Of all that is known nothing was asked for before the rest; a group is a part of it.
      root: look.root && (ofGroup || answer.query.selector.kind !== 'all'),
      title: titleOf(look),
      place: placeOf(look),
      weight: 1,
      change: 'same',
      look,
    }
  })
  const until = answer.query.until === undefined ? null : Date.parse(answer.query.until)
  const differEdges = distinct()
  const edges = answer.edges.map((look): Edge => {
    const active = places.get(look.active) ?? 0
    const passive = places.get(look.passive) ?? 0
    const port = `${look.protocol}/${look.active_port === undefined ? '' : `${look.active_port}-`}${look.port}`
    return {
      key: differEdges(`${nodes[active]?.key} > ${nodes[passive]?.key} ${port}`),
      active,
      passive,
      directed: look.direction === 'known',
      state: stateOf(look, until),
      told: look.told_by,
      count: 1,
      change: 'same',
      first: Date.parse(look.first_seen),
      last: Date.parse(look.last_seen),
      look,
    }
  })
  return model(nodes, edges, answer, !ofGroup && answer.query.selector.kind === 'all', '')
}

function ofGroups(answer: Groups): Model {
  const nodes = answer.groups.map((group): Node => {
    const others = group.kind === 'others'
    const none = group.kind === 'none'
    const title = others ? `${group.groups} other groups` : none ? `no ${answer.by} known` : visible(group.name)
    const many = `${group.nodes} ${number(group.nodes) === 1 ? 'node' : 'nodes'}`
    return {
      key: `${group.kind}:${group.value ?? ''}`,
      kind: others ? 'others' : group.kind === 'address' ? 'peer' : 'group',
      probe: group.probe,
      root: false,
      title,
      place: group.kind === 'address' ? 'no probe there' : many,
      weight: number(group.nodes) ?? 1,
      change: 'same',
      group,
    }
  })
  const edges = answer.links.map((link): Edge => {
    const some = (count: string | number): boolean => Number(count) > 0
    return {
      key: `${nodes[link.active]?.key} > ${nodes[link.passive]?.key}`,
      active: link.active,
      passive: link.passive,
      directed: Number(link.direction_unknown) < Number(link.edges),
      // Failing is what every attempt of fails: what has ended makes none.
      state: some(link.alive) ? 'alive' : some(link.silent) ? 'silent' : some(link.failing) ? 'failing' : 'ended',
      told: some(link.told_by_both) ? 'both' : some(link.told_by_active) ? 'active' : 'passive',
      count: Number(link.edges),
      change: 'same',
      first: Date.parse(link.first_seen),
      last: Date.parse(link.last_seen),
      link,
    }
  })
  return model(nodes, edges, answer, false, answer.by)
}

/** `4 of 308 failing`, where some edges of a link fail and others do not. */
export function someFail({ link }: Edge): string | null {
  const failing = Number(link?.failing ?? 0)
  return link === undefined || failing === 0 || failing === Number(link.edges) ? null : `${failing} of ${link.edges} failing`
}

function model(nodes: Node[], edges: Edge[], answer: Answer, everything: boolean, by: string): Model {
  const { cut, query } = answer
  const uncut = [cut.hosts, cut.addresses, cut.edges].every((count) => Number(count) === 0)
  return {
    nodes,
    edges,
    at: new Map(nodes.map((node, place) => [node.key, place])),
    edgeAt: new Map(edges.map((edge, place) => [edge.key, place])),
    folded: by !== '',
    by,
    compared: false,
    whole: uncut && everything,
    until: Date.parse(query.until ?? answer.generated),
    past: query.until !== undefined,
    windowed: query.since !== undefined || query.until !== undefined,
  }
}

/** `ofGroup`: it was asked what is around the nodes of one group. */
export function modelOf(answer: Answer, ofGroup = false): Model {
  return answer.schema === 'shawk.groups/1' ? ofGroups(answer) : ofLook(answer, ofGroup)
}

/** What a walk came to: edges by their places, and how far each node is. */
export interface Walked {
  edges: number[]
  /** Steps to a root: below zero for what depends on it. */
  far: Map<number, number>
}

/** Breadth first from the roots, as src/graph/walk.rs: up goes further up, down further down. */
export function walk(model: Model, roots: number[], depth: number, ways: string): Walked {
  const far = new Map<number, number>(roots.map((root) => [root, 0]))
  const taken = new Set<number>()
  for (const way of ['up', 'down'] as const) {
    if (ways !== 'both' && ways !== way) continue
    const lead = adjacency(model, way)
    const visited = new Set<number>(roots)
    let front = roots
    for (let step = 1; step <= depth && front.length > 0; step++) {
      const next: number[] = []
      for (const node of front) {
        for (const [edge, to] of lead.get(node) ?? []) {
          taken.add(edge)
          if (visited.has(to)) continue
          visited.add(to)
          next.push(to)
          const before = far.get(to)
          if (before === undefined || Math.abs(before) > step) far.set(to, way === 'up' ? -step : step)
        }
      }
      front = next
    }
  }
  return { edges: [...taken].sort((a, b) => a - b), far }
}

type Adjacency = Map<number, [number, number][]>
const known = new WeakMap<Edge[], Partial<Record<'up' | 'down', Adjacency>>>()

/** By node, the edges that lead on from it and to where; made once a model. */
function adjacency(model: Model, way: 'up' | 'down'): Adjacency {
  const made = known.get(model.edges) ?? {}
  known.set(model.edges, made)
  const there = made[way]
  if (there !== undefined) return there
  const all: Adjacency = new Map()
  const add = (from: number, edge: number, to: number): void => {
    const list = all.get(from)
    if (list === undefined) all.set(from, [[edge, to]])
    else list.push([edge, to])
  }
  model.edges.forEach((edge, place) => {
    const [near, far] = way === 'up' ? [edge.passive, edge.active] : [edge.active, edge.passive]
    add(near, place, far)
    if (!edge.directed && near !== far) add(far, place, near)
  })
  made[way] = all
  return all
}

/** Only these edges of a model, with the nodes that they need and the roots. */
export function part(whole: Model, edges: number[], roots: number[]): Model {
  const kept = new Set<number>(roots)
  for (const place of edges) {
    const edge = whole.edges[place]
    if (edge !== undefined) kept.add(edge.active).add(edge.passive)
  }
  const order = [...kept].sort((a, b) => a - b)
  const places = new Map(order.map((old, place) => [old, place]))
  const isRoot = new Set(roots)
  const nodes = order.flatMap((old): Node[] => {
    const node = whole.nodes[old]
    return node === undefined ? [] : [{ ...node, root: isRoot.has(old) }]
  })
  const some = edges.flatMap((place): Edge[] => {
    const edge = whole.edges[place]
    if (edge === undefined) return []
    return [{ ...edge, active: places.get(edge.active) ?? 0, passive: places.get(edge.passive) ?? 0 }]
  })
  return {
    ...whole,
    nodes,
    edges: some,
    at: new Map(nodes.map((node, place) => [node.key, place])),
    edgeAt: new Map(some.map((edge, place) => [edge.key, place])),
    whole: false,
  }
}

/** Fewest neighbours of a hub. */
const HUB = 16
/** Most hubs: more of them would hide the graph. */
const MAX_HUBS = 12

/** Nodes with so many neighbours that their edges would hide all others; by place, with how many. */
export function hubs(model: Model): Map<number, number> {
  const neighbours = new Map<number, Set<number>>()
  const add = (node: number, other: number): void => {
    const set = neighbours.get(node)
    if (set === undefined) neighbours.set(node, new Set([other]))
    else set.add(other)
  }
  for (const edge of model.edges) {
    if (edge.active === edge.passive) continue
    add(edge.active, edge.passive)
    add(edge.passive, edge.active)
  }
  const degrees = [...neighbours.values()].map((set) => set.size).sort((a, b) => a - b)
  const usual = degrees[Math.floor(degrees.length * 0.9)] ?? 0
  const least = Math.max(HUB, 1.5 * usual, model.nodes.length / 12)
  const many = [...neighbours]
    .map(([node, set]): [number, number] => [node, set.size])
    .filter(([node, size]) => {
      const there = model.nodes[node]
      return size >= least && there !== undefined && !there.root && there.kind !== 'others'
    })
  const key = (node: number): string => model.nodes[node]?.key ?? ''
  many.sort((a, b) => b[1] - a[1] || (key(a[0]) < key(b[0]) ? -1 : 1))
  return new Map(many.slice(0, MAX_HUBS))
}
