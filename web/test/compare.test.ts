import assert from 'node:assert/strict'
import { test } from 'node:test'

import { compare } from '../src/compare.ts'
import { type Model, modelOf } from '../src/model.ts'
import { scene } from '../src/scene.ts'
import { moment } from '../src/text.ts'
import type { Diff, Difference, Groups, Who } from '../src/types.ts'
import { look, NOW } from './fleet.ts'

const FROM = new Date(NOW - 3_600_000).toISOString()
const TO = new Date(NOW).toISOString()

const who = (text: string): Who => {
  const [process = '', host = ''] = text.split('@')
  return host === ''
    ? { probe: false, address: process }
    : { probe: true, host, host_id: `id-${host}`, scope: '', process: { name: process } }
}

const item = (change: Difference['change'], active: string | null, passive: string, port: number): Difference => ({
  kind: active === null ? 'listener' : 'edge',
  change,
  ...(active === null ? {} : { active: who(active), active_address: '10.0.0.1' }),
  passive: who(passive),
  protocol: 'tcp',
  address: '10.0.0.2',
  port,
  first_seen: FROM,
})

const WHOLE = { hosts: 0, addresses: 0, edges: 0 }

const diff = (items: Difference[], more: Partial<Diff> = {}): Diff => ({
  schema: 'shawk.diff/1',
  generated: TO,
  total: items.length,
  items,
  from: FROM,
  to: TO,
  window_s: 900,
  occasional: 0,
  undecided: 0,
  unheard: [],
  unheard_total: more.unheard?.length ?? 0,
  cut: WHOLE,
  cut_before: WHOLE,
  ...more,
})

const said = (model: Model): string[] =>
  model.edges.map((edge) => `${edge.listens === undefined ? (model.nodes[edge.active]?.title ?? '') : '-'}>${model.nodes[edge.passive]?.title ?? ''} ${edge.change}`)

const THEN = `
  a@1 10.0.0.1 > b@2 10.0.0.2:80
  a@1 10.0.0.1 > c@3 10.0.0.3:80
  a@1 10.0.0.1 > d@4 10.0.0.4:80
  a@1 10.0.0.1 > e@5 10.0.0.5:80
`
const NEXT = `
  a@1 10.0.0.1 > b@2 10.0.0.2:80 failing
  a@1 10.0.0.1 > d@4 10.0.0.4:80
  a@1 10.0.0.1 > f@6 10.0.0.6:80
  a@1 10.0.0.1 > g@7 10.0.0.7:80
`

test('what changed is what the collector says, and nothing else', () => {
  const items = [item('fails', 'a@1', 'b@2', 80), item('gone', 'a@1', 'c@3', 80), item('new', 'a@1', 'f@6', 80), item('new', 'z@9', 'b@2', 80)]
  const { model, notes } = compare(modelOf(look(NEXT)), modelOf(look(THEN)), diff(items, { occasional: 2, undecided: 1 }))
  // e is not concluded to be gone, and g is at one time only without being new.
  assert.deepEqual(said(model), ['a>b changed', 'a>d same', 'a>f new', 'a>g unsure', 'a>c gone'])
  assert.deepEqual(model.nodes.map((node) => `${node.title} ${node.change}`), ['a same', 'b same', 'd same', 'f new', 'g same', 'c gone'])
  assert.deepEqual(notes, [
    '1 difference is outside of what is shown',
    '3 come and go, of which two times say nothing',
    '1 edge of then only not shown: they come and go, or go on as others',
  ])
  assert.equal(model.edges[0]?.was?.state, 'alive')
  const lines = scene(model, model.edges.map((_, place) => place), null, false).lines
  assert.deepEqual(lines.map((line) => line.change), ['changed', 'same', 'new', 'unsure', 'gone'])
})

test('silence is no difference', () => {
  const unheard = [{ host: '5', at: TO, things: 1 }, { host: '7', at: FROM, things: 1 }]
  const { model, notes } = compare(modelOf(look(NEXT)), modelOf(look(THEN)), diff([], { unheard }))
  assert.deepEqual(said(model), ['a>b same', 'a>d same', 'a>f unsure', 'a>g unknown', 'a>e unknown'])
  assert.deepEqual(notes.slice(0, 2), ['unknown: 1 of 5, which was not heard now', 'unknown: 1 of 7, which was not heard then'])
})

test('a listener that differs is a row, and no line', () => {
  const process = { ...item('process', null, 'b@2', 80), was: ['b'], is: ['h'] }
  const { model } = compare(modelOf(look(NEXT)), modelOf(look(NEXT)), diff([process, item('gone', null, 'k@8', 22)]))
  assert.deepEqual(said(model).slice(4), ['->b changed', '->k gone'])
  assert.equal(scene(model, model.edges.map((_, place) => place), null, false).lines.length, 4)
})

