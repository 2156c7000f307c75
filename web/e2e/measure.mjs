// How long a person waits, in a real browser with WebGL in software.
//
//   node e2e/measure.mjs URL [RUNS]
//
// Painted: the second frame after the one in which the graph was drawn, so that
// what was drawn has been on the screen.

import { chromium } from 'playwright-core'

import { counts, drawn, FLAGS, WEBGL } from './browser.mjs'

const [, , url, runs = '7'] = process.argv

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: [...FLAGS, ...WEBGL] })
const median = (all) => [...all].sort((a, b) => a - b)[Math.floor(all.length / 2)]
const shown = (all) => `${Math.round(median(all))} ms (${Math.round(Math.min(...all))}–${Math.round(Math.max(...all))})`

async function open(path) {
  const context = await browser.newContext({ viewport: { width: 1400, height: 860 } })
  const page = await context.newPage()
  await page.addInitScript(() => {
    window.__painted = new Promise((done) => {
      new PerformanceObserver((list) => {
        if (list.getEntriesByName('shawk-drawn').length === 0) return
        requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now())))
      }).observe({ type: 'mark', buffered: true })
    })
  })
  // Processor time of the page's own thread, which others on the machine do not lengthen.
  const devtools = await context.newCDPSession(page)
  await devtools.send('Performance.enable', { timeDomain: 'threadTicks' })
  const cpu = async () => {
    const { metrics } = await devtools.send('Performance.getMetrics')
    return 1000 * metrics.find((one) => one.name === 'TaskDuration').value
  }
  await page.goto(`${url}/${path}`)
  await drawn(page)
  const painted = await page.evaluate(() => window.__painted)
  const times = await page.evaluate(() => {
    const mark = (name) => performance.getEntriesByName(name)[0]?.startTime ?? NaN
    const asked = performance.getEntriesByType('resource').find((entry) => entry.name.includes('/api/v1/'))
    return {
      asked: asked.startTime,
      waited: asked.responseStart - asked.startTime,
      bytes: asked.encodedBodySize,
      answered: mark('shawk-answered'),
      drawn: mark('shawk-drawn'),
      skeleton: performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN,
    }
  })
  return { page, context, cpu, times: { ...times, painted, cpu: await cpu() } }
}

async function first(name, path) {
  const all = []
  let said = ''
  for (let run = 0; run < Number(runs); run++) {
    const { page, context, times } = await open(path)
    const { nodes, lines } = await counts(page)
    said = `${nodes} nodes, ${lines} lines drawn, ${(times.bytes / 1e6).toFixed(1)} MB`
    all.push(times)
    await context.close()
  }
  const each = (of) => shown(all.map(of))
  console.log(`${name}: ${said}`)
  console.log(`  page on the screen   ${each((one) => one.skeleton)}`)
  console.log(`  collector's answer   ${each((one) => one.waited)} until its first byte`)
  console.log(`  answer understood    ${each((one) => one.answered)}`)
  console.log(`  graph painted        ${each((one) => one.painted)} after the navigation began`)
  console.log(`  of that the page's   ${each((one) => one.painted - one.waited)}, ${each((one) => one.cpu)} of CPU`)
}

/** From a click to the painted graph. */
async function after(page, act) {
  return page.evaluate(async (act) => {
    performance.clearMarks('shawk-drawn')
    const begun = performance.now()
    const done = new Promise((done) => {
      const observer = new PerformanceObserver((list) => {
        if (list.getEntriesByName('shawk-drawn').length === 0) return
        observer.disconnect()
        const drawn = performance.now() - begun
        requestAnimationFrame(() => requestAnimationFrame(() => done([drawn, performance.now() - begun])))
      })
      observer.observe({ type: 'mark' })
    })
    if (act.click !== undefined) [...document.querySelectorAll(act.click.at)].find((one) => one.textContent.includes(act.click.text)).click()
    if (act.back === true) history.back()
    return done
  }, act)
}

async function focuses() {
  const { page, context, cpu } = await open('?what=*')
  const [focus, back, spent] = [[], [], []]
  for (let run = 0; run < Number(runs); run++) {
    await page.locator('tbody tr').nth(run * 3 + 1).click()
    const detail = page.getByRole('region', { name: 'Details' })
    await detail.locator('.links a').first().click()
    await detail.getByRole('link', { name: /Focus on/ }).waitFor()
    const before = await cpu()
    focus.push(await after(page, { click: { at: '#detail a', text: 'Focus on' } }))
    spent.push((await cpu()) - before)
    await page.waitForURL(/node=/)
    back.push(await after(page, { back: true }))
    await page.waitForURL((at) => !at.search.includes('node='))
  }
  console.log('focus on a node of all that, one step:')
  console.log(`  drawn                ${shown(focus.map(([drawn]) => drawn))}`)
  console.log(`  painted              ${shown(focus.map(([, painted]) => painted))}, ${shown(spent)} of CPU`)
  console.log(`  back to all, painted ${shown(back.map(([, painted]) => painted))}`)
  await context.close()
}

try {
  await first('overview, in groups', '')
  await first('all, node by node', '?what=*')
  await focuses()
} finally {
  await browser.close()
}
