import assert from 'node:assert/strict'
import { test } from 'node:test'

import { bytesOf, hubs, type Model, modelOf, openOf, part, someFail, walk } from '../src/model.ts'
import { scene } from '../src/scene.ts'
import type { Groups } from '../src/types.ts'
import { look, NOW } from './fleet.ts'

const title = (model: Model, place: number): string => model.nodes[place]?.title ?? ''
const named = (model: Model, edges: number[]): string[] =>
  edges.map((place) => `${title(model, model.edges[place]?.active ?? 0)}>${title(model, model.edges[place]?.passive ?? 0)}`)

const CHAIN = `
  a@1 10.0.0.1 > b@2 10.0.0.2:80
  b@2 10.0.0.2 > c@3 10.0.0.3:80
  c@3 10.0.0.3 > d@4 10.0.0.4:80
  x@5 10.0.0.5 > c@3 10.0.0.3:80
  c@3 10.0.0.3 > b@2 10.0.0.2:81
`

test('a walk goes up from what is above and down from what is below', () => {
  const model = modelOf(look(CHAIN))
  const b = model.nodes.findIndex((node) => node.title === 'b')
  assert.deepEqual(named(model, walk(model, [b], 1, 'both').edges), ['a>b', 'b>c', 'c>b'])
  assert.deepEqual(named(model, walk(model, [b], 2, 'down').edges), ['b>c', 'c>d', 'c>b'])
  assert.deepEqual(named(model, walk(model, [b], 1, 'up').edges), ['a>b', 'c>b'])
  // x depends on c, not on b: but c depends on b, and so does x.
  assert.deepEqual(named(model, walk(model, [b], 2, 'up').edges), ['a>b', 'b>c', 'x>c', 'c>b'])
  const { far } = walk(model, [b], 2, 'both')
  assert.deepEqual([...far].map(([place, steps]) => `${title(model, place)}${steps}`).sort(), ['a-1', 'b0', 'c-1', 'd2', 'x-2'])
})

test('a key is the same in another answer, and one of its own in each', () => {
  const [one, other] = [modelOf(look(CHAIN)), modelOf(look(CHAIN.trim().split('\n').reverse().join('\n')))]
  assert.deepEqual(one.nodes.map((node) => node.key).sort(), other.nodes.map((node) => node.key).sort())
  const twice = look('a@1 10.0.0.1 > b@2 10.0.0.2:80')
  // Two process groups of one program.
  twice.nodes.push({ ...(twice.nodes[0] ?? twice.nodes[1]!), id: 7, pgid: 9 })
  const keys = modelOf(twice).nodes.map((node) => node.key)
  assert.equal(new Set(keys).size, 3)
  assert.equal(keys[2], `${keys[0]}+2`)
})

test('what was alive at the end of a window is not shown as what it is now', () => {
  const at = (seconds: number): string => new Date(NOW - seconds * 1000).toISOString()
  const states = (until: string): string[] => modelOf(look('a@1 10.0.0.1 > b@2 10.0.0.2:80 ended\na@1 10.0.0.1 > c@3 10.0.0.3:80 silent\na@1 10.0.0.1 > d@4 10.0.0.4:80 failing', { until })).edges.map((edge) => edge.state)
  // All were last seen a minute ago.
  assert.deepEqual(states(at(600)), ['alive', 'alive', 'alive'])
  assert.deepEqual(states(at(0)), ['ended', 'alive', 'failing'])
  assert.deepEqual(modelOf(look('a@1 10.0.0.1 > b@2 10.0.0.2:80 silent')).edges.map((edge) => edge.state), ['silent'])
})

