// A scene that is small enough to be read as boxes with names: elements of SVG,
// whose looks are all in the style sheet. Nothing of it needs WebGL.

import type { Drawing, Watcher } from './draw.ts'
import { narrow } from './narrow.ts'
import { arrange, type Arranged, type Box, portsAt, type Route, type Size } from './routes.ts'
import { type Badge, drawnFor, isIdle, isSelected, meantBy, NOTHING, rimOf, type Scene, type SceneLine, type SceneNode, toneOf } from './scene.ts'
import { short } from './text.ts'

/** More than these are not read one by one, and are much for a page of elements. */
const [MAX_BOXES, MAX_LINES] = [300, 600]

export function fits({ nodes, lines }: Scene): boolean {
  return nodes.length <= MAX_BOXES && lines.length <= MAX_LINES
}

/** Of a box: its height, that of a row of badges, room beside its text, and most of its width. */
const [HEIGHT, ROW, BESIDE, WIDTH] = [40, 17, 24, 236]
/** Badges that are written. */
const BADGES = 2
/** Around all: what stands upon the graph must not hide it. */
const [TOP, RIGHT, BOTTOM, LEFT] = [44, 16, 52, 16]
const [LEAST, MOST] = [0.08, 4]
/** Where names are too small to be read. */
const FAR = 0.6

const SVG = 'http://www.w3.org/2000/svg'

function svg(name: string, attributes: Record<string, string | number>, ...children: (Element | string)[]): SVGElement {
  const element = document.createElementNS(SVG, name)
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value))
  element.append(...children)
  return element
}

const [NAME, SMALL, TINY] = ['600 13px system-ui, sans-serif', '12px system-ui, sans-serif', '11px system-ui, sans-serif']

/** How wide texts are, as the style sheet writes them. */
function ruler(): (text: string, font: string) => number {
  const context = document.createElement('canvas').getContext('2d')
  const known = new Map<string, number>()
  return (text, font) => {
    const name = font + text
    let width = known.get(name)
    if (width === undefined) {
      if (context !== null) context.font = font
      width = context?.measureText(text).width ?? 8 * text.length
      if (known.size < 10_000) known.set(name, width)
    }
    return width
  }
}

/** What stands in a box, cut to its width. */
interface Label {
  title: string
  place: string
  ports: string
  badges: Badge[]
  size: Size
}

interface Drawn {
  element: SVGElement
  node: SceneNode
  box: Box
}

