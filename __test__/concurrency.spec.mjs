// Many questions at once: every answer belongs to its question.

import assert from 'node:assert/strict'
import { test } from 'node:test'

import { embed } from '../index.js'
import { assertGood, assertSame, node, PATIENCE_MS, useRuntime, workers } from './support/runtime.mjs'

const runtime = useRuntime()

test('2,000 interleaved promises of two processes get the vectors of their own texts', async () => {
  // Each process asks for every text alone, then for all of them at once, in another order, four
  // times over; both at the same time, of the same worker.
  const source = (name) => `
    import assert from 'node:assert/strict'
    const name = ${JSON.stringify(name)}
    const texts = Array.from({ length: 250 }, (_, i) => \`\${name} asks number \${i} of \${'many '.repeat(i % 40)}\`)
    // A thousand at once on a slow machine: that none of them is late is not the question.
    const patient = { timeoutMs: ${PATIENCE_MS} }
    const bits = (vector) => Buffer.from(vector.buffer).toString('base64')
    const alone = []
    for (const text of texts) alone.push(bits(await embed(text)))
    assert.equal(new Set(alone).size, texts.length)
    const order = Array.from({ length: 1000 }, (_, i) => (i * 77) % texts.length)
    const together = await Promise.all(order.map((i) => embed(texts[i], { ...patient, priority: i % 3 ? 'bulk' : 'interactive' })))
    together.forEach((vector, n) => assert.equal(bits(vector), alone[order[n]], \`promise \${n}\`))
    const array = await embed(texts, patient)
    array.forEach((vector, i) => assert.equal(bits(vector), alone[i], \`element \${i}\`))
  `
  const ends = await Promise.all(['first', 'second'].map((name) => node(source(name))))
  ends.forEach(assertGood)
})

test('an interactive text does not wait for an array', async () => {
  let done = 0
  const texts = Array.from({ length: 3000 }, (_, i) => `a text of a long index, number ${i}`)
  const array = embed(texts, { onProgress: (n) => (done = n) })
  const vector = await embed('the question of a person')
  assert.ok(done < texts.length / 2, `${done} texts of the array were done before`)
  assertSame(vector, await embed('the question of a person'))
  assert.equal((await array).length, texts.length)
})

test('10,000 texts in one array keep their order', async () => {
  const distinct = Array.from({ length: 20 }, (_, i) => String(i))
  const alone = await embed(distinct)
  const vectors = await embed(Array.from({ length: 10_000 }, (_, i) => distinct[(i * 7) % 20]))
  assert.equal(vectors.length, 10_000)
  vectors.forEach((vector, i) => {
    if (i % 97 === 0) assertSame(vector, alone[(i * 7) % 20], `text ${i}`)
  })
  // The others are compared cheaply: distinct texts differ in their first element.
  vectors.forEach((vector, i) => assert.equal(vector[0], alone[(i * 7) % 20][0]))
})

test('more single texts than may be outstanding wait their turn', async () => {
  const vectors = await Promise.all(Array.from({ length: 6000 }, (_, i) => embed(String(i % 10))))
  const expected = await embed(Array.from({ length: 10 }, (_, i) => String(i)))
  vectors.forEach((vector, i) => assert.equal(vector[0], expected[i % 10][0]))
})

test('long texts and short ones share a connection', async () => {
  const long = (n) => `${n} ${'word '.repeat(60_000)}`
  const texts = Array.from({ length: 24 }, (_, n) => (n % 2 ? long(n) : `short ${n}`))
  const together = await Promise.all(texts.map((text) => embed(text, { truncate: true })))
  for (const [n, text] of texts.entries()) {
    assertSame(await embed(text, { truncate: true }), together[n], `text ${n}`)
  }
})

test('all of this was one worker', () => {
  assert.equal(workers(runtime).length, 1)
})
