// What a vector is: its shape, its length, and that it is the right one.

import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'

import { embed } from '../index.js'
import { assertGood, assertSame, cosine, nodeFile, norm, root, useRuntime } from './support/runtime.mjs'

useRuntime()

/** Dimensions of the model that ships with the package. */
const DIMENSIONS = 384

/** A sum of 384 rounded squares is off by less. */
const NORM_TOLERANCE = 1e-5

/** Quantising a weight to 8 bits turns a sentence's vector by less than this. */
const QUANTISATION_COSINE = 0.998

test('a vector is a Float32Array with a buffer of its own', async () => {
  const vector = await embed('How do I reset my password?')
  assert.ok(vector instanceof Float32Array)
  assert.equal(vector.length, DIMENSIONS)
  assert.equal(vector.byteOffset, 0)
  assert.equal(vector.buffer.byteLength, DIMENSIONS * 4)
  // It may be handed to another thread, as any buffer of JavaScript's own.
  const moved = structuredClone(vector, { transfer: [vector.buffer] })
  assert.equal(moved.length, DIMENSIONS)
  assert.equal(vector.length, 0)
})

test('a vector has length 1', async () => {
  for (const vector of await embed(['a', 'The quick brown fox jumps over the lazy dog.', '42'])) {
    assert.ok(Math.abs(norm(vector) - 1) < NORM_TOLERANCE, String(norm(vector)))
  }
})

test('vectors are those of the original model', async () => {
  const folder = join(root, 'embed-worker', 'tests', 'data', 'golden')
  const name = 'all-MiniLM-L6-v2.Q8_0'
  const { texts } = JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8'))
  const bytes = readFileSync(join(folder, `${name}.f32`))
  const golden = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)
  assert.equal(golden.length, texts.length * DIMENSIONS)
  const vectors = await embed(texts.map(({ text }) => text), { truncate: true })
  for (const [i, vector] of vectors.entries()) {
    const similarity = cosine(vector, golden.subarray(i * DIMENSIONS, (i + 1) * DIMENSIONS))
    assert.ok(similarity > QUANTISATION_COSINE, `text ${i}: cosine ${similarity}`)
  }
})

test('meaning is nearer than words', async () => {
  const [question, answer, other] = await embed([
    'How can I get back into my account?',
    'Resetting a forgotten password',
    'The train to the mountains leaves at noon'
  ])
  assert.ok(cosine(question, answer) > cosine(question, other) + 0.1)
})

test('a text has the same vector each time, alone or in company', async () => {
  const texts = ['one', 'two words', 'three whole words', '', 'x '.repeat(200), 'one']
  const together = await embed(texts)
  assert.equal(together.length, texts.length)
  for (const [i, text] of texts.entries()) {
    assertSame(await embed(text), together[i], `text ${i}`)
  }
  assertSame(together[0], together[5])
})

test('no texts, no vectors', async () => {
  assert.deepEqual(await embed([]), [])
})

test('an empty text has a vector', async () => {
  const vector = await embed('')
  assert.equal(vector.length, DIMENSIONS)
  assert.ok(Math.abs(norm(vector) - 1) < NORM_TOLERANCE)
})

test('every script of the world arrives', async () => {
  const texts = ['Grüße aus Köln', '你好，世界', 'مرحبا بالعالم', 'नमस्ते', '👩‍👩‍👧‍👦 🇪🇺', 'e\u0301', '\u0000', '\uFEFF', '𝒳']
  for (const [i, vector] of (await embed(texts)).entries()) {
    assert.ok(Math.abs(norm(vector) - 1) < NORM_TOLERANCE, texts[i])
  }
  // Composed and decomposed, cased and accented forms are one word for this model.
  assertSame(await embed('Crème brûlée'), await embed('creme brulee'))
})

test('a lone surrogate is read as U+FFFD, as by TextEncoder', async () => {
  const broken = 'half \uD83D of a pair'
  const repaired = new TextDecoder().decode(new TextEncoder().encode(broken))
  assertSame(await embed(broken), await embed(repaired))
})

