// The page: what its address says, asked of the collector and shown as a graph
// and a table.

import './style.css'

import { fetchDocument, picture, Refusal } from './api.ts'
import { boxes, fits } from './boxes.ts'
import { heard, now } from './clock.ts'
import { ageing, announce, beginOf, coverage } from './coverage.ts'
import { byId, h, inPlace, put } from './dom.ts'
import { alikeDetails, details, focus, type LinkTo } from './detail.ts'
import type { Drawing, Watcher } from './draw.ts'
import { apply, parse } from './filter.ts'
import { compare } from './compare.ts'
import { beginning, filterHelp } from './help.ts'
import { live, waits } from './live.ts'
import { type Model, modelOf, part, walk } from './model.ts'
import { narrow, yieldTouches } from './narrow.ts'
import { type Hub, MAX_FINE, type Scene, scene } from './scene.ts'
import { search } from './search.ts'
import { webgl, zoomer } from './stage.ts'
import { BYS, MAX_DEPTH, path, paths, read, type State, WAYS, write } from './state.ts'
import { table } from './table.ts'
import { moment, short, visible } from './text.ts'
import { themes } from './theme.ts'
import { isTyped, timeControls } from './time.ts'
import { askForToken } from './token.ts'
import type { Answer, Diff } from './types.ts'
import { filterBox } from './words.ts'

/** Answers that are kept, so that going back needs no other one; for so long. */
const KEPT = 4
const FRESH = 15_000

/** How often a graphics card that is lost is asked again. */
const MAX_LOST = 3

/** One answer, and the one that it is compared with. */
interface Loaded {
  paths: string
  answers: Answer[]
  model: Model
  /** What is to be said of a comparison. */
  notes: string[]
  /** When it came, by this browser's clock. */
  at: number
  /** What it is about, once it was shown. */
  seen: string
}

/** Why it is asked: for another view, one that was there before, the same again, or by nobody. */
type Why = 'to' | 'back' | 'again' | 'quiet'

let state = read(location.search)
let loaded: Loaded | null = null
let asking = new AbortController()
/** What is asked, or was last. */
let asked = ''
let oldest = Infinity
/** What of the answer is shown. */
let shown: { model: Model; edges: number[]; scene: Scene } | null = null
/** What draws now: boxes, the many by WebGL, or the collector. */
let drawn: Drawing | 'none' | null = null
let few: Drawing | null = null
let many: Promise<Drawing | 'none'> | null = null
let lost = 0
const kept: Loaded[] = []

const graph = byId('graph', HTMLElement)
const canvas = byId('canvas', HTMLElement)
const detail = byId('detail', HTMLElement)
const nearer = zoomer((by) => drawn !== null && drawn !== 'none' && drawn.zoom(by))
graph.append(nearer)

// ── The address ─────────────────────────────────────────────────────────────

/** Goes to another view; `replace` leaves no step to go back to. */
function go(change: Partial<State>, replace = false): void {
  const next = { ...state, ...change }
  if (write(next) === write(state)) return
  if (replace) history.replaceState(null, '', write(next))
  else history.pushState(null, '', write(next))
  become(next)
}

function become(next: State, why: Why = 'to'): void {
  const before = state
  state = next
  const other = JSON.stringify([next.selector, next.node, next.group]) !== JSON.stringify([before.selector, before.node, before.group])
  if (other) box.leave()
  const wanted = pathsOf(next)
  const waited = asked === wanted && document.body.hasAttribute('aria-busy')
  if (loaded?.paths !== wanted || next.flat !== before.flat || isStale()) {
    if (waited) controls()
    else void load(why)
    return
  }
  if (asked !== wanted) drop()
  if (view(next) === view(before)) select(before.selected)
  else render(next.node !== before.node || next.depth !== before.depth || next.ways !== before.ways)
}

