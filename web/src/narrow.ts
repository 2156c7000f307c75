// Where there is no room for graph and table at once, the page scrolls as a
// whole: style.css has the same words.

const NARROW = matchMedia('(max-width: 900px), (max-height: 520px)')

export function narrow(): boolean {
  return NARROW.matches
}

/**
 * One finger scrolls the page, also over the graph, which would take every
 * touch; two move it. A tap is a click.
 */
export function yieldTouches(canvas: HTMLElement): void {
  canvas.addEventListener('touchstart', (event) => {
    if (narrow() && event.touches.length === 1) event.stopPropagation()
  }, { capture: true, passive: true })
}
