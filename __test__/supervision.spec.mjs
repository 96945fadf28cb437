// Workers that hang, that will not start, and that come back.

import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'

import { embed } from '../index.js'
import { worker } from '../scripts/build.mjs'
import { suspend } from '../scripts/processes.mjs'
import { assertGood, assertSame, freshRuntime, node, norm, until, useRuntime, workers } from './support/runtime.mjs'

const runtime = useRuntime()
const windows = process.platform === 'win32'

/** A program's environment in which nobody listens yet, and `worker` is what it would start. */
const alone = (name, worker) => ({ EMBED_RUNTIME_DIR: freshRuntime(runtime, name), EMBED_WORKER_PATH: worker })

/** A folder with a "worker" that says its last words and ends; `starts()` counts how often. */
function brokenWorker() {
  const folder = mkdtempSync(`${runtime}-broken-`)
  after(() => rmSync(folder, { recursive: true, maxRetries: 20, retryDelay: 50 }))
  const path = join(folder, windows ? 'embed-worker.cmd' : 'embed-worker')
  const log = join(folder, 'starts')
  writeFileSync(path, windows ? BATCH(log) : SHELL(log), { mode: 0o700 })
  return {
    path,
    starts: () => readFileSync(log, 'utf8').trimEnd().split('\n').length,
    mend() {
      const good = `${path}-good`
      if (windows) writeFileSync(good, `@"${worker}" %*\r\n`)
      else symlinkSync(worker, good)
      renameSync(good, path)
    }
  }
}

const SHELL = (log) => `#!/bin/sh\necho start >> '${log}'\necho 'out of luck' >&2\nexit 3\n`
const BATCH = (log) => `@echo start>>"${log}"\r\n@echo out of luck>&2\r\n@exit 3\r\n`

/** How the system puts that a program has ended with 3. */
const ENDED = windows ? 'exit code: 3' : 'exit status: 3'

test('a worker that hangs is ended and replaced, and no text is lost', async () => {
  const texts = Array.from({ length: 200 }, (_, i) => `text ${i}`)
  const expected = await embed(texts)
  const [pid] = workers(runtime)
  suspend(pid)
  const [single, vectors] = await Promise.all([embed(texts[0]), embed(texts)])
  assertSame(single, expected[0])
  vectors.forEach((vector, i) => assertSame(vector, expected[i], `text ${i}`))
  assert.ok(!workers(runtime).includes(pid), 'it was not ended')
})

test('a worker that hangs before it introduces itself is ended and replaced', async () => {
  await embed('warm')
  const [pid] = workers(runtime)
  suspend(pid)
  // Of another process, which has no connection yet.
  const end = await node('process.stdout.write(String((await embed("text")).length))')
  assertGood(end)
  assert.equal(end.stdout, '384')
  assert.ok(!workers(runtime).includes(pid), 'it was not ended')
  assert.equal((await embed('text')).length, 384)
})

test('a worker that will not start is tried four times, and then callers are told at once', async () => {
  const { path, starts } = brokenWorker()
  const source = `
    for (let i = 0; i < 20; i++) {
      await embed('a').then(() => console.log('a vector'), ({ code, message }) => console.log(code, message))
    }`
  const end = await node(source, { env: alone('refused', path) })
  assertGood(end)
  const lines = end.stdout.trim().split('\n')
  assert.equal(lines.length, 20)
  for (const line of lines) {
    assert.match(line, new RegExp(`^EMBED_WORKER_UNAVAILABLE .*4 times in a row.*${ENDED}.*last words: out of luck`))
  }
  assert.equal(starts(), 4)
})

test("fallback: 'hash' answers with marked vectors and one warning, until a worker can be had", async () => {
  const { path, mend } = brokenWorker()
  const source = `
    import { once } from 'node:events'
    const warnings = []
    process.on('warning', ({ name, code, message }) => warnings.push({ name, code, message }))
    const options = { fallback: 'hash' }
    const one = await embed('some words', options)
    const many = await embed(['some words', 'other words'], options)
    const short = await embed('some words', { ...options, dimensions: 64 })
    const strict = await embed('some words').catch(({ code }) => code)
    await new Promise(setImmediate)
    const spell = warnings.length
    console.log(JSON.stringify({ one: [...one], many: many.map((v) => [...v]), short: short.length,
      degraded: [one, ...many, short].map((v) => v.degraded), models: [one, ...many, short].map((v) => v.model ?? 'none'), warnings, strict }))
    process.stdin.resume()
    await once(process.stdin, 'data')
    let vector
    do vector = await embed('some words', options)
    while (vector.degraded && await new Promise((resolve) => setTimeout(resolve, 50, true)))
    console.log(JSON.stringify({ healed: [...vector], keys: Object.keys(vector).includes('degraded'),
      warnings: warnings.length - spell }))
    process.stdin.destroy()`
  const run = (onSpawn) => node(source, { env: alone('mended', path), onSpawn })
  const end = await run(async (child, output) => {
    await until(() => output.stdout.includes('\n'))
    mend()
    child.stdin.write('mended\n')
  })
  assertGood(end)
  const [first, second] = end.stdout.trim().split('\n').map((line) => JSON.parse(line))
  assert.equal(first.one.length, 384)
  assert.ok(Math.abs(norm(first.one) - 1) < 1e-5)
  assert.deepEqual(first.many[0], first.one, 'deterministic')
  assert.notDeepEqual(first.many[1], first.one)
  assert.equal(first.short, 64)
  assert.deepEqual(first.degraded, [true, true, true, true])
  assert.deepEqual(first.models, ['none', 'none', 'none', 'none'])
  assert.equal(first.strict, 'EMBED_WORKER_UNAVAILABLE', 'only who asks for it')
  assert.equal(first.warnings.length, 1)
  const [warning] = first.warnings
  assert.deepEqual([warning.name, warning.code], ['EmbedDegradedWarning', 'EMBED_DEGRADED'])
  assert.match(warning.message, new RegExp(`${ENDED}.*out of luck`))
  assertSame(Float32Array.from(second.healed), await embed('some words'))
  assert.deepEqual([second.keys, second.warnings], [false, 0])
})

test('EMBED_FALLBACK is what calls without the option get', async () => {
  const env = { ...alone('variable', join(runtime, 'none')), EMBED_FALLBACK: 'hash' }
  const source = `
    const degraded = (await embed('a')).degraded
    const code = await embed('a', { fallback: 'none' }).catch(({ code }) => code)
    const model = await embed('a', { model: '/no/such.gguf' }).catch(({ code }) => code)
    process.env.EMBED_FALLBACK = 'zero'
    const wrong = await embed('a').catch(({ code, message }) => code + ' ' + message)
    console.log(JSON.stringify({ degraded, code, model, wrong }))`
  const end = await node(source, { env })
  assertGood(end)
  const { degraded, code, model, wrong } = JSON.parse(end.stdout)
  assert.deepEqual([degraded, code, model], [true, 'EMBED_WORKER_UNAVAILABLE', 'EMBED_MODEL_NOT_FOUND'])
  assert.match(wrong, /^EMBED_BAD_ARGUMENT environment variable EMBED_FALLBACK: found 'zero'/)
})
