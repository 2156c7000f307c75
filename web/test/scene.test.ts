import assert from 'node:assert/strict'
import { test } from 'node:test'

import { modelOf } from '../src/model.ts'
import { rimOf, type Scene, scene, toneOf } from '../src/scene.ts'
import type { Group, Groups, Link } from '../src/types.ts'
import { look, NOW } from './fleet.ts'

/** All of an answer, drawn. */
function all(text: string): Scene {
  const model = modelOf(look(text, { all: true }))
  return scene(model, model.edges.map((_, place) => place), null, true)
}

test('what fails is red, and what became of it stands around that', () => {
  const [line] = all('curl@a 10.0.0.1 > nginx@b 10.0.0.2:80 failing').lines
  assert.ok(line !== undefined)
  const looks = (change: string, state = line.state): [string, string | null] => {
    const one = { ...line, state, change: change as typeof line.change }
    return [toneOf(one), rimOf(one)]
  }
  assert.deepEqual(looks('same'), ['failing', null])
  assert.deepEqual(looks('new'), ['failing', 'new'])
  assert.deepEqual(looks('changed'), ['failing', 'changed'])
  // It failed then, and is not there now.
  assert.deepEqual(looks('gone'), ['gone', null])
  assert.deepEqual(looks('new', 'alive'), ['new', null])
  assert.deepEqual(looks('same', 'alive'), ['both', null])
})

const said = ({ nodes, lines }: Scene): string[] => [
  ...nodes.map(({ title, place }) => `${title}, ${place}`).sort(),
  ...lines.map((line) => `${line.ports} ${line.state} ${line.edges.length}`).sort(),
]

/** A Prometheus, asked for, with so many targets; these few are called in vain. */
function targets(count: number, failing: number): string {
  return Array.from({ length: count }, (_, one) => `prometheus@mon 10.0.0.1 > exporter@h${one} 10.0.1.${one}:9100 ${one < failing ? 'failing' : 'alive'}`).join('\n')
}

function around(text: string): Scene {
  const model = modelOf(look(text))
  return scene(model, model.edges.map((_, place) => place), new Map(model.nodes.map((node, place) => [place, node.root ? 0 : 1])), true)
}

test('many that are alike are one node, and what fails among them is not', () => {
  assert.deepEqual(said(around(targets(15, 0))), ['15 × exporter :9100, on 15 hosts', 'prometheus, mon', ':9100 alive 15'])
  // Few enough to be seen.
  assert.equal(around(targets(12, 0)).nodes.length, 13)
  assert.deepEqual(said(around(targets(15, 2))), [
    '13 × exporter :9100, on 13 hosts', 'exporter, h0', 'exporter, h1', 'prometheus, mon', ':9100 alive 13', ':9100 failing 1', ':9100 failing 1',
  ])
})

test('who has another neighbour stands alone', () => {
  const drawn = around(`${targets(16, 0)}\nexporter@h3 10.0.1.3 > syslog@log 10.0.0.9:514`)
  assert.deepEqual(said(drawn).filter((one) => one.includes('exporter')), ['15 × exporter :9100, on 15 hosts', 'exporter, h3'])
})

test('those that talk with hubs only are one node, too', () => {
  const drawn = all(`${targets(20, 0)}\ncurl@a 10.0.2.1 > nginx@b 10.0.2.2:80`)
  assert.deepEqual(said(drawn), ['20 × exporter, on 20 hosts', 'curl, a', 'nginx, b', ':80 alive 1'])
  assert.deepEqual(drawn.nodes.map(({ badges }) => badges.map(({ text }) => text).join()).sort(), ['', '', 'prometheus (20)'])
})

test('another port or program makes another node of many', () => {
  const drawn = around(`${targets(14, 0)}\n${targets(14, 0).replaceAll('9100', '9101').replaceAll('exporter@h', 'pusher@h')}`)
  assert.deepEqual(said(drawn).slice(0, 3), ['14 × exporter :9100, on 14 hosts', '14 × pusher :9101, on 14 hosts', 'prometheus, mon'])
})

test('a node of many has the same key when it has one more, and says who is in it', () => {
  const [before, after] = [around(targets(20, 0)), around(targets(21, 0))]
  assert.deepEqual([...before.folds.keys()], [...after.folds.keys()])
  const [[key, fold] = ['', undefined]] = [...after.folds]
  assert.equal(fold?.members.length, 21)
  assert.equal(after.inside.size, 21)
  assert.ok([...after.inside.values()].every((one) => one === key))
  assert.ok(after.nodes.some((node) => node.key === key))
  assert.ok(after.lines.some((line) => line.passive === key))
})

test('in an overview peers that are called at the same ports are one node', () => {
  const group = (kind: string, value: string): Group =>
    ({ kind, value, name: value, probe: kind !== 'address', nodes: 1, hosts: 1, groups: 1, processes: [], processes_more: 0 }) as unknown as Group
  const link = (active: number, passive: number, port: number): Link =>
    ({ active, passive, edges: 1, alive: 1, failing: 0, ended: 0, silent: 0, told_by_both: 0, told_by_active: 1, told_by_passive: 0,
      direction_unknown: 0, ports: [{ protocol: 'tcp', port, edges: 1 }], ports_more: 0, first_seen: new Date(NOW).toISOString(), last_seen: new Date(NOW).toISOString() }) as unknown as Link
  const overview = (peers: number): Scene => {
    const groups = [group('unit', 'a'), group('unit', 'b'), ...Array.from({ length: peers }, (_, one) => group('address', `192.0.2.${one}`))]
    const links = Array.from({ length: peers }, (_, one) => link(one % 2, one + 2, one % 3 === 0 ? 443 : 5432))
    const answer = { ...look(''), schema: 'shawk.groups/1', by: 'unit', groups, links, hosts: {} } as unknown as Groups
    const model = modelOf(answer)
    return scene(model, links.map((_, place) => place), null, true)
  }
  assert.equal(overview(12).nodes.length, 14)
  assert.deepEqual(said(overview(13)), [
    '5 peers :443, no probe there', '8 peers :5432, no probe there', 'a, 1 node', 'b, 1 node', ':443 alive 2', ':443 alive 3', ':5432 alive 4', ':5432 alive 4',
  ])
})