/** What beside the selection is seen. */
function view({ node, depth, ways, filter, hubs, sort }: State): string {
  return JSON.stringify([node, depth, ways, filter, hubs, sort])
}

const link: LinkTo = (change, text) =>
  h(
    'a',
    {
      href: write({ ...state, ...change }),
      click: (event: MouseEvent) => {
        if (event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey) return
        event.preventDefault()
        go(change)
      },
    },
    text,
  )

// ── The collector ───────────────────────────────────────────────────────────

const pathsOf = (of: State): string => paths(of).join('\n')

async function ask(all: string, ofGroup: boolean, signal: AbortSignal): Promise<Loaded> {
  const wanted = all.split('\n')
  const one = async <T extends { generated: string }>(path: string): Promise<T> => {
    const answer = await fetchDocument<T>(path, signal)
    heard(answer.generated)
    return answer
  }
  let [is, was, diff] = await Promise.all(wanted.map((path) => one<Answer | Diff>(path)))
  // What fits now need not be what fitted then.
  if (is !== undefined && was !== undefined && 'by' in is && 'by' in was && is.by !== was.by) {
    was = await one<Answer>((wanted[1] ?? '').replace('by=auto', `by=${is.by}`))
  }
  performance.mark('shawk-answered')
  const later = is as Answer
  const rest = { paths: all, at: Date.now(), seen: '' }
  if (was === undefined || diff === undefined) return { ...rest, answers: [later], model: modelOf(later, ofGroup), notes: [] }
  const { model, notes } = compare(modelOf(later, ofGroup), modelOf(was as Answer, ofGroup), diff as Diff)
  return { ...rest, answers: [later, was as Answer], model, notes }
}

/** What is shown is something else than what is asked for. */
function isStale(): boolean {
  return document.body.dataset['stale'] !== undefined
}

/** The answer that is waited for is not wanted any more. */
function drop(): void {
  asking.abort()
  asking = new AbortController()
  asked = loaded?.paths ?? ''
  waits(false)
  watch.ended('answered')
}

async function load(why: Why): Promise<void> {
  asking.abort()
  const mine = new AbortController()
  asking = mine
  const wanted = pathsOf(state)
  asked = wanted
  const known = why === 'back' ? kept.find((one) => one.paths === wanted && Date.now() - one.at < FRESH) : undefined
  if (why !== 'quiet') {
    waits(true)
    controls()
  }
  try {
    const answered = known ?? (await ask(wanted, state.group !== null, mine.signal))
    if (mine.signal.aborted) return
    const same = loaded?.paths === wanted && (why === 'again' || why === 'quiet')
    loaded = answered
    if (known === undefined) keepAnswer(answered)
    oldest = Math.min(oldest, ...answered.answers.map(beginOf))
    delete document.body.dataset['stale']
    problem(null)
    render(!same, same)
    if (why !== 'quiet') announce(document.querySelector('caption')?.textContent ?? '', answered.answers)
    watch.ended('answered')
  } catch (error) {
    if (mine.signal.aborted) return
    failed(error, wanted)
  } finally {
    if (asking === mine) waits(false)
  }
}

function keepAnswer(answer: Loaded): void {
  const old = kept.findIndex((one) => one.paths === answer.paths)
  if (old >= 0) kept.splice(old, 1)
  kept.unshift(answer)
  kept.length = Math.min(kept.length, KEPT)
}

/** What is shown is not, or no longer, what was asked for: that is said. */
function failed(error: unknown, wanted: string): void {
  const status = error instanceof Refusal ? error.status : 400
  if (status === 401) askForToken(() => void load('again'))
  const why = (error instanceof Error ? error.message : String(error)).replace(/\.$/, '')
  const passing = status === 0 || status === 429 || status >= 500
  const when = loaded === null ? '' : moment(loaded.answers[0]?.generated ?? '')
  const shownNow = loaded === null ? '' : loaded.paths === wanted ? ` What is shown was answered ${when}.` : ` Still shown: ${loaded.seen}, answered ${when}.`
  const was = isStale()
  if (loaded !== null && loaded.paths !== wanted) document.body.dataset['stale'] = ''
  else {
    delete document.body.dataset['stale']
    if (was) render(true)
  }
  problem(`${why}.${shownNow}${passing ? ' It is asked again until there is an answer.' : ''}`)
  watch.ended(passing ? 'failed' : 'refused')
}

