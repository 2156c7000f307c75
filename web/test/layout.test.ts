import assert from 'node:assert/strict'
import { test } from 'node:test'

import { around, levels, type Links, ROW } from '../src/layout.ts'

/** Numbers that look like chance, the same each time. */
function chance(seed: number): (below: number) => number {
  let state = seed >>> 0
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

/** Tiers that call the next one; `more` nodes beside. */
function tiers(seed: number, more: number): { links: Links; far: (node: number) => number; name: (node: number) => string } {
  const next = chance(seed)
  const count = 60 + more
  const tier = (node: number): number => node % 4
  const active: number[] = []
  const passive: number[] = []
  for (let node = 0; node < 60; node++) {
    if (tier(node) === 3) continue
    for (let call = 0; call < 3; call++) {
      active.push(node)
      passive.push(next(15) * 4 + tier(node) + 1)
    }
  }
  for (let node = 60; node < count; node++) {
    active.push(0)
    passive.push(node)
  }
  return { links: { count, active, passive }, far: (node) => (node < 60 ? tier(node) - 1 : 1), name: (node) => `n${String(node).padStart(4, '0')}` }
}

const places = (placed: { x: Float64Array; y: Float64Array }): string => JSON.stringify([[...placed.x], [...placed.y]])

test('the same input gives the same places', () => {
  const { links, far, name } = tiers(1, 0)
  assert.equal(places(around(links, far, name)), places(around(links, far, name)))
  assert.equal(places(levels(links, name)), places(levels(links, name)))
})

test('who calls stands on the left of whom it calls', () => {
  const { links, far, name } = tiers(2, 0)
  const placed = around(links, far, name)
  const free = levels(links, name)
  for (let edge = 0; edge < links.active.length; edge++) {
    const [active, passive] = [links.active[edge] ?? 0, links.passive[edge] ?? 0]
    assert.ok((placed.x[active] ?? 0) < (placed.x[passive] ?? 0))
    assert.ok((free.x[active] ?? 0) < (free.x[passive] ?? 0))
  }
})

test('no two nodes stand at one place', () => {
  for (let seed = 0; seed < 20; seed++) {
    const { links, far, name } = tiers(seed, seed)
    for (const placed of [around(links, far, name), levels(links, name)]) {
      const seen = new Set([...placed.x].map((x, node) => `${x} ${placed.y[node]}`))
      assert.equal(seen.size, links.count)
    }
  }
})

test('one node more moves the others by little', () => {
  for (let seed = 0; seed < 20; seed++) {
    const [before, after] = [tiers(seed, 0), tiers(seed, 1)]
    for (const [old, now] of [
      [around(before.links, before.far, before.name), around(after.links, after.far, after.name)],
      [levels(before.links, before.name), levels(after.links, after.name)],
    ] as const) {
      const moved = Array.from({ length: 60 }, (_, node) => Math.abs((now.y[node] ?? 0) - (old.y[node] ?? 0))).sort((a, b) => a - b)
      const aside = Array.from({ length: 60 }, (_, node) => (now.x[node] === old.x[node] ? 0 : 1)).reduce<number>((sum, one) => sum + one, 0)
      assert.ok((moved[30] ?? 0) <= ROW, `the middle one moved by ${moved[30]}`)
      assert.ok((moved[54] ?? 0) <= 3 * ROW, `a tenth moved by more than ${moved[54]}`)
      assert.ok(aside <= 6, `${aside} changed their column`)
    }
  }
})

test('a cycle, a loop and a node alone have their places', () => {
  const placed = levels({ count: 5, active: [0, 1, 2, 3], passive: [1, 2, 0, 3] }, String)
  assert.ok([...placed.x, ...placed.y].every(Number.isFinite))
  assert.equal(new Set([...placed.x].map((x, node) => `${x} ${placed.y[node]}`)).size, 5)
  // What has no edge to another stands behind all.
  assert.ok((placed.x[4] ?? 0) > Math.max(placed.x[0] ?? 0, placed.x[1] ?? 0, placed.x[2] ?? 0))
  assert.deepEqual(levels({ count: 0, active: [], passive: [] }, String), { x: new Float64Array(0), y: new Float64Array(0) })
})
