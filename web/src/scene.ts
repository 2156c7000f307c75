// A model as it is drawn: hubs become badges, edges between the same two
// nodes one line, every node gets its place.

import { around, levels } from './layout.ts'
import { type Change, type Edge, type EdgeState, type Model, hubs } from './model.ts'
import { short } from './text.ts'

export interface SceneNode {
  key: string
  x: number
  y: number
  size: number
  title: string
  place: string
  /** Hubs that it is connected with. */
  badges: string[]
  hollow: boolean
  root: boolean
  change: Change
}

export interface SceneLine {
  key: string
  active: string
  passive: string
  state: EdgeState
  oneEnd: boolean
  directed: boolean
  change: Change
  size: number
  /** Edges it stands for, by their keys. */
  edges: string[]
}

export interface Hub {
  key: string
  title: string
  place: string
  neighbours: number
}

export interface Scene {
  nodes: SceneNode[]
  lines: SceneLine[]
  hubs: Hub[]
}

/**
 * Up to so many lines each has dots and an arrow. Beyond, they are thin and
 * plain, and what has ended is pale.
 */
export const MAX_FINE = 4000

/** Letters of a name beside its node. */
const LETTERS = 26
/** Roots without an edge that are drawn. */
const MAX_BARE = 150

const STATES: EdgeState[] = ['failing', 'alive', 'silent', 'ended']

/** What is drawn of the edges at these places. `far` tells the steps to a root, where there is one. */
export function scene(model: Model, edges: number[], far: Map<number, number> | null, asBadges: boolean): Scene {
  const hub = asBadges ? hubs(model) : new Map<number, number>()
  const lines = new Map<number, { active: number; passive: number; edges: Edge[] }>()
  const badges = new Map<number, Set<number>>()
  const isShown = new Uint8Array(model.nodes.length)
  const isHub = new Uint8Array(model.nodes.length)
  for (const place of hub.keys()) isHub[place] = 1
  for (const place of edges) {
    const edge = model.edges[place]
    // A listener that differs is in the table.
    if (edge === undefined || edge.listens !== undefined) continue
    const { active, passive } = edge
    if (isHub[active] === 1 || isHub[passive] === 1) {
      if (isHub[active] === 0) badge(badges, active, passive)
      if (isHub[passive] === 0) badge(badges, passive, active)
      for (const end of [active, passive]) if (isHub[end] === 0) isShown[end] = 1
      continue
    }
    isShown[active] = 1
    isShown[passive] = 1
    if (active === passive) continue
    const name = active * model.nodes.length + passive
    const line = lines.get(name)
    if (line === undefined) lines.set(name, { active, passive, edges: [edge] })
    else line.edges.push(edge)
  }
  const all = edges.length === model.edges.length
  const bare = model.nodes.flatMap((node, place) => (isShown[place] === 0 && isHub[place] === 0 && (node.root || (model.folded && all)) ? [place] : []))
  if (bare.length <= MAX_BARE) for (const place of bare) isShown[place] = 1

  const order = model.nodes.flatMap((_, place) => (isShown[place] === 1 ? [place] : []))
  const index = new Int32Array(model.nodes.length)
  order.forEach((place, number) => (index[place] = number))
  const drawn = [...lines.values()]
  const links = {
    count: order.length,
    active: Int32Array.from(drawn, (line) => index[line.active] ?? 0),
    passive: Int32Array.from(drawn, (line) => index[line.passive] ?? 0),
  }
  const name = (number: number): string => {
    const node = model.nodes[order[number] ?? 0]
    return node === undefined ? '' : `${node.probe ? 0 : 1} ${node.place} ${node.title} ${node.key}`
  }
  const rooted = far
  const placed = rooted === null ? levels(links, name) : around(links, (number) => rooted.get(order[number] ?? 0) ?? 0, name)
  const degree = new Float64Array(order.length)
  for (let line = 0; line < drawn.length; line++) {
    const [active, passive] = [links.active[line] ?? 0, links.passive[line] ?? 0]
    degree[active] = (degree[active] ?? 0) + 1
    degree[passive] = (degree[passive] ?? 0) + 1
  }
  return {
    nodes: order.flatMap((place, number): SceneNode[] => {
      const node = model.nodes[place]
      if (node === undefined) return []
      const called = [...(badges.get(place) ?? [])].map((hub) => short(model.nodes[hub]?.title ?? '', 14)).sort()
      return [
        {
          key: node.key,
          x: placed.x[number] ?? 0,
          y: placed.y[number] ?? 0,
          size: Math.min(14, 5 + Math.log2(1 + (degree[number] ?? 0)) + (node.weight > 1 ? Math.log2(node.weight) / 2 : 0)),
          title: short(node.title, LETTERS),
          place: short(node.place, LETTERS),
          badges: called,
          hollow: !node.probe || node.kind === 'others',
          root: node.root,
          change: node.change,
        },
      ]
    }),
    lines: drawn.map((line) => lineOf(line.edges, model)),
    hubs: [...hub].map(([place, neighbours]) => {
      const node = model.nodes[place]
      return { key: node?.key ?? '', title: node?.title ?? '', place: node?.place ?? '', neighbours }
    }),
  }
}

function badge(badges: Map<number, Set<number>>, node: number, hub: number): void {
  const there = badges.get(node)
  if (there === undefined) badges.set(node, new Set([hub]))
  else there.add(hub)
}

/** What became of a line: of one that goes on, that it changed. */
function changeOf(edges: Edge[]): Change {
  if (edges.length === 1) return edges[0]?.change ?? 'same'
  const all = new Set(edges.map((edge) => edge.change))
  const first = edges[0]?.change ?? 'same'
  if (all.size === 1) return first
  if (['new', 'gone', 'changed'].some((one) => all.has(one as Change))) return 'changed'
  return all.has('unknown') ? 'unknown' : 'same'
}

function lineOf(edges: Edge[], model: Model): SceneLine {
  const [first] = edges
  const active = model.nodes[first?.active ?? 0]?.key ?? ''
  const passive = model.nodes[first?.passive ?? 0]?.key ?? ''
  const count = edges.reduce((sum, edge) => sum + edge.count, 0)
  return {
    key: `${active} > ${passive}`,
    active,
    passive,
    state: edges.length === 1 && first !== undefined ? first.state : (STATES.find((state) => edges.some((edge) => edge.state === state)) ?? 'ended'),
    oneEnd: edges.every((edge) => edge.told !== 'both'),
    directed: edges.some((edge) => edge.directed),
    change: changeOf(edges),
    size: Math.min(6, 2.2 + Math.log2(count) / 2),
    edges: edges.map((edge) => edge.key),
  }
}
