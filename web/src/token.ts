// Where the collector has to know who asks.

import { keepToken } from './api.ts'
import { byId } from './dom.ts'

/** Asks for a token; `given` is called once there is one. */
export function askForToken(given: () => void): void {
  const dialog = byId('token-dialog', HTMLDialogElement)
  const token = byId('token', HTMLInputElement)
  if (dialog.open) return
  token.value = ''
  dialog.showModal()
  dialog.addEventListener(
    'close',
    () => {
      if (dialog.returnValue !== 'use' || token.value === '') return
      keepToken(token.value)
      token.value = ''
      given()
    },
    { once: true },
  )
}
