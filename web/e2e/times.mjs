// Two times of a small fleet: hours later nginx calls another application,
// and the store does not answer. What is said of it is what `shawk diff` says.
//
//   node e2e/times.mjs URL THEN NOW

import assert from 'node:assert/strict'

import { accessible, browse, colours, drawn, rows } from './browser.mjs'

const [, , url, then, now] = process.argv

async function whatChangedIsSaid(open) {
  const page = await open(`?host=web&depth=2&span=5m&to=${now}&vs=${then}`)
  await drawn(page)
  const all = await rows(page)
  const about = (word) => all.filter((row) => row.startsWith(word))
  assert.equal(about('new').length, 1, all.join('\n'))
  assert.match(about('new')[0], /nginx web app-2 app-2-host|nginx web .*tcp\/8082/)
  assert.equal(about('gone').length, 1, all.join('\n'))
  assert.match(about('gone')[0], /nginx web .*tcp\/8081/)
  assert.equal(about('changed').length, 1, all.join('\n'))
  assert.match(about('changed')[0], /changed fails failing nginx web .*tcp\/5432/)
  assert.equal(about('same').length, 1, all.join('\n'))
  const there = await colours(page, 8)
  for (const colour of ['#1b7f3b', '#8e24aa', '#945700']) assert.ok(colour in there, `${colour} of ${Object.keys(there)}`)
  await page.getByLabel('Filter', { exact: true }).fill('is:gone')
  await page.getByText('1 of 4 edges pass').waitFor()
  await page.locator('tbody tr').first().click()
  await page.getByText('gone: there then, not now').waitFor()
  assert.match(await page.locator('#coverage').innerText(), /now: answered.*then: answered/s)
  // The collector's own words about the one that fails.
  await page.getByLabel('Filter', { exact: true }).fill('is:fails')
  await page.locator('tbody tr', { hasText: 'tcp/5432' }).click()
  await page.getByText('fails: it was answered, and is not any more').waitFor()
  await accessible(page, 'two times')
  // The same in groups.
  const folded = await open(`?by=host&span=5m&to=${now}&vs=${then}`)
  await drawn(folded)
  const links = await rows(folded)
  assert.ok(links.some((row) => row.startsWith('new 1 new') && row.includes('192.0.2.2')), links.join('\n'))
  assert.ok(links.some((row) => row.startsWith('gone 1 gone') && row.includes('192.0.2.1')), links.join('\n'))
}

async function whoWasNotHeardIsNotGone(open) {
  // Long before the first word of anybody.
  const before = new Date(Date.parse(then) - 86_400_000).toISOString()
  const page = await open(`?host=web&span=5m&to=${then}&vs=${before}`)
  await drawn(page)
  const all = await rows(page)
  assert.ok(all.length === 3 && all.every((row) => row.startsWith('unknown')), all.join('\n'))
  assert.match(await page.locator('#coverage').innerText(), /unknown: \d of web, which was not heard then/)
}

async function whatIsForgottenIsSaid(open) {
  for (const path of ['?host=db', '?by=host']) {
    const page = await open(`${path}&span=5m&to=${now}&vs=${then}`)
    await drawn(page)
    const said = await page.locator('#coverage .warn').allInnerTexts()
    assert.equal(said.filter((note) => /^unknown: what was of db before .*: nobody watched it, or 'shawk prune' forgot it$/.test(note)).length, 1, said.join('\n'))
  }
}

async function theSliderGoesBack(open) {
  const page = await open(`?host=web&span=5m&to=${now}`)
  await drawn(page)
  assert.ok((await rows(page)).some((row) => row.includes('tcp/8082')))
  const slider = page.getByRole('slider', { name: 'Until' })
  const before = Number(await slider.inputValue())
  await slider.focus()
  await page.keyboard.press('Home')
  await page.waitForFunction((was) => new URL(location.href).searchParams.get('to') !== was, now)
  await drawn(page)
  assert.ok(Number(await slider.inputValue()) < before)
  assert.ok(!(await rows(page)).some((row) => row.includes('tcp/8082')))
  // The keyboard has not lost its place.
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'Until')
  await page.goBack()
  await drawn(page)
  await page.locator('tbody tr', { hasText: 'tcp/8082' }).waitFor()
}

for (const scenario of [whatChangedIsSaid, whoWasNotHeardIsNotGone, whatIsForgottenIsSaid, theSliderGoesBack]) {
  const begun = Date.now()
  await browse(url, scenario)
  console.log(`${scenario.name}: ${Date.now() - begun} ms`)
}