let pressed = false

const watch = live({
  wanted: () => state.live && state.to === null,
  busy() {
    const chosen = getSelection()
    const reads = chosen !== null && !chosen.isCollapsed && document.querySelector('main')?.contains(chosen.anchorNode) === true
    return reads || pressed || document.body.hasAttribute('aria-busy') || byId('token-dialog', HTMLDialogElement).open
  },
  ask() {
    if (!document.body.hasAttribute('aria-busy')) void load('quiet')
  },
})

function problem(text: string | null): void {
  const place = byId('problem', HTMLElement)
  const said = text === null ? '' : short(visible(text), 400)
  place.hidden = text === null
  // What is said already is not said again.
  if (place.textContent !== said) place.textContent = said
}

// ── What is seen ────────────────────────────────────────────────────────────

/** The part of the answer that the state means: around the one node, or what the collector walked. */
function meant(): { model: Model; far: Map<number, number> | null } | null {
  if (loaded === null) return null
  const { model } = loaded
  if (model.folded) return { model, far: null }
  const one = state.node === null ? undefined : model.at.get(state.node)
  if (state.node !== null && one === undefined) return { model: part(model, [], []), far: new Map() }
  const all = state.selector?.value === '*' && state.group === null && one === undefined
  if (all) return { model, far: null }
  const roots = one === undefined ? model.nodes.flatMap((node, place) => (node.root ? [place] : [])) : [one]
  const walked = walk(model, roots, state.depth, state.ways)
  const some = part(model, walked.edges, roots)
  const far = new Map<number, number>()
  for (const [place, steps] of walked.far) {
    const there = some.at.get(model.nodes[place]?.key ?? '')
    if (there !== undefined) far.set(there, steps)
  }
  return { model: some, far }
}

/** `stay`: it is the view that was there, of a little later. */
function render(anew: boolean, stay = false): void {
  performance.mark('shawk-render')
  const what = meant()
  if (what === null || loaded === null) return
  const filter = parse(state.filter)
  const edges = apply(filter, what.model)
  const view = scene(what.model, edges, what.far, state.hubs)
  shown = { model: what.model, edges, scene: view }
  loaded.seen = visible(short(whatIsSeen(), 80))
  // A list that is open would be closed, a slider that is held let go.
  const held = stay && document.activeElement?.matches('#bar select, #time input, #time select') === true
  if (!held) controls()
  coverage(loaded.answers, loaded.notes)
  words.say(filter, edges.length, what.model)
  legend()
  inPlace(byId('hubs', HTMLElement), () => hubList(view.hubs))
  // In this order: the details take room from the table.
  if (stay) inPlace(detail, () => details_(true))
  else details_()
  rows.show(what.model, edges, state.sort, state.selected, stay)
  graph.dataset['nodes'] = String(view.nodes.length)
  graph.dataset['lines'] = String(view.lines.length)
  emptiness(view)
  void draw(anew)
}

function select(before: string | null): void {
  controls()
  // In this order: the details take room from the table.
  details_()
  rows.select(state.selected)
  if (drawn !== null && drawn !== 'none') drawn.select(state.selected)
  if (!narrow() || before === state.selected) return
  if (state.selected !== null) detail.scrollIntoView({ block: 'start' })
  else [...document.querySelectorAll<HTMLElement>('tbody tr')].find((row) => row.dataset['key'] === before)?.scrollIntoView({ block: 'center' })
}

