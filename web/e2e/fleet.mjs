// The page on a CMDB that real programs filled: the fleet of
// tests/it/lab/fleet.rs, where db-1 has no probe.
//
//   node e2e/fleet.mjs URL [DIRECTORY for screenshots]

import assert from 'node:assert/strict'

import { accessible, browse, colours, counts, drawn, rows } from './browser.mjs'

const [, , url, pictures] = process.argv

async function picture(page, name) {
  if (pictures !== undefined) await page.screenshot({ path: `${pictures}/${name}.png` })
}

async function opensOnGroups(open) {
  const page = await open('')
  await drawn(page)
  const { nodes, lines } = await counts(page)
  // Five hosts with a probe, and db-1 by its address.
  assert.equal(nodes, 6)
  assert.ok(lines >= 6, `${lines} lines`)
  const all = await rows(page)
  assert.ok(all.some((row) => /app-1 .* 10\.77\.0\.12 no probe there/.test(row)), all.join('\n'))
  const more = page.locator('#coverage').getByRole('button', { name: /more/ })
  if (await more.isVisible()) await more.click()
  const said = await page.locator('#coverage').innerText()
  assert.match(said, /answered .*data of 5 hosts/s)
  assert.match(said, /1 peer has no probe/)
  // The colours of nodes with a probe, and of lines that both ends told of.
  const there = await colours(page, 30)
  for (const colour of ['#2a6fb0', '#4d86bd']) assert.ok(colour in there, `${colour} of ${Object.keys(there)}`)
  await accessible(page, 'overview, light')
  await picture(page, 'overview')
  for (const by of ['unit', 'container', 'subnet', 'process', 'label']) {
    await page.getByLabel('Group by').selectOption(by)
    await drawn(page)
    assert.equal(new URL(page.url()).searchParams.get('by'), by)
    const { nodes } = await counts(page)
    assert.ok(nodes > 0 && nodes <= 150, `${nodes} groups by ${by}`)
  }
}

async function searchLeadsToAHost(open) {
  const page = await open('')
  await drawn(page)
  await page.getByRole('combobox', { name: /Search/ }).fill('WEB')
  const option = page.getByRole('option', { name: /web-1/ })
  await option.waitFor()
  await page.keyboard.press('ArrowDown')
  assert.equal(await option.getAttribute('aria-selected'), 'true')
  await page.keyboard.press('Enter')
  await page.waitForURL(/host=web-1/)
  await drawn(page)
  const all = await rows(page)
  assert.ok(all.some((row) => /haproxy lb-1 nginx web-1 tcp\/80/.test(row)), all.join('\n'))
  assert.ok(all.some((row) => /nginx web-1 python3 app-1 tcp\/8080/.test(row)), all.join('\n'))
  // Back to the groups, and forth.
  await page.goBack()
  await page.getByText('Everything, in groups').waitFor()
  await page.goForward()
  await page.getByText('host web-1').waitFor()
  await drawn(page)
}

async function activeIsOnTheLeft(open) {
  const page = await open('?process=python3&ways=both&depth=2')
  await drawn(page)
  const deep = await counts(page)
  await page.getByRole('button', { name: '1', exact: true }).click()
  await drawn(page)
  const near = await counts(page)
  assert.ok(near.nodes < deep.nodes, `${near.nodes} and ${deep.nodes}`)
  assert.equal(new URL(page.url()).searchParams.get('depth'), null)
  // A picture of the collector's has the same, with its places in the text.
  const svg = await page.evaluate(async () => (await fetch('api/v1/look.svg?process=nginx&host=')).status)
  assert.equal(svg, 400)
  const text = await page.evaluate(async () => (await fetch('api/v1/look.svg?process=nginx')).text())
  const at = (name) => Number(new RegExp(`<text x="(\\d+)"[^>]*>${name}<`).exec(text)?.[1])
  assert.ok(at('wrk') < at('nginx') && at('nginx') < at('python3'), text)
}

