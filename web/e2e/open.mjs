// The page while it is open: what happens as time goes by, as the collector
// goes away and comes back, as somebody types, goes back, and has no mouse or
// no room. On a ring of 120 hosts, each of which calls the next one.
//
//   node e2e/open.mjs URL

import assert from 'node:assert/strict'

import { accessible, browse, counts, drawn, rows } from './browser.mjs'

const [, , url] = process.argv

const API = /\/api\/v1\//
const filter = (page) => page.getByLabel('Filter', { exact: true })
const search = (page) => page.getByRole('combobox', { name: /Search/ })
const caption = (page) => page.locator('caption').innerText()
/** How often it asked until now. */
function asking(page) {
  const asked = []
  page.on('request', (request) => API.test(request.url()) && asked.push(request.url()))
  return () => asked.length
}
/** As `drawn`, where the clock, and with it what was measured, is not the browser's. */
async function shown(page) {
  await answered(page)
  await page.locator('tbody tr').first().waitFor()
}
const answered = (page) => page.waitForFunction(() => document.body.getAttribute('aria-busy') === null)

async function aGroupOfEachKindOpens(open) {
  for (const [by, name] of [['host', 'h1'], ['process', 'p1'], ['subnet', '10.0.0.0/24'], ['unit', 'no unit known'], ['container', 'h1'], ['label', 'no label known']]) {
    const page = await open(`?by=${by}`)
    await drawn(page)
    await page.locator('tbody tr', { hasText: name }).first().click()
    await page.locator('#detail').getByRole('link', { name: `Open ${name}`, exact: true }).first().click()
    await page.waitForURL(/(host|process|ip|group)=/)
    await drawn(page)
    assert.ok((await rows(page)).length > 0, `nothing in ${name}, by ${by}`)
    assert.ok((await counts(page)).nodes > 0, by)
    assert.ok(await page.locator('#problem').isHidden(), by)
    assert.ok((await page.locator('h1').innerText()).includes(name), by)
    await page.context().close()
  }
  // A node alone is one of all.
  const page = await open('?node=nobody')
  await drawn(page)
  await page.getByText('This node is not in what is known of this time').waitFor()
}

async function theSliderBeginsWithTheHistory(open) {
  const compared = new Date(Date.now() - 3_600_000).toISOString()
  for (const path of ['', '?host=h1', `?host=h1&span=7d&vs=${compared}`]) {
    const page = await open(path)
    await drawn(page)
    await page.getByRole('slider', { name: 'Until', exact: true }).focus()
    await page.keyboard.press('Home')
    await page.waitForURL(/to=/)
    const to = Date.parse(new URL(page.url()).searchParams.get('to'))
    assert.ok(to < Date.now() - 7_200_000, `${path}: ${new Date(to).toISOString()}`)
  }
}

async function aKeyThatIsHeldIsOneStepBack(open) {
  const page = await open('?host=h1')
  await drawn(page)
  const before = await page.evaluate(() => history.length)
  const asked = asking(page)
  await page.getByRole('slider', { name: 'Until', exact: true }).focus()
  for (let press = 0; press < 12; press++) await page.keyboard.down('ArrowLeft')
  await page.waitForURL(/to=/)
  for (let press = 0; press < 12; press++) await page.keyboard.down('ArrowLeft')
  const first = page.url()
  await page.waitForURL((at) => at.href !== first)
  await page.keyboard.up('ArrowLeft')
  await drawn(page)
  assert.equal(await page.evaluate(() => history.length), before + 1)
  assert.ok(asked() <= 3, `${asked()} questions`)
  assert.match(await page.locator('#time output').innerText(), /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$/)
  await page.goBack()
  await page.waitForURL((at) => !at.search.includes('to='))
  // A time can be typed, too.
  const typed = page.getByLabel('Until, typed')
  await typed.fill('2026-01-31T12:00')
  await page.keyboard.press('Tab')
  await page.waitForURL(/to=2026-01-31T/)
}

async function whatIsWaitedForIsSaid(open) {
  const page = await open('')
  await drawn(page)
  const sign = page.locator('#asking')
  assert.ok(await sign.isHidden())
  let go = () => {}
  const held = new Promise((done) => (go = done))
  await page.route(API, async (route) => {
    await held
    await route.continue()
  })
  await page.getByLabel('Group by').selectOption('host')
  await sign.waitFor()
  assert.ok(Number(await page.locator('#side').evaluate((side) => getComputedStyle(side).opacity)) < 0.6)
  go()
  await sign.waitFor({ state: 'hidden' })
  await drawn(page)
  assert.equal(await page.locator('#side').evaluate((side) => getComputedStyle(side).opacity), '1')
}