test('truncate cuts at the context, and only there', async () => {
  const long = 'word '.repeat(2000)
  const cut = await embed(long, { truncate: true })
  assert.ok(Math.abs(norm(cut) - 1) < NORM_TOLERANCE)
  assertSame(await embed(`${long} and more`, { truncate: true }), cut)
  assertSame(await embed('short', { truncate: true }), await embed('short'))
})

test('a text of many frames arrives whole', async () => {
  const long = 'word '.repeat(200_000)
  assert.ok(long.length > 64 * 1024 * 10)
  assertSame(await embed(long, { truncate: true }), await embed('word '.repeat(2000), { truncate: true }))
})

/** A small model, but what its file calls it: the name is padded, so that nothing else in the file moves. */
function modelNamed(name) {
  const bytes = readFileSync(join(root, 'embed-worker', 'tests', 'data', 'golden', 'nomic-bert-IQ4_XS.gguf'))
  const old = 'fixture nomic-bert (synthetic, seed 103)'
  const at = bytes.indexOf(old)
  assert.ok(at > 0)
  bytes.write(name.padEnd(old.length), at)
  const folder = mkdtempSync(join(tmpdir(), 'embed-model-'))
  // When the workers have gone that have it mapped: Windows removes none before.
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'model.gguf')
  writeFileSync(path, bytes)
  return path
}

test('a task puts the model\'s own words before every text', async () => {
  const model = modelNamed('nomic-embed-text-v1.5')
  const texts = ['how do I reset my password?', '', 'the quick brown fox']
  for (const [task, words] of [
    ['query', 'search_query: '],
    ['document', 'search_document: '],
    ['clustering', 'clustering: '],
    ['classification', 'classification: ']
  ]) {
    const written = await embed(texts.map((text) => words + text), { model })
    for (const [i, vector] of (await embed(texts, { model, task })).entries()) assertSame(vector, written[i])
    assertSame(await embed(texts[0], { model, task }), written[0])
  }
})

test('the model that ships has no words of its own: every task is the text as it is', async () => {
  const expected = await embed('text')
  for (const task of ['query', 'document', 'clustering', 'classification', undefined]) {
    assertSame(await embed('text', { task }), expected)
  }
})

