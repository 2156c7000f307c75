// The window of time that is looked at, and the one it is compared with.

import { h, put } from './dom.ts'
import { lengthOf, SPANS, type State } from './state.ts'
import { moment } from './text.ts'

/** Places on a slider. */
const STEPS = 1000

export interface TimeWatcher {
  change: (state: Partial<State>) => void
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
  const slider = (name: string, end: string | null, change: (to: string | null) => void): HTMLElement => {
    const value = end === null ? STEPS : Math.round((STEPS * (Date.parse(end) - begin)) / (now - begin))
    const said = h('output', {}, end === null ? 'now' : moment(end))
    const words = (step: number): string => (step === STEPS ? 'now' : moment(at(step)))
    const input = h('input', {
      type: 'range',
      min: 0,
      max: STEPS,
      value,
      'aria-label': name,
      'aria-valuetext': end === null ? 'now' : moment(end),
      input: () => {
        said.textContent = words(Number(input.value))
        input.setAttribute('aria-valuetext', words(Number(input.value)))
      },
      change: () => {
        const step = Number(input.value)
        change(step === STEPS ? null : new Date(Math.round(at(step))).toISOString())
      },
    })
    return h('span', { class: 'moment' }, input, said)
  }
  const span = h(
    'select',
    { 'aria-label': 'Length of time', change: () => watcher.change({ span: span.value }) },
    ...SPANS.map((one) => h('option', { value: one, selected: one === state.span }, WORDS[one] ?? one)),
  )
  const compared = state.versus !== null
  const compare = h(
    'button',
    {
      type: 'button',
      'aria-pressed': String(compared),
      click: () => watcher.change(compared ? { versus: null } : comparison(state, now)),
    },
    'Compare',
  )
  put(
    place,
    h('label', {}, 'Time ', span),
    slider('Until', state.to, (to) => watcher.change({ to })),
    compare,
    compared && h('span', { class: 'moment' }, 'with'),
    compared && slider('Compared with the time until', state.versus, (to) => watcher.change({ versus: to ?? new Date(now).toISOString() })),
  )
}

/** The window before this one. Of all that is kept none is before: then a quarter of an hour. */
function comparison(state: State, now: number): Partial<State> {
  const span = state.span === 'all' ? '15m' : state.span
  const length = Math.max(lengthOf(span) ?? 0, 3_600_000)
  const end = state.to === null ? now : Date.parse(state.to)
  return { span, versus: new Date(end - length).toISOString() }
}
