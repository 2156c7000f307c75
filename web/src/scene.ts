// A model as it is drawn: hubs become badges, many that are alike one node,
// edges between the same two nodes one line, every node gets its place.

import { type Bundle, type Fold, folds, portsOf } from './fold.ts'
import { around, levels } from './layout.ts'
import { type Change, type Edge, type EdgeState, type Model, type Node, hubs } from './model.ts'
import { short } from './text.ts'

export interface Badge {
  /** Of the hub. */
  key: string
  text: string
}

export interface SceneNode {
  key: string
  x: number
  y: number
  size: number
  title: string
  place: string
  /** Both in full. */
  name: string
  /** Hubs that it is connected with. */
  badges: Badge[]
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
  /** `:80 :443`, those of the passive end. */
  ports: string
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
  /** Nodes that stand for many, by their keys. */
  folds: Map<string, Fold>
  /** The keys of those many, each with that of the node that stands for it. */
  inside: Map<string, string>
}

export const NOTHING: Scene = { nodes: [], lines: [], hubs: [], folds: new Map(), inside: new Map() }

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
  const lines = new Map<number, Bundle>()
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
    bundleOf(lines, model, active, passive).edges.push(edge)
  }
  const all = edges.length === model.edges.length
  const bare = model.nodes.flatMap((node, place) => (isShown[place] === 0 && isHub[place] === 0 && (node.root || (model.folded && all)) ? [place] : []))
  if (bare.length <= MAX_BARE) for (const place of bare) isShown[place] = 1

  const shown = model.nodes.flatMap((_, place) => (isShown[place] === 1 ? [place] : []))
  const tags = (place: number): Badge[] => [...(badges.get(place) ?? [])].map((at) => badgeOf(model.nodes[at], hub.get(at) ?? 0)).sort((a, b) => (a.text < b.text ? -1 : 1))
  const many = folds(model, shown, [...lines.values()], (place) => tags(place).map((tag) => tag.key).join())
  return placed(model, shown, [...lines.values()], far, many, tags, hub)
}

function badgeOf(hub: Node | undefined, neighbours: number): Badge {
  return { key: hub?.key ?? '', text: `${short(hub?.title ?? '', 14)} (${neighbours})` }
}

/** The nodes and lines that are drawn, each in its place. */
function placed(
  model: Model,
  shown: number[],
  bundles: Bundle[],
  far: Map<number, number> | null,
  many: Fold[],
  tags: (place: number) => Badge[],
  hub: Map<number, number>,
): Scene {
  // The first of those that are alike stands for all.
  const stands = new Map(many.flatMap((fold) => fold.members.map((member) => [member, fold.members[0] ?? member] as const)))
  const foldOf = new Map(many.map((fold) => [fold.members[0] ?? -1, fold]))
  const drawn = many.length === 0 ? bundles : together(model, bundles, (place) => stands.get(place) ?? place)
  const order = shown.filter((place) => (stands.get(place) ?? place) === place)
  const index = new Map(order.map((place, number) => [place, number]))
  const links = {
    count: order.length,
    active: Int32Array.from(drawn, (line) => index.get(line.active) ?? 0),
    passive: Int32Array.from(drawn, (line) => index.get(line.passive) ?? 0),
  }
  const name = (number: number): string => {
    const place = order[number] ?? 0
    const node = model.nodes[place]
    if (node === undefined) return ''
    const fold = foldOf.get(place)
    return `${node.probe ? 0 : 1} ${fold === undefined ? `${node.place} ${node.title} ${node.key}` : fold.key}`
  }
  const rooted = far
  const at = rooted === null ? levels(links, name) : around(links, (number) => rooted.get(order[number] ?? 0) ?? 0, name)
  const degree = new Float64Array(order.length)
  for (const end of [...links.active, ...links.passive]) degree[end] = (degree[end] ?? 0) + 1
  const keyOf = (place: number): string => foldOf.get(place)?.key ?? model.nodes[place]?.key ?? ''
  return {
    nodes: order.flatMap((place, number): SceneNode[] => {
      const node = model.nodes[place]
      if (node === undefined) return []
      const fold = foldOf.get(place)
      const { title, place: where } = fold ?? node
      const weight = fold === undefined ? node.weight : fold.members.length
      return [
        {
          key: keyOf(place),
          x: at.x[number] ?? 0,
          y: at.y[number] ?? 0,
          size: Math.min(14, 5 + Math.log2(1 + (degree[number] ?? 0)) + (weight > 1 ? Math.log2(weight) / 2 : 0)),
          title: short(title, LETTERS),
          place: short(where, LETTERS),
          name: `${title}, ${where}`,
          badges: tags(place),
          hollow: !node.probe || node.kind === 'others',
          root: node.root,
          change: node.change,
        },
      ]
    }),
    lines: drawn.map((line) => lineOf(line, keyOf)),
    hubs: [...hub].map(([place, neighbours]) => {
      const node = model.nodes[place]
      return { key: node?.key ?? '', title: node?.title ?? '', place: node?.place ?? '', neighbours }
    }),
    folds: new Map(many.map((fold) => [fold.key, fold])),
    inside: new Map(many.flatMap((fold) => fold.members.map((member) => [model.nodes[member]?.key ?? '', fold.key]))),
  }
}