async function aCollectorThatComesBackIsFound(open) {
  const page = await open('?host=h1')
  await drawn(page)
  const there = await rows(page)
  await page.route(API, (route) => route.abort())
  await search(page).fill('h7')
  await page.keyboard.press('Enter')
  const problem = page.locator('#problem')
  await problem.waitFor()
  assert.match(await problem.innerText(), /^The collector does not answer\. Still shown: host h1, answered .*\. It is asked again until there is an answer\.$/)
  assert.deepEqual(await rows(page), there)
  assert.equal(await page.locator('#side').evaluate((side) => getComputedStyle(side).filter), 'grayscale(1)')
  await accessible(page, 'a collector that does not answer')
  // Back at what is shown, it is only old.
  await page.goBack()
  await page.getByRole('heading', { name: 'host h1' }).waitFor()
  await page.waitForFunction(() => document.querySelector('#problem').hidden || /What is shown was answered/.test(document.querySelector('#problem').innerText))
  assert.equal(await page.locator('#side').evaluate((side) => getComputedStyle(side).filter), 'none')
  await page.goForward()
  await page.getByText(/Still shown: host h1/).waitFor()
  await page.unroute(API)
  // Nobody does anything.
  await problem.waitFor({ state: 'hidden', timeout: 15_000 })
  await drawn(page)
  assert.ok((await rows(page)).every((row) => row.includes('h7')))
  // What is refused is not asked again, and is said without the API's words.
  await page.route(API, (route) => route.fulfill({ status: 400, json: { error: 'that cannot be', remedy: 'see /openapi.json' } }))
  await page.getByRole('button', { name: 'Refresh' }).click()
  await problem.waitFor()
  assert.match(await problem.innerText(), /^that cannot be\. What is shown was answered [^.]*\.$/)
}

async function whatIsShownStaysTrue(open) {
  const clock = { before: (page) => page.clock.install() }
  const page = await open('?what=*', clock)
  await shown(page)
  await page.getByRole('button', { name: 'Next' }).click()
  const second = page.getByText('rows 101 to 120 of 120')
  await second.waitFor()
  await page.keyboard.press('ArrowDown')
  await page.keyboard.press('Enter')
  await page.getByRole('region', { name: 'Details' }).waitFor()
  await page.locator('#canvas').hover()
  await page.mouse.wheel(0, -400)
  await page.locator('tbody tr').nth(1).hover()
  await page.clock.runFor(2000)
  const scroll = await page.locator('#detail').evaluate((detail) => {
    detail.scrollTop = 20
    return detail.scrollTop
  })
  const asked = asking(page)
  const state = async () => ({
    url: page.url(),
    focus: await page.evaluate(() => document.activeElement.dataset.key),
    scroll: await page.locator('#detail').evaluate((detail) => detail.scrollTop),
    graph: (await page.locator('#graph').screenshot()).toString('base64'),
    table: (await page.locator('tbody tr').evaluateAll((all) => all.map((row) => row.dataset.key))).join(),
  })
  const before = await state()
  assert.ok(before.focus !== undefined && before.scroll === scroll)
  await page.clock.runFor(20_000)
  assert.equal(asked(), 0)
  // Of 22 s or more, as of five at most before.
  assert.match(await page.locator('#coverage').innerText(), /answered .* \((1[7-9]|2\d)s ago\)/)
  const heard = await page.locator('#said').innerText()
  await page.clock.runFor(15_000)
  await page.waitForFunction(() => !/ago/.test(document.querySelector('#coverage .answered').innerText))
  assert.equal(asked(), 1)
  await page.clock.runFor(500)
  assert.deepEqual(await state(), before)
  await second.waitFor()
  // Nobody has to hear that.
  assert.equal(await page.locator('#said').innerText(), heard)
  assert.equal(await page.locator('#coverage[aria-live], #coverage [aria-live]').count(), 0)

  await page.getByRole('button', { name: 'Live', exact: true }).click()
  await page.waitForURL(/live=off/)
  await page.clock.runFor(120_000)
  assert.equal(asked(), 1)
  await page.getByRole('button', { name: 'Live', exact: true }).click()
  await page.clock.runFor(1000)
  await page.waitForURL((at) => !at.search.includes('live='))
  assert.equal(asked(), 2)
  // What is over stays as it is.
  const past = await open('?host=h1&to=2026-01-31T12:00:00Z', clock)
  await answered(past)
  const then = asking(past)
  await past.clock.runFor(120_000)
  assert.equal(then(), 0)
  assert.ok(await past.getByRole('button', { name: 'Live', exact: true }).isDisabled())
}