function emptiness(view: Scene): void {
  const empty = byId('empty', HTMLElement)
  const gone = state.node !== null && loaded?.model.at.has(state.node) !== true
  empty.hidden = view.nodes.length > 0
  const note = loaded?.answers[0]?.notes[0] ?? 'Nothing is known.'
  const never = note.startsWith('nothing is known of any host: no probe ever reported')
  empty.className = never ? 'beginning' : ''
  if (never) put(empty, ...beginning(visible(note)))
  else {
    empty.textContent = gone
      ? 'This node is not in what is known of this time. Look at another time, or begin anew.'
      : state.filter !== ''
        ? 'Nothing that is known passes the filter.'
        : visible(note)
  }
}

const watcher: Watcher = {
  select: (key) => go({ selected: key }),
  open: (key) => {
    // Those that it stands for are in the details.
    if (shown?.scene.folds.has(key) === true) return go({ selected: key })
    const node = shown?.model.nodes[shown.model.at.get(key) ?? -1]
    const to = node === undefined || loaded === null ? null : focus(node, loaded.model)
    if (to !== null) go(to)
  },
  drawn: () => void performance.mark('shawk-drawn'),
  lost: () => {
    // A graphics card that comes back may be lost again, and again.
    many = ++lost > MAX_LOST ? Promise.resolve('none') : null
    if (drawn !== few) void draw(true)
  },
}

/** What draws what is too much for boxes. */
async function pencil(): Promise<Drawing | 'none'> {
  if (state.flat || !webgl()) return 'none'
  const { drawing } = await import('./draw.ts')
  const element = h('div', { class: 'layers' })
  if (drawn === null) put(canvas, element)
  return drawing(element, watcher)
}

async function draw(anew: boolean): Promise<void> {
  if (shown === null) return
  const mine = shown
  const next = fits(mine.scene) ? (few ??= boxes(watcher)) : await (many ??= pencil())
  // Something else is to be seen meanwhile.
  if (shown !== mine) return
  const before = drawn
  drawn = next
  byId('legend', HTMLElement).hidden = next === 'none' || mine.scene.nodes.length === 0
  nearer.hidden = next === 'none'
  canvas.className = next === 'none' ? 'picture' : ''
  canvas.tabIndex = next === 'none' ? 0 : -1
  canvas.setAttribute('role', next === 'none' ? 'region' : next === few ? 'group' : 'img')
  canvas.setAttribute('aria-label', next === few ? 'The graph: arrow keys lead from box to box, Enter opens one; plus, minus and 0 zoom' : 'The graph; the table beside it has the same, for the keyboard')
  if (next === 'none') {
    await paint(mine.model.folded)
    return
  }
  if (canvas.firstChild !== next.element) put(canvas, next.element)
  next.show(mine.scene, state.selected, anew || next !== before)
}

/** Too much for boxes, without WebGL: the collector's own picture. */
async function paint(folded: boolean): Promise<void> {
  hubList([])
  if (folded) {
    put(canvas, h('p', {}, 'So many links are drawn with WebGL only, which is missing here. The table has them; filter it, or open a group, and they are drawn.'))
    return
  }
  const said = h('p', {}, 'So much is drawn with WebGL only, which is missing here: this is the collector’s picture of it. Filter and comparison do not apply to it; filter for less than 300 nodes to see them drawn.')
  put(canvas, said)
  try {
    const svg = await picture(path(state, state.to, 'svg'), asking.signal)
    if (drawn === 'none') put(canvas, said, h('img', { alt: 'What talks to what; the table has the same', src: `data:image/svg+xml,${encodeURIComponent(svg)}` }))
  } catch (error) {
    if (!asking.signal.aborted) problem(error instanceof Error ? error.message : String(error))
  }
}

// ── Around the graph ────────────────────────────────────────────────────────