export function boxes(watcher: Watcher): Drawing {
  const measure = ruler()
  const lineLayer = svg('g', { 'aria-hidden': 'true' })
  const nodeLayer = svg('g', {})
  const moved = svg('g', {}, lineLayer, nodeLayer)
  const root = svg('svg', { class: 'boxes' }, moved) as SVGSVGElement
  let scene: Scene = NOTHING
  let all: Arranged = { boxes: new Map(), routes: new Map(), width: 0, height: 0 }
  let selected: string | null = null
  let hovered: string | null = null
  /** The box that the keyboard is at, and the only one that it comes to by itself. */
  let current: string | null = null
  let view = { x: 0, y: 0, scale: 1 }
  /** Nobody has moved the view. */
  let fitted = true
  const nodes = new Map<string, Drawn>()
  const lines = new Map<string, { element: SVGElement; line: SceneLine }>()
  const meant = new WeakMap<Element, { node?: SceneNode; line?: SceneLine; badge?: Badge }>()

  function look(to: typeof view): void {
    view = { ...to, scale: Math.max(LEAST, Math.min(MOST, to.scale)) }
    moved.setAttribute('transform', `translate(${view.x.toFixed(1)} ${view.y.toFixed(1)}) scale(${view.scale.toFixed(4)})`)
    root.classList.toggle('far', view.scale < FAR)
  }

  const room = (): Size => ({ width: Math.max(60, root.clientWidth - LEFT - RIGHT), height: Math.max(60, root.clientHeight - TOP - BOTTOM) })

  /** All of it, in the middle, and not blown up. */
  function fit(): void {
    fitted = true
    const { width, height } = room()
    const scale = Math.max(LEAST, Math.min(1, width / Math.max(1, all.width), height / Math.max(1, all.height)))
    look({ x: Math.round(LEFT + (width - all.width * scale) / 2), y: Math.round(TOP + height / 2), scale })
  }

  /** Nearer, or further away, by a factor; a place on the screen stays where it is. */
  function zoom(by: number, x = root.clientWidth / 2, y = root.clientHeight / 2): void {
    fitted = false
    const scale = Math.max(LEAST, Math.min(MOST, view.scale * by))
    const factor = scale / view.scale
    look({ x: x - (x - view.x) * factor, y: y - (y - view.y) * factor, scale })
  }

  /** A box that the keyboard comes to is seen. */
  function reveal({ box }: Drawn): void {
    const { width, height } = room()
    const [left, top] = [view.x + box.x * view.scale, view.y + box.y * view.scale]
    const aside = (at: number, size: number, from: number, to: number): number => (at < from ? from - at : at + size > to ? to - at - size : 0)
    const [x, y] = [aside(left, box.width * view.scale, LEFT, LEFT + width), aside(top, box.height * view.scale, TOP, TOP + height)]
    if (x === 0 && y === 0) return
    fitted = false
    look({ ...view, x: view.x + x, y: view.y + y })
  }

  /** Classes say what is meant; the rest is pale by the style sheet. */
  function mark(): void {
    const inside = drawnFor(scene, selected)
    const focus = hovered ?? (inside !== null && nodes.has(inside) ? inside : null)
    const near = new Set<string>(focus === null ? [] : [focus])
    for (const [key, { element, line }] of lines) {
      const touches = line.active === focus || line.passive === focus
      if (touches) near.add(line.active).add(line.passive)
      element.classList.toggle('near', touches)
      element.classList.toggle('selected', isSelected(line, selected) || key === selected)
    }
    for (const [key, { element }] of nodes) {
      element.classList.toggle('near', near.has(key))
      element.classList.toggle('selected', key === inside)
      element.setAttribute('aria-pressed', String(key === inside))
    }
    root.classList.toggle('focused', focus !== null)
  }

  function label(node: SceneNode, ports: string): Label {
    const cut = (text: string, font: string, width: number): string => {
      let letters = text.length
      let made = text
      while (letters > 4 && measure(made, font) > width) made = short(text, --letters)
      return made
    }
    const beside = ports === '' ? 0 : measure(ports, TINY) + 12
    const title = cut(node.title, NAME, WIDTH - BESIDE)
    const place = cut(node.place, SMALL, WIDTH - BESIDE - beside)
    const { badges } = node
    const written = badges.slice(0, BADGES)
    if (badges.length > BADGES) written.push({ key: '', text: `+${badges.length - BADGES}` })
    const tags = written.reduce((sum, badge) => sum + measure(badge.text, TINY) + 14, -4)
    const width = Math.max(64, measure(title, NAME), measure(place, SMALL) + beside, tags)
    return { title, place, ports, badges: written, size: { width: Math.ceil(width) + BESIDE, height: HEIGHT + (badges.length > 0 ? ROW : 0) } }
  }

  function boxOf(node: SceneNode, box: Box, text: Label): SVGElement {
    const kind = ['node', node.root && 'root', node.hollow && 'hollow', node.change !== 'same' && node.change, scene.folds.has(node.key) && 'many']
    const calls = scene.lines.filter((line) => line.active === node.key).length
    const called = scene.lines.filter((line) => line.passive === node.key).length
    // First what is read in it, in that order: so it is called by who speaks to it.
    const read = [text.title, ...text.badges.map((badge) => badge.text), text.place, text.ports].filter((one) => one !== '').join(' ')
    const cut = node.name !== `${text.title}, ${text.place}`
    const said = [read, cut && node.name, node.root && 'asked for', node.change !== 'same' && node.change, `calls ${calls}`, `called by ${called}`]
    const element = svg('g', { class: kind.filter((one) => one !== false).join(' '), transform: `translate(${box.x} ${box.y})`, role: 'button', tabindex: -1, 'aria-label': said.filter((one) => one !== false).join('; ') })
    if (cut) element.append(svg('title', {}, node.name))
    // Of those that it stands for.
    if (scene.folds.has(node.key)) element.append(svg('rect', { class: 'behind', x: 4, y: 4, width: box.width, height: box.height, rx: 4 }))
    element.append(
      svg('rect', { class: 'box', width: box.width, height: box.height, rx: 4 }),
      svg('rect', { class: 'bar', width: 5, height: box.height, rx: 2 }),
      svg('text', { class: 'title', x: 13, y: 17 }, text.title),
      // From far away the name alone, as large as the box.
      svg('text', { class: 'large', x: 13, y: HEIGHT / 2 + 8, 'font-size': Math.min(24, (13 * (box.width - 20)) / measure(text.title, NAME)).toFixed(1) }, text.title),
    )
    let left = 12
    for (const badge of text.badges) {
      const width = measure(badge.text, TINY) + 10
      const tag = svg('g', { class: 'badge' }, svg('rect', { x: left, y: HEIGHT - 2, width, height: 14, rx: 4 }), svg('text', { x: left + 5, y: HEIGHT + 9 }, badge.text))
      if (badge.key !== '') meant.set(tag, { badge })
      element.append(' ', tag)
      left += width + 4
    }
    element.append(' ', svg('text', { class: 'place', x: 13, y: 32 }, text.place))
    if (text.ports !== '') element.append(' ', svg('text', { class: 'ports', x: box.width - 9, y: 32 }, text.ports))
    meant.set(element, { node })
    return element
  }

  function lineOf(line: SceneLine, { path, heads, tag }: Route): SVGElement {
    const [from, to] = [nodes.get(line.active)?.node.name ?? '', nodes.get(line.passive)?.node.name ?? '']
    const many = line.edges.length > 1 ? `${line.edges.length} edges, ` : ''
    const said = `${from} ${line.directed ? '→' : '↔'} ${to} ${line.ports}: ${many}${line.state}${line.oneEnd ? ', told by one end' : ', told by both ends'}${line.change === 'same' ? '' : `, ${line.change}`}`
    const rim = rimOf(line)
    const width = Math.round(10 * (line.size - 0.2)) / 10
    const element = svg('g', { class: `line ${toneOf(line)}${isIdle(line) ? ' idle' : ''}` }, svg('title', {}, said))
    if (rim !== null) element.append(svg('path', { class: `rim ${rim}`, d: path, 'stroke-width': width + 7 }), svg('path', { class: 'between', d: path, 'stroke-width': width + 3 }))
    element.append(svg('path', { class: 'hit', d: path }), svg('path', { class: 'stroke', d: path, 'stroke-width': width }), svg('path', { class: 'head', d: heads }))
    if (tag !== undefined) element.append(svg('text', { class: 'tag', x: tag.x, y: tag.y, 'text-anchor': tag.anchor }, tag.text))
    meant.set(element, { line })
    return element
  }

  function fill(): void {
    const focused = root.contains(document.activeElement)
    const ports = portsAt(scene)
    const labels = new Map(scene.nodes.map((node) => [node.key, label(node, ports.get(node.key) ?? '')]))
    all = arrange(scene, (node) => labels.get(node.key)?.size ?? { width: 80, height: HEIGHT }, room())
    nodes.clear()
    lines.clear()
    for (const node of scene.nodes) {
      const [box, text] = [all.boxes.get(node.key), labels.get(node.key)]
      if (box !== undefined && text !== undefined) nodes.set(node.key, { element: boxOf(node, box, text), node, box })
    }
    for (const line of scene.lines) {
      const way = all.routes.get(line.key)
      if (way !== undefined) lines.set(line.key, { element: lineOf(line, way), line })
    }
    // What fails lies above the rest, what has ended below.
    const rank = ({ line }: { line: SceneLine }): number => (line.state === 'failing' ? 2 : isIdle(line) ? 0 : 1)
    lineLayer.replaceChildren(...[...lines.values()].sort((a, b) => rank(a) - rank(b)).map(({ element }) => element))
    nodeLayer.replaceChildren(...[...nodes.values()].map(({ element }) => element))
    const known = current !== null && nodes.has(current)
    if (!known) current = scene.nodes.find((node) => node.root)?.key ?? scene.nodes[0]?.key ?? null
    const here = nodes.get(current ?? '')?.element
    here?.setAttribute('tabindex', '0')
    // What the keyboard was at is made anew.
    if (focused) here?.focus()
  }

  function enter(key: string, seen = true): void {
    const [before, next] = [nodes.get(current ?? ''), nodes.get(key)]
    if (next === undefined) return
    before?.element.setAttribute('tabindex', '-1')
    next.element.setAttribute('tabindex', '0')
    current = key
    if (seen) reveal(next)
    next.element.focus({ preventScroll: true })
  }

  /** The nearest box that way: along a line to the left and right, in its column up and down. */
  function beside(from: Drawn, arrow: string): string | undefined {
    const others = [...nodes.values()].filter((one) => one !== from)
    const far = (one: Drawn): number => Math.abs(one.box.y - from.box.y) + Math.abs(one.box.x - from.box.x) / 100
    const nearest = (some: Drawn[]): Drawn | undefined => some.sort((a, b) => far(a) - far(b))[0]
    const { column, y } = from.box
    if (arrow === 'ArrowUp') return nearest(others.filter(({ box }) => box.column === column && box.y < y))?.node.key
    if (arrow === 'ArrowDown') return nearest(others.filter(({ box }) => box.column === column && box.y > y))?.node.key
    const that = others.filter(({ box }) => (arrow === 'ArrowLeft' ? box.column < column : box.column > column))
    const joined = new Set(scene.lines.flatMap((line) => (line.active === from.node.key ? [line.passive] : line.passive === from.node.key ? [line.active] : [])))
    const step = Math.min(...that.map(({ box }) => Math.abs(box.column - column)))
    return (nearest(that.filter(({ node }) => joined.has(node.key))) ?? nearest(that.filter(({ box }) => Math.abs(box.column - column) === step)))?.node.key
  }

  const at = (event: Event): { node?: SceneNode; line?: SceneLine; badge?: Badge } => {
    for (let element = event.target as Element | null; element !== null && element !== root; element = element.parentElement) {
      const found = meant.get(element)
      if (found !== undefined) return found
    }
    return {}
  }

  listen(root, { look: (to) => ((fitted = false), look(to)), zoom, view: () => view })
  root.addEventListener('click', (event) => {
    // Somebody marked a name, to copy it.
    const text = window.getSelection()
    if (text !== null && !text.isCollapsed && root.contains(text.anchorNode)) return
    const { node, line, badge } = at(event)
    if (badge !== undefined) watcher.select(badge.key)
    else if (node !== undefined) watcher.select(node.key)
    else watcher.select(line === undefined ? null : meantBy(line))
  })
  root.addEventListener('dblclick', (event) => {
    const { node } = at(event)
    window.getSelection()?.removeAllRanges()
    if (node !== undefined) watcher.open(node.key)
  })
  root.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return
    const here = nodes.get(at(event).node?.key ?? '')
    // Around the box that the keyboard is at.
    const box = here?.box
    const near = box === undefined ? ([] as const) : ([view.x + (box.x + box.width / 2) * view.scale, view.y + (box.y + box.height / 2) * view.scale] as const)
    if (event.key === '+' || event.key === '=') zoom(1.3, ...near)
    else if (event.key === '-') zoom(1 / 1.3, ...near)
    else if (event.key === '0') fit()
    else if (here !== undefined && event.key === 'Enter') watcher.open(here.node.key)
    else if (here !== undefined && event.key === ' ') watcher.select(here.node.key)
    else if (here !== undefined && event.key.startsWith('Arrow')) enter(beside(here, event.key) ?? here.node.key)
    else return
    event.preventDefault()
  })
  const hover = (key: string | null): void => {
    if (hovered === key) return
    hovered = key
    mark()
  }
  root.addEventListener('pointerover', (event) => hover(event.pointerType === 'mouse' ? (at(event).node?.key ?? null) : null))
  root.addEventListener('pointerleave', () => hover(null))
  root.addEventListener('focusin', (event) => {
    const key = at(event).node?.key
    if (key === undefined) return
    const seen = (event.target as Element).matches(':focus-visible')
    enter(key, seen)
    if (seen) hover(key)
  })
  root.addEventListener('focusout', () => hover(null))
  new ResizeObserver(() => {
    if (fitted && root.clientWidth > 0) fit()
  }).observe(root)

  return {
    element: root,
    show(next, key, anew) {
      scene = next
      selected = key
      hovered = null
      fill()
      if (anew || fitted) fit()
      mark()
      watcher.drawn()
    },
    select(key) {
      selected = key
      mark()
    },
    zoom: (by) => (by === null ? fit() : zoom(by)),
    recolour: () => undefined,
  }
}

