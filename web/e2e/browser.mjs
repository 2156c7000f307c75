// A real browser, and what must hold of the page whatever is done with it:
// nothing is asked of others, no policy is broken, no script fails.

import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'

import { chromium } from 'playwright-core'

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

export const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]
// WebGL without a graphics card.
export const WEBGL = ['--use-angle=swiftshader', '--enable-unsafe-swiftshader']

/** Starts the browser, runs `scenario` with a function that opens pages, ends it. */
export async function browse(url, scenario, { webgl = true, expected = null } = {}) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [...FLAGS, ...(webgl ? WEBGL : ['--disable-3d-apis'])],
  })
  const broken = []
  try {
    // `before` is done with the page before it is opened.
    const open = async (path, { scheme = 'light', viewport = { width: 1400, height: 860 }, touch = false, before = null } = {}) => {
      const context = await browser.newContext({ colorScheme: scheme, viewport, hasTouch: touch, isMobile: touch })
      await context.addInitScript(() => {
        document.addEventListener('securitypolicyviolation', (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`))
      })
      const page = await context.newPage()
      page.on('pageerror', (error) => broken.push(`script: ${error.message}`))
      page.on('console', (message) => {
        if (message.type() === 'error' && expected?.test(message.text()) !== true) broken.push(`console: ${message.text()}`)
      })
      page.on('request', (request) => {
        const asked = request.url()
        if (!asked.startsWith(`${url}/`) && !asked.startsWith('data:')) broken.push(`asked of others: ${asked}`)
      })
      page.on('dialog', (dialog) => {
        broken.push(`a dialog: ${dialog.message()}`)
        void dialog.dismiss()
      })
      await before?.(page)
      await page.goto(`${url}/${path}`)
      return page
    }
    await scenario(open)
  } finally {
    await browser.close()
  }
  assert.deepEqual(broken, [])
}

/** Waits until the graph is drawn and nothing is asked any more. */
export async function drawn(page) {
  await page.waitForFunction(
    () =>
      document.body.getAttribute('aria-busy') === null &&
      document.querySelector('#graph').dataset.nodes !== undefined &&
      (performance.getEntriesByName('shawk-drawn').length > 0 || document.querySelector('#canvas.picture') !== null),
  )
}

/** How many nodes and lines are drawn. */
export async function counts(page) {
  return page.evaluate(() => {
    const { nodes, lines } = document.querySelector('#graph').dataset
    return { nodes: Number(nodes), lines: Number(lines) }
  })
}

/** The rows of the table, each as its words, without how long ago it was seen. */
export async function rows(page) {
  return page.locator('tbody tr').evaluateAll((all) => all.map((row) => row.innerText.replace(/\s+/g, ' ').replace(/ \d+[smhd]\s*$/, '').trim()))
}

/** What axe-core finds wrong with the page as it stands. */
export async function accessible(page, what) {
  await page.evaluate(AXE)
  const found = await page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { resultTypes: ['violations'] })
    return violations.map((one) => `${one.id}: ${one.nodes.map((node) => `${node.html.slice(0, 120)} ${node.failureSummary}`).join('; ')}`)
  })
  assert.deepEqual(found, [], `axe, ${what}`)
}

/** Each colour of the graph that makes up so many pixels, as #rrggbb, with the middle of them. */
export async function colours(page, least) {
  const png = await page.locator('#graph').screenshot()
  return page.evaluate(
    async ([data, least]) => {
      const image = new Image()
      image.src = `data:image/png;base64,${data}`
      await image.decode()
      const canvas = new OffscreenCanvas(image.width, image.height)
      const context = canvas.getContext('2d')
      context.drawImage(image, 0, 0)
      const { data: pixels } = context.getImageData(0, 0, image.width, image.height)
      const found = {}
      for (let at = 0; at < pixels.length; at += 4) {
        const colour = `#${[0, 1, 2].map((part) => pixels[at + part].toString(16).padStart(2, '0')).join('')}`
        const one = (found[colour] ??= { count: 0, x: 0, y: 0 })
        one.count++
        one.x += (at / 4) % image.width
        one.y += Math.floor(at / 4 / image.width)
      }
      const many = Object.entries(found).filter(([, one]) => one.count >= least)
      return Object.fromEntries(many.map(([colour, { count, x, y }]) => [colour, { x: x / count, y: y / count }]))
    },
    [png.toString('base64'), least],
  )
}
