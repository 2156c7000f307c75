// The page: what its address says, asked of the collector and shown as a graph
// and a table.

import './style.css'

import { fetchDocument, keepToken, picture, Refusal } from './api.ts'
import { byId, h, put } from './dom.ts'
import { alikeDetails, details, focus, type LinkTo } from './detail.ts'
import { boxes, fits } from './boxes.ts'
import type { Drawing, Watcher } from './draw.ts'
import { apply, FIELDS, type Filter, parse } from './filter.ts'
import { compare } from './compare.ts'
import { type Model, modelOf, part, walk } from './model.ts'
import { type Hub, MAX_FINE, type Scene, scene } from './scene.ts'
import { search } from './search.ts'
import { webgl, zoomer } from './stage.ts'
import { BYS, MAX_DEPTH, path, paths, read, type State, WAYS, write } from './state.ts'
import { table } from './table.ts'
import { age, moment, short, visible } from './text.ts'
import { timeControls } from './time.ts'
import type { Answer, Diff } from './types.ts'

/** Answers that are kept, so that going back needs no other one. */
const KEPT = 4

/** How often a graphics card that is lost is asked again. */
const MAX_LOST = 3

/** One answer, and the one that it is compared with. */
interface Loaded {
  paths: string
  answers: Answer[]
  model: Model
  /** What is to be said of a comparison. */
  notes: string[]
}

let state = read(location.search)
let loaded: Loaded | null = null
let asking = new AbortController()
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
const filterInput = byId('filter', HTMLInputElement)
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

