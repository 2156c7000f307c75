// The scene by WebGL. It is a file of its own that is fetched where there is
// WebGL: what it is made of does not even load without.

import { createEdgeCurveProgram } from '@sigma/edge-curve'
import { createNodeBorderProgram } from '@sigma/node-border'
import Graph from 'graphology'
import Sigma from 'sigma'
import {
  createEdgeArrowHeadProgram,
  createEdgeClampedProgram,
  createEdgeCompoundProgram,
  type EdgeProgramType,
} from 'sigma/rendering'
import type { Settings } from 'sigma/settings'
import type { NodeDisplayData, PartialButFor } from 'sigma/types'

import { faded } from './colour.ts'
import { ROW } from './layout.ts'
import { lines as plainLines, type PlainLine } from './lines.ts'
import { drawnFor, isIdle, isSelected, MAX_FINE, meantBy, NOTHING, rimOf, type Scene, type SceneLine, type SceneNode, toneOf } from './scene.ts'
import { short } from './text.ts'

export interface Watcher {
  select: (key: string | null) => void
  open: (key: string) => void
  drawn: () => void
  /** The graphics card has forgotten all: this drawing draws no more. */
  lost: () => void
}

export interface Drawing {
  readonly element: Element
  show: (scene: Scene, selected: string | null, anew: boolean) => void
  select: (key: string | null) => void
  /** Nearer by a factor; null: so that all is seen. */
  zoom: (by: number | null) => void
  /** The colours have changed. */
  recolour: () => void
}

/** A curve takes a graphics card, or what stands in for one, longer than a line. */
const MAX_CURVED = 1500

/** Pixels beside a line that are meant for it. */
const NEAR = 6

interface Dotting {
  VERTEX_SHADER_SOURCE: string
  FRAGMENT_SHADER_SOURCE: string
}

/** What of sigma's programs is changed here. */
declare class Solid {
  getDefinition(): Dotting
}

/** In a shader, what is there must be there, or lines would silently not be dotted. */
function replaced(text: string, before: string, after: string): string {
  if (!text.includes(before)) throw new Error(`the shader has no ${before}`)
  return text.replace(before, after)
}

const HEAD = { lengthToThicknessRatio: 3.5, widenessToThicknessRatio: 2.8 }
const LINE = createEdgeClampedProgram(HEAD)
const ARROW_HEAD = createEdgeArrowHeadProgram(HEAD)
const ARROW_TAIL = createEdgeArrowHeadProgram({ ...HEAD, extremity: 'source' })

/** The same line in dots: sigma has none, so its shader gets to know how far along it is. */
class Dots extends (LINE as unknown as typeof Solid) {
  override getDefinition(): Dotting {
    const solid = super.getDefinition()
    const along = 'varying float v_feather;\nvarying float v_along;'
    const vertex = replaced(solid.VERTEX_SHADER_SOURCE, 'varying float v_feather;', along)
    const fragment = replaced(solid.FRAGMENT_SHADER_SOURCE, 'varying float v_feather;', along)
    const length = 'a_positionCoef * length(a_positionEnd - a_positionStart) * u_pixelRatio / u_correctionRatio / 2.0'
    return {
      ...solid,
      VERTEX_SHADER_SOURCE: replaced(vertex, 'v_normal = unitNormal;', `v_normal = unitNormal;\n  v_along = ${length};`),
      FRAGMENT_SHADER_SOURCE: dotted(fragment, 'v_along'),
    }
  }
}

/** What is curved runs up and down, so there the height on the screen will do. */
class CurvedDots extends (createEdgeCurveProgram({ arrowHead: { extremity: 'target', ...HEAD } }) as unknown as typeof Solid) {
  override getDefinition(): Dotting {
    const solid = super.getDefinition()
    return { ...solid, FRAGMENT_SHADER_SOURCE: dotted(solid.FRAGMENT_SHADER_SOURCE, 'gl_FragCoord.y') }
  }
}

function dotted(fragment: string, along: string): string {
  return replaced(fragment, 'void main(void) {', `void main(void) {\n  #ifndef PICKING_MODE\n  if (mod(${along}, 9.0) > 4.0) discard;\n  #endif`)
}