async function tableAndGraphHaveOneFilter(open) {
  const page = await open('?what=*')
  await drawn(page)
  const before = await counts(page)
  const all = await rows(page)
  await page.getByLabel('Filter', { exact: true }).fill('port:5432')
  await page.waitForURL(/f=port/)
  await page.getByText(/of \d+ edges pass/).waitFor()
  const after = await counts(page)
  const left = await rows(page)
  assert.ok(left.length === 2 && left.every((row) => row.includes('tcp/5432')), left.join('\n'))
  assert.ok(after.lines < before.lines && after.lines >= 1, `${before.lines} → ${after.lines}`)
  await page.getByLabel('Filter', { exact: true }).fill('-port:5432')
  await page.getByText(`${all.length - 2} of ${all.length} edges pass`).waitFor()
  await page.getByLabel('Filter', { exact: true }).fill('colour:red')
  await page.getByText(/'colour' is no field/).waitFor()
  assert.equal((await rows(page)).length, all.length)
  await page.getByRole('button', { name: '?' }).click()
  await page.getByText('Words that must all hold of an edge').waitFor()
  await accessible(page, 'help')
  // The words in the address are those of the filter: another sees the same.
  const other = await open('?what=*&f=to:10.77.0.12+port:5432')
  await drawn(other)
  assert.deepEqual(await rows(other), left)
}

async function anEdgeHasItsDetails(open) {
  const page = await open('?host=web-1')
  await drawn(page)
  const row = page.locator('tbody tr', { hasText: 'haproxy' })
  await row.click()
  const detail = page.getByRole('region', { name: 'Details' })
  await detail.waitFor()
  const ageless = (text) => text.replace(/\(\d+[smhd] ago\)/g, '(ago)')
  const text = ageless(await detail.innerText())
  for (const word of ['Port', 'tcp/80', 'First seen', 'Last seen', 'Connections', 'Bytes', 'RTT', 'Retransmits', 'Told by', 'both ends', 'Confidence', 'confirmed', 'Read by', 'netlink']) {
    assert.ok(text.includes(word), `${word} in ${text}`)
  }
  const link = page.url()
  assert.match(link, /sel=/)
  await accessible(page, 'details, light')
  await picture(page, 'focus')
  // Somebody else opens the link.
  const other = await open(link.slice(url.length + 1))
  await drawn(other)
  assert.equal(ageless(await other.getByRole('region', { name: 'Details' }).innerText()), text)
  // A node's own details lead to a walk from it alone.
  await detail.getByRole('link', { name: 'haproxy' }).click()
  await page.getByRole('link', { name: 'All that it needs' }).click()
  await page.waitForURL(/node=haproxy/)
  await drawn(page)
  assert.ok((await rows(page)).every((row) => !row.includes('wrk')), 'wrk is not needed by haproxy')
  await page.goBack()
  await detail.getByRole('link', { name: /Focus on haproxy/ }).waitFor()
}

async function theKeyboardIsEnough(open) {
  const page = await open('?host=web-1')
  await drawn(page)
  await page.locator('tbody tr').first().focus()
  await page.keyboard.press('ArrowDown')
  const focused = () => page.evaluate(() => document.activeElement.getAttribute('aria-rowindex'))
  assert.equal(await focused(), '3')
  await page.keyboard.press('End')
  const last = await focused()
  assert.equal(Number(last), (await rows(page)).length + 1)
  await page.keyboard.press('Home')
  await page.keyboard.press('Enter')
  await page.getByRole('region', { name: 'Details' }).waitFor()
  assert.equal(await page.locator('tbody tr').first().getAttribute('aria-selected'), 'true')
  // The focus stays in the table, and is seen.
  assert.equal(await focused(), '2')
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle)
  assert.equal(outline, 'solid')
  const close = page.getByRole('button', { name: 'Close the details' })
  await close.focus()
  await page.keyboard.press('Enter')
  await close.waitFor({ state: 'hidden' })
  assert.equal(await page.evaluate(() => document.activeElement.id), 'table')
  await page.getByRole('button', { name: 'Bytes' }).click()
  const bytes = page.getByRole('columnheader', { name: /Bytes/ })
  assert.equal(await bytes.getAttribute('aria-sort'), 'ascending')
  // The rows have other places, and the keyboard has not lost its own.
  await page.getByRole('button', { name: 'Bytes' }).focus()
  for (const order of ['descending', 'ascending']) {
    await page.keyboard.press('Enter')
    assert.equal(await bytes.getAttribute('aria-sort'), order)
    assert.match(await page.evaluate(() => document.activeElement.closest('th')?.textContent ?? 'elsewhere'), /^Bytes/)
  }
  await page.keyboard.press('Tab')
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'RTT')
}

