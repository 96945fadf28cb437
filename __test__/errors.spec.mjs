// Every way to fail, produced for real.

import assert from 'node:assert/strict'
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'

import { embed } from '../index.js'
import { resume, suspend } from '../scripts/processes.mjs'
import { assertGood, assertSame, node, root, until, useRuntime, workers } from './support/runtime.mjs'

const runtime = useRuntime()

/** The error that a promise is rejected with. */
async function rejection(promise) {
  assert.ok(promise instanceof Promise, 'a fault is never thrown')
  return promise.then(
    () => assert.fail('was not rejected'),
    (error) => error
  )
}

/** Checks code and words of an error. */
async function assertRejects(promise, code, ...words) {
  const error = await rejection(promise)
  assert.ok(error instanceof Error, String(error))
  assert.equal(error.code, code, error.message)
  for (const word of words) assert.ok(error.message.includes(word), `"${error.message}" says nothing of ${word}`)
  return error
}

/** A GGUF file of this architecture without any tensor, for what a file may lack. */
function gguf(architecture) {
  const text = (value) => {
    const bytes = Buffer.from(value)
    const length = Buffer.alloc(8)
    length.writeBigUInt64LE(BigInt(bytes.length))
    return Buffer.concat([length, bytes])
  }
  const header = Buffer.alloc(24)
  header.write('GGUF')
  header.writeUInt32LE(3, 4) // version
  header.writeBigUInt64LE(0n, 8) // tensors
  header.writeBigUInt64LE(1n, 16) // metadata
  const type = Buffer.alloc(4)
  type.writeUInt32LE(8) // string
  return Buffer.concat([header, text('general.architecture'), type, text(architecture), Buffer.alloc(32)])
}

/** A file in the runtime directory's neighbourhood. */
function file(name, content) {
  const folder = mkdtempSync(`${runtime}-files-`)
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}

test('EMBED_BAD_ARGUMENT: texts', async () => {
  const wrong = [
    [undefined, 'undefined'],
    [null, 'null'],
    [5, '5'],
    [{}, 'an object'],
    [Symbol('s'), 'a symbol'],
    [() => 'x', 'a function'],
    [new Set(['a']), 'an object'],
    [Buffer.from('a'), 'an object']
  ]
  for (const [texts, found] of wrong) {
    const error = await assertRejects(embed(texts), 'EMBED_BAD_ARGUMENT', found, 'a string or an array of strings')
    assert.ok(error instanceof TypeError)
  }
  await assertRejects(embed(['a', 1]), 'EMBED_BAD_ARGUMENT', 'texts[1]', 'found 1', 'a string')
  // eslint-disable-next-line no-sparse-arrays
  await assertRejects(embed(['a', , 'b']), 'EMBED_BAD_ARGUMENT', 'texts[1]', 'undefined')
  await assertRejects(embed([['a']]), 'EMBED_BAD_ARGUMENT', 'texts[0]', 'an array')
  await assertRejects(embed([new String('a')]), 'EMBED_BAD_ARGUMENT', 'texts[0]', 'an object')
})

