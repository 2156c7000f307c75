// The page before a collector that answers nobody whom it does not know.
//
//   node e2e/token.mjs URL TOKEN

import assert from 'node:assert/strict'

import { accessible, browse, drawn, rows } from './browser.mjs'

const [, , url, token] = process.argv
// Of the right shape, and nobody's.
const strange = `${token.slice(0, -1)}${token.endsWith('0') ? '1' : '0'}`

async function aTokenIsAskedFor(open) {
  const page = await open('?host=web')
  const dialog = page.getByRole('dialog')
  await dialog.waitFor()
  assert.equal((await rows(page)).length, 0)
  const problem = page.locator('#problem')
  assert.notEqual(await problem.innerText(), '')
  await accessible(page, 'token')
  // Whoever has none can go on looking at nothing, and be asked again.
  await dialog.getByRole('button', { name: 'Cancel' }).click()
  await dialog.waitFor({ state: 'hidden' })
  await page.getByRole('button', { name: 'Refresh' }).click()
  await dialog.waitFor()
  await dialog.getByLabel(/A token/).fill(strange)
  await page.keyboard.press('Enter')
  await page.waitForFunction(() => document.body.getAttribute('aria-busy') === null && document.querySelector('dialog').open)
  assert.equal(await dialog.getByLabel(/A token/).inputValue(), '')
  await dialog.getByLabel(/A token/).fill(token)
  await dialog.getByRole('button', { name: 'Use it' }).click()
  await problem.waitFor({ state: 'hidden' })
  await drawn(page)
  assert.ok((await rows(page)).some((row) => row.includes('tcp/5432')))
  // The search shows it, too.
  await page.getByRole('combobox', { name: /Search/ }).fill('web')
  await page.getByRole('option', { name: /web/ }).first().waitFor()
  const kept = await page.evaluate((token) => [JSON.stringify(localStorage).includes(token), document.cookie, location.href.includes(token), sessionStorage.length], token)
  assert.deepEqual(kept, [false, '', false, 1])
  await page.reload()
  await drawn(page)
  assert.ok((await rows(page)).length > 0)
  // Another tab is asked again.
  const other = await open('?host=web')
  await other.getByRole('dialog').waitFor()
}

// The browser itself says that a request was refused.
await browse(url, aTokenIsAskedFor, { expected: /Failed to load resource/ })
