import assert from 'node:assert/strict'
import { test } from 'node:test'

import { lengthOf, path, paths, read, START, write } from '../src/state.ts'
import { age, bytes, short, visible } from '../src/text.ts'

test('what is shown is in the address, and comes back from it', () => {
  for (const query of [
    './',
    './?host=web-1',
    './?host=web-1&live=off',
    './?host=web-1&depth=3&ways=up&f=port%3A5432+-ssh&sel=a+%3E+b',
    './?by=unit&group=unit%3Anginx.service',
    './?what=*&node=nginx%40web-1%7Eabc&hubs=off&gl=off',
    './?process=nginx&by=host&span=1h&to=2026-01-31T12%3A00%3A00.000Z&vs=2026-01-31T11%3A00%3A00.000Z&sort=-Bytes',
  ]) {
    assert.equal(write(read(query.slice(2))), query)
  }
})

test('an address that says nonsense says nothing', () => {
  assert.deepEqual(read('depth=99&ways=sideways&span=3y&to=yesterday&vs=&hubs=maybe&by=shoe+size&bogus=1'), START)
})

test('a node alone is one of all, not of groups', () => {
  const { selector, node, by } = read('node=nginx%40web-1%7Eabc')
  assert.deepEqual({ selector, node, by }, { selector: { kind: 'what', value: '*' }, node: 'nginx@web-1~abc', by: null })
})

test('the path has what the collector understands', () => {
  const of = (query: string): string => decodeURIComponent(path(read(query), read(query).to, 'json'))
  assert.equal(of(''), 'api/v1/groups?by=auto')
  assert.equal(of('by=unit&span=1h'), 'api/v1/groups?by=unit&since=1h')
  assert.equal(of('what=*'), 'api/v1/look?what=*')
  assert.equal(of('host=web-1&depth=2&ways=up&to=2026-01-31T12:00:00Z&span=15m'), 'api/v1/look?host=web-1&depth=2&ways=up&until=2026-01-31T12:00:00.000Z&since=2026-01-31T11:45:00.000Z')
  assert.equal(of('by=unit&group=unit:a'), 'api/v1/look?what=*&by=unit&group=unit:a&depth=1&ways=both')
  assert.equal(lengthOf('all'), null)
  assert.equal(lengthOf('24h'), 86_400_000)
})

test('what is hidden in a name is shown', () => {
  assert.equal(visible('a\u001b[31m\n\u202egnp\u200b\u{e0041}'), 'a\\x1b[31m\\n\\u{202e}gnp\\u{200b}\\u{e0041}')
  assert.equal(visible('naïve 日本 <b>'), 'naïve 日本 <b>')
  assert.equal(short('a-very-long-name', 9), 'a-ve…name')
  assert.equal(short('a-short', 9), 'a-short')
  assert.deepEqual([119_000, 120_000, 7_200_000, 172_800_000, -5].map(age), ['119s', '2m', '2h', '2d', '0s'])
  assert.deepEqual([0, 999, 1000, 1_299_999, 999_999].map(bytes), ['0 B', '999 B', '1.0 kB', '1.3 MB', '1.0 MB'])
})

test('two times are asked for with what differs between them, the earlier first', () => {
  const asked = (query: string): string[] => paths(read(query)).map((one) => decodeURIComponent(one))
  assert.deepEqual(asked('?host=a&span=5m&to=2026-01-31T12:00:00Z&vs=2026-01-31T11:00:00Z'), [
    'api/v1/look?host=a&depth=1&ways=both&until=2026-01-31T12:00:00.000Z&since=2026-01-31T11:55:00.000Z',
    'api/v1/look?host=a&depth=1&ways=both&until=2026-01-31T11:00:00.000Z&since=2026-01-31T10:55:00.000Z',
    'api/v1/diff?host=a&from=2026-01-31T11:00:00.000Z&to=2026-01-31T12:00:00.000Z&window=5m&limit=10000',
  ])
  // Swapped, what is earlier is still compared with what is later; and what is
  // before it does not stand for both.
  const swapped = asked('?host=a&depth=2&span=6h&to=2026-01-31T11:00:00Z&vs=2026-01-31T12:00:00Z')
  assert.deepEqual(swapped.map((one) => one.replace(/^.*(?:&|\?)(?=until|from)/, '')), [
    'until=2026-01-31T12:00:00.000Z&since=2026-01-31T11:00:00.000Z',
    'until=2026-01-31T11:00:00.000Z&since=2026-01-31T05:00:00.000Z',
    'from=2026-01-31T11:00:00.000Z&to=2026-01-31T12:00:00.000Z&window=6h&limit=10000',
  ])
  // Conclusions go one step far: for more, of everything.
  assert.ok(swapped[2]?.startsWith('api/v1/diff?from='))
  assert.deepEqual(asked('?host=a&to=2026-01-31T11:00:00Z&vs=2026-01-31T11:00:00Z').length, 1)
})
