// Where boxes and the lines between them stand: the columns and the order of
// the scene, with as much room as the names need. A line that leads past a
// column runs between its boxes, never through one.

import { COLUMN } from './layout.ts'
import type { Scene, SceneLine, SceneNode } from './scene.ts'

export interface Box {
  x: number
  y: number
  width: number
  height: number
  column: number
}

/** A text beside a line. */
export interface Tag {
  text: string
  x: number
  y: number
  anchor: 'start' | 'end'
}

export interface Route {
  path: string
  /** The arrow at its passive end, and one at the other where nobody knows which calls. */
  heads: string
  tag?: Tag
}

export interface Arranged {
  boxes: Map<string, Box>
  routes: Map<string, Route>
  width: number
  height: number
}

export interface Size {
  width: number
  height: number
}

/** Pixels between two boxes of a column, as there is room. */
const [NEAR, WIDE] = [16, 30]
/** Between the folds of one column. */
const FOLD = 34
/** Between two columns: at least, at most, and more for each line. */
const [GAP, MOST, EACH] = [48, 120, 1.5]
/** For ports beside lines. */
const TAGS = 34
/** Between two lines that run side by side. */
const LANE = 4
/** Ports of one box that are told apart beside their lines. */
const TAGGED = 4

interface Column {
  nodes: SceneNode[]
  left: number
  width: number
  /** Columns that are one of the scene's, folded, have one number. */
  group: number
  /** Between, above and below its boxes, where lines can run; with how many do. */
  lanes: { y: number; half: number; taken: number }[]
}

/** One end of a line: at which box, towards which height it leaves. */
interface End {
  box: Box
  right: boolean
  towards: number
  y: number
}

interface Course {
  line: SceneLine
  active: End
  passive: End
  /** Where it runs past columns, from the active end on. */
  past: { column: Column; y: number }[]
}

/**
 * The ports that a box is called at: a text that stands in it, where all lines
 * to it lead to the same ones or to too many, or null: beside each line.
 */
export function portsAt({ nodes, lines }: Scene): Map<string, string | null> {
  const all = new Map<string, Set<string>>()
  for (const { passive, ports } of lines) all.set(passive, (all.get(passive) ?? new Set()).add(ports))
  const title = new Map(nodes.map((node) => [node.key, node.title]))
  return new Map(
    [...all].map(([key, ports]) => {
      const each = [...ports].sort()
      const [only = ''] = each
      // Whom nobody knows by name has its port there.
      if (title.get(key)?.includes(only.split(' ')[0] ?? '') === true) return [key, '']
      if (each.length === 1) return [key, only]
      if (each.length <= TAGGED) return [key, null]
      const single = [...new Set(each.flatMap((one) => one.split(' ')))]
      return [key, `${single[0]} …`]
    }),
  )
}

/** Places a scene in boxes of these sizes, for a view of this size. */
export function arrange(scene: Scene, size: (node: SceneNode) => Size, view: Size): Arranged {
  const columns = columnsOf(scene, size)
  const ports = portsAt(scene)
  const width = across(scene, columns, ports)
  const boxes = down(columns, size, Math.max(1, width / view.width) * view.height)
  const courses = scene.lines.flatMap((line): Course[] => {
    const [from, to] = [boxes.get(line.active), boxes.get(line.passive)]
    return from === undefined || to === undefined ? [] : [course(line, from, to, columns)]
  })
  spread(courses)
  const routes = new Map(courses.map((one) => [one.line.key, route(one, columns)]))
  tags(courses, routes, ports, columns)
  let [above, below] = [Infinity, -Infinity]
  for (const { lanes } of columns) {
    for (const lane of lanes) {
      const more = Number.isFinite(lane.half) ? 0 : lane.taken * LANE
      above = Math.min(above, lane.y - more)
      below = Math.max(below, lane.y + more)
    }
  }
  if (above > below) [above, below] = [0, 0]
  return { boxes, routes, width, height: Math.max(-above, below) * 2 }
}

function columnsOf({ nodes }: Scene, size: (node: SceneNode) => Size): Column[] {
  const at = new Map<number, SceneNode[]>()
  for (const node of nodes) at.set(node.x, [...(at.get(node.x) ?? []), node])
  let group = 0
  let before = -Infinity
  return [...at]
    .sort(([a], [b]) => a - b)
    .map(([x, members]) => {
      if (x - before >= COLUMN) group++
      before = x
      members.sort((a, b) => b.y - a.y)
      return { nodes: members, left: 0, width: Math.max(...members.map((node) => size(node).width)), group, lanes: [] }
    })
}

