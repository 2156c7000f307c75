// Where nodes stand: who calls on the left of whom it calls, in columns.
//
// The same input gives the same places, and a small change of it moves little:
// there is no force, no chance and no sweep to and fro.

export interface Placed {
  x: Float64Array
  y: Float64Array
}

export interface Links {
  /** How many nodes there are; they are numbered. */
  count: number
  active: ArrayLike<number>
  passive: ArrayLike<number>
}

export const COLUMN = 230
/** Between two nodes of a column. */
export const ROW = 44
/** Within a column that had to be folded. */
const SUBCOLUMN = 190
/** Rows of a column before it is folded, at least. */
const ROWS = 18
/** Most columns of a graph without a beginning. */
const LEVELS = 12

/**
 * Places nodes that are `far` from where a walk began: column 0 has the roots,
 * those below zero depend on them. `name` orders what nothing else does.
 */
export function around(links: Links, far: (node: number) => number, name: (node: number) => string): Placed {
  const column = Int32Array.from({ length: links.count }, (_, node) => far(node))
  return place(links, column, name)
}

/** Places a graph without a beginning: each one step to the right of those that call it, on the average. */
export function levels(links: Links, name: (node: number) => string): Placed {
  const level = trophic(links)
  const bare = new Uint8Array(links.count).fill(1)
  for (let edge = 0; edge < links.active.length; edge++) {
    if (links.active[edge] === links.passive[edge]) continue
    bare[links.active[edge] ?? 0] = 0
    bare[links.passive[edge] ?? 0] = 0
  }
  let lowest = Infinity
  let highest = -Infinity
  level.forEach((value, node) => {
    if (bare[node] === 1) return
    lowest = Math.min(lowest, value)
    highest = Math.max(highest, value)
  })
  const squeeze = Math.min(1, (LEVELS - 1) / Math.max(1, highest - lowest))
  // What has no edges stands behind all others.
  const last = Number.isFinite(lowest) ? Math.round((highest - lowest) * squeeze) + 1 : 0
  const column = Int32Array.from(level, (value, node) => (bare[node] === 1 ? last : Math.round((value - lowest) * squeeze)))
  return place(links, column, name)
}

/**
 * Trophic levels (MacKay, Johnson, Sansom 2020): the levels by which, over all
 * edges, the passive end stands as near as can be to one above the active end.
 * Unlike layers by the longest path they stand cycles, and one edge more moves
 * them by little. Gauss–Seidel, a fixed number of rounds.
 */
function trophic({ count, active, passive }: Links): Float64Array {
  const level = new Float64Array(count)
  const weight = new Float64Array(count)
  const from = new Int32Array(count + 1)
  for (let edge = 0; edge < active.length; edge++) {
    const [a, p] = [active[edge] ?? 0, passive[edge] ?? 0]
    if (a === p) continue
    weight[a] = (weight[a] ?? 0) + 1
    weight[p] = (weight[p] ?? 0) + 1
  }
  for (let node = 0; node < count; node++) from[node + 1] = (from[node] ?? 0) + (weight[node] ?? 0)
  const next = from.slice(0, count)
  const other = new Int32Array(from[count] ?? 0)
  // By how much the ends of its edges push it: the same in each round.
  const push = new Float64Array(count)
  const add = (node: number, far: number, by: number): void => {
    const at = next[node] ?? 0
    next[node] = at + 1
    other[at] = far
    push[node] = (push[node] ?? 0) + by
  }
  for (let edge = 0; edge < active.length; edge++) {
    const [a, p] = [active[edge] ?? 0, passive[edge] ?? 0]
    if (a === p) continue
    add(a, p, -1)
    add(p, a, 1)
  }
  const rounds = count > 1000 ? 40 : 200
  for (let round = 0; round < rounds; round++) {
    for (let node = 0; node < count; node++) {
      const [begin, stop] = [from[node] ?? 0, from[node + 1] ?? 0]
      if (begin === stop) continue
      let sum = push[node] ?? 0
      for (let at = begin; at < stop; at++) sum += level[other[at] as number] as number
      level[node] = sum / (stop - begin)
    }
  }
  return level
}

/** From column 0 outwards, each node near the middle of those it hangs from, then by name. */
function place(links: Links, column: Int32Array, name: (node: number) => string): Placed {
  const { count, active, passive } = links
  const members = new Map<number, number[]>()
  column.forEach((at, node) => {
    const list = members.get(at)
    if (list === undefined) members.set(at, [node])
    else list.push(node)
  })
  const columns = [...members.keys()].sort((a, b) => Math.abs(a) - Math.abs(b) || a - b)
  const hangs = neighbours(count, active, passive)
  const names = Array.from({ length: count }, (_, node) => name(node))
  const rank = new Float64Array(count).fill(-1)
  for (const at of columns) {
    const nodes = members.get(at) ?? []
    const middle = new Map<number, number>()
    for (const node of nodes) {
      let sum = 0
      let known = 0
      for (const other of hangs(node)) {
        const there = rank[other] ?? -1
        if (there < 0) continue
        sum += there
        known++
      }
      middle.set(node, known === 0 ? 0.5 : sum / known)
    }
    nodes.sort((a, b) => {
      // To a hundredth, so that neighbours of nearly the same stay together by name.
      const between = Math.round(100 * (middle.get(a) ?? 0)) - Math.round(100 * (middle.get(b) ?? 0))
      if (between !== 0) return between
      const [first, second] = [names[a] ?? '', names[b] ?? '']
      return first < second ? -1 : first > second ? 1 : a - b
    })
    nodes.forEach((node, row) => (rank[node] = (row + 0.5) / nodes.length))
  }
  return coordinates(count, members)
}

function coordinates(count: number, members: Map<number, number[]>): Placed {
  const x = new Float64Array(count)
  const y = new Float64Array(count)
  const rows = Math.max(ROWS, Math.ceil(Math.sqrt(count) * 2))
  const order = [...members.keys()].sort((a, b) => a - b)
  let left = 0
  for (const at of order) {
    const nodes = members.get(at) ?? []
    const folds = Math.ceil(nodes.length / rows)
    const height = Math.ceil(nodes.length / folds)
    nodes.forEach((node, number) => {
      // Down the first fold, then down the next: what is near stays near.
      const fold = Math.floor(number / height)
      const inFold = Math.min(height, nodes.length - fold * height)
      x[node] = left + fold * SUBCOLUMN
      // Halves of a row tell apart the lines that run through several columns.
      y[node] = -((number % height) - (inFold - 1) / 2) * ROW - (fold % 2) * (ROW / 2)
    })
    left += COLUMN + (folds - 1) * SUBCOLUMN
  }
  return { x, y }
}

function neighbours(count: number, active: ArrayLike<number>, passive: ArrayLike<number>): (node: number) => number[] {
  const all: number[][] = Array.from({ length: count }, () => [])
  for (let edge = 0; edge < active.length; edge++) {
    const a = active[edge] ?? 0
    const p = passive[edge] ?? 0
    if (a === p) continue
    all[a]?.push(p)
    all[p]?.push(a)
  }
  return (node) => all[node] ?? []
}