async function whatIsKeptIsOnlyForGoingBack(open) {
  const page = await open('?host=h1', { before: (page) => page.clock.install() })
  await shown(page)
  const asked = asking(page)
  await search(page).fill('h2')
  await page.keyboard.press('Enter')
  await page.waitForURL(/what=h2/)
  await answered(page)
  const before = asked()
  await page.goBack()
  await page.getByRole('heading', { name: 'host h1' }).waitFor()
  assert.equal(asked(), before)
  assert.equal(await search(page).inputValue(), '')
  await page.clock.runFor(20_000)
  await page.goForward()
  await page.waitForURL(/what=h2/)
  await answered(page)
  assert.equal(asked(), before + 1)
}

async function backUndoesAFilter(open) {
  const page = await open('?what=*')
  await drawn(page)
  const all = await caption(page)
  await filter(page).pressSequentially('host:h1', { delay: 60 })
  await page.getByText('2 edges; the filter hides 118').waitFor()
  await page.waitForTimeout(300)
  await filter(page).pressSequentially(' to:h2', { delay: 60 })
  await page.getByText('1 edge; the filter hides 119').waitFor()
  // All that was typed is one step, and the box says what is filtered.
  await page.goBack()
  await page.waitForFunction((all) => document.querySelector('caption').innerText === all, all)
  assert.equal(await filter(page).inputValue(), '')
  await page.goForward()
  await page.getByText('1 edge; the filter hides 119').waitFor()
  assert.equal(await filter(page).inputValue(), 'host:h1 to:h2')
  // Enter ends a step.
  await filter(page).fill('host:h3')
  await page.keyboard.press('Enter')
  await page.waitForURL(/f=host%3Ah3/)
  await filter(page).fill('host:h4')
  await page.waitForURL(/f=host%3Ah4/)
  await page.goBack()
  await page.waitForURL(/f=host%3Ah3/)
  assert.equal(await filter(page).inputValue(), 'host:h3')
  await filter(page).fill('state:dead')
  await page.getByText("state: 'dead' is none of alive, failing, ended, silent, idle. Nothing is filtered.").waitFor()
}

async function keysLeadThere(open) {
  const page = await open('')
  await drawn(page)
  const focus = () => page.evaluate(() => document.activeElement.id)
  assert.equal(await focus(), 'search')
  await page.locator('tbody tr').first().click()
  const detail = page.getByRole('region', { name: 'Details' })
  await detail.waitFor()
  await page.keyboard.press('Escape')
  await detail.waitFor({ state: 'hidden' })
  await page.keyboard.press('/')
  assert.equal(await focus(), 'search')
  // In a box it is a letter.
  await filter(page).fill('')
  await page.keyboard.press('/')
  assert.equal(await filter(page).inputValue(), '/')
}

async function aLinkLeadsToItsRow(open) {
  const page = await open('?what=*&sort=Port')
  await drawn(page)
  const row = await page.locator('tbody tr').nth(90).getAttribute('data-key')
  const other = await open(`?what=*&sort=Port&sel=${encodeURIComponent(row)}`)
  await drawn(other)
  const seen = await other.locator('tr[aria-selected=true]').evaluate((row) => {
    const [own, table] = [row.getBoundingClientRect(), document.querySelector('#table').getBoundingClientRect()]
    return own.top >= table.top && own.bottom <= table.bottom
  })
  assert.ok(seen)
}

async function thereIsRoomForAllOfIt(open) {
  const compared = new Date(Date.now() - 3_600_000).toISOString()
  for (const [path, width, height] of [['?host=h1', 1024, 768], ['', 1024, 768], [`?host=h1&span=1h&vs=${compared}`, 1440, 900], ['?host=h1', 390, 844], ['?host=h1', 360, 225]]) {
    const page = await open(path, { viewport: { width, height } })
    await drawn(page)
    const sizes = await page.evaluate(() => ({
      table: document.querySelector('#table').scrollWidth - document.querySelector('#table').clientWidth,
      page: document.documentElement.scrollWidth - innerWidth,
      main: document.querySelector('main').clientHeight,
      ports: [...document.querySelectorAll('td .tight')].every((one) => one.getClientRects().length === 1),
    }))
    assert.ok(sizes.table <= 0 && sizes.page <= 0 && sizes.main > 150 && sizes.ports, `${path} at ${width}: ${JSON.stringify(sizes)}`)
    await page.getByRole('columnheader', { name: 'Seen' }).waitFor()
    await page.context().close()
  }
}

