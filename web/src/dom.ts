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

/** The element of the page with this id. */
export function byId<T extends HTMLElement>(id: string, kind: new () => T): T {
  const found = document.getElementById(id)
  if (!(found instanceof kind)) throw new Error(`the page has no ${id}`)
  return found
}
