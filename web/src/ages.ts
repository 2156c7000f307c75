// Ages that grow while one looks at them, by the collector's clock.

import { now } from './clock.ts'
import { h } from './dom.ts'
import type { Model } from './model.ts'
import { age } from './text.ts'

/** How long ago something was; in a time that is over, how long before its end. */
export function seen(time: number, { past, until }: Model): HTMLElement {
  return past ? h('span', {}, age(until - time)) : growing(time)
}

export function growing(time: number): HTMLElement {
  return h('span', { 'data-since': time }, age(now() - time))
}

/** Ages in a line of the collector's, which was right at `then`. */
export function grownIn(line: string, then: number): (HTMLElement | string)[] {
  const units: Record<string, number> = { s: 1e3, m: 60e3, h: 3600e3, d: 86400e3 }
  return line.split(/\b([0-9]+[smhd])(?= old\b)/).map((part, place) => {
    if (place % 2 === 0) return part
    return growing(then - Number(part.slice(0, -1)) * (units[part.slice(-1)] ?? 0))
  })
}

/** Writes all ages anew. */
export function grow(): void {
  for (const one of document.querySelectorAll<HTMLElement>('[data-since]')) {
    const text = age(now() - Number(one.dataset['since']))
    if (one.textContent !== text) one.textContent = text
  }
}