/** Puts the columns side by side, further from each other where many lines run; how wide all is. */
function across({ nodes, lines }: Scene, columns: Column[], ports: Map<string, string | null>): number {
  const where = new Map(columns.flatMap((column, at) => column.nodes.map((node) => [node.key, at] as const)))
  const crossing = new Array<number>(columns.length).fill(0)
  for (const line of lines) {
    const ends = [where.get(line.active) ?? 0, where.get(line.passive) ?? 0]
    const [first, last] = [Math.min(...ends), Math.max(...ends)]
    for (let gap = first; gap < Math.max(last, first + 1); gap++) crossing[gap] = (crossing[gap] ?? 0) + 1
  }
  let left = 0
  columns.forEach((column, at) => {
    column.left = left
    const next = columns[at + 1]
    const many = EACH * (crossing[at] ?? 0)
    const tagged = [...column.nodes, ...(next?.nodes ?? [])].some((node) => ports.get(node.key) === null)
    const fold = next !== undefined && next.group === column.group
    const gap = fold ? Math.min(MOST / 2, FOLD + many / 4) : Math.min(MOST, GAP + many) + (tagged ? TAGS : 0)
    left += column.width + (next === undefined && crossing[at] === 0 ? 0 : Math.round(gap))
  })
  return nodes.length === 0 ? 0 : left
}

/** Puts the boxes of each column below each other, around the middle. */
function down(columns: Column[], size: (node: SceneNode) => Size, room: number): Map<string, Box> {
  const boxes = new Map<string, Box>()
  const heights = columns.map(({ nodes }) => nodes.reduce((sum, node) => sum + size(node).height, 0))
  const most = Math.min(...columns.map(({ nodes }, at) => (room - (heights[at] ?? 0)) / (nodes.length + 1)))
  const gap = Math.round(Math.max(NEAR, Math.min(WIDE, most)))
  columns.forEach((column, number) => {
    const count = column.nodes.length
    const height = (heights[number] ?? 0) + (count - 1) * gap
    let y = Math.round(-height / 2)
    // Folds beside each other are shifted, so that a line into the second has a way.
    if (columns[number - 1]?.group === column.group || columns[number + 1]?.group === column.group) y += ((number % 2) - 0.5) * gap
    column.lanes.push({ y: y - gap / 2, half: -Infinity, taken: 0 })
    column.nodes.forEach((node, row) => {
      const box = { x: column.left, y, width: column.width, height: size(node).height, column: number }
      boxes.set(node.key, box)
      y += box.height + gap
      column.lanes.push({ y: y - gap / 2, half: row === count - 1 ? Infinity : gap / 2 - 4, taken: 0 })
    })
  })
  return boxes
}

const middle = (box: Box): number => box.y + box.height / 2

/** From which side to which, and between which boxes. */
function course(line: SceneLine, from: Box, to: Box, columns: Column[]): Course {
  const step = Math.sign(to.column - from.column)
  const past: Course['past'] = []
  let y = middle(from)
  const [own, goal] = [columns[from.column]?.group, columns[to.column]?.group]
  for (let at = from.column + step; step !== 0 && at !== to.column; at += step) {
    const column = columns[at]
    if (column === undefined) break
    // To the height of its end in the first wide gap, else little by little.
    const left = Math.abs(to.column - at) + 1
    const wanted = column.group === goal ? middle(to) : column.group === own ? y : y + (middle(to) - y) / left
    y = lane(column, wanted)
    past.push({ column, y })
  }
  const active: End = { box: from, right: step >= 0, towards: past[0]?.y ?? middle(to), y: middle(from) }
  const passive: End = { box: to, right: step <= 0, towards: past.at(-1)?.y ?? middle(from), y: middle(to) }
  return { line, active, passive, past }
}

/** The way past a column that is nearest to a height, and its own place in it. */
function lane(column: Column, wanted: number): number {
  let best = column.lanes[0]
  let least = Infinity
  for (const one of column.lanes) {
    const far = Math.abs(one.y - wanted) + one.taken * LANE
    if (far < least) [best, least] = [one, far]
  }
  if (best === undefined) return wanted
  const number = best.taken++
  if (!Number.isFinite(best.half)) return best.y + Math.sign(best.half) * number * LANE
  // The middle, below it, above it, and so on; then one upon the other.
  const aside = Math.ceil(number / 2) * LANE * (number % 2 === 0 ? -1 : 1)
  return best.y + (Math.abs(aside) <= best.half ? aside : 0)
}

