// The search: hosts, processes and labels by a part of their names, addresses
// and ports. A list box, as the combobox pattern has it.

import { fetchDocument } from './api.ts'
import { h, put } from './dom.ts'
import type { Selector } from './state.ts'
import type { Found } from './types.ts'
import { visible } from './text.ts'

/** Until somebody has stopped typing. */
const PAUSE = 120

export function search(
  form: HTMLFormElement,
  input: HTMLInputElement,
  list: HTMLUListElement,
  open: (selector: Selector | null) => void,
): { leave: () => void } {
  let found: { selector: Selector; kind: string; name: string; more: string }[] = []
  let current = -1
  let timer = 0
  let asking = new AbortController()

  function show(): void {
    put(
      list,
      ...found.map((one, place) =>
        h(
          'li',
          {
            id: `search-${place}`,
            role: 'option',
            'aria-selected': String(place === current),
            // Before the input loses the focus, which closes the list.
            mousedown: (event: MouseEvent) => {
              event.preventDefault()
              take(place)
            },
          },
          h('span', { class: 'kind' }, one.kind),
          h('span', {}, one.name),
          one.more !== '' && h('small', {}, one.more),
        ),
      ),
    )
    const shown = found.length > 0
    list.hidden = !shown
    input.setAttribute('aria-expanded', String(shown))
    if (current >= 0) input.setAttribute('aria-activedescendant', `search-${current}`)
    else input.removeAttribute('aria-activedescendant')
    list.children[current]?.scrollIntoView({ block: 'nearest' })
  }

  function close(): void {
    found = []
    current = -1
    window.clearTimeout(timer)
    asking.abort()
    show()
  }

  function take(place: number): void {
    const one = found[place]
    const text = input.value.trim()
    close()
    open(one !== undefined ? one.selector : text === '' ? null : { kind: 'what', value: text })
    input.value = one?.name ?? text
  }

  async function ask(text: string): Promise<void> {
    asking.abort()
    asking = new AbortController()
    try {
      const path = `api/v1/search?${new URLSearchParams({ q: text }).toString()}`
      const answer = await fetchDocument<Found>(path, asking.signal)
      found = answer.found.flatMap((one) => {
        const kinds: Record<string, Selector['kind']> = { host: 'host', process: 'process', address: 'ip', network: 'ip', port: 'port', label: 'label' }
        const kind = kinds[one.kind]
        if (kind === undefined) return []
        const hosts = one.as !== undefined ? one.as.join(', ') : one.hosts === undefined ? '' : `on ${one.hosts} ${Number(one.hosts) === 1 ? 'host' : 'hosts'}`
        return [{ selector: { kind, value: one.value }, kind: one.kind, name: visible(one.name), more: hosts }]
      })
      current = -1
      show()
    } catch {
      // What was typed can be asked for all the same.
      if (!asking.signal.aborted) close()
    }
  }

  input.addEventListener('input', () => {
    window.clearTimeout(timer)
    const text = input.value.trim()
    if (text === '') close()
    else timer = window.setTimeout(() => void ask(text), PAUSE)
  })
  input.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') close()
    if ((event.key !== 'ArrowDown' && event.key !== 'ArrowUp') || found.length === 0) return
    event.preventDefault()
    const step = event.key === 'ArrowDown' ? 1 : -1
    current = current < 0 && step < 0 ? found.length - 1 : (current + step + found.length) % found.length
    show()
  })
  input.addEventListener('blur', close)
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    take(current)
  })
  return {
    /** Something else is shown than what was searched for. */
    leave() {
      close()
      input.value = ''
    },
  }
}