function become(next: State): void {
  const before = state
  state = next
  const same = pathsOf(next) === pathsOf(before) && next.flat === before.flat
  if (!same || loaded === null) void load()
  else if (view(next) === view(before)) select()
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

async function ask(all: string, signal: AbortSignal): Promise<Loaded> {
  const wanted = all.split('\n')
  let [is, was, diff] = await Promise.all(wanted.map((one) => fetchDocument<Answer | Diff>(one, signal)))
  // What fits now need not be what fitted then.
  if (is !== undefined && was !== undefined && 'by' in is && 'by' in was && is.by !== was.by) {
    was = await fetchDocument<Answer>((wanted[1] ?? '').replace('by=auto', `by=${is.by}`), signal)
  }
  performance.mark('shawk-answered')
  const now = is as Answer
  if (was === undefined || diff === undefined) return { paths: all, answers: [now], model: modelOf(now), notes: [] }
  const { model, notes } = compare(modelOf(now), modelOf(was as Answer), diff as Diff)
  return { paths: all, answers: [now, was as Answer], model, notes }
}

async function load(again = false): Promise<void> {
  asking.abort()
  const mine = new AbortController()
  asking = mine
  const wanted = pathsOf(state)
  const known = again ? undefined : kept.find((one) => one.paths === wanted)
  document.body.setAttribute('aria-busy', 'true')
  controls()
  try {
    const answered = known ?? (await ask(wanted, mine.signal))
    if (mine.signal.aborted) return
    loaded = answered
    if (known === undefined) {
      const old = kept.findIndex((one) => one.paths === wanted)
      if (old >= 0) kept.splice(old, 1)
      kept.unshift(loaded)
      kept.length = Math.min(kept.length, KEPT)
    }
    problem(null)
    render(true)
  } catch (error) {
    if (mine.signal.aborted) return
    if (error instanceof Refusal && error.status === 401) void askForToken()
    problem(error instanceof Error ? error.message : String(error))
  } finally {
    if (asking === mine) document.body.removeAttribute('aria-busy')
  }
}

function problem(text: string | null): void {
  const place = byId('problem', HTMLElement)
  place.hidden = text === null
  place.textContent = text === null ? '' : short(visible(text), 400)
}

function askForToken(): void {
  const dialog = byId('token-dialog', HTMLDialogElement)
  const token = byId('token', HTMLInputElement)
  if (dialog.open) return
  token.value = ''
  dialog.showModal()
  dialog.addEventListener(
    'close',
    () => {
      if (dialog.returnValue !== 'use' || token.value === '') return
      keepToken(token.value)
      token.value = ''
      void load(true)
    },
    { once: true },
  )
}

// ── What is seen ────────────────────────────────────────────────────────────

/** The part of the answer that the state means: around the one node, or what the collector walked. */
function meant(): { model: Model; far: Map<number, number> | null } | null {
  if (loaded === null) return null
  const { model } = loaded
  if (model.folded) return { model, far: null }
  const one = state.node === null ? undefined : model.at.get(state.node)
  if (state.node !== null && one === undefined) return { model: part(model, [], []), far: new Map() }
  const all = state.selector?.value === '*' && one === undefined
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

function render(anew: boolean): void {
  performance.mark('shawk-render')
  const what = meant()
  if (what === null || loaded === null) return
  const filter = parse(state.filter)
  const edges = apply(filter, what.model)
  const view = scene(what.model, edges, what.far, state.hubs)
  shown = { model: what.model, edges, scene: view }
  controls()
  coverage()
  saidOfFilter(filter, edges.length)
  legend()
  hubList(view.hubs)
  rows.show(what.model, edges, state.sort, state.selected)
  details_()
  graph.dataset['nodes'] = String(view.nodes.length)
  graph.dataset['lines'] = String(view.lines.length)
  emptiness(view)
  void draw(anew)
}

function select(): void {
  controls()
  // In this order: the details take room from the table.
  details_()
  rows.select(state.selected)
  if (drawn !== null && drawn !== 'none') drawn.select(state.selected)
}

function emptiness(view: Scene): void {
  const empty = byId('empty', HTMLElement)
  const gone = state.node !== null && loaded?.model.at.has(state.node) !== true
  empty.hidden = view.nodes.length > 0
  empty.textContent = gone
    ? 'This node is not in what is known of this time. Look at another time, or begin anew.'
    : state.filter !== ''
      ? 'Nothing that is known passes the filter.'
      : (loaded?.answers[0]?.notes[0] ?? 'Nothing is known.')
}

const watcher: Watcher = {
  select: (key) => go({ selected: key }),
  open: (key) => {
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
  byId('legend', HTMLElement).hidden = next === 'none'
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

function coverage(): void {
  if (loaded === null) return
  const place = byId('coverage', HTMLElement)
  const parts: HTMLElement[] = []
  loaded.answers.forEach((answer, number) => {
    for (const host of 'hosts' in answer && Array.isArray(answer.hosts) ? answer.hosts : []) {
      oldest = Math.min(oldest, Date.parse(host.first_seen))
    }
    if (answer.schema === 'shawk.groups/1' && answer.hosts.first_seen !== undefined) {
      oldest = Math.min(oldest, Date.parse(answer.hosts.first_seen))
    }
    const which = number === 0 ? (state.versus === null ? 'answered' : 'now: answered') : 'then: answered'
    const end = answer.query.until === undefined ? '' : `, until ${moment(answer.query.until)}`
    parts.push(h('span', { class: 'answered', 'data-generated': answer.generated }, `${which} ${moment(answer.generated)}${end}`))
    for (const note of answer.notes) {
      const warn = /^cut:|silent|not seen|not everything|clock|more than one probe/.test(note)
      parts.push(h('span', { class: warn ? 'warn' : null }, note))
    }
  })
  for (const note of loaded.notes) parts.push(h('span', { class: /^(cut|unknown):/.test(note) ? 'warn' : null }, note))
  put(place, ...parts)
  ageing()
}

/** Says how old the answer has become meanwhile. */
function ageing(): void {
  const said = document.querySelector<HTMLElement>('#coverage .answered')
  const since = said?.dataset['generated']
  if (said === null || since === undefined) return
  const old = Date.now() - Date.parse(since)
  const text = (said.textContent ?? '').replace(/ \(.* ago\)$/, '')
  said.textContent = old > 15_000 ? `${text} (${age(old)} ago)` : text
}

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
  if (state.group !== null) return state.group.replace(':', ' ')
  if (state.selector === null) return 'Everything, in groups'
  const { kind, value } = state.selector
  const host = loaded?.answers[0]?.schema === 'shawk.look/1' ? loaded.answers[0].hosts.find((one) => one.id === value) : undefined
  if (value === '*') return 'Everything, node by node'
  return `${kind === 'what' ? '' : `${kind === 'ip' ? 'address' : kind} `}${host?.name ?? value}`
}

function controls(): void {
  const bar = byId('bar', HTMLElement)
  const focused = document.activeElement instanceof HTMLElement && (bar.contains(document.activeElement) || byId('time', HTMLElement).contains(document.activeElement))
    ? document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent
    : null
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
  put(
    bar,
    h('h1', { class: 'where' }, short(seen, 80)),
    h('label', {}, 'Group by ', by),
    walks && segments('Steps', Array.from({ length: MAX_DEPTH }, (_, step) => step + 1), state.depth, (depth) => go({ depth }), String),
    walks && segments('Ways', WAYS, state.ways as (typeof WAYS)[number], (ways) => go({ ways }), (one) => ({ both: 'both', up: 'who depends on it', down: 'what it needs' })[one]),
    h('button', { type: 'button', 'aria-pressed': String(state.hubs), title: 'Nodes that very many are connected with, as badges of those', click: () => go({ hubs: !state.hubs }) }, 'Hubs as badges'),
  )
  timeControls(byId('time', HTMLElement), state, oldest, Date.now(), { change: (to) => go(to) })
  if (focused !== null) {
    const again = [...document.querySelectorAll<HTMLElement>('#bar button, #bar select, #time button, #time select, #time input')]
    again.find((one) => (one.getAttribute('aria-label') ?? one.textContent) === focused)?.focus()
  }
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

function details_(): void {
  const key = state.selected
  const all = key === null || shown === null ? null : (details(key, shown.model, link) ?? alikeDetails(key, shown.scene, shown.model, link))
  // What was pressed in it is made anew, or hidden with it.
  const within = detail.contains(document.activeElement)
  detail.hidden = all === null
  if (within) (all === null ? byId('table', HTMLElement) : detail).focus()
  if (all === null) return
  const close = h('button', { type: 'button', 'aria-label': 'Close the details', click: () => go({ selected: null }) }, '×')
  put(detail, h('div', { class: 'head' }, all[0], close), ...all.slice(1))
}

function saidOfFilter(filter: Filter, left: number): void {
  const said = byId('filter-said', HTMLElement)
  const wrong = 'error' in filter
  filterInput.setAttribute('aria-invalid', String(wrong))
  said.className = wrong ? 'wrong' : ''
  const all = shown?.model.edges.length ?? 0
  const what = shown?.model.folded === true ? 'links' : 'edges'
  said.textContent = wrong ? `${visible(filter.error)}. Nothing is filtered.` : state.filter === '' ? '' : `${left} of ${all} ${what} pass.`
  if (document.activeElement !== filterInput) filterInput.value = state.filter
}

function filterHelp(): void {
  const place = byId('filter-words', HTMLElement)
  const button = byId('filter-help', HTMLButtonElement)
  const example = (text: string, about: string): HTMLElement[] => [h('dt', {}, h('code', {}, text)), h('dd', {}, about)]
  put(
    place,
    h('p', {}, 'Words that must all hold of an edge; graph and table show the same ones.'),
    h(
      'dl',
      {},
      ...example('nginx', 'in any name or address of either end'),
      ...example('-ssh', 'not that'),
      ...example('from:curl to:db', 'the end that calls, the end that is called'),
      ...example('host:web*', 'the whole field; * stands for anything'),
      ...example('port:80,443', 'one of several'),
      ...example('port:1024-65535', 'from, to'),
      ...example('failed:>10', 'more than; also >=, <, <='),
      ...example('address:10.0.0.0/8', 'in a network'),
      ...example('"a b"', 'with spaces'),
    ),
    h('p', {}, 'Fields:'),
    h('dl', {}, ...Object.entries(FIELDS).flatMap(([name, field]) => example(`${name}:`, field.about))),
    h('p', {}, 'Links between groups have their ports, states and who told of them, and no numbers; one with more ports than are listed passes any port.'),
  )
  button.addEventListener('click', () => {
    place.hidden = !place.hidden
    button.setAttribute('aria-expanded', String(!place.hidden))
  })
}

// ── Themes ──────────────────────────────────────────────────────────────────

const THEME = 'shawk-theme'
const THEMES = ['auto', 'light', 'dark'] as const
const dark = matchMedia('(prefers-color-scheme: dark)')

function theme(): void {
  const chosen = THEMES.find((one) => one === localStorage.getItem(THEME)) ?? 'auto'
  document.documentElement.dataset['theme'] = chosen === 'auto' ? (dark.matches ? 'dark' : 'light') : chosen
  const button = byId('theme', HTMLButtonElement)
  button.textContent = `Theme: ${chosen}`
  if (drawn !== null && drawn !== 'none') drawn.recolour()
}

function nextTheme(): void {
  const at = THEMES.findIndex((one) => one === (localStorage.getItem(THEME) ?? 'auto'))
  localStorage.setItem(THEME, THEMES[(at + 1) % THEMES.length] ?? 'auto')
  theme()
}

// ── Beginning ───────────────────────────────────────────────────────────────

const rows = table(byId('table', HTMLElement), {
  select: (key) => go({ selected: state.selected === key ? null : key }),
  sort: (sort) => go({ sort }, true),
})

function begin(): void {
  theme()
  dark.addEventListener('change', theme)
  byId('theme', HTMLButtonElement).addEventListener('click', nextTheme)
  byId('refresh', HTMLButtonElement).addEventListener('click', () => void load(true))
  byId('home', HTMLAnchorElement).addEventListener('click', (event) => {
    if (event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey) return
    event.preventDefault()
    go(read(''))
  })
  search(
    byId('search-form', HTMLFormElement),
    byId('search', HTMLInputElement),
    byId('search-found', HTMLUListElement),
    (selector) => go({ selector, node: null, by: selector === null ? 'auto' : null, group: null, selected: null, filter: '' }),
  )
  filterHelp()
  filterInput.value = state.filter
  let typing = 0
  const filtered = (replace: boolean) => (): void => {
    window.clearTimeout(typing)
    typing = window.setTimeout(() => go({ filter: filterInput.value.trim() }, replace), replace ? 150 : 0)
  }
  // While somebody types, each letter is not a step to go back to.
  filterInput.addEventListener('input', filtered(true))
  byId('filter-form', HTMLFormElement).addEventListener('submit', (event) => {
    event.preventDefault()
    filtered(false)()
  })
  window.addEventListener('popstate', () => become(read(location.search)))
  window.setInterval(ageing, 5000)
  void load()
}

// Made while the collector thinks, where it is likely to be needed.
if (state.selector?.value === '*' && state.node === null) many = pencil()
begin()
