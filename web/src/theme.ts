// Light, dark, or as the system has it.

import { byId } from './dom.ts'
import { keep, kept } from './store.ts'

const THEME = 'shawk-theme'
const THEMES = ['auto', 'light', 'dark'] as const
const dark = matchMedia('(prefers-color-scheme: dark)')

/** `changed` is called when there are other colours. */
export function themes(changed: () => void): void {
  const button = byId('theme', HTMLButtonElement)
  const chosen = (): (typeof THEMES)[number] => THEMES.find((one) => one === kept('localStorage', THEME)) ?? 'auto'
  const show = (): void => {
    const theme = chosen()
    document.documentElement.dataset['theme'] = theme === 'auto' ? (dark.matches ? 'dark' : 'light') : theme
    button.textContent = `Theme: ${theme}`
    changed()
  }
  dark.addEventListener('change', show)
  button.addEventListener('click', () => {
    keep('localStorage', THEME, THEMES[(THEMES.indexOf(chosen()) + 1) % THEMES.length] ?? 'auto')
    show()
  })
  show()
}