async function itIsDarkWhereThatIsPreferred(open) {
  const page = await open('?process=nginx&depth=2', { scheme: 'dark' })
  await drawn(page)
  const back = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor)
  assert.equal(await back(), 'rgb(18, 22, 28)')
  await page.locator('tbody tr').first().click()
  await accessible(page, 'focus, dark')
  await picture(page, 'dark')
  await page.getByRole('button', { name: 'Theme: auto' }).click()
  assert.equal(await back(), 'rgb(255, 255, 255)')
}

async function aNodeIsClicked(open) {
  // It is the only one that is asked for, and has a colour of its own.
  const page = await open('?process=haproxy')
  await drawn(page)
  await page.getByText('asked for').waitFor()
  await page.locator('#legend').evaluate((legend) => legend.remove())
  const at = (await colours(page, 40))['#0b3f73']
  await page.locator('#canvas').click({ position: at })
  await page.waitForURL(/sel=haproxy/)
  await page.getByRole('region', { name: 'Details' }).getByRole('heading', { name: 'haproxy' }).waitFor()
  // So does an edge: the one that is left, in its middle.
  const other = await open('?process=haproxy&f=to:nginx')
  await drawn(other)
  await other.locator('#legend').evaluate((legend) => legend.remove())
  await other.locator('#canvas').click({ position: (await colours(other, 40))['#4d86bd'] })
  await other.getByRole('heading', { name: 'haproxy → nginx' }).waitFor()
  // Twice leads to a walk from it alone.
  await page.locator('#canvas').dblclick({ position: at })
  await page.waitForURL(/node=haproxy/)
}