test('EMBED_BAD_ARGUMENT: options', async () => {
  const wrong = [
    [null, 'null', 'an object'],
    ['fast', "'fast'", 'an object'],
    [[], 'an array', 'an object'],
    [{ modle: 'x' }, 'options.modle', 'model, task, truncate'],
    [{ task: 'retrieval' }, 'options.task', "'retrieval'", "'query', 'document', 'clustering' or 'classification'"],
    [{ task: null }, 'options.task', 'null'],
    [{ fallback: 'zero' }, 'options.fallback', "'none' or 'hash'"],
    [{ model: 1 }, 'options.model', 'found 1', 'path'],
    [{ model: '' }, 'options.model', "''"],
    [{ model: 'a\0b' }, 'options.model'],
    [{ truncate: 'yes' }, 'options.truncate', "'yes'", 'true or false'],
    [{ truncate: null }, 'options.truncate', 'null'],
    [{ normalize: 0 }, 'options.normalize', 'found 0'],
    [{ dimensions: 0 }, 'options.dimensions', 'found 0'],
    [{ dimensions: -1 }, 'options.dimensions', 'found -1'],
    [{ dimensions: 1.5 }, 'options.dimensions', 'found 1.5'],
    [{ dimensions: NaN }, 'options.dimensions', 'found NaN'],
    [{ dimensions: 2 ** 32 }, 'options.dimensions', 'found 4294967296'],
    [{ dimensions: 8n }, 'options.dimensions', 'a bigint'],
    [{ dimensions: '8' }, 'options.dimensions', "'8'"],
    [{ priority: 'high' }, 'options.priority', "'high'", "'interactive' or 'bulk'"],
    [{ timeoutMs: 0 }, 'options.timeoutMs', 'found 0'],
    [{ timeoutMs: Infinity }, 'options.timeoutMs', 'found Infinity'],
    [{ signal: {} }, 'options.signal', 'an object', 'AbortSignal'],
    [{ signal: null }, 'options.signal', 'null'],
    [{ onProgress: 1 }, 'options.onProgress', 'found 1', 'a function']
  ]
  for (const [options, ...words] of wrong) {
    const error = await assertRejects(embed('text', options), 'EMBED_BAD_ARGUMENT', ...words)
    assert.ok(error instanceof TypeError)
  }
})

test('EMBED_BAD_ARGUMENT: more dimensions than the model has', async () => {
  for (const texts of ['text', ['two', 'texts']]) {
    await assertRejects(embed(texts, { dimensions: 385 }), 'EMBED_BAD_ARGUMENT', '385', '384')
  }
})

test('what a getter or a trap throws is what the promise is rejected with', async () => {
  const mine = new RangeError('mine')
  const throws = () => {
    throw mine
  }
  const getter = Object.defineProperty({}, 'model', { get: throws, enumerable: true })
  const array = Object.defineProperty(['a'], 0, { get: throws })
  assert.equal(await rejection(embed('text', getter)), mine)
  assert.equal(await rejection(embed('text', new Proxy({}, { ownKeys: throws }))), mine)
  assert.equal(await rejection(embed('text', new Proxy({}, { get: throws }))), mine)
  assert.equal(await rejection(embed(array)), mine)
  const primitive = Object.defineProperty({}, 'model', {
    get() {
      throw 'not an object'
    },
    enumerable: true
  })
  await assertRejects(embed('text', primitive), 'EMBED_BAD_ARGUMENT', 'options.model', 'getter')
})

test('EMBED_TEXT_TOO_LONG: more tokens than the context', async () => {
  const error = await assertRejects(embed('word '.repeat(600)), 'EMBED_TEXT_TOO_LONG', '602', '512')
  assert.ok(!(error instanceof TypeError))
})

test('EMBED_TEXT_TOO_LONG: more bytes than any text may have', async () => {
  await assertRejects(embed('x'.repeat(1024 * 1024 + 1)), 'EMBED_TEXT_TOO_LONG', '1048577', '1048576')
  // Counted in UTF-8, and before anything of it is copied.
  await assertRejects(embed('世'.repeat(400_000), { truncate: true }), 'EMBED_TEXT_TOO_LONG', '1200000')
})

test('EMBED_MODEL_NOT_FOUND', async () => {
  const model = join(runtime, 'no', 'such.gguf')
  await assertRejects(embed('text', { model }), 'EMBED_MODEL_NOT_FOUND', model)
  await assertRejects(embed('text', { model: 'such.gguf' }), 'EMBED_MODEL_NOT_FOUND', join(process.cwd(), 'such.gguf'))
  // A fault of the worker or model is reported once, not once a text.
  await assertRejects(embed(['two', 'texts'], { model }), 'EMBED_MODEL_NOT_FOUND', model)
  await assertRejects(embed('text', { model: runtime }), 'EMBED_MODEL_NOT_FOUND', runtime)
})