test('a task for a model that is not known is refused', async () => {
  const model = modelNamed('my own model')
  await assert.rejects(embed('text', { model, task: 'query' }), (error) => {
    assert.equal(error.code, 'EMBED_BAD_ARGUMENT')
    assert.match(error.message, /`query`.*`my own model.*leave `task` out/)
    return true
  })
  assert.ok(Math.abs(norm(await embed('text', { model })) - 1) < NORM_TOLERANCE)
})

test('dimensions keeps the first ones and scales them', async () => {
  const all = await embed('Matryoshka')
  for (const dimensions of [1, 64, 383, 384]) {
    const some = await embed('Matryoshka', { dimensions })
    assert.equal(some.length, dimensions)
    assert.ok(Math.abs(norm(some) - 1) < NORM_TOLERANCE)
    assert.ok(cosine(some, all.subarray(0, dimensions)) > 1 - 1e-6)
  }
})

test('normalize: false leaves the length and keeps the direction', async () => {
  const raw = await embed('length', { normalize: false })
  assert.ok(Math.abs(norm(raw) - 1) > 1e-3, `a length of ${norm(raw)} is suspicious`)
  assert.ok(cosine(raw, await embed('length')) > 1 - 1e-6)
})

test('options may be frozen, without prototype, inherited or computed', async () => {
  const expected = await embed('options', { dimensions: 8 })
  class Inherited {
    get dimensions() {
      return 8
    }
  }
  const bare = Object.assign(Object.create(null), { dimensions: 8 })
  for (const options of [Object.freeze({ dimensions: 8 }), bare, new Inherited()]) {
    assertSame(await embed('options', options), expected)
  }
  const undefinedOptions = { model: undefined, truncate: undefined, signal: undefined, onProgress: undefined }
  assertSame(await embed('options', { ...undefinedOptions, dimensions: 8 }), expected)
})

test('an array may be frozen, a subclass, or changed after the call', async () => {
  const texts = ['first', 'second']
  const expected = await embed(texts)
  const promise = embed(texts)
  texts[0] = 'changed'
  for (const vectors of [await promise, await embed(Object.freeze(['first', 'second']))]) {
    vectors.forEach((vector, i) => assertSame(vector, expected[i]))
  }
  class Texts extends Array {}
  assertSame((await embed(Texts.of('first')))[0], expected[0])
})

test('onProgress counts up to the end, and is silent after it', async () => {
  const calls = []
  let settled = false
  const texts = Array.from({ length: 300 }, (_, i) => `text ${i}`)
  const onProgress = (done, total) => calls.push([done, total, settled])
  await embed(texts, { onProgress }).then(() => (settled = true))
  assert.deepEqual(calls.at(-1), [300, 300, false])
  for (const [i, [done, total]] of calls.entries()) {
    assert.equal(total, 300)
    assert.ok(i === 0 || done >= calls[i - 1][0], JSON.stringify(calls))
  }
  await new Promise(setImmediate)
  assert.equal(calls.filter(([, , late]) => late).length, 0)
  assert.equal(calls.filter(([done]) => done === 300).length, 1, 'the last call is made once')

  const single = []
  await embed('text', { onProgress: (...counts) => single.push(counts) })
  assert.deepEqual(single, [[1, 1]])
  await embed([], { onProgress: () => assert.fail('there is nothing to count') })
})

test('it loads from another folder, by require and by import', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'embed-user-'))
  after(() => rmSync(folder, { recursive: true, force: true }))
  mkdirSync(join(folder, 'node_modules', '@embed'), { recursive: true })
  symlinkSync(root, join(folder, 'node_modules', '@embed', 'client'), 'junction')
  const body = "embed('hello').then((vector) => console.log(vector.length, embed.name))"
  const programs = {
    'a.cjs': `const { embed } = require('@embed/client'); ${body}`,
    'b.mjs': `import { embed } from '@embed/client'; ${body}`,
    'c.mjs': `import embedClient from '@embed/client'; const { embed } = embedClient; ${body}`,
    'd.cjs': `import('@embed/client').then(({ embed }) => ${body})`
  }
  for (const [name, source] of Object.entries(programs)) {
    writeFileSync(join(folder, name), source)
    const end = await nodeFile(name, { cwd: folder })
    assertGood(end)
    assert.equal(end.stdout, `${DIMENSIONS} embed\n`, name)
  }
})

test('a vector says which model it is of', async () => {
  const vector = await embed('whose am I?')
  const { fingerprint, ...model } = vector.model
  assert.deepEqual(model, {
    name: 'all-MiniLM-L6-v2',
    architecture: 'bert',
    dimensions: DIMENSIONS,
    contextTokens: 512,
    pooling: 'mean',
    quantization: 'Q8_0'
  })
  assert.match(fingerprint, /^[0-9a-f]{64}$/)
  assert.ok(Object.isFrozen(vector.model))
  assert.deepEqual(vector, new Float32Array(vector), 'it stays equal to its numbers')

  const vectors = await embed(['one', 'another'], { dimensions: 8 })
  assert.equal(vectors[0].model.dimensions, DIMENSIONS)
  assert.equal(vectors[0].model, vectors[1].model, 'one object for all')
  const error = await embed(['fits', 'too long '.repeat(1000)]).catch((error) => error)
  assert.equal(error.results[0].model.fingerprint, fingerprint)
})

test('one function is exported', async () => {
  const names = Object.keys(await import('../index.js')).filter((name) => !['default', 'module.exports'].includes(name))
  assert.deepEqual(names, ['embed'])
})
