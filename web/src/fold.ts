// Many that are alike as one: the targets of a Prometheus, the addresses
// without a probe around an overview.

import { type Edge, hash, type Model } from './model.ts'

/** More than so many that are alike are drawn as one. */
const ALIKE = 12
/** The same of peers, where there are more than so many. */
const FEW = 3

/** A line before it is drawn: the edges between two nodes, by their places. */
export interface Bundle {
  active: number
  passive: number
  edges: Edge[]
}

/** Nodes that are drawn as one. */
export interface Fold {
  members: number[]
  key: string
  title: string
  place: string
  /** What they have in common. */
  why: string
}

/** `:80 :443 …`: what edges lead to, by their passive ports; so many of them. */
export function portsOf(edges: Edge[], most = 3): string {
  const only = edges.length === 1 ? edges[0]?.look : undefined
  if (only !== undefined) return named(only.protocol, only.port)
  const all = new Set<string>()
  let more = false
  for (const { look, link } of edges) {
    if (look !== undefined) all.add(named(look.protocol, look.port))
    for (const { protocol, port } of link?.ports ?? []) all.add(named(protocol, port))
    more ||= Number(link?.ports_more ?? 0) > 0
  }
  const sorted = [...all].sort((a, b) => Number(a.replace(/\D+/g, '')) - Number(b.replace(/\D+/g, '')) || (a < b ? -1 : 1))
  return sorted.slice(0, most).join(' ') + (more || sorted.length > most ? ' …' : '')
}

const named = (protocol: string, port: number): string => (protocol === 'tcp' ? `:${port}` : `:${port}/${protocol}`)

/** What is seen of a line: one that looks otherwise is never hidden among others. */
function looks({ edges }: Bundle): string {
  const each = edges.map(({ state, told, change, directed }) => `${state} ${told === 'both'} ${change} ${directed}`)
  return `${portsOf(edges)} ${each.length === 1 ? each[0] : [...new Set(each)].sort().join()}`
}

/**
 * Nodes that are alike in all that is drawn of them: who they are but for where,
 * whom they talk with, and how. In an overview, addresses without a probe that
 * are called at the same ports, too: each host may have its own of them.
 */
export function folds(model: Model, shown: number[], lines: Bundle[], badges: (node: number) => string): Fold[] {
  const isCandidate = candidates(model, shown, lines)
  const around = new Map<number, string[]>()
  const called = new Map<number, Edge[]>()
  for (const line of lines) {
    if (isCandidate[line.active] === 0 && isCandidate[line.passive] === 0) continue
    const [active, passive] = [model.nodes[line.active], model.nodes[line.passive]]
    const how = looks(line)
    add(around, line.active, [`> ${passive?.key} ${how}`])
    add(around, line.passive, [`< ${active?.key} ${how}`])
    add(called, line.passive, line.edges)
  }
  const isPeer = (place: number): boolean => model.folded && model.nodes[place]?.kind === 'peer'
  const manyPeers = shown.filter(isPeer).length > ALIKE
  const alike = new Map<string, number[]>()
  const peers = new Map<string, number[]>()
  for (const place of shown) {
    if (isCandidate[place] === 0) continue
    const node = model.nodes[place]
    const lines = around.get(place) ?? []
    const hubs = badges(place)
    if (node === undefined || (lines.length === 0 && hubs === '') || node.root || node.kind === 'others') continue
    // Without a probe nothing but its place and ports is known of it.
    const who = [node.kind, node.change, node.probe ? node.title : node.place, hubs]
    if (manyPeers && isPeer(place)) add(peers, [...who, portsOf(called.get(place) ?? [])].join('\n'), [place])
    else add(alike, [...who, ...lines.sort()].join('\n'), [place])
  }
  const many = [...alike].filter(([, members]) => members.length > ALIKE)
  const some = [...peers].filter(([, members]) => members.length > FEW)
  const made = (why: string) => ([name, members]: [string, number[]]): Fold[] => fold(model, name, members, portsOf(called.get(members[0] ?? -1) ?? [], 2), why)
  return [
    ...many.flatMap(made('the same name, port, neighbours and state')),
    ...some.flatMap(made('no probe, and the ports that they are called at')),
  ]
}

/**
 * Those that could be alike, by sums of their neighbours: to write down what is
 * seen of each of 20,000 lines takes longer than to draw them.
 */
function candidates(model: Model, shown: number[], lines: Bundle[]): Uint8Array {
  const sum = new Float64Array(model.nodes.length)
  for (const { active, passive } of lines) {
    sum[active] = (sum[active] ?? 0) + 2 * passive + 2
    sum[passive] = (sum[passive] ?? 0) + 2 * active + 3
  }
  const alike = new Map<string, number[]>()
  const is = new Uint8Array(model.nodes.length)
  for (const place of shown) {
    const node = model.nodes[place]
    if (model.folded) is[place] = 1
    else if (node !== undefined) add(alike, `${sum[place]} ${node.probe ? node.title : ''}`, [place])
  }
  for (const places of alike.values()) if (places.length > ALIKE) for (const place of places) is[place] = 1
  return is
}

function add<K, T>(all: Map<K, T[]>, key: K, more: T[]): void {
  const list = all.get(key)
  if (list === undefined) all.set(key, [...more])
  else for (const one of more) list.push(one)
}

function fold(model: Model, name: string, members: number[], ports: string, why: string): Fold[] {
  const first = model.nodes[members[0] ?? -1]
  if (first === undefined) return []
  const hosts = new Set(members.map((member) => model.nodes[member]?.look?.host_id)).size
  const who = first.probe ? first.title : 'peers'
  const title = ports === '' || who.includes(ports) ? who : `${who} ${ports}`
  return [
    {
      members,
      // By what they have in common, not by who they are: one more makes no other.
      key: `${title.slice(0, 40)}@many~${hash(name)}`,
      title: first.probe ? `${members.length} × ${title}` : `${members.length} ${title}`,
      place: !first.probe || hosts === 1 ? first.place : `on ${hosts} hosts`,
      why,
    },
  ]
}