test('EMBED_MODEL_INVALID', async () => {
  const model = file('garbage.gguf', 'this is no model')
  await assertRejects(embed('text', { model }), 'EMBED_MODEL_INVALID')
  await assertRejects(embed(Array(1000).fill('text'), { model }), 'EMBED_MODEL_INVALID')
  await assertRejects(embed('text', { model: file('empty.gguf', '') }), 'EMBED_MODEL_INVALID')
})

test('EMBED_MODEL_UNSUPPORTED', async () => {
  const model = file('llama.gguf', gguf('nonesuch'))
  await assertRejects(embed('text', { model }), 'EMBED_MODEL_UNSUPPORTED', 'nonesuch')
})

test('a fault of one model does not touch another', async () => {
  const bad = file('garbage.gguf', 'this is no model')
  const [good, error] = await Promise.all([embed('text'), rejection(embed('text', { model: bad }))])
  assert.equal(good.length, 384)
  assert.equal(error.code, 'EMBED_MODEL_INVALID')
})

test('EMBED_WORKER_UNAVAILABLE: no such worker', async () => {
  const env = { EMBED_WORKER_PATH: join(runtime, 'no-such-worker'), EMBED_RUNTIME_DIR: `${runtime}-none` }
  const end = await node('await embed(["a", "b"]).catch(({ code, message }) => console.log(code, message))', { env })
  assertGood(end)
  assert.match(end.stdout, /^EMBED_WORKER_UNAVAILABLE .*no-such-worker.*npm run build/)
})

test('EMBED_WORKER_UNAVAILABLE: a worker that dies says its last words', async () => {
  // Node itself, told to run the script "serve", which does not exist.
  const env = { EMBED_WORKER_PATH: process.execPath, EMBED_RUNTIME_DIR: `${runtime}-none` }
  const end = await node('await embed("a").catch(({ code, message }) => console.log(code, message))', { env })
  assertGood(end)
  assert.match(end.stdout, /^EMBED_WORKER_UNAVAILABLE .*exit (status|code): 1 .*last words.*MODULE_NOT_FOUND/s)
})

test('EMBED_WORKER_UNAVAILABLE: a directory that others may enter', { skip: process.platform === 'win32' && 'pipes have no directory' }, async () => {
  const open = `${runtime}-open`
  mkdirSync(open)
  chmodSync(open, 0o755)
  try {
    const source = 'await embed("a").catch(({ code, message }) => console.log(code, message))'
    const end = await node(source, { env: { EMBED_RUNTIME_DIR: open } })
    assertGood(end)
    assert.match(end.stdout, /^EMBED_WORKER_UNAVAILABLE .*-open.*755.*700/)
  } finally {
    rmSync(open, { recursive: true })
  }
})

test('EMBED_TIMEOUT, and the next text is served', async () => {
  await embed('warm')
  await assertRejects(embed('text', { timeoutMs: 1e-6 }), 'EMBED_TIMEOUT', '1ns')
  await assertRejects(embed(['two', 'texts'], { timeoutMs: 1e-6 }), 'EMBED_TIMEOUT')
  assert.equal((await embed('text')).length, 384)
})

test('EMBED_TIMEOUT: a worker that hangs', async () => {
  await embed('warm')
  const [pid] = workers(runtime)
  suspend(pid)
  try {
    await assertRejects(embed('text', { timeoutMs: 300 }), 'EMBED_TIMEOUT', '300ms')
  } finally {
    resume(pid)
  }
  assert.equal((await embed('text')).length, 384)
})

