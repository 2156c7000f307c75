// The box of the filter. While somebody types in it, only the first letter is
// a step to go back to.

import { byId } from './dom.ts'
import type { Filter } from './filter.ts'
import type { Model } from './model.ts'
import { visible } from './text.ts'

/** Until somebody has stopped typing. */
const PAUSE = 150

export interface FilterBox {
  /** Writes what is filtered by now, whoever types. */
  write: () => void
  /** Says what a filter leaves of a model. */
  say: (filter: Filter, left: number, of: Model) => void
}

export function filterBox(current: () => string, change: (filter: string, replace: boolean) => void): FilterBox {
  const input = byId('filter', HTMLInputElement)
  let typing = 0
  let typed = false

  function tell(): void {
    window.clearTimeout(typing)
    const filter = input.value.trim()
    if (filter === current()) return
    const replace = typed
    typed = true
    change(filter, replace)
  }

  function finish(): void {
    tell()
    typed = false
  }

  input.value = current()
  input.addEventListener('input', () => {
    window.clearTimeout(typing)
    typing = window.setTimeout(tell, PAUSE)
  })
  input.addEventListener('blur', finish)
  byId('filter-form', HTMLFormElement).addEventListener('submit', (event) => {
    event.preventDefault()
    finish()
  })
  return {
    write() {
      window.clearTimeout(typing)
      typed = false
      input.value = current()
    },
    say(filter, left, { edges, folded }) {
      const said = byId('filter-said', HTMLElement)
      const wrong = 'error' in filter
      input.setAttribute('aria-invalid', String(wrong))
      said.className = wrong ? 'wrong' : ''
      const all = `${edges.length} ${folded ? 'links' : 'edges'}`
      said.textContent = wrong ? `${visible(filter.error)}. Nothing is filtered.` : current() === '' ? '' : `${left} of ${all} pass.`
      if (document.activeElement !== input) input.value = current()
    },
  }
}