const program = (solid: unknown): EdgeProgramType => solid as EdgeProgramType

interface Look extends Partial<NodeDisplayData> {
  scene: SceneNode
  rim: string
}

interface Palette {
  text: string
  muted: string
  back: string
  node: string
  root: string
  hollow: string
  both: string
  one: string
  failing: string
  new: string
  gone: string
  changed: string
  unknown: string
  badge: string
  select: string
}

function palette(): Palette {
  const style = getComputedStyle(document.documentElement)
  const colour = (name: string): string => style.getPropertyValue(`--${name}`).trim()
  return {
    text: colour('text'),
    muted: colour('muted'),
    back: colour('back'),
    node: colour('node'),
    root: colour('root'),
    hollow: colour('hollow'),
    both: colour('both'),
    one: colour('one'),
    failing: colour('failing'),
    new: colour('new'),
    gone: colour('gone'),
    changed: colour('changed'),
    unknown: colour('unknown'),
    badge: colour('badge'),
    select: colour('select'),
  }
}

/** Draws into an element, until the page ends. */
export function drawing(element: HTMLElement, watcher: Watcher): Drawing {
  let colours = palette()
  let scene: Scene = NOTHING
  let selected: string | null = null
  let hovered: string | null = null
  let lines = new Map<string, SceneLine>()
  let near = new Map<string, Set<string>>()
  let fine = true
  let alive = true
  /** Most pixels of a node, so that it is not upon its neighbours. */
  let room = Infinity

  /** What is selected, or what it is drawn as one of. */
  function selectedNode(): string | null {
    const key = drawnFor(scene, selected)
    return key !== null && near.has(key) ? key : null
  }

  /** Pixels between two rows. */
  function pitch(): number {
    const [zero, one] = [sigma.graphToViewport({ x: 0, y: 0 }), sigma.graphToViewport({ x: 0, y: ROW })]
    return Math.abs(one.y - zero.y)
  }

  const sigma = new Sigma(new Graph(), element, {
    allowInvalidContainer: true,
    defaultNodeType: 'ring',
    defaultEdgeType: 'line',
    nodeProgramClasses: {
      ring: createNodeBorderProgram({
        borders: [
          { size: { value: 2.5, mode: 'pixels' }, color: { attribute: 'rim' } },
          { size: { fill: true }, color: { attribute: 'color' } },
        ],
      }),
    },
    edgeProgramClasses: {
      line: createEdgeCompoundProgram([LINE, ARROW_HEAD]),
      dots: createEdgeCompoundProgram([program(Dots), ARROW_HEAD]),
      either: createEdgeCompoundProgram([LINE, ARROW_HEAD, ARROW_TAIL]),
      curve: createEdgeCurveProgram({ arrowHead: { extremity: 'target', ...HEAD } }),
      curvedDots: program(CurvedDots),
    },
    labelFont: 'system-ui, sans-serif',
    labelSize: 12,
    labelDensity: 1,
    labelGridCellSize: 30,
    labelRenderedSizeThreshold: 4,
    stagePadding: 60,
    minCameraRatio: 0.02,
    maxCameraRatio: 4,
    zIndex: true,
    hideEdgesOnMove: false,
    defaultDrawNodeLabel: (context, data, settings) => label(context, data, settings, colours, pitch()),
    defaultDrawNodeHover: (context, data, settings) => {
      context.beginPath()
      context.arc(data.x, data.y, data.size + 4, 0, 2 * Math.PI)
      context.strokeStyle = colours.select
      context.lineWidth = 2
      context.stroke()
      label(context, data, settings, colours, ROW)
    },
    nodeReducer: (key, data) => {
      const focus = hovered ?? selectedNode()
      const pale = focus !== null && focus !== key && near.get(focus)?.has(key) !== true
      return {
        ...data,
        highlighted: key === selectedNode(),
        ...(pale ? { color: faded(data['color'] as string, colours.back), rim: faded(data['rim'] as string, colours.back), label: null } : {}),
      }
    },
    edgeReducer: (key, data) => {
      const line = lines.get(key)
      if (line === undefined) return data
      if (isSelected(line, selected)) return { ...data, color: colours.select, size: line.size + 2, zIndex: 3 }
      const focus = hovered ?? selectedNode()
      if (focus !== null && line.active !== focus && line.passive !== focus) {
        return { ...data, color: faded(data['color'] as string, colours.back), zIndex: 0 }
      }
      return data
    },
  })

  /** What many lines look like: pale where they are not meant. */
  function plain(): void {
    const at = new Map(scene.nodes.map((node) => [node.key, node]))
    const focus = selectedNode()
    // What is pale lies below, what fails and what is meant above.
    const ranked: PlainLine[][] = [[], [], [], []]
    for (const line of scene.lines) {
      const [from, to] = [at.get(line.active), at.get(line.passive)]
      if (from === undefined || to === undefined) continue
      const meant = isSelected(line, selected)
      const pale = isIdle(line) || (focus !== null && line.active !== focus && line.passive !== focus)
      const colour = colours[toneOf(line)]
      const drawn = { from, to, colour: meant ? colours.select : pale ? faded(colour, colours.back) : colour }
      ranked[meant ? 3 : pale ? 0 : line.state === 'failing' || focus !== null ? 2 : 1]?.push(drawn)
    }
    many.show(ranked.flat())
  }

  function fill(): void {
    const graph = new Graph({ type: 'directed', multi: true, allowSelfLoops: false })
    lines = new Map(scene.lines.map((line) => [line.key, line]))
    const at = new Map(scene.nodes.map((node) => [node.key, node]))
    near = new Map(scene.nodes.map((node) => [node.key, new Set<string>()]))
    for (const node of scene.nodes) {
      const colour = nodeColour(node, colours)
      graph.addNode(node.key, {
        x: node.x,
        y: node.y,
        size: Math.min(node.size, room),
        label: node.title,
        color: node.hollow ? colours.back : colour,
        rim: colour,
        scene: node,
      })
    }
    for (const line of scene.lines) {
      near.get(line.active)?.add(line.passive)
      near.get(line.passive)?.add(line.active)
      if (!fine) continue
      const dots = isIdle(line)
      // Within a column a straight line would run through all between.
      const [from, to] = [at.get(line.active), at.get(line.passive)]
      const curved = scene.lines.length <= MAX_CURVED && from?.x === to?.x
      // Those on the left of the column lead up.
      const bend = Math.min(0.5, 0.15 + 12 / Math.abs((from?.y ?? 0) - (to?.y ?? 0) + 0.1))
      const drawn = {
        size: line.size,
        color: colours[toneOf(line)],
        type: curved ? (dots ? 'curvedDots' : 'curve') : dots ? 'dots' : line.directed ? 'line' : 'either',
        curvature: bend,
        bend: curved ? bend : 0,
        zIndex: line.state === 'failing' ? 2 : 1,
      }
      graph.addDirectedEdgeWithKey(line.key, line.active, line.passive, drawn)
      const rim = rimOf(line)
      if (rim === null) continue
      // What fails stays red; what became of it is a rim around that.
      lines.set(`${line.key} rim`, line)
      graph.addDirectedEdgeWithKey(`${line.key} rim`, line.active, line.passive, { ...drawn, size: line.size + 4, color: colours[rim], zIndex: 1 })
    }
    if (fine) many.show([])
    else plain()
    sigma.setGraph(graph)
  }

  /** The line that is nearest to a place on the screen, and near. */
  function lineAt(x: number, y: number): SceneLine | null {
    const at = new Map(scene.nodes.map((node) => [node.key, sigma.graphToViewport(node)]))
    let nearest: SceneLine | null = null
    let least = NEAR
    for (const line of scene.lines) {
      const [from, to] = [at.get(line.active), at.get(line.passive)]
      if (from === undefined || to === undefined) continue
      const bend = fine ? (sigma.getGraph().getEdgeAttribute(line.key, 'bend') as number) : 0
      const far = bend === 0 ? toSegment(x, y, from, to) : toCurve(x, y, from, to, bend)
      if (far < least) [nearest, least] = [line, far]
    }
    return nearest
  }

  /** A small graph is not blown up: a unit is at most a pixel. */
  function frame(): void {
    const { width, height } = sigma.getDimensions()
    let [left, right, below, above] = [Infinity, -Infinity, Infinity, -Infinity]
    for (const { x, y } of scene.nodes) {
      left = Math.min(left, x)
      right = Math.max(right, x)
      below = Math.min(below, y)
      above = Math.max(above, y)
    }
    if (left > right) [left, right, below, above] = [0, 0, 0, 0]
    // Names stand on the right of their nodes.
    right += 150
    const grow = (low: number, high: number, least: number): [number, number] => {
      const more = Math.max(0, least - (high - low)) / 2
      return [low - more, high + more]
    }
    const [x, y] = [grow(left, right, width - 120), grow(below, above, height - 120)]
    room = Math.max(1.5, 0.42 * ROW * Math.min((width - 120) / (x[1] - x[0]), (height - 120) / (y[1] - y[0])))
    sigma.setCustomBBox({ x, y })
  }

  const many = plainLines(sigma)
  const lost = (): void => {
    if (!alive) return
    alive = false
    sigma.kill()
    watcher.lost()
  }
  // Events of a canvas do not rise, but are met on the way down.
  element.addEventListener('webglcontextlost', lost, { capture: true, once: true })
  sigma.on('clickNode', ({ node }) => watcher.select(node))
  sigma.on('doubleClickNode', (event) => {
    event.preventSigmaDefault()
    watcher.open(event.node)
  })
  // A line is a pixel or two wide: who clicks beside it means it all the same.
  sigma.on('clickStage', ({ event }) => {
    const line = lineAt(event.x, event.y)
    watcher.select(line === null ? null : meantBy(line))
  })
  let pointed = false
  /** A canvas that is only cleared may go on showing what it had: one with nothing on it is not shown. */
  function ring(): void {
    const { hovers } = sigma.getCanvases()
    if (hovers !== undefined) hovers.hidden = !pointed && selectedNode() === null
  }
  sigma.on('enterNode', ({ node }) => {
    pointed = true
    ring()
    if (!fine) return
    hovered = node
    sigma.refresh({ skipIndexation: true })
  })
  sigma.on('leaveNode', () => {
    pointed = false
    ring()
    if (hovered === null) return
    hovered = null
    sigma.refresh({ skipIndexation: true })
  })
  let begun = false
  sigma.on('afterRender', () => {
    if (begun) watcher.drawn()
  })
  warm()

  /**
   * Draws one of each and takes it away before it is seen: programs for a
   * graphics card, or for what stands in for one, are made when they are first
   * used, and now is a time when nobody waits.
   */
  function warm(): void {
    const graph = new Graph({ type: 'directed', multi: true })
    for (const [key, y] of [['a', 0], ['b', 9]] as const) graph.addNode(key, { x: 0, y, size: 5, color: colours.node, rim: colours.node })
    for (const type of ['line', 'dots', 'either', 'curve', 'curvedDots']) graph.addDirectedEdge('a', 'b', { type, size: 2, color: colours.both, curvature: 0.3 })
    many.show([{ from: { x: 0, y: 0 }, to: { x: 0, y: 9 }, colour: colours.both }])
    sigma.setGraph(graph)
    many.show([])
    sigma.setGraph(new Graph())
  }

  return {
    element,
    show(next, key, anew) {
      if (!alive) return
      begun = true
      // Another drawing may have had its place meanwhile.
      sigma.resize()
      colours = palette()
      scene = next
      selected = key
      hovered = null
      pointed = false
      const before = fine
      fine = scene.lines.length <= MAX_FINE
      // What these ask to be drawn is drawn once, with the graph.
      frame()
      if (anew) sigma.getCamera().setState({ x: 0.5, y: 0.5, ratio: 1, angle: 0 })
      // sigma goes through its graph for this: through the smaller one.
      if (before && !fine) sigma.setSetting('labelGridCellSize', 60)
      fill()
      if (fine && !before) sigma.setSetting('labelGridCellSize', 30)
      ring()
    },
    select(key) {
      if (!alive) return
      selected = key
      if (!fine) plain()
      sigma.refresh({ skipIndexation: true })
      ring()
    },
    zoom(by) {
      const camera = sigma.getCamera()
      if (by === null) camera.setState({ x: 0.5, y: 0.5, ratio: 1, angle: 0 })
      else camera.setState({ ratio: camera.getBoundedRatio(camera.ratio / by) })
    },
    recolour() {
      if (!alive) return
      colours = palette()
      fill()
    },
  }
}