test('EMBED_PROTOCOL: something else listens', { skip: process.platform === 'win32' && 'pipes are not files' }, async () => {
  // Where the worker listens is seen from a real one that has ended.
  const dir = mkdtempSync(`${runtime}-squat-`)
  const env = { EMBED_RUNTIME_DIR: dir }
  let name
  assertGood(
    await node('await embed("a"); process.stdout.write("ready"); process.stdin.resume()', {
      env,
      onSpawn: async (child, output) => {
        await until(() => output.stdout === 'ready')
        name = readdirSync(dir).find((entry) => entry.endsWith('.sock'))
        for (const pid of workers(dir)) process.kill(pid, 'SIGTERM')
        child.stdin.end()
      }
    })
  )
  await until(() => readdirSync(dir).length === 0)
  const server = createServer((socket) => socket.resume().write('HTTP/1.1 400 Bad Request\r\n\r\n'))
  await new Promise((resolve) => server.listen(join(dir, name), resolve))
  const end = await node('await embed("a").catch(({ code, message }) => console.log(code, message))', { env })
  await new Promise((resolve) => server.close(resolve))
  rmSync(dir, { recursive: true })
  assertGood(end)
  const named = new RegExp(`^EMBED_PROTOCOL endpoint .*${name}.*process ${process.pid} .*does not answer as a worker`)
  if (process.platform === 'linux') assert.match(end.stdout, named)
  else assert.match(end.stdout, /^EMBED_PROTOCOL endpoint .*does not answer as a worker/)
})