function segments<T extends string | number>(name: string, all: readonly T[], now: T, pick: (one: T) => void, words: (one: T) => string): HTMLElement {
  return h(
    'span',
    { class: 'segments', role: 'group', 'aria-label': name },
    `${name} `,
    ...all.map((one) => h('button', { type: 'button', 'aria-pressed': String(one === now), click: () => pick(one) }, words(one))),
  )
}

/** It may be the words of an address that somebody else wrote. */
function whatIsSeen(): string {
  if (state.node !== null) {
    const node = loaded?.model.nodes[loaded.model.at.get(state.node) ?? -1]
    return node === undefined ? state.node.split('~')[0] ?? '' : `${node.title}, ${node.place}`
  }
  if (state.group !== null) return state.group === 'none:' ? `no ${state.by ?? 'such thing'} known` : state.group.replace(':', ' ')
  if (state.selector === null) return 'Everything, in groups'
  const { kind, value } = state.selector
  const host = loaded?.answers[0]?.schema === 'shawk.look/1' ? loaded.answers[0].hosts.find((one) => one.id === value) : undefined
  if (value === '*') return 'Everything, node by node'
  return `${kind === 'what' ? '' : `${kind === 'ip' ? 'address' : kind} `}${host?.name ?? value}`
}

function controls(): void {
  const bar = byId('bar', HTMLElement)
  const walks = state.selector !== null && (state.selector.value !== '*' || state.node !== null) || state.group !== null
  const by = h(
    'select',
    {
      'aria-label': 'Group by',
      change: () => go({ by: by.value === '' ? null : by.value, group: null, node: by.value === '' ? state.node : null, selected: null,
        ...(by.value === '' && state.selector === null ? { selector: { kind: 'what', value: '*' } } : {}) }),
    },
    ...['', ...BYS].map((one) => h('option', { value: one, selected: one === (state.group === null ? (state.by ?? '') : '') }, one === '' ? 'nothing' : one === 'auto' ? `what fits${state.by === 'auto' && loaded?.model.folded === true ? `: ${loaded.model.by}` : ''}` : one)),
  )
  const seen = visible(whatIsSeen())
  document.title = `${short(seen, 60)} – shawk`
  inPlace(bar, () => put(
    bar,
    h('h1', { class: 'where' }, short(seen, 80)),
    h('label', {}, 'Group by ', by),
    walks && segments('Steps', Array.from({ length: MAX_DEPTH }, (_, step) => step + 1), state.depth, (depth) => go({ depth }), String),
    walks && segments('Ways', WAYS, state.ways as (typeof WAYS)[number], (ways) => go({ ways }), (one) => ({ both: 'both', up: 'who depends on it', down: 'what it needs' })[one]),
    h('button', { type: 'button', 'aria-pressed': String(state.hubs), title: 'Nodes that very many are connected with, as badges of those', click: () => go({ hubs: !state.hubs }) }, 'Hubs as badges'),
  ))
  times()
  const toggle = byId('live', HTMLButtonElement)
  toggle.disabled = state.to !== null
  toggle.setAttribute('aria-pressed', String(state.live && state.to === null))
}

function times(): void {
  if (isTyped()) return
  const place = byId('time', HTMLElement)
  inPlace(place, () => timeControls(place, state, oldest, now(), { change: go, left: times }))
}

function legend(): void {
  const compared = state.versus !== null
  const line = (name: string, text: string): HTMLElement => h('span', {}, h('i', { class: name }), text)
  const dot = (name: string, text: string): HTMLElement => h('span', {}, h('b', { class: name }), text)
  const legend = byId('legend', HTMLElement)
  const boxed = shown !== null && fits(shown.scene)
  legend.className = boxed ? 'boxed' : ''
  put(
    legend,
    line('', 'told by both ends'),
    line('one', 'by one end'),
    shown !== null && shown.scene.lines.length > MAX_FINE ? h('span', {}, 'pale: ended or silent') : line('idle', 'ended or silent'),
    line('failing', 'failing'),
    compared && line('new', 'new'),
    compared && line('gone', 'gone'),
    compared && line('changed', 'changed'),
    compared && line('unknown', 'nobody heard who could tell'),
    compared && line('rim', 'fails, and is new'),
    shown?.scene.nodes.some((node) => node.root) === true && dot('root', 'asked for'),
    dot('', 'with a probe'),
    dot('hollow', 'no probe there'),
  )
}