interface Spot {
  x: number
  y: number
}

/** How far a place is from a straight line. */
function toSegment(x: number, y: number, from: Spot, to: Spot): number {
  const [dx, dy] = [to.x - from.x, to.y - from.y]
  const length = dx * dx + dy * dy
  const along = length === 0 ? 0 : Math.max(0, Math.min(1, ((x - from.x) * dx + (y - from.y) * dy) / length))
  return Math.hypot(x - from.x - along * dx, y - from.y - along * dy)
}

/** The same of a curve as sigma's program bends it, in eight straight pieces. */
function toCurve(x: number, y: number, from: Spot, to: Spot, bend: number): number {
  const middle = { x: (from.x + to.x) / 2 + (to.y - from.y) * bend, y: (from.y + to.y) / 2 - (to.x - from.x) * bend }
  const at = (t: number): Spot => ({
    x: (1 - t) * (1 - t) * from.x + 2 * t * (1 - t) * middle.x + t * t * to.x,
    y: (1 - t) * (1 - t) * from.y + 2 * t * (1 - t) * middle.y + t * t * to.y,
  })
  let least = Infinity
  for (let piece = 0; piece < 8; piece++) least = Math.min(least, toSegment(x, y, at(piece / 8), at((piece + 1) / 8)))
  return least
}