test('a hub is a badge of those that call it', () => {
  const calls = Array.from({ length: 20 }, (_, number) => `app@h${number} 10.0.0.${number} > dns@d 10.1.0.1:53\napp@h${number} 10.0.0.${number} > db${number % 7}@s${number % 7} 10.2.0.${number % 7}:5432`)
  const model = modelOf(look(calls.join('\n'), { all: true }))
  assert.deepEqual([...hubs(model)].map(([place, many]) => `${title(model, place)} ${many}`), ['dns 20'])
  const all = model.edges.map((_, place) => place)
  const drawn = scene(model, all, null, true)
  assert.equal(drawn.lines.length, 20)
  assert.ok(!drawn.nodes.some((node) => node.title === 'dns'))
  assert.equal(drawn.nodes.filter((node) => node.badges.map((one) => one.text).join() === 'dns (20)').length, 20)
  const plain = scene(model, all, null, false)
  assert.equal(plain.lines.length, 40)
  assert.ok(plain.nodes.some((node) => node.title === 'dns'))
  // What was asked for is no badge, however many call it.
  const root = part(model, all, [model.nodes.findIndex((node) => node.title === 'dns')])
  assert.equal(hubs(root).size, 0)
})

test('edges between the same two nodes are one line, and the worst of them shows', () => {
  const model = modelOf(look('a@1 10.0.0.1 > b@2 10.0.0.2:80 ended\na@1 10.0.0.1 > b@2 10.0.0.2:81 failing active\nb@2 10.0.0.2 > a@1 10.0.0.1:82', { all: true }))
  const { lines } = scene(model, [0, 1, 2], null, true)
  assert.deepEqual(lines.map((line) => [line.state, line.edges.length, line.oneEnd]), [['failing', 2, false], ['alive', 1, false]])
})

test('what is in a group that was opened is asked for, of all that is known nothing is', () => {
  const answer = look(CHAIN, { all: true })
  assert.deepEqual(modelOf(answer).nodes.filter((node) => node.root), [])
  const opened = modelOf(answer, true)
  assert.deepEqual(opened.nodes.filter((node) => node.root).map((node) => node.title), ['a'])
  // There is more than what is around the group.
  assert.deepEqual([modelOf(answer).whole, opened.whole], [true, false])
})

test('a link is failing where no attempt is answered, and says what of it is', () => {
  const at = new Date(NOW).toISOString()
  const told = { told_by_active: 0, told_by_passive: 0, told_by_both: 1, direction_unknown: 0, ports: [], ports_more: 0, first_seen: at, last_seen: at }
  const said = [[304, 4, 0, 0], [0, 4, 0, 0], [0, 4, 6, 0], [0, 4, 0, 1], [0, 0, 3, 0]].map(([alive = 0, failing = 0, ended = 0, silent = 0]) => {
    const answer: Groups = {
      schema: 'shawk.groups/1', generated: at, query: { selector: { kind: 'all', value: '*' }, depth: 1, ways: 'both' }, by: 'host',
      groups: [{ id: 0, kind: 'host', value: 'a', name: 'a', probe: true, nodes: 1, hosts: 1, processes: [], processes_more: 0 }],
      links: [{ ...told, active: 0, passive: 0, edges: alive + failing + ended + silent, alive, failing, ended, silent }],
      hosts: { count: 1, silent: 0 }, notes: [], malformed: 0, cut: { hosts: 0, addresses: 0, edges: 0 },
    }
    const [edge] = modelOf(answer).edges
    return edge === undefined ? '' : [edge.state, someFail(edge) ?? 'all or none'].join(', ')
  })
  assert.deepEqual(said, ['alive, 4 of 308 failing', 'failing, all or none', 'failing, 4 of 10 failing', 'silent, 4 of 5 failing', 'ended, all or none'])
})

test('of a time that is over no number of later is shown', () => {
  const numbers = (until?: string, bytes?: number): unknown[] => {
    const answer = look('a@1 10.0.0.1 > b@2 10.0.0.2:80', until === undefined ? {} : { until })
    const [edge] = answer.edges
    if (edge !== undefined && bytes !== undefined) edge.window = { told_by: 'active', bytes_to_passive: bytes }
    const model = modelOf(answer)
    return model.edges.flatMap((one) => [bytesOf(one, model), openOf(one, model)])
  }
  assert.deepEqual(numbers(), [4000, 1])
  // It was last seen a minute ago.
  assert.deepEqual(numbers(new Date(NOW - 600_000).toISOString(), 70), [70, undefined])
  assert.deepEqual(numbers(new Date(NOW - 600_000).toISOString()), [undefined, undefined])
  assert.deepEqual(numbers(new Date(NOW).toISOString(), 70), [70, 1])
})