async function aFingerReachesTheTable(open) {
  const page = await open('?what=*', { viewport: { width: 390, height: 844 }, touch: true })
  await drawn(page)
  const graph = await page.locator('#canvas').boundingBox()
  assert.ok(graph.height <= 0.41 * 844)
  const devtools = await page.context().newCDPSession(page)
  // Also over the graph, which takes two fingers.
  const finger = (type, y) => devtools.send('Input.dispatchTouchEvent', { type, touchPoints: type === 'touchEnd' ? [] : [{ x: 200, y }] })
  const from = graph.y + graph.height / 2
  await finger('touchStart', from)
  for (let y = from - 10; y > from - 250; y -= 15) {
    await finger('touchMove', y)
    await page.evaluate(() => new Promise(requestAnimationFrame))
  }
  await finger('touchEnd', 0)
  await page.waitForFunction(() => scrollY > 150)
  await page.locator('tbody tr').nth(3).tap()
  const detail = page.getByRole('region', { name: 'Details' })
  await detail.waitFor()
  await page.waitForFunction(() => {
    const { top, bottom } = document.querySelector('#detail').getBoundingClientRect()
    return top >= 0 && bottom <= innerHeight
  })
  await page.getByRole('button', { name: 'Close the details' }).tap()
  await detail.waitFor({ state: 'hidden' })
  const row = await page.locator('tbody tr').nth(3).boundingBox()
  assert.ok(row.y > 0 && row.y < 844, `${row.y}`)
  await accessible(page, 'a phone')
}

async function aClockThatIsAheadAsksNothingOfTheFuture(open) {
  const page = await open('?host=h1', { before: (page) => page.clock.install({ time: Date.now() + 7_200_000 }) })
  await shown(page)
  await page.getByRole('button', { name: 'Compare' }).click()
  await page.waitForURL(/vs=/)
  await answered(page)
  const versus = () => Date.parse(new URL(page.url()).searchParams.get('vs'))
  assert.ok(versus() < Date.now() - 3_500_000)
  await page.getByRole('slider', { name: 'Compared with' }).focus()
  const before = page.url()
  await page.keyboard.press('End')
  await page.clock.runFor(1000)
  await page.waitForURL((at) => at.href !== before)
  await answered(page)
  assert.ok(versus() <= Date.now() + 1000)
  assert.ok(await page.locator('#problem').isHidden(), await page.locator('#problem').innerText())
}

async function itNeedsNoStorage(open) {
  const page = await open('?host=h1', {
    before: (page) => page.addInitScript(() => {
      for (const name of ['localStorage', 'sessionStorage']) Object.defineProperty(window, name, { get: () => { throw new DOMException('refused', 'SecurityError') } })
    }),
  })
  await drawn(page)
  assert.ok((await rows(page)).length > 0)
  await page.getByRole('button', { name: 'Theme: auto' }).click()
  await page.getByRole('button', { name: 'Theme: light' }).waitFor()
}

async function whereNothingIsKnownItSaysHowToBegin(open) {
  const at = new Date().toISOString()
  const query = { selector: { kind: 'all', value: '*' }, depth: 1, ways: 'both' }
  const nothing = { schema: 'shawk.groups/1', generated: at, query, by: 'host', groups: [], links: [], hosts: { count: 0, silent: 0 }, malformed: 0,
    notes: ['nothing is known of any host: no probe ever reported it'], cut: { hosts: 0, addresses: 0, edges: 0 } }
  const page = await open('', { before: (page) => page.route(API, (route) => route.fulfill({ json: nothing })) })
  await drawn(page)
  const said = await page.locator('#empty').innerText()
  assert.ok(said.includes(`sudo shawk probe --cmdb ${url}/`), said)
  assert.ok(said.includes('SHAWK_TOKEN_FILE='), said)
  assert.ok(await page.locator('#legend').isHidden())
  await accessible(page, 'nothing is known')
}

// The browser itself says that a request failed.
const failing = { expected: /Failed to load resource/ }

for (const [scenario, options] of [
  [aGroupOfEachKindOpens],
  [theSliderBeginsWithTheHistory],
  [aKeyThatIsHeldIsOneStepBack],
  [whatIsWaitedForIsSaid],
  [aCollectorThatComesBackIsFound, failing],
  [whatIsShownStaysTrue],
  [whatIsKeptIsOnlyForGoingBack],
  [backUndoesAFilter],
  [keysLeadThere],
  [aLinkLeadsToItsRow],
  [thereIsRoomForAllOfIt],
  [aFingerReachesTheTable],
  [aClockThatIsAheadAsksNothingOfTheFuture],
  [itNeedsNoStorage],
  [whereNothingIsKnownItSaysHowToBegin],
]) {
  const begun = Date.now()
  await browse(url, scenario, options)
  console.log(`${scenario.name}: ${Date.now() - begun} ms`)
}
