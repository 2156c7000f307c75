// The window of time that is looked at, and the one it is compared with.

import { h, put } from './dom.ts'
import { lengthOf, SPANS, type State } from './state.ts'
import { moment } from './text.ts'

/** Places on a slider. */
const STEPS = 1000

/** Until somebody has stopped moving a slider, or typing a time. */
const PAUSE = 250
const TYPING = 1200

export interface TimeWatcher {
  /** `replace`: it goes on from a step that was just made. */
  change: (state: Partial<State>, replace: boolean) => void
  /** Nobody types a time any more. */
  left: () => void
}

/** Somebody types a time: the controls must stay as they are. */
export function isTyped(): boolean {
  return document.activeElement instanceof HTMLInputElement && document.activeElement.type === 'datetime-local'
}

/** What waits to be said, and whether its first part was. */
let waiting = 0
let moved = false

/** `change` for each place that a key leads to, a single step back for all of them while it is held. */
function settle(pause: number, change: (replace: boolean) => void): void {
  window.clearTimeout(waiting)
  waiting = window.setTimeout(() => {
    const replace = moved
    moved = true
    change(replace)
  }, pause)
}

/** As the API writes it, without parts of a second. */
function utc(time: number | string): string {
  return `${new Date(time).toISOString().slice(0, 19).replace('T', ' ')} UTC`
}

/** What an input of local time has. */
function local(time: number): string {
  return new Date(time - new Date(time).getTimezoneOffset() * 60_000).toISOString().slice(0, 16)
}

const WORDS: Record<string, string> = {
  all: 'all that is kept',
  '5m': '5 minutes',
  '15m': '15 minutes',
  '1h': '1 hour',
  '6h': '6 hours',
  '24h': '24 hours',
  '7d': '7 days',
  '30d': '30 days',
}

/** Shows the controls; `from` is the oldest moment that is known of. */
export function timeControls(place: HTMLElement, state: State, from: number, now: number, watcher: TimeWatcher): void {
  const begin = Math.min(from, now - 60_000, state.to === null ? now : Date.parse(state.to), state.versus === null ? now : Date.parse(state.versus))
  const at = (step: number): number => begin + ((now - begin) * step) / STEPS
  const slider = (name: string, end: string | null, change: (to: string | null, replace: boolean) => void): HTMLElement => {
    const value = end === null ? STEPS : Math.round((STEPS * (Date.parse(end) - begin)) / (now - begin))
    const said = h('output', {}, end === null ? 'now' : utc(end))
    const words = (step: number): string => (step === STEPS ? 'now' : utc(at(step)))
    const input = h('input', {
      type: 'range',
      min: 0,
      max: STEPS,
      value,
      'aria-label': name,
      'aria-valuetext': end === null ? 'now' : moment(end),
      keydown: (event: KeyboardEvent) => {
        if (!event.repeat) moved = false
      },
      pointerdown: () => (moved = false),
      input: () => {
        const step = Number(input.value)
        said.textContent = words(step)
        input.setAttribute('aria-valuetext', step === STEPS ? 'now' : moment(at(step)))
        if (step < STEPS) typed.value = local(at(step))
      },
      change: () => {
        const step = Number(input.value)
        settle(PAUSE, (replace) => change(step === STEPS ? null : new Date(Math.round(at(step))).toISOString(), replace))
      },
    })
    const typed = h('input', {
      type: 'datetime-local',
      'aria-label': `${name}, typed, in your own time zone`,
      title: 'In your own time zone; empty for now',
      value: end === null ? null : local(Date.parse(end)),
      focus: () => (moved = false),
      blur: () => window.setTimeout(watcher.left),
      change: () => {
        const time = Date.parse(typed.value)
        const to = typed.value === '' || time >= now ? null : new Date(time).toISOString()
        if (typed.value === '' || !Number.isNaN(time)) settle(TYPING, (replace) => change(to, replace))
      },
    })
    return h('span', { class: 'moment' }, input, typed, said)
  }
  const span = h(
    'select',
    { 'aria-label': 'Length of time', change: () => watcher.change({ span: span.value }, false) },
    ...SPANS.map((one) => h('option', { value: one, selected: one === state.span }, WORDS[one] ?? one)),
  )
  const compared = state.versus !== null
  const compare = h(
    'button',
    {
      type: 'button',
      'aria-pressed': String(compared),
      click: () => watcher.change(compared ? { versus: null } : comparison(state, now), false),
    },
    'Compare',
  )
  put(
    place,
    h('label', {}, 'Time ', span),
    slider('Until', state.to, (to, replace) => watcher.change({ to }, replace)),
    compare,
    compared && h('span', { class: 'moment' }, 'with'),
    compared && slider('Compared with the time until', state.versus, (to, replace) => watcher.change({ versus: to ?? new Date(now).toISOString() }, replace)),
  )
}

/** The window before this one. Of all that is kept none is before: then a quarter of an hour. */
function comparison(state: State, now: number): Partial<State> {
  const span = state.span === 'all' ? '15m' : state.span
  const length = Math.max(lengthOf(span) ?? 0, 3_600_000)
  const end = state.to === null ? now : Date.parse(state.to)
  return { span, versus: new Date(end - length).toISOString() }
}
