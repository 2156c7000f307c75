// The page on a CMDB whose names are all chosen by an enemy: nothing of them
// is run, and what is hidden in them is shown.
//
//   node e2e/hostile.mjs URL

import assert from 'node:assert/strict'

import { accessible, browse, counts, drawn, rows } from './browser.mjs'

const [, , url] = process.argv

/** What the page says with a character in it that nobody sees. */
async function hidden(page) {
  return page.evaluate(() => {
    const names = ['title', 'aria-label', 'aria-valuetext', 'alt']
    const said = [...document.querySelectorAll('*')].flatMap((one) => names.map((name) => one.getAttribute(name) ?? ''))
    said.push(...[...document.querySelectorAll('svg title')].map((one) => one.textContent))
    return [document.title, document.body.innerText, ...said].filter((text) => /[\u0000-\u0008\u202a-\u202e\u2066-\u2069\u200b]/.test(text))
  })
}

async function noNameIsRun(open) {
  for (const path of ['', '?by=unit', '?what=*', '?what=*&gl=off']) {
    const page = await open(path)
    await drawn(page)
    // Each row, each detail, each node by its link.
    const all = await rows(page)
    assert.ok(all.length >= 8, `${all.length} rows at ${path}`)
    // All edges between nodes, some between groups.
    for (let row = 0; row < (path === '?what=*' ? all.length : 3); row++) {
      await page.locator('tbody tr').nth(row).click()
      const detail = page.getByRole('region', { name: 'Details' })
      await detail.waitFor()
      if (row === 0) {
        const link = detail.locator('.links a').first()
        await link.click()
        await page.waitForFunction(() => document.body.getAttribute('aria-busy') === null)
        await page.goto(`${url}/${path}`)
        await drawn(page)
      }
    }
    const state = await page.evaluate(() => ({
      pwned: window.__pwned,
      elements: document.querySelectorAll('script:not([src]), iframe, object, embed, base, form[action], img[onerror], svg:not(#canvas > svg.boxes)').length,
      // What is drawn is shapes and text, and nothing of it does anything.
      drawn: [...document.querySelectorAll('svg.boxes *')].filter((one) => !['g', 'rect', 'path', 'text', 'title'].includes(one.localName)).length,
      doing: [...document.querySelectorAll('svg.boxes, svg.boxes *')].flatMap((one) => one.getAttributeNames()).filter((name) => /^on|href|style/.test(name)).length,
    }))
    assert.deepEqual(state, { pwned: undefined, elements: 0, drawn: 0, doing: 0 }, path)
    assert.deepEqual(await hidden(page), [], path)
  }
}

async function whatIsHiddenIsShownWhereALinkLeads(open) {
  const said = '\\u{202e}gnp.exe'
  const shown = async (page, what) => {
    assert.deepEqual(await hidden(page), [], what)
    for (const text of [await page.locator('h1').innerText(), await page.title()]) assert.ok(text.includes(said), `${text} at ${what}`)
  }
  for (const path of ['?by=host', '?by=unit', '?by=container', '?by=process']) {
    const page = await open(path)
    await drawn(page)
    await page.locator('tbody tr', { hasText: said }).first().click()
    await page.locator('#detail').getByRole('link', { name: `Open ${said}` }).first().click()
    await page.waitForURL(/(host|process|group)=/)
    await drawn(page)
    assert.ok((await rows(page)).length > 0, `nothing in the group that is opened at ${path}`)
    assert.ok((await counts(page)).nodes > 0, path)
    await shown(page, path)
  }
  const page = await open('?what=*')
  await drawn(page)
  for (const link of [`Focus on ${said}`, 'All that it needs', 'Its whole host']) {
    await page.locator('tbody tr', { hasText: said }).first().click()
    await page.locator('#detail .links a', { hasText: said }).first().click()
    await page.locator('#detail').getByRole('link', { name: link }).click()
    await page.waitForURL(/(node|host)=/)
    await drawn(page)
    await shown(page, link)
    await page.goto(`${url}/?what=*`)
    await drawn(page)
  }
}

async function whatIsHiddenInAnAddressIsShown(open) {
  const hostile = encodeURIComponent('\u202egnp\u200b')
  for (const path of [`?host=${hostile}`, `?what=${hostile}`, `?ip=${hostile}`, `?what=*&node=${hostile}`, `?by=unit&group=unit:${hostile}`, `?what=*&f=failed:>${hostile}`]) {
    const page = await open(path)
    await page.waitForFunction(() => document.body.getAttribute('aria-busy') === null)
    assert.deepEqual(await hidden(page), [], path)
  }
}

async function anAddressOfThePageIsNoProgram(open) {
  for (const path of [
    '?what=<img src=x onerror=window.__pwned=1>',
    '?host=%3Cscript%3Ewindow.__pwned=1%3C/script%3E',
    '?what=*&node=<img src=x onerror=window.__pwned=1>',
    '?what=*&f=<svg onload=window.__pwned=1>',
    '?by=unit&group=unit:<img src=x onerror=window.__pwned=1>',
    '?what=*&sel=<b>&sort=<b>&depth=99&ways=<b>&span=<b>&to=<b>&vs=javascript:1',
    '?host=javascript:window.__pwned=1',
  ]) {
    const page = await open(path)
    await page.waitForFunction(() => document.body.getAttribute('aria-busy') === null)
    assert.equal(await page.evaluate(() => window.__pwned), undefined, path)
    assert.equal(await page.locator('script:not([src]), img:not([alt]), svg:not(#canvas > svg.boxes)').count(), 0, path)
  }
}

async function itStaysUsable(open) {
  const page = await open('?what=*')
  await drawn(page)
  await accessible(page, 'hostile names')
  await page.getByRole('combobox', { name: /Search/ }).fill('<img')
  await page.getByRole('option').first().waitFor()
  await accessible(page, 'hostile names, found')
  const names = await page.getByRole('option').allInnerTexts()
  assert.ok(names.some((name) => name.includes('<img src=x onerror')), names.join('\n'))
}

for (const [scenario, options] of [
  [noNameIsRun],
  [whatIsHiddenIsShownWhereALinkLeads],
  // The words of some of these are refused by the collector.
  [whatIsHiddenInAnAddressIsShown, { expected: /Failed to load resource/ }],
  [anAddressOfThePageIsNoProgram, { expected: /Failed to load resource/ }],
  [itStaysUsable],
]) {
  const begun = Date.now()
  await browse(url, scenario, options)
  console.log(`${scenario.name}: ${Date.now() - begun} ms`)
}
