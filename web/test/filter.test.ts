import assert from 'node:assert/strict'
import { test } from 'node:test'

import { apply, bitsOf, parse } from '../src/filter.ts'
import { modelOf } from '../src/model.ts'
import { look } from './fleet.ts'

const model = modelOf(look(`
  curl@client-1 10.0.0.20 > nginx@web-1 10.0.0.10:80 alive both
  nginx@web-1 10.0.0.10 > python3@app-1 10.0.1.11:8080 failing active
  python3@app-1 10.0.1.11 > postgres@db-1 fd00::12:5432 ended passive
  ssh@client-1 10.0.0.20 > - 192.0.2.7:22 silent active
`))

function found(text: string): string {
  const filter = parse(text)
  if ('error' in filter) return filter.error
  return apply(filter, model)
    .map((place) => model.nodes[model.edges[place]?.active ?? 0]?.title)
    .join(' ')
}

for (const [text, expected] of [
  ['', 'curl nginx python3 ssh'],
  ['nginx', 'curl nginx'],
  ['-nginx', 'python3 ssh'],
  ['host:web-1', 'curl nginx'],
  ['host:web', ''],
  ['host:WEB*', 'curl nginx'],
  ['host:*-1 process:curl', 'curl'],
  ['port:5432', 'python3'],
  ['port:80,22', 'curl ssh'],
  ['port:1024-65535', 'nginx python3'],
  ['port:>80', 'nginx python3'],
  ['8080', 'nginx'],
  [':22', 'ssh'],
  ['state:failing', 'nginx'],
  ['state:idle', 'python3 ssh'],
  ['told:one -state:failing', 'python3 ssh'],
  ['probe:no', 'ssh'],
  ['from:web-1', 'nginx'],
  ['to:web-1', 'curl'],
  ['address:10.0.0.0/24 -port:22', 'curl nginx'],
  ['address:fd00::/16', 'python3'],
  ['ip:192.0.2.7', 'ssh'],
  ['fd00::12', 'python3'],
  ['proto:tcp state:alive', 'curl'],
  ['bytes:>1kB', 'curl nginx python3 ssh'],
  ['bytes:>1MB', ''],
  ['rtt:<1ms', 'curl nginx python3 ssh'],
  ['age:<1h', 'curl nginx python3 ssh'],
  ['"no probe"', 'ssh'],
  ['process:"curl"', 'curl'],
  ['host:.*', ''],
  ['state:f*', 'nginx'],
  ['failing:>0', 'nginx'],
  ['confidence:"one end"', 'nginx python3 ssh'],
  ['port:5000-6000', 'python3'],
  ['bytes:1kB-5kB', 'curl nginx python3 ssh'],
  ['address:10.0.1.*', 'nginx python3'],
] as const) {
  test(`the filter ${text === '' ? '(empty)' : text}`, () => assert.equal(found(text), expected))
}

test('what is wrong is named with what may stand there', () => {
  assert.match(found('colour:red'), /^'colour' is no field; there are from, to, host, /)
  assert.equal(found('port:'), 'port: has nothing behind it')
  assert.equal(found('failed:>many'), "failed: 'many' is no number")
  assert.equal(found('bytes:>1XB'), "bytes: '1XB' is no number of k, kb, m, mb, g, gb, t, tb, b")
  assert.equal(found('"a'), 'a quotation mark has no other one')
})

test('what a field cannot be is refused, and not looked for in vain', () => {
  for (const [text, error] of [
    ['port:abc', "port: 'abc' is no number up to 65535, 1-5 or >5"],
    ['port:99999-1', "port: '99999-1' is no number up to 65535, 1-5 or >5"],
    ['port:80,70000', "port: '70000' is no number up to 65535, 1-5 or >5"],
    ['state:dead', "state: 'dead' is none of alive, failing, ended, silent, idle"],
    ['told:nobody', "told: 'nobody' is none of active, passive, both, one"],
    ['probe:maybe', "probe: 'maybe' is none of yes, no"],
    ['rtt:5msx', "rtt: '5msx' is no number of us, ms, s"],
    ['address:10.20.0.0/99', "address: '10.20.0.0/99' is no address; say 10.0.0.1, 10.0.0.0/8, 10.0.* or fd00::/16"],
    ['host:>3', "host: '>3' is no name; only numbers are more or less"],
    ['-', '- has nothing behind it'],
    ['nginx ""', '"" has nothing behind it'],
  ] as const) {
    assert.equal(found(text), error)
  }
})

test('an address has bits, and nothing else has', () => {
  assert.equal(bitsOf('10.0.0.256'), null)
  assert.equal(bitsOf('::1')?.length, 128)
  assert.equal(bitsOf('::1')?.endsWith('01'), true)
  assert.equal(bitsOf('1::2::3'), null)
  assert.equal(bitsOf('web-1'), null)
})
