// Everything that is shown follows from this, and this from the address of the
// page: so the back button works, and a link shows another what one sees.

import { now } from './clock.ts'

/** What is looked at: the word and value of one selector of the API. */
export interface Selector {
  kind: 'what' | 'ip' | 'host' | 'process' | 'port' | 'label'
  value: string
}

export const BYS = ['auto', 'host', 'unit', 'container', 'subnet', 'process', 'label'] as const
export const SPANS = ['all', '5m', '15m', '1h', '6h', '24h', '7d', '30d'] as const
export const WAYS = ['both', 'up', 'down'] as const
export const MAX_DEPTH = 4

export interface State {
  /** Absent: all that is known, in groups. */
  selector: Selector | null
  /** The key of the one node that the walk begins at. */
  node: string | null
  /** Fold into groups by this; absent: each node for itself. */
  by: string | null
  /** The one group of them that is looked into. */
  group: string | null
  depth: number
  ways: string
  filter: string
  /** Length of the window of time; `all` for all that is kept. */
  span: string
  /** Its end, RFC 3339; absent for now. */
  to: string | null
  /** The end of the window it is compared with. */
  versus: string | null
  /** Nodes that very many call are badges of those. */
  hubs: boolean
  /** The key of what is selected. */
  selected: string | null
  /** A column, behind a minus in descending order. */
  sort: string
  /** No WebGL. */
  flat: boolean
  /** What is shown of now is asked again, so that it stays so. */
  live: boolean
}

export const START: State = {
  selector: null,
  node: null,
  by: 'auto',
  group: null,
  depth: 1,
  ways: 'both',
  filter: '',
  span: 'all',
  to: null,
  versus: null,
  hubs: true,
  selected: null,
  sort: '',
  flat: false,
  live: true,
}

const KINDS: Selector['kind'][] = ['what', 'ip', 'host', 'process', 'port', 'label']

function one<T extends string>(words: readonly T[], word: string | null, otherwise: T): T {
  return words.find((known) => known === word) ?? otherwise
}

function time(text: string | null): string | null {
  if (text === null || Number.isNaN(Date.parse(text))) return null
  return new Date(text).toISOString()
}

/** The query of an address → what is shown. What it does not know, it leaves. */
export function read(query: string): State {
  const words = new URLSearchParams(query)
  const kind = KINDS.find((known) => words.get(known))
  const by = words.get('by')
  // A node alone is one of all; in groups there are none.
  const alone = words.get('node') !== null && by === null && words.get('group') === null
  const selector: Selector | null = kind !== undefined ? { kind, value: words.get(kind) ?? '' } : alone ? { kind: 'what', value: '*' } : null
  const depth = Number(words.get('depth') ?? '1')
  return {
    selector,
    node: words.get('node'),
    by: by === null ? (selector === null ? 'auto' : null) : one(BYS, by, 'auto'),
    group: words.get('group'),
    depth: Number.isInteger(depth) && depth >= 1 && depth <= MAX_DEPTH ? depth : 1,
    ways: one(WAYS, words.get('ways'), 'both'),
    filter: words.get('f') ?? '',
    span: one(SPANS, words.get('span'), 'all'),
    to: time(words.get('to')),
    versus: time(words.get('vs')),
    hubs: words.get('hubs') !== 'off',
    selected: words.get('sel'),
    sort: words.get('sort') ?? '',
    flat: words.get('gl') === 'off',
    live: words.get('live') !== 'off',
  }
}

/** What is shown → the query of its address, without what goes without saying. */
export function write(state: State): string {
  const words = new URLSearchParams()
  const add = (name: string, value: string | null, otherwise = ''): void => {
    if (value !== null && value !== otherwise) words.set(name, value)
  }
  if (state.selector !== null) words.set(state.selector.kind, state.selector.value)
  add('node', state.node)
  add('by', state.by, state.selector === null ? 'auto' : '')
  add('group', state.group)
  add('depth', String(state.depth), '1')
  add('ways', state.ways, 'both')
  add('f', state.filter)
  add('span', state.span, 'all')
  add('to', state.to)
  add('vs', state.versus)
  add('hubs', state.hubs ? 'on' : 'off', 'on')
  add('sel', state.selected)
  add('sort', state.sort)
  add('gl', state.flat ? 'off' : 'on', 'on')
  add('live', state.live ? 'on' : 'off', 'on')
  const text = words.toString()
  return text === '' ? './' : `./?${text}`
}

const UNITS: Record<string, number> = { m: 60_000, h: 3_600_000, d: 86_400_000 }

/** `6h` in milliseconds; null for `all`. */
export function lengthOf(span: string): number | null {
  const unit = UNITS[span.slice(-1)]
  return unit === undefined || span === 'all' ? null : Number(span.slice(0, -1)) * unit
}

/** Ends of the two windows that are compared, the earlier first; null for now. */
export function moments(state: State): [string, string | null] | null {
  const { to, versus } = state
  if (versus === null || versus === to) return null
  return to !== null && Date.parse(to) < Date.parse(versus) ? [to, versus] : [versus, to]
}

/** Most differences of one answer; those beyond are counted. */
const MAX_DIFFERENCES = 10_000

/** What stands for each of two times: all that is kept would be nearly the same of both. */
const COMPARED = '1h'

/** The path that asks what differs between the two times. */
export function diffPath(state: State): string | null {
  const ends = moments(state)
  if (ends === null) return null
  const words = new URLSearchParams()
  // Its conclusions go one step far, and know no groups: for more, of everything.
  const near = state.group === null && (state.depth === 1 || state.by !== null)
  if (near && state.selector !== null) words.set(state.selector.kind, state.selector.value)
  words.set('from', ends[0])
  if (ends[1] !== null) words.set('to', ends[1])
  words.set('window', state.span === 'all' ? COMPARED : state.span)
  words.set('limit', String(MAX_DIFFERENCES))
  return `api/v1/diff?${words.toString()}`
}

/** The path that asks for it; `end` is that of one of the two windows. */
export function path(state: State, end: string | null, kind: 'json' | 'svg'): string {
  const words = new URLSearchParams()
  const folded = state.group === null && state.by !== null
  if (state.selector !== null) words.set(state.selector.kind, state.selector.value)
  else if (!folded) words.set('what', '*')
  if (state.by !== null) words.set('by', state.by)
  if (state.group !== null) words.set('group', state.group)
  // In all that is known there is nothing further to walk to.
  if (state.group !== null || (state.selector !== null && state.selector.value !== '*')) {
    words.set('depth', String(state.depth))
    words.set('ways', state.ways)
  }
  const ends = moments(state)
  const span = ends !== null && state.span === 'all' ? COMPARED : state.span
  const length = lengthOf(span)
  if (end !== null) words.set('until', end)
  if (length !== null) {
    // What was before the earlier time never stands for the later one.
    const earliest = ends !== null && end === ends[1] ? Date.parse(ends[0]) : -Infinity
    const since = Math.max(earliest, (end === null ? now() : Date.parse(end)) - length)
    words.set('since', end !== null || since === earliest ? new Date(since).toISOString() : span)
  }
  const call = kind === 'svg' ? 'look.svg' : folded ? 'groups' : 'look'
  return `api/v1/${call}?${words.toString()}`
}

/** All that is asked for a view, a path a line: how it is, how it was, what differs. */
export function paths(state: State): string[] {
  const ends = moments(state)
  const diff = diffPath(state)
  if (ends === null || diff === null) return [path(state, state.to, 'json')]
  return [path(state, ends[1], 'json'), path(state, ends[0], 'json'), diff]
}
