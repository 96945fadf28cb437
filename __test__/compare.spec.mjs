// What scripts/compare.mjs computes by itself: texts of an exact length, statistics, the table.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { test } from 'node:test'

import { worker } from '../scripts/build.mjs'
import { describeModel, isMiniLm, readMetadata } from '../scripts/compare/gguf.mjs'
import { ratio, table } from '../scripts/compare/report.mjs'
import { cosine, median, quantile, rotated, slope, sum } from '../scripts/compare/statistics.mjs'
import { mixedLengths, singlePieceWords, Texts } from '../scripts/compare/texts.mjs'
import { root } from './support/runtime.mjs'

const MODEL = join(root, 'models', 'all-MiniLM-L6-v2.Q8_0.gguf')

test('texts have the tokens that they are meant to have', () => {
  const description = describeModel(readMetadata(MODEL))
  assert.ok(isMiniLm(description))
  assert.equal(description.context, 512)
  const texts = new Texts(singlePieceWords(description), 2)
  const lengths = [2, 3, 12, 64, 512, ...mixedLengths(20, 5)]
  const made = texts.ofLengths(lengths, 7)
  const lines = execFileSync(worker, ['embed', '--model', MODEL, '--', ...made], { encoding: 'utf8', maxBuffer: 1 << 26 })
  assert.deepEqual(lines.trim().split('\n').map((line) => JSON.parse(line).tokens), lengths)
  assert.deepEqual(texts.ofLengths(lengths, 7), made, 'the same after the same seed')
  assert.equal(new Set(texts.many(100, 12, 1)).size, 100, 'no two are the same')
})

test('every ten mixed texts have 64 tokens on average', () => {
  const lengths = mixedLengths(1000, 3)
  assert.equal(lengths.length, 1000)
  for (let i = 0; i < lengths.length; i += 10) assert.equal(sum(lengths.slice(i, i + 10)), 640)
  assert.ok(Math.min(...lengths) >= 8 && Math.max(...lengths) <= 256)
})

test('quantiles, slopes, cosines and orders', () => {
  assert.equal(median([3, 1, 2]), 2)
  assert.equal(median([4, 1, 2, 3]), 2.5)
  assert.equal(quantile([0, 10], 0.95), 9.5)
  assert.equal(quantile([5], 0.95), 5)
  assert.equal(median([1, Infinity, Infinity]), Infinity)
  assert.throws(() => median([]), /no values/)
  assert.equal(slope([0, 1, 2, 3], [5, 7, 9, 11]), 2)
  assert.equal(slope([0, 1, 2], [1, 4, 1]), 0)
  assert.throws(() => slope([1, 1], [0, 5]), /two points/)
  assert.equal(cosine([1, 0], [5, 0]), 1)
  assert.equal(cosine([1, 0], [0, 2]), 0)
  assert.throws(() => cosine([1], [1, 2]), /1 and 2 dimensions/)
  assert.deepEqual([0, 1, 2, 3].map((round) => rotated(['a', 'b', 'c'], round)[0]), ['a', 'b', 'c', 'a'])
})

test('the best setting of a peer counts, and more is better for rates only', () => {
  const figures = (ms, rate) => ({ time: { value: ms, unit: 'ms' }, rate: { value: rate, unit: 'texts/s', higherIsBetter: true } })
  const results = [
    { peer: 'ours', figures: figures(1, 100) },
    { peer: 'server', setting: { name: 'a' }, figures: figures(3, 50) },
    { peer: 'server', setting: { name: 'b' }, figures: figures(2, 40) },
    { peer: 'broken', failure: 'why' }
  ]
  const [header, time, rate] = table(results)
  assert.match(header, /ours +server +ours is better by$/)
  assert.match(time, /^time +1\.00 ms +2\.00 ms +2\.00x b$/)
  assert.match(rate, /^rate +100 texts\/s +50\.0 texts\/s +2\.00x a$/)
  assert.equal(ratio({ value: 1 }, { value: 4 }), 4)
})
