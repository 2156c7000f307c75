// What the browser keeps for this page. Where it may keep nothing, it is kept
// until the page is left.

const own = new Map<string, string>()

type Where = 'localStorage' | 'sessionStorage'

export function kept(where: Where, name: string): string | null {
  try {
    return window[where].getItem(name)
  } catch {
    return own.get(name) ?? null
  }
}

export function keep(where: Where, name: string, value: string): void {
  try {
    window[where].setItem(name, value)
  } catch {
    own.set(name, value)
  }
}