function nodeColour(node: SceneNode, colours: Palette): string {
  if (node.change === 'new') return colours.new
  if (node.change === 'gone') return colours.gone
  if (node.root) return colours.root
  return node.hollow ? colours.hollow : colours.node
}

/** Who in bold, where below it, then the hubs that it calls. */
function label(
  context: CanvasRenderingContext2D,
  data: PartialButFor<NodeDisplayData, 'x' | 'y' | 'size' | 'label' | 'color'>,
  settings: Settings,
  colours: Palette,
  pitch: number,
): void {
  const node = (data as unknown as Look).scene
  if (data.label === null || data.label === '') return
  const x = data.x + data.size + 5
  const size = settings.labelSize
  const write = (text: string, left: number, y: number, colour: string): void => {
    context.lineWidth = 3
    context.lineJoin = 'round'
    context.strokeStyle = colours.back
    context.strokeText(text, left, y)
    context.fillStyle = colour
    context.fillText(text, left, y)
  }
  context.font = `600 ${size}px ${settings.labelFont}`
  // Between rows that are near, there is room for one line, as far as the next column.
  if (pitch < 0.58 * ROW) {
    const letters = Math.max(4, Math.floor((pitch / ROW) * 24))
    write(short(node.title, letters), x, data.y + size / 3, colours.text)
    return
  }
  write(node.title, x, data.y - 1, colours.text)
  context.font = `${size - 1}px ${settings.labelFont}`
  write(node.place, x, data.y + size, colours.muted)
  let left = x
  if (node.badges.length === 0) return
  left += context.measureText(node.place).width + 6
  context.font = `${size - 2}px ${settings.labelFont}`
  for (const { text: badge } of node.badges) {
    const width = context.measureText(badge).width + 8
    context.beginPath()
    context.roundRect(left, data.y + 3, width, size + 1, 4)
    context.fillStyle = colours.badge
    context.fill()
    context.fillStyle = colours.back
    context.fillText(badge, left + 4, data.y + size)
    left += width + 4
  }
}