async function theBoxesAreRead(open) {
  const page = await open('?host=web-1')
  await drawn(page)
  const { nodes } = await counts(page)
  const boxes = page.locator('#canvas svg .node')
  assert.equal(await boxes.count(), nodes)
  // Who, where, and the port that it is called at.
  const nginx = page.getByRole('button', { name: /^nginx web-1 :80/ })
  assert.equal(await nginx.count(), 1)
  // Names are upon nothing, and nothing runs through them.
  const upon = await boxes.evaluateAll((all) => {
    const places = all.map((one) => one.querySelector('.box').getBoundingClientRect())
    const cross = places.flatMap((a, at) => places.slice(at + 1).filter((b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom))
    const wide = all.filter((one) => [...one.querySelectorAll('text')].some((text) => text.getBoundingClientRect().right > one.querySelector('.box').getBoundingClientRect().right))
    return [cross.length, wide.length]
  })
  assert.deepEqual(upon, [0, 0])
  // By the keyboard: to whom it calls, and back; then to a walk from there.
  await nginx.focus()
  const at = () => page.evaluate(() => document.activeElement.getAttribute('aria-label'))
  await page.keyboard.press('ArrowRight')
  assert.match(await at(), /^python3 app-1/)
  await page.keyboard.press('ArrowLeft')
  assert.match(await at(), /^nginx web-1/)
  const place = () => page.locator('#canvas svg > g').getAttribute('transform')
  const before = await place()
  await page.keyboard.press('+')
  assert.notEqual(await place(), before)
  await page.keyboard.press('0')
  assert.equal(await place(), before)
  await page.keyboard.press(' ')
  await page.waitForURL(/sel=nginx/)
  assert.match(await at(), /^nginx web-1/)
  await page.keyboard.press('Enter')
  await page.waitForURL(/node=nginx/)
  // A hand moves it, and that is no click.
  await drawn(page)
  const url = page.url()
  const rest = await place()
  const { x, y } = await page.locator('#canvas').boundingBox()
  await page.mouse.move(x + 8, y + 60)
  await page.mouse.down()
  await page.mouse.move(x + 90, y + 100, { steps: 4 })
  await page.mouse.up()
  assert.notEqual(await place(), rest)
  assert.equal(page.url(), url)
  await page.getByRole('button', { name: 'Fit all of the graph in' }).click()
  assert.equal(await place(), rest)
}

async function withoutWebglTheSameIsDrawn(open) {
  const page = await open('')
  await drawn(page)
  assert.equal(await page.locator('#canvas svg .node').count(), (await counts(page)).nodes)
  await page.goto(page.url().replace(/[^/]*$/, '?host=web-1'))
  await drawn(page)
  const all = await counts(page)
  assert.ok((await rows(page)).length >= 3)
  await page.getByLabel('Filter', { exact: true }).fill('haproxy')
  await page.getByText(/of \d+ edges pass/).waitFor()
  const left = await page.locator('#canvas svg .line').count()
  assert.ok(left >= 1 && left < all.lines, `${all.lines} → ${left}`)
  await accessible(page, 'boxes')
  await picture(page, 'picture')
}

/** The next answers tell of many more than there are, each of them like no other. */
async function inflate(page) {
  await page.route('**/api/v1/look?*', async (route) => {
    const answer = await (await route.fetch()).json()
    const [node] = answer.nodes.filter((one) => one.process !== undefined)
    for (let more = 0; more < 400; more++) {
      answer.nodes.push({ ...node, id: 100_000 + more, process: { name: `more-${more}` } })
      answer.edges.push({ ...answer.edges[0], passive: 100_000 + more })
    }
    await route.fulfill({ json: answer })
  })
}

async function withoutWebglWhatIsMuchIsAPicture(open) {
  const page = await open('?what=*')
  await drawn(page)
  await inflate(page)
  await page.getByRole('button', { name: 'Refresh' }).click()
  const image = page.locator('#canvas img')
  await image.waitFor()
  const size = await image.evaluate(async (image) => {
    await image.decode()
    return [image.naturalWidth, image.naturalHeight]
  })
  assert.ok(size[0] > 400 && size[1] > 100, `${size}`)
  await page.getByText('Filter and comparison do not apply to it').waitFor()
  await accessible(page, 'picture')
  // What is left of it is drawn again.
  await page.getByLabel('Filter', { exact: true }).fill('haproxy')
  await page.locator('#canvas svg .node').first().waitFor()
  assert.equal(await page.locator('#canvas img').count(), 0)
}

async function aGraphicsCardIsLost(open) {
  const page = await open('?what=*')
  await drawn(page)
  await inflate(page)
  await page.getByRole('button', { name: 'Refresh' }).click()
  const canvases = page.locator('#canvas canvas')
  await canvases.first().waitFor({ state: 'attached' })
  await canvases.evaluateAll((all) => {
    window.__before = all
    for (const one of all) (one.getContext('webgl2') ?? one.getContext('webgl'))?.getExtension('WEBGL_lose_context')?.loseContext()
  })
  // Others are in their place, and show it.
  await page.waitForFunction(() => [...document.querySelectorAll('#canvas canvas')].some((one) => !window.__before.includes(one)))
  await page.waitForFunction(() => performance.getEntriesByName('shawk-drawn').length > 1)
  await page.locator('#legend').evaluate((legend) => legend.remove())
  assert.ok('#2a6fb0' in (await colours(page, 30)))
}

// The browser itself says that a request was refused.
const refused = { expected: /Failed to load resource/ }

for (const [scenario, options] of [
  [opensOnGroups],
  [searchLeadsToAHost],
  [activeIsOnTheLeft, refused],
  [tableAndGraphHaveOneFilter],
  [anEdgeHasItsDetails],
  [theKeyboardIsEnough],
  [itIsDarkWhereThatIsPreferred],
  [aNodeIsClicked],
  [theBoxesAreRead],
  [aGraphicsCardIsLost],
  [withoutWebglTheSameIsDrawn, { webgl: false }],
  [withoutWebglWhatIsMuchIsAPicture, { webgl: false }],
]) {
  const begun = Date.now()
  await browse(url, scenario, options)
  console.log(`${scenario.name}: ${Date.now() - begun} ms`)
}
