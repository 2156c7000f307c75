// Two times as one model. What is new, gone or changed is what the collector
// concludes of the records (`shawk diff`): two answers laid side by side would
// take a restart, a pause or a silent host for a difference.

import { bitsOf } from './filter.ts'
import { type Change, type Edge, keyOf, type Model, type Node, titleOf, placeOf } from './model.ts'
import { moment, visible } from './text.ts'
import type { Cut, Diff, Difference, Who } from './types.ts'

/** Hosts that are named one by one. */
const LISTED = 8

/** What the picture of two times leaves out, in words. */
export interface Compared {
  model: Model
  notes: string[]
}

const CHANGES: Record<Difference['change'], Change> = { new: 'new', gone: 'gone', fails: 'changed', works: 'changed', process: 'changed' }

const plural = (count: number, one: string, many: string): string => `${count} ${count === 1 ? one : many}`

/** What edges have in common that the collector takes for one. */
function baseOf(active: Who, passive: Who, protocol: string, port: number): string {
  return `${keyOf(active)} > ${keyOf(passive)} ${protocol}/${port}`
}

/** Both times in one: what is at one of them only is there, too. */
function together(now: Model, then: Model): { nodes: Node[]; at: Map<string, number>; edges: Edge[]; before: Map<string, Edge> } {
  const nodes = now.nodes.map((node): Node => ({ ...node }))
  const at = new Map(now.at)
  for (const node of then.nodes) {
    if (at.has(node.key)) continue
    at.set(node.key, nodes.length)
    nodes.push({ ...node })
  }
  const before = new Map(then.edges.map((edge) => [edge.key, edge]))
  const edges = now.edges.map((edge): Edge => {
    const was = before.get(edge.key)
    return was === undefined ? { ...edge } : { ...edge, was }
  })
  for (const edge of then.edges) {
    if (now.edgeAt.has(edge.key)) continue
    const place = (node: number): number => at.get(then.nodes[node]?.key ?? '') ?? 0
    edges.push({ ...edge, active: place(edge.active), passive: place(edge.passive) })
  }
  return { nodes, at, edges, before }
}

/** `now` and `then` with what the collector says of the two. */
export function compare(now: Model, then: Model, diff: Diff): Compared {
  const { nodes, at, edges, before } = together(now, then)
  const silent = { from: new Set<string>(), to: new Set<string>() }
  for (const one of diff.unheard) (one.at === diff.to ? silent.to : silent.from).add(one.host ?? '')
  const found = now.folded ? ofGroups(nodes, at, edges, diff, now.by) : ofEdges(nodes, at, edges, diff)
  let dropped = 0
  const touched = new Map<number, Set<Change>>()
  const kept: Edge[] = []
  for (const edge of edges) {
    const isNow = now.edgeAt.has(edge.key)
    const isThen = before.has(edge.key)
    const changes = new Set(edge.differences?.map((one) => CHANGES[one.change]))
    if (changes.size > 0) edge.change = conclusion(changes, isNow, isThen, now.folded)
    else if (isNow !== isThen) {
      const hosts = [edge.active, edge.passive].map((end) => nodes[end]?.look?.host ?? nodes[end]?.group?.name)
      const unheard = hosts.some((host) => host !== undefined && (isNow ? silent.from : silent.to).has(host))
      edge.change = unheard ? 'unknown' : 'unsure'
      if (!isNow && !unheard) {
        dropped++
        continue
      }
    }
    for (const end of [edge.active, edge.passive]) touched.set(end, (touched.get(end) ?? new Set()).add(edge.change))
    kept.push(edge)
  }
  nodes.forEach((node, place) => {
    const changes = touched.get(place)
    if (!now.at.has(node.key)) node.change = changes?.has('gone') === true ? 'gone' : 'unknown'
    else if (!then.at.has(node.key) && changes?.has('new') === true) node.change = 'new'
  })
  // What stands there for edges that are not shown is not shown either.
  const ends = new Set(kept.flatMap((edge) => [edge.active, edge.passive]))
  const places = new Map<number, number>()
  const all = nodes.filter((node, place) => {
    const is = now.at.has(node.key) || ends.has(place)
    if (is) places.set(place, places.size)
    return is
  })
  const moved = kept.map((edge): Edge => ({ ...edge, active: places.get(edge.active) ?? 0, passive: places.get(edge.passive) ?? 0 }))
  const model: Model = {
    ...now,
    nodes: all,
    edges: moved,
    at: new Map(all.map((node, place) => [node.key, place])),
    edgeAt: new Map(moved.map((edge, place) => [edge.key, place])),
    whole: now.whole && then.whole,
    compared: true,
  }
  return { model, notes: notes(diff, found, dropped) }
}

/** What became of an edge or link with these differences. */
function conclusion(changes: Set<Change>, isNow: boolean, isThen: boolean, folded: boolean): Change {
  const only = changes.size === 1 ? [...changes][0] : undefined
  // A group's link that goes on has changed, whatever of it is new or gone.
  if (only !== undefined && (!folded || (only === 'new' ? !isThen : only === 'gone' ? !isNow : true))) return only
  return 'changed'
}

/** Hands each difference to its edge; how many have none. */
function ofEdges(nodes: Node[], at: Map<string, number>, edges: Edge[], diff: Diff): number {
  const known = new Map<string, Edge[]>()
  for (const edge of edges) {
    const [active, passive, look] = [nodes[edge.active]?.look, nodes[edge.passive]?.look, edge.look]
    if (active === undefined || passive === undefined || look === undefined) continue
    const base = baseOf(active, passive, look.protocol, look.port)
    known.set(base, [...(known.get(base) ?? []), edge])
  }
  let outside = 0
  for (const one of diff.items) {
    if (one.active === undefined) {
      listener(nodes, at, edges, one)
      continue
    }
    const same = known.get(baseOf(one.active, one.passive, one.protocol, one.port))
    if (same === undefined) outside++
    for (const edge of same ?? []) edge.differences = [...(edge.differences ?? []), one]
  }
  return outside
}