function hubList(all: Hub[]): void {
  const place = byId('hubs', HTMLElement)
  place.hidden = all.length === 0
  put(place, 'Hubs, drawn as badges:', ...all.map((hub) => {
    const to = link({ selected: hub.key }, `${short(hub.title, 20)} (${hub.neighbours})`)
    to.title = hub.place
    return to
  }))
}

function details_(stay = false): void {
  const key = state.selected
  const all = key === null || shown === null ? null : (details(key, shown.model, link) ?? alikeDetails(key, shown.scene, shown.model, link))
  // What was pressed in it is made anew, or hidden with it.
  const within = detail.contains(document.activeElement)
  detail.hidden = all === null
  if (within && (all === null || !stay)) (all === null ? byId('table', HTMLElement) : detail).focus({ preventScroll: narrow() })
  if (all === null) return
  const close = h('button', { type: 'button', 'aria-label': 'Close the details', title: 'Escape', click: () => go({ selected: null }) }, '×')
  put(detail, h('div', { class: 'head' }, all[0], close), ...all.slice(1))
}

// ── Beginning ───────────────────────────────────────────────────────────────

const rows = table(byId('table', HTMLElement), {
  select: (key) => go({ selected: state.selected === key ? null : key }),
  sort: (sort) => go({ sort }, true),
})

const searchInput = byId('search', HTMLInputElement)
const box = search(
  byId('search-form', HTMLFormElement),
  searchInput,
  byId('search-found', HTMLUListElement),
  (selector) => go({ selector, node: null, by: selector === null ? 'auto' : null, group: null, selected: null, filter: '' }),
)

const words = filterBox(() => state.filter, (filter, replace) => go({ filter }, replace))

function back(): void {
  box.leave()
  become(read(location.search), 'back')
  words.write()
}

function keys(event: KeyboardEvent): void {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return
  // What is typed is a letter, and Escape empties what it is typed into.
  if (event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement || byId('token-dialog', HTMLDialogElement).open) return
  if (event.key === '/') {
    event.preventDefault()
    searchInput.focus()
    searchInput.select()
  } else if (event.key === 'Escape' && state.selected !== null) go({ selected: null })
}

function begin(): void {
  themes(() => {
    if (drawn !== null && drawn !== 'none') drawn.recolour()
  })
  byId('refresh', HTMLButtonElement).addEventListener('click', () => void load('again'))
  byId('live', HTMLButtonElement).addEventListener('click', () => {
    go({ live: !state.live }, true)
    if (state.live) watch.wake()
  })
  byId('home', HTMLAnchorElement).addEventListener('click', (event) => {
    if (event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey) return
    event.preventDefault()
    go({ ...read(''), live: state.live })
  })
  filterHelp()
  yieldTouches(canvas)
  for (const kind of ['pointerdown', 'pointerup', 'pointercancel']) {
    document.addEventListener(kind, () => (pressed = kind === 'pointerdown'), { capture: true })
  }
  document.addEventListener('keydown', keys)
  window.addEventListener('popstate', back)
  window.setInterval(ageing, 5000)
  // Who opens the page on everything is about to look for something. A screen
  // that is touched would show its keyboard.
  if (state.selector === null && state.group === null && matchMedia('(pointer: fine)').matches) searchInput.focus({ preventScroll: true })
  void load('to')
}

// Made while the collector thinks, where it is likely to be needed.
if (state.selector?.value === '*' && state.node === null) many = pencil()
begin()