test('what is beyond the answer is counted', () => {
  const { notes } = compare(modelOf(look(NEXT)), modelOf(look(NEXT)), diff([], { total: 7 }))
  assert.deepEqual(notes, ['cut: 7 differences are not shown; choose less'])
})

test('what the collector does not know is said, whatever it is called', () => {
  const unheard = Array.from({ length: 9 }, (_, host) => ({ host: `${host}\u202e`, at: TO, things: 2 }))
  const { notes } = compare(modelOf(look(NEXT)), modelOf(look(NEXT)), diff([], {
    unheard,
    unheard_total: 1200,
    forgotten: [{ host: 'db\u202e', since: TO }, { since: TO }],
    cut: { ...WHOLE, hosts: 3, edges: '4' },
    cut_before: { ...WHOLE, addresses: 5, window: true },
  }))
  const since = moment(TO)
  assert.deepEqual(notes, [
    ...Array.from({ length: 8 }, (_, host) => `unknown: 2 of ${host}\\u{202e}, which was not heard now`),
    'unknown: and of 1192 more',
    `unknown: what was of db\\u{202e} before ${since}: nobody watched it, or 'shawk prune' forgot it`,
    `unknown: what was of a host before ${since}: nobody watched it, or 'shawk prune' forgot it`,
    'cut: 3 hosts were not looked at now: too many',
    'cut: 4 edges were not compared now: too many',
    'cut: 5 addresses without a probe were not looked at then: too many',
    'cut: what was counted then is too much; choose a shorter time',
  ])
})

const groups = (by: string, links: [string, string][], others = false): Groups => {
  const names = [...new Set(links.flat())]
  const all = names.map((name, id) => {
    const [kind = '', ...value] = name.split(':')
    return { id, kind, value: value.join(':'), name, probe: true, nodes: 1, hosts: 1, processes: [], processes_more: 0 }
  })
  const rest = { id: names.length, kind: 'others', name: '', probe: true, nodes: 1, hosts: 1, processes: [], processes_more: 0, groups: 3 }
  const { generated, query, cut } = look('', { all: true })
  return {
    schema: 'shawk.groups/1', generated, query, by, cut,
    groups: others ? [...all, rest] : all,
    links: [...links.map(([active, passive]) => [names.indexOf(active), names.indexOf(passive)]), ...(others ? [[0, names.length]] : [])].map(([active = 0, passive = 0]) => ({
      active, passive, edges: 2, alive: 2, failing: 0, ended: 0, silent: 0, told_by_active: 0, told_by_passive: 0, told_by_both: 2,
      direction_unknown: 0, ports: [], ports_more: 0, first_seen: FROM, last_seen: TO,
    })),
    hosts: { count: 1, silent: 0 }, notes: [], malformed: 0,
  }
}

const linked = (by: string, then: [string, string][], now: [string, string][], items: Difference[], others = false): string[] => {
  const { model, notes } = compare(modelOf(groups(by, now, others)), modelOf(groups(by, then, others)), diff(items))
  const links = model.edges.map((edge) => `${model.nodes[edge.active]?.key}>${model.nodes[edge.passive]?.key} ${edge.change}`)
  return [...links, ...notes]
}

test('links between groups have what differs of their edges', () => {
  const items = [item('new', 'a@1', 'b@2', 80), item('gone', 'a@1', 'b@3', 80), item('new', 'a@1', '10.0.0.2', 81)]
  assert.deepEqual(
    linked('host', [['host:id-1', 'host:id-2'], ['host:id-1', 'host:id-3']], [['host:id-1', 'host:id-2'], ['host:id-1', 'address:10.0.0.2']], items),
    ['host:id-1>host:id-2 changed', 'host:id-1>address:10.0.0.2 new', 'host:id-1>host:id-3 gone'],
  )
  assert.deepEqual(linked('process', [['process:a', 'process:b']], [['process:a', 'process:b']], items), ['process:a>process:b changed', '1 difference is outside of what is shown'])
  const subnet: [string, string][] = [['subnet:10.0.0.0/24', 'subnet:10.0.0.0/24']]
  assert.deepEqual(linked('subnet', subnet, subnet, items), ['subnet:10.0.0.0/24>subnet:10.0.0.0/24 changed'])
  const label: Difference = { ...item('fails', 'a@1', 'b@2', 80), active: { ...who('a@1'), label: { role: 'web' } } }
  assert.deepEqual(linked('label', [['label:web', 'none:']], [['label:web', 'none:']], [label]), ['label:web>none: changed'])
  // What is beyond the most groups is among the others.
  assert.deepEqual(linked('host', [['host:id-1', 'host:id-9']], [['host:id-1', 'host:id-9']], [item('new', 'a@1', 'b@2', 80)], true), [
    'host:id-1>host:id-9 same', 'host:id-1>others: changed',
  ])
})