test('EMBED_ADDON_MISSING: the package was not built', async () => {
  const folder = mkdtempSync(`${runtime}-unbuilt-`)
  for (const file of ['index.js', 'load.js']) copyFileSync(join(root, file), join(folder, file))
  try {
    const error = await rejection(import(pathToFileURL(join(folder, 'index.js')).href))
    assert.equal(error.code, 'EMBED_ADDON_MISSING')
    assert.ok(error.message.includes(join(folder, `embed-client.${process.platform}-${process.arch}`)), error.message)
    assert.match(error.message, /npm run build/)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('AbortError: aborted before', async () => {
  const error = await assertRejects(embed('text', { signal: AbortSignal.abort('my reason') }), 'ABORT_ERR')
  assert.equal(error.name, 'AbortError')
  assert.equal(error.cause, 'my reason')
  assert.equal((await rejection(embed('text', { signal: AbortSignal.abort() }))).cause.name, 'AbortError')
})

test('AbortError: aborted while texts are under way', async () => {
  const controller = new AbortController()
  const texts = Array.from({ length: 5000 }, (_, i) => `a text that takes some time, number ${i}`)
  const promise = embed(texts, { signal: controller.signal, onProgress: () => controller.abort(new Error('enough')) })
  const error = await assertRejects(promise, 'ABORT_ERR')
  assert.equal(error.name, 'AbortError')
  assert.equal(error.cause.message, 'enough')
  assert.equal((await embed('text')).length, 384, 'the connection goes on')
})

/** More than is done before an abort. */
const manyTexts = (n = 20_000) => Array.from({ length: n }, (_, i) => `a text that takes some time, number ${i}`)

test('AbortError: a signal with a time limit', async () => {
  const error = await assertRejects(embed(manyTexts(), { signal: AbortSignal.timeout(50) }), 'ABORT_ERR')
  assert.equal(error.name, 'AbortError')
  assert.equal(error.cause.name, 'TimeoutError')
})

test('AbortError: any of several signals', async () => {
  const controller = new AbortController()
  const signals = [controller.signal, new AbortController().signal]
  setTimeout(() => controller.abort('the first'), 50)
  const error = await assertRejects(embed(manyTexts(), { signal: AbortSignal.any(signals) }), 'ABORT_ERR')
  assert.equal(error.cause, 'the first')
})

test('AbortError: at every moment of a call, and never another error', async () => {
  await embed('warm')
  for (let i = 0; i < 100; i++) {
    const controller = new AbortController()
    const options = { signal: controller.signal, onProgress: i % 2 ? () => {} : undefined }
    const promise = embed(i % 3 ? manyTexts(2000) : 'text', options)
    if (i % 5) setTimeout(() => controller.abort(i), i % 7)
    else controller.abort(i)
    const result = await promise.catch((error) => error)
    // A single text may have been answered before.
    if (i % 3 === 0 && result instanceof Float32Array) continue
    assert.equal(result.code, 'ABORT_ERR', result.message)
    assert.equal(result.cause, i)
  }
})

test('AbortError: any value may be the reason', async () => {
  for (const reason of [null, 0, '', 'text', 5n, Symbol('s'), new TypeError('t'), Object.freeze({ a: 1 })]) {
    const controller = new AbortController()
    setTimeout(() => controller.abort(reason), 10)
    for (const signal of [controller.signal, AbortSignal.abort(reason)]) {
      const error = await assertRejects(embed(manyTexts(), { signal }), 'ABORT_ERR')
      assert.equal(error.name, 'AbortError')
      assert.ok('cause' in error)
      assert.equal(error.cause, reason)
    }
  }
})

test('AbortError: onProgress is silent after it', async () => {
  const controller = new AbortController()
  const calls = []
  const onProgress = (done) => {
    calls.push(done)
    controller.abort()
  }
  await assertRejects(embed(manyTexts(), { signal: controller.signal, onProgress }), 'ABORT_ERR')
  for (let i = 0; i < 10; i++) await new Promise(setImmediate)
  assert.equal(calls.length, 1)
})

test('a signal that cannot be listened to is what the promise is rejected with', async () => {
  const mine = new RangeError('mine')
  const { signal } = new AbortController()
  signal.addEventListener = () => {
    throw mine
  }
  assert.equal(await rejection(embed('text', { signal })), mine)
  assert.equal(await rejection(embed(manyTexts(2000), { signal, onProgress() {} })), mine)
})

test('a signal that outlives its calls keeps nothing of them', async () => {
  const { signal } = new AbortController()
  const { getEventListeners } = await import('node:events')
  await embed('text', { signal })
  await rejection(embed('word '.repeat(600), { signal }))
  await Promise.all(Array.from({ length: 50 }, (_, i) => embed(`text ${i}`, { signal })))
  assert.equal(getEventListeners(signal, 'abort').length, 0)
})

test('one signal for many calls: no warning, and one abort ends them all', async () => {
  const warnings = []
  const onWarning = (warning) => warnings.push(warning.name)
  process.on('warning', onWarning)
  const controller = new AbortController()
  const { signal } = controller
  for (let i = 0; i < 100; i++) await embed(`text ${i}`, { signal })
  await Promise.all(Array.from({ length: 100 }, (_, i) => embed(`text ${i}`, { signal })))
  const calls = Array.from({ length: 100 }, () => embed(manyTexts(200), { signal }))
  controller.abort('all')
  for (const call of calls) assert.equal((await assertRejects(call, 'ABORT_ERR')).cause, 'all')
  await new Promise(setImmediate)
  process.off('warning', onWarning)
  assert.deepEqual(warnings, [])
})

test('EMBED_BATCH: nothing that was computed is lost', async () => {
  const texts = ['good', 'word '.repeat(600), 'fine', 'x'.repeat(2 ** 20 + 1)]
  const error = await assertRejects(embed(texts), 'EMBED_BATCH', '2 of 4', 'text 1', '602')
  assert.deepEqual(error.errors.map(({ index, error: { code } }) => [index, code]), [
    [1, 'EMBED_TEXT_TOO_LONG'],
    [3, 'EMBED_TEXT_TOO_LONG']
  ])
  assert.equal(error.results.length, 4)
  assertSame(error.results[0], await embed('good'))
  assertSame(error.results[2], await embed('fine'))
  assert.equal(error.results[1], error.errors[0].error)
  const alone = await assertRejects(embed(['word '.repeat(600)]), 'EMBED_BATCH', '1 of 1')
  assert.equal(alone.results.length, 1)
})

test('a rejection that nobody handles is reported as any other', async () => {
  const end = await node('embed(5)')
  assert.equal(end.code, 1)
  assert.match(end.stderr, /EMBED_BAD_ARGUMENT/)
  const aborted = await node('embed("a", { signal: AbortSignal.timeout(0) }); embed("x ".repeat(600), { signal: new AbortController().signal })')
  assert.equal(aborted.code, 1)
})
