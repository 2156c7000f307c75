// Elements without HTML: what comes from a host is only ever text.

export type Child = Node | string | null | false | undefined

type Attributes = Record<string, string | number | boolean | null | undefined | ((event: never) => void)>

/** An element. A function is a listener; what is null or false is left out. */
export function h<K extends keyof HTMLElementTagNameMap>(
  name: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(name)
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(key, value as EventListener)
    else if (value === true) element.setAttribute(key, '')
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, String(value))
  }
  put(element, ...children)
  return element
}

/** Puts these in the place of what an element has. */
export function put(element: Element, ...children: Child[]): void {
  element.replaceChildren(...children.filter((child): child is Node | string => child !== null && child !== undefined && child !== false))
}

const STOPS = 'a, button, input, select, tr[data-key], [tabindex]'

function nameOf(element: HTMLElement): string | null {
  return element.dataset['key'] ?? element.getAttribute('aria-label') ?? element.textContent
}

/** Makes anew what a place has; the keyboard's place in it stays, and how far it is scrolled. */
export function inPlace(place: HTMLElement, make: () => void): void {
  const stops = (): HTMLElement[] => [...place.querySelectorAll<HTMLElement>(STOPS)]
  const focused = stops().findIndex((one) => one === document.activeElement)
  const name = focused < 0 ? null : nameOf(document.activeElement as HTMLElement)
  const { scrollTop, scrollLeft } = place
  make()
  place.scrollTo({ top: scrollTop, left: scrollLeft, behavior: 'instant' })
  if (focused < 0) return
  const all = stops()
  // Of several with one name, the one at the same place.
  const same = all.filter((one) => nameOf(one) === name)
  const there = all[focused]
  const again = there !== undefined && same.includes(there) ? there : same[0]
  again?.focus({ preventScroll: true })
}

/** The element of the page with this id. */
export function byId<T extends HTMLElement>(id: string, kind: new () => T): T {
  const found = document.getElementById(id)
  if (!(found instanceof kind)) throw new Error(`the page has no ${id}`)
  return found
}