interface Hand {
  look: (to: { x: number; y: number; scale: number }) => void
  zoom: (by: number, x: number, y: number) => void
  view: () => { x: number; y: number; scale: number }
}

/** Moves by dragging what is no name, nearer and further by the wheel or with two fingers. */
function listen(root: SVGSVGElement, { look, zoom, view }: Hand): void {
  const fingers = new Map<number, { x: number; y: number }>()
  let begun: { x: number; y: number } | null = null
  let dragged = false
  const place = (event: MouseEvent): { x: number; y: number } => {
    const { left, top } = root.getBoundingClientRect()
    return { x: event.clientX - left, y: event.clientY - top }
  }
  root.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return
    dragged = false
    if (event.pointerType === 'mouse' && (event.target as Element).closest('text') !== null) return
    begun = place(event)
    fingers.set(event.pointerId, begun)
  })
  root.addEventListener('pointermove', (event) => {
    const before = fingers.get(event.pointerId)
    if (before === undefined || begun === null) return
    const now = place(event)
    // A hand is never quite still.
    if (!dragged && Math.hypot(now.x - begun.x, now.y - begun.y) < 4) return
    if (!dragged) root.setPointerCapture(event.pointerId)
    dragged = true
    const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1]
    fingers.set(event.pointerId, now)
    if (other === undefined) {
      // One finger scrolls the page.
      if (event.pointerType === 'touch' && narrow()) return
      const { x, y, scale } = view()
      look({ x: x + now.x - before.x, y: y + now.y - before.y, scale })
      return
    }
    const apart = (one: { x: number; y: number }): number => Math.max(1, Math.hypot(one.x - other.x, one.y - other.y))
    zoom(apart(now) / apart(before), (now.x + other.x) / 2, (now.y + other.y) / 2)
  })
  const ended = (event: PointerEvent): void => void fingers.delete(event.pointerId)
  root.addEventListener('pointerup', ended)
  root.addEventListener('pointercancel', ended)
  // A drag ends in a click that means nothing.
  root.addEventListener('click', (event) => dragged && event.stopImmediatePropagation(), { capture: true })
  root.addEventListener(
    'wheel',
    (event) => {
      event.preventDefault()
      const { x, y } = place(event)
      zoom(Math.exp(-Math.max(-240, Math.min(240, event.deltaY * (event.deltaMode === 0 ? 1 : 20))) / 500), x, y)
    },
    { passive: false },
  )
}
