// Node killed with requests in flight: its worker goes, and leaves nothing.

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { randomNumbers } from '../scripts/compare/texts.mjs'
import { round } from '../scripts/parent-death.mjs'

/** `node scripts/parent-death.mjs` does a hundred. */
const ROUNDS = 10

test('a worker leaves after a Node that was killed, whenever that was', async (t) => {
  const seed = Math.floor(Math.random() * 2 ** 32)
  t.diagnostic(`seed ${seed}`)
  const random = randomNumbers(seed)
  // All at once: each waits for a worker to leave, which takes most of its time.
  const rounds = await Promise.all(Array.from({ length: ROUNDS }, () => round(random)))
  for (const { early, goneMs, files } of rounds) {
    assert.ok(Number.isFinite(goneMs), `seed ${seed}: killed ${early ? 'while it started' : 'later'}, left ${files.join(', ') || 'a worker'}`)
  }
})