/** What differs of a listener is a row of its own, and no line. */
function listener(nodes: Node[], at: Map<string, number>, edges: Edge[], one: Difference): void {
  const key = keyOf(one.passive)
  let place = at.get(key)
  if (place === undefined) {
    place = nodes.length
    at.set(key, place)
    const look = { id: -1, root: false, ...one.passive }
    nodes.push({
      key,
      kind: one.passive.process === undefined ? 'unseen' : 'process',
      probe: one.passive.probe,
      root: false,
      title: titleOf(look),
      place: placeOf(look),
      weight: 1,
      change: 'same',
      look,
    })
  }
  edges.push({
    key: `${key} listens ${one.protocol}/${one.address}:${one.port}`,
    active: place,
    passive: place,
    directed: true,
    state: one.change === 'gone' ? 'ended' : 'alive',
    told: 'passive',
    count: 1,
    change: 'same',
    first: Date.parse(one.first_seen),
    last: Date.parse(one.last_seen ?? one.first_seen),
    listens: one,
    differences: [one],
  })
}

/** The same for links between groups. */
function ofGroups(nodes: Node[], at: Map<string, number>, edges: Edge[], diff: Diff, by: string): number {
  const links = new Map(edges.map((edge) => [`${edge.active} ${edge.passive}`, edge]))
  const subnets = nodes.flatMap((node, place): [string, number][] => {
    const [address = '', prefix = ''] = (node.group?.kind === 'subnet' ? (node.group.value ?? '') : '').split('/')
    const bits = bitsOf(address)
    return bits === null ? [] : [[bits.slice(0, Number(prefix)), place]]
  })
  const others = at.get('others:')
  const placeOfEnd = (who: Who, used: string | undefined): number | undefined => {
    const host = `host:${who.host_id ?? ''}`
    const { process, label } = who
    const alone = (): number | undefined => at.get(who.probe ? host : `address:${who.address ?? ''}`)
    const some = (kind: string, value: string | undefined): number | undefined => at.get(value === undefined ? 'none:' : `${kind}:${value}`)
    if (by === 'label' && (label !== undefined || who.probe)) return some('label', label?.group ?? label?.role ?? label?.name)
    if (by === 'subnet') {
      const bits = bitsOf(used ?? who.address ?? '')
      const within = bits === null ? undefined : subnets.find(([network]) => bits.startsWith(network))
      return within?.[1] ?? alone()
    }
    if (!who.probe || by === 'host') return alone()
    if (by === 'unit') return some('unit', process?.unit)
    if (by === 'process') return some('process', process?.name)
    return process?.container === undefined ? at.get(host) : at.get(`container:${process.container}`)
  }
  let outside = 0
  for (const one of diff.items) {
    const passive = placeOfEnd(one.passive, one.address) ?? others
    const active = one.active === undefined ? passive : (placeOfEnd(one.active, one.active_address) ?? others)
    const link = one.active === undefined ? undefined : links.get(`${active} ${passive}`)
    if (link === undefined) outside++
    else link.differences = [...(link.differences ?? []), one]
  }
  return outside
}

/** A line a host for the first of them; how many there are beyond is counted. */
function listed<T extends { host?: string }>(all: T[], total: number, line: (one: T, host: string) => string): string[] {
  const lines = all.slice(0, LISTED).map((one) => `unknown: ${line(one, one.host === undefined ? 'a host' : visible(one.host))}`)
  return total > LISTED ? [...lines, `unknown: and of ${total - LISTED} more`] : lines
}

/** What limits left out of one of the two times, before they were compared. */
function cut({ hosts, addresses, edges, window }: Cut, when: string): string[] {
  return [
    ...(Number(hosts) > 0 ? [`cut: ${hosts} hosts were not looked at ${when}: too many`] : []),
    ...(Number(addresses) > 0 ? [`cut: ${addresses} addresses without a probe were not looked at ${when}: too many`] : []),
    ...(Number(edges) > 0 ? [`cut: ${edges} edges were not compared ${when}: too many`] : []),
    ...(window === true ? [`cut: what was counted ${when} is too much; choose a shorter time`] : []),
  ]
}

function notes(diff: Diff, outside: number, dropped: number): string[] {
  const forgotten = diff.forgotten ?? []
  const all = [
    ...listed(diff.unheard, Number(diff.unheard_total), ({ at, things }, host) => `${things} of ${host}, which was not heard ${at === diff.to ? 'now' : 'then'}`),
    ...listed(forgotten, forgotten.length, ({ since }, host) => `what was of ${host} before ${moment(since)}: nobody watched it, or 'shawk prune' forgot it`),
    ...cut(diff.cut, 'now'),
    ...cut(diff.cut_before, 'then'),
  ]
  const untold = Number(diff.total) - diff.items.length
  if (untold > 0) all.push(`cut: ${plural(untold, 'difference is', 'differences are')} not shown; choose less`)
  if (outside > 0) all.push(`${plural(outside, 'difference is', 'differences are')} outside of what is shown`)
  const rare = Number(diff.occasional) + Number(diff.undecided)
  if (rare > 0) all.push(`${rare} come and go, of which two times say nothing`)
  if (dropped > 0) all.push(`${plural(dropped, 'edge', 'edges')} of then only not shown: they come and go, or go on as others`)
  return all
}
