// Texts and options as no program should make them, and some do.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runInNewContext } from 'node:vm'

import { embed } from '../index.js'
import { assertGood, assertSame, node, useRuntime } from './support/runtime.mjs'

useRuntime()

const MB = 1024 * 1024

/** Checks code and words of an error. */
async function assertRejects(promise, code, ...words) {
  const error = await promise.then(
    () => assert.fail('was not rejected'),
    (error) => error
  )
  assert.equal(error.code, code, error.message)
  for (const word of words) assert.ok(error.message.includes(word), `"${error.message}" says nothing of ${word}`)
  return error
}

test('what is only like an array or a string is refused by name', async () => {
  class Text extends String {}
  const revoked = Proxy.revocable(['a'], {})
  revoked.revoke()
  const wrong = [
    { length: 1, 0: 'a' },
    (function () {
      return arguments
    })('a'),
    new Uint8Array(3),
    (function* () {
      yield 'a'
    })(),
    new Map([['a', 'b']]),
    new Text('a'),
    new Proxy(['a'], {}),
    revoked.proxy
  ]
  for (const texts of wrong) await assertRejects(embed(texts), 'EMBED_BAD_ARGUMENT', 'texts', 'an object', 'a string or an array of strings')
  await assertRejects(embed([new Text('a')]), 'EMBED_BAD_ARGUMENT', 'texts[0]', 'an object', 'a string')
  await assertRejects(embed(Array(3).fill('a').concat([null])), 'EMBED_BAD_ARGUMENT', 'texts[3]', 'null')
})

test('an array of another realm is an array', async () => {
  const [vector] = await embed(runInNewContext("['a text']"), runInNewContext('({ dimensions: 8 })'))
  assertSame(vector, await embed('a text', { dimensions: 8 }))
})

test('an array is read from 0 to its length, whatever its iterator says', async () => {
  const texts = Object.defineProperty(['a text'], Symbol.iterator, { value: () => assert.fail('it is not asked') })
  assertSame((await embed(texts))[0], await embed('a text'))
})

test('an array that changes while it is read is read as it is then', async () => {
  const texts = Array.from({ length: 3000 }, (_, i) => String(i % 7))
  // The last of the texts that are read before it is cut.
  Object.defineProperty(texts, 1023, {
    get() {
      texts.length = 1500
      return 'the getter'
    }
  })
  await assertRejects(embed(texts), 'EMBED_BAD_ARGUMENT', 'texts[1500]', 'a string')
})

test('an array of holes costs neither time nor memory, however long it claims to be', async () => {
  const source = `
    const before = process.memoryUsage.rss()
    const holes = [Array(2 ** 32 - 1), Array(1e8)]
    const late = Array(5000).fill('a')
    late.length = 2 ** 32 - 1
    for (const texts of [...holes, late]) {
      const { code, message } = await embed(texts).catch((error) => error)
      console.log(code, message)
    }
    console.log(process.memoryUsage.rss() - before < ${50 * MB})
  `
  const end = await node(source, { args: ['--max-old-space-size=200'] })
  assertGood(end)
  const refused = (at) => `EMBED_BAD_ARGUMENT texts[${at}]: found undefined, wanted a string`
  assert.deepEqual(end.stdout.trim().split('\n'), [refused(0), refused(0), refused(5000), 'true'])
})

test('a text of 10 MB is refused with both numbers, alone or among others, and never copied', async () => {
  const source = `
    const huge = 'x'.repeat(${10 * MB})
    const show = ({ code, message }) => console.log(code, message)
    for (const truncate of [false, true]) await embed(huge, { truncate }).catch(show)
    const before = process.memoryUsage.rss()
    const error = await embed(['first', ...Array(300).fill(huge), 'last']).catch((error) => error)
    show(error)
    console.log(error.errors.length, error.results[0].length, error.results[301].length, error.results[150].code)
    console.log(process.memoryUsage.rss() - before < ${100 * MB})
  `
  const end = await node(source)
  assertGood(end)
  const tooLong = 'text: 10485760 bytes of UTF-8, at most 1048576 are accepted; split it'
  assert.deepEqual(end.stdout.trim().split('\n'), [
    `EMBED_TEXT_TOO_LONG ${tooLong}`,
    `EMBED_TEXT_TOO_LONG ${tooLong}`,
    `EMBED_BATCH 300 of 302 texts have no vector; the first is text 1: ${tooLong}`,
    '300 384 384 EMBED_TEXT_TOO_LONG',
    'true'
  ])
})

test('a text of exactly 1 MiB is a text, one byte more is not', async () => {
  const most = 'word '.repeat(MB).slice(0, MB)
  assertSame(await embed(most, { truncate: true }), await embed('word '.repeat(1000), { truncate: true }))
  await assertRejects(embed(`${most}x`, { truncate: true }), 'EMBED_TEXT_TOO_LONG', '1048577', '1048576')
})

test('lone surrogates anywhere are read as U+FFFD, also in arrays', async () => {
  const broken = ['\uD83D', '\uDE00\uD83D', 'a\uDC00', '\uD83Da', 'x\uD83D\uD83D\uDE00y', '\uDFFF'.repeat(100)]
  const repaired = broken.map((text) => new TextDecoder().decode(new TextEncoder().encode(text)))
  const [found, expected] = [await embed(broken), await embed(repaired)]
  found.forEach((vector, i) => assertSame(vector, expected[i], `text ${i}`))
})

test('NUL is a character as any other: it ends no text', async () => {
  const texts = ['before\0after', '\0', '\0'.repeat(100_000), 'a\0']
  // The tokenizer of this model drops control characters.
  const expected = await embed(['beforeafter', '', '', 'a'])
  for (const [i, vector] of (await embed(texts)).entries()) assertSame(vector, expected[i], `text ${i}`)
})

test('options that are not enumerable or have symbols as names', async () => {
  const hidden = Object.defineProperty({}, 'dimensions', { value: 8 })
  assert.equal((await embed('text', hidden)).length, 8)
  assert.equal((await embed('text', { [Symbol('mine')]: 1 })).length, 384)
  await assertRejects(embed('text', Object.create({ truncate: 'yes' })), 'EMBED_BAD_ARGUMENT', 'options.truncate', "'yes'")
})

test('what onProgress throws is an uncaught exception, and the vectors come all the same', async () => {
  const source = `
    const caught = []
    process.on('uncaughtException', (error) => caught.push(error.message))
    let calls = 0
    const onProgress = () => { throw new Error('mine ' + ++calls) }
    const vectors = await embed(Array.from({ length: 600 }, (_, i) => 'text ' + i), { onProgress })
    await new Promise(setImmediate)
    console.log(vectors.length, caught.length === calls, caught.length > 0, caught[0])
    console.log((await embed('text', { onProgress })).length)
  `
  const end = await node(source)
  assertGood(end)
  assert.equal(end.stdout, '600 true true mine 1\n384\n')
})

test('a million texts cancelled as a whole: one rejection, and the worker is free', async () => {
  const source = `
    const controller = new AbortController()
    const texts = Array.from({ length: 1_000_000 }, (_, i) => 'text ' + i)
    let settled = 0
    const promise = embed(texts, { signal: controller.signal, onProgress: () => controller.abort('enough') })
    const { code, cause } = await promise.catch((error) => error).finally(() => settled++)
    // Far more work than a worker does in the time limit stood before it.
    const vector = await embed('a question', { timeoutMs: 20_000 })
    console.log(code, cause, vector.length, settled)
  `
  const end = await node(source)
  assertGood(end)
  assert.equal(end.stdout, 'ABORT_ERR enough 384 1\n')
})
