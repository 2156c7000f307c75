import assert from 'node:assert/strict'
import { test } from 'node:test'

import { faded, parts } from '../src/colour.ts'

test('a colour of three digits is that of six', () => {
  assert.deepEqual(parts('#fff'), [255, 255, 255])
  assert.deepEqual(parts('#1bC'), parts('#11bbcc'))
  assert.deepEqual(parts('#12161c'), [18, 22, 28])
})

test('what is faded is near its background, however that is written', () => {
  assert.equal(faded('#2a6fb0', '#ffffff'), '#d4e2ef')
  assert.equal(faded('#2a6fb0', '#fff'), '#d4e2ef')
  assert.equal(faded('#fff', '#000'), '#333333')
})
