// What always stands above: how old the data is, and what could not be seen.

import { grow, growing, grownIn } from './ages.ts'
import { now } from './clock.ts'
import { byId, h, inPlace, put } from './dom.ts'
import { narrow } from './narrow.ts'
import { moment, visible } from './text.ts'
import type { Answer } from './types.ts'

/** Lines that are not asked for; what is beyond opens. */
const LINES = 4
const NARROW_LINES = 2

/** Older than this, an answer's age is said. */
const OLD = 15_000

const WARNING = /^(cut|unknown):|silent|not seen|not everything|clock|more than one probe/

let opened = false

/** `notes` are of a comparison. */
export function coverage(answers: Answer[], notes: string[]): void {
  const heads: HTMLElement[] = []
  const lines: { text: string; made: number }[] = []
  answers.forEach((answer, number) => {
    const which = number > 0 ? 'then: answered' : answers.length === 1 ? 'answered' : 'now: answered'
    const made = Date.parse(answer.generated)
    const end = answer.query.until === undefined ? '' : `, until ${moment(answer.query.until)}`
    const old = h('span', { class: 'old', hidden: true }, ' (', growing(made), ' ago)')
    heads.push(h('span', { class: 'answered', 'data-generated': made }, `${which} ${moment(answer.generated)}${end}`, old))
    for (const note of answer.notes) lines.push({ text: note, made })
  })
  for (const text of notes) lines.push({ text, made: now() })
  const isWarning = ({ text }: { text: string }): boolean => WARNING.test(text)
  const inOrder = [...lines.filter(isWarning), ...lines.filter((line) => !isWarning(line))]
  const most = narrow() ? NARROW_LINES : LINES
  const beyond = inOrder.length <= most + 1 ? 0 : inOrder.length - most
  const said = inOrder.map((line, place) =>
    h('span', { class: isWarning(line) ? 'warn' : null, hidden: !opened && beyond > 0 && place >= most }, ...grownIn(visible(line.text), line.made)),
  )
  const more =
    beyond > 0 &&
    h('button', { type: 'button', 'aria-expanded': String(opened), click: () => {
      opened = !opened
      coverage(answers, notes)
    } }, opened ? 'less' : `+${beyond} more`)
  const place = byId('coverage', HTMLElement)
  inPlace(place, () => put(place, ...heads, ...said, more))
  if (beyond > 0) place.querySelector('button')?.setAttribute('data-key', 'more')
  ageing()
}

/** Lets all ages grow, and says that of an answer that is old. */
export function ageing(): void {
  grow()
  for (const one of document.querySelectorAll<HTMLElement>('#coverage .answered')) {
    const old = one.querySelector<HTMLElement>('.old')
    if (old !== null) old.hidden = now() - Number(one.dataset['generated']) <= OLD
  }
}

/** For those who hear the page: once an answer, and never because it grows old. */
export function announce(found: string, answers: Answer[]): void {
  const warnings = answers.flatMap((answer) => answer.notes).filter((note) => WARNING.test(note)).length
  byId('said', HTMLElement).textContent = `Answered: ${found}. ${warnings === 0 ? '' : warnings === 1 ? '1 warning above.' : `${warnings} warnings above.`}`
}

/** The first word of any host that an answer tells of. */
export function beginOf(answer: Answer): number {
  const all = answer.schema === 'shawk.groups/1' ? [answer.hosts.first_seen ?? ''] : answer.hosts.map((host) => host.first_seen)
  return Math.min(Infinity, ...all.map((time) => Date.parse(time)).filter((time) => !Number.isNaN(time)))
}
