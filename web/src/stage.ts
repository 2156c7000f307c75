// What stands around a drawing, whatever draws.

import { h } from './dom.ts'

export function webgl(): boolean {
  try {
    const probe = document.createElement('canvas')
    return (probe.getContext('webgl2') ?? probe.getContext('webgl')) !== null
  } catch {
    return false
  }
}

/** Buttons that zoom by a factor; null: so that all is seen. */
export function zoomer(zoom: (by: number | null) => void): HTMLElement {
  const button = (text: string, name: string, by: number | null): HTMLElement =>
    h('button', { type: 'button', 'aria-label': name, title: name, click: () => zoom(by) }, text)
  return h(
    'div',
    { id: 'zoom', role: 'group', 'aria-label': 'Zoom of the graph' },
    button('+', 'Zoom in', 1.3),
    button('−', 'Zoom out', 1 / 1.3),
    button('Fit', 'Fit all of the graph in', null),
  )
}