/** Gives each line its own place at the side of a box, in the order in which they come. */
function spread(courses: Course[]): void {
  const sides = new Map<string, End[]>()
  for (const { active, passive } of courses) {
    for (const end of [active, passive]) {
      const name = `${end.box.x} ${end.box.y} ${end.right}`
      sides.set(name, [...(sides.get(name) ?? []), end])
    }
  }
  for (const ends of sides.values()) {
    ends.sort((a, b) => a.towards - b.towards)
    const between = Math.min(10, ((ends[0]?.box.height ?? 0) - 12) / Math.max(1, ends.length - 1))
    ends.forEach((end, number) => (end.y += (number - (ends.length - 1) / 2) * between))
  }
}

const round = (value: number): string => String(Math.round(value * 10) / 10)
const side = ({ box, right }: End): number => box.x + (right ? box.width : 0)
const lengthOf = ({ size }: SceneLine): number => 5 + 1.1 * size

function route({ line, active, passive, past }: Course, columns: Column[]): Route {
  const length = lengthOf(line)
  const out = (end: End): number => (end.right ? 1 : -1)
  const stop = side(passive) + out(passive) * (length - 1)
  let x = side(active) + (line.directed ? 0 : out(active) * (length - 1))
  let path = `M${round(x)} ${round(active.y)}`
  let y = active.y
  const curve = (toX: number, toY: number): void => {
    const turn = (x + toX) / 2
    path += `C${round(turn)} ${round(y)} ${round(turn)} ${round(toY)} ${round(toX)} ${round(toY)}`
    ;[x, y] = [toX, toY]
  }
  if (active.box.column === passive.box.column) {
    // Around what stands between them, within the gap.
    const column = columns[active.box.column]
    const next = columns[active.box.column + 1]
    const free = next === undefined || column === undefined ? GAP : next.left - column.left - column.width
    const turn = side(passive) + Math.min(1.2 * free, length + 14 + Math.abs(passive.y - active.y) / 6)
    path += `C${round(turn)} ${round(y)} ${round(turn)} ${round(passive.y)} ${round(stop)} ${round(passive.y)}`
  } else {
    for (const { column, y: height } of past) {
      const ends = [column.left - 6, column.left + column.width + 6]
      const [near = 0, far = 0] = active.right ? ends : ends.reverse()
      curve(near, height)
      path += `H${round(far)}`
      x = far
    }
    curve(stop, passive.y)
  }
  return { path, heads: head(passive, length) + (line.directed ? '' : head(active, length)) }
}

/** An arrow that points to its box. */
function head(end: End, length: number): string {
  const [tip, back] = [side(end), side(end) + (end.right ? length : -length)]
  const half = length * 0.42
  return `M${round(tip)} ${round(end.y)}L${round(back)} ${round(end.y - half)}V${round(end.y + half)}z`
}

/** Writes the ports beside the lines, once where the same come side by side, where there is room. */
function tags(courses: Course[], routes: Map<string, Route>, ports: Map<string, string | null>, columns: Column[]): void {
  const called = new Map<string, Course[]>()
  for (const one of courses) {
    if (ports.get(one.line.passive) !== null) continue
    const name = `${one.line.passive} ${one.passive.right}`
    called.set(name, [...(called.get(name) ?? []), one])
  }
  for (const all of called.values()) {
    all.sort((a, b) => a.passive.y - b.passive.y)
    let [before, text] = [-Infinity, '']
    for (const { line, passive } of all) {
      const gap = passive.right ? passive.box.column : passive.box.column - 1
      const fold = columns[gap]?.group === columns[gap + 1]?.group
      const y = passive.y - 3
      if (line.ports === text || fold || y - before < 10) continue
      ;[before, text] = [y, line.ports]
      const drawn = routes.get(line.key)
      const aside = lengthOf(line) + 3
      if (drawn !== undefined) drawn.tag = { text, x: side(passive) + (passive.right ? aside : -aside), y, anchor: passive.right ? 'start' : 'end' }
    }
  }
}
