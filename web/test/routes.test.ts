import assert from 'node:assert/strict'
import { test } from 'node:test'

import { modelOf } from '../src/model.ts'
import { type Arranged, arrange, portsAt } from '../src/routes.ts'
import { type Scene, scene } from '../src/scene.ts'
import { look } from './fleet.ts'

const VIEW = { width: 800, height: 700 }

/** Numbers that look like chance, the same each time. */
function chance(seed: number): (below: number) => number {
  let state = seed >>> 0
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

function drawn(text: string): Scene {
  const model = modelOf(look(text, { all: true }))
  return scene(model, model.edges.map((_, place) => place), null, false)
}

/** Tiers that call the next, some past it, some back. */
function tiers(seed: number, count: number): Scene {
  const next = chance(seed)
  const who = (node: number): string => `p${node}@h${node} 10.0.${node >> 6}.${node & 63}`
  const lines = Array.from({ length: 2 * count }, () => {
    const [from, to] = [next(count), next(count)]
    return `${who(from)} > ${who(to)}:${80 + next(3)}`
  })
  return drawn(lines.join('\n'))
}

const placed = (of: Scene, view = VIEW): Arranged => arrange(of, (node) => ({ width: 60 + 6 * node.title.length, height: 40 + 16 * Math.min(1, node.badges.length) }), view)

/** Places along a path of M, C and H. */
function along(path: string): [number, number][] {
  const all: [number, number][] = []
  let [x, y] = [0, 0]
  for (const [, command = '', words = ''] of path.matchAll(/([MCH])([^MCH]*)/g)) {
    const numbers = words.trim().split(' ').map(Number)
    if (command === 'M') [x = 0, y = 0] = numbers
    if (command === 'H') {
      const [to = 0] = numbers
      for (let part = 0; part <= 20; part++) all.push([x + ((to - x) * part) / 20, y])
      x = to
    }
    if (command === 'C') {
      const [ax = 0, ay = 0, bx = 0, by = 0, tx = 0, ty = 0] = numbers
      for (let part = 0; part <= 20; part++) {
        const t = part / 20
        const mixed = (a: number, b: number, c: number, d: number): number => (1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * b + 3 * t * t * (1 - t) * c + t ** 3 * d
        all.push([mixed(x, ax, bx, tx), mixed(y, ay, by, ty)])
      }
      ;[x, y] = [tx, ty]
    }
  }
  return all
}

test('no line runs through a box', () => {
  for (let seed = 0; seed < 12; seed++) {
    const of = tiers(seed, 20 + 12 * seed)
    const { boxes, routes } = placed(of)
    assert.equal(routes.size, of.lines.length)
    for (const [key, { path }] of routes) {
      for (const [x, y] of along(path)) {
        for (const [name, box] of boxes) {
          const within = x > box.x + 1 && x < box.x + box.width - 1 && y > box.y + 1 && y < box.y + box.height - 1
          assert.ok(!within, `${key} at ${x} ${y} is in ${name} (seed ${seed})`)
        }
      }
    }
  }
})

test('no two boxes are upon each other, and all are within what is said to be', () => {
  for (let seed = 0; seed < 12; seed++) {
    const { boxes, width, height } = placed(tiers(seed, 20 + 12 * seed))
    const all = [...boxes.values()]
    for (const [at, box] of all.entries()) {
      assert.ok(box.x >= 0 && box.x + box.width <= width && Math.abs(box.y) <= height / 2 && Math.abs(box.y + box.height) <= height / 2)
      for (const other of all.slice(at + 1)) {
        const apart = box.x >= other.x + other.width || other.x >= box.x + box.width || box.y >= other.y + other.height || other.y >= box.y + box.height
        assert.ok(apart, JSON.stringify([box, other]))
      }
    }
  }
})

test('the same scene stands at the same places, and who calls on the left', () => {
  const of = drawn('a@1 10.0.0.1 > b@2 10.0.0.2:80\nb@2 10.0.0.2 > c@3 10.0.0.3:5432')
  assert.equal(JSON.stringify([...placed(of).routes]), JSON.stringify([...placed(of).routes]))
  const { boxes } = placed(of)
  for (const { active, passive } of of.lines) {
    const [from, to] = [boxes.get(active), boxes.get(passive)]
    assert.ok(from !== undefined && to !== undefined && from.x + from.width + 40 <= to.x)
  }
  assert.deepEqual(placed(drawn('')), { boxes: new Map(), routes: new Map(), width: 0, height: 0 })
})

test('a port stands in its box, or beside its line where another leads elsewhere', () => {
  const of = drawn('a@1 10.0.0.1 > b@2 10.0.0.2:80\nc@3 10.0.0.3 > b@2 10.0.0.2:80\na@1 10.0.0.1 > d@4 10.0.0.4:81\nc@3 10.0.0.3 > d@4 10.0.0.4:82\na@1 10.0.0.1 > - 10.0.0.5:83')
  for (const node of of.nodes) if (node.title === '10.0.0.5') node.title += ':83'
  const title = new Map(of.nodes.map((node) => [node.key, node.title]))
  assert.deepEqual([...portsAt(of)].map(([key, ports]) => [title.get(key), ports]).sort(), [['10.0.0.5:83', ''], ['b', ':80'], ['d', null]].sort())
  const tags = [...placed(of).routes.values()].flatMap(({ tag }) => (tag === undefined ? [] : [tag.text]))
  assert.deepEqual(tags.sort(), [':81', ':82'])
})