/** Lines between the same two, where some are drawn as one. */
function together(model: Model, bundles: Bundle[], stands: (place: number) => number): Bundle[] {
  const lines = new Map<number, Bundle>()
  for (const bundle of bundles) {
    const [active, passive] = [stands(bundle.active), stands(bundle.passive)]
    if (active === passive) continue
    const { edges } = bundleOf(lines, model, active, passive)
    for (const edge of bundle.edges) edges.push(edge)
  }
  return [...lines.values()]
}

/** The one between these two, new where there was none. */
function bundleOf(lines: Map<number, Bundle>, model: Model, active: number, passive: number): Bundle {
  const name = active * model.nodes.length + passive
  let line = lines.get(name)
  if (line === undefined) lines.set(name, (line = { active, passive, edges: [] }))
  return line
}

/** What is not there now, or not heard of. */
export function isIdle({ state, change }: SceneLine): boolean {
  return state === 'ended' || state === 'silent' || change === 'gone' || change === 'unknown'
}

export function isSelected(line: SceneLine, selected: string | null): boolean {
  return selected !== null && (line.key === selected || line.edges.includes(selected))
}

/** What who clicks on a line selects: its edge, where there is but one. */
export function meantBy(line: SceneLine): string {
  return (line.edges.length === 1 ? line.edges[0] : undefined) ?? line.key
}

/** The node that is drawn for what is selected: it, or the one that it is drawn as one of. */
export function drawnFor(scene: Scene, selected: string | null): string | null {
  return selected === null ? null : (scene.inside.get(selected) ?? selected)
}

/** A colour by its name in the style sheet: what fails is red, whatever became of it. */
export type Tone = 'failing' | 'new' | 'gone' | 'changed' | 'unknown' | 'both' | 'one'

const CHANGES = ['new', 'gone', 'changed', 'unknown'] as const

export function toneOf(line: SceneLine): Tone {
  const change = CHANGES.find((one) => one === line.change)
  if (line.state === 'failing' && change !== 'gone') return 'failing'
  return change ?? (line.oneEnd ? 'one' : 'both')
}

/** What became of a line whose own colour does not tell. */
export function rimOf(line: SceneLine): Tone | null {
  const change = CHANGES.find((one) => one === line.change)
  return change === undefined || change === toneOf(line) ? null : change
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

function lineOf(line: Bundle, keyOf: (place: number) => string): SceneLine {
  const { edges } = line
  const [first] = edges
  const [active, passive] = [keyOf(line.active), keyOf(line.passive)]
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
    ports: portsOf(edges),
    edges: edges.map((edge) => edge.key),
  }
}
