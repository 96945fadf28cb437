// The error codes that only a worker in trouble gives, each with what its message has to tell.

import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'

import { embed } from '../index.js'
import { worker } from '../scripts/build.mjs'
import { relayExecutable } from '../scripts/storm/relay.mjs'
import { DEFAULT_MODEL } from '../scripts/storm/run.mjs'
import { documentedCodes } from '../scripts/storm/verdict.mjs'
import { assertGood, node, nothingLeft, until, useRuntime } from './support/runtime.mjs'

useRuntime()

const plans = fileURLToPath(new URL('support/answers.mjs', import.meta.url))

const unix = { skip: process.platform === 'win32' && 'no Unix sockets' }

/** What `source` prints as JSON, in a Node whose worker's messages are changed by a plan. */
async function withPlan(name, source) {
  const folder = mkdtempSync(join(tmpdir(), 'embed-'))
  const runtime = join(folder, 'run')
  mkdirSync(runtime, { mode: 0o700 })
  after(async () => {
    await nothingLeft(runtime)
    rmSync(folder, { recursive: true, force: true })
  })
  const env = { EMBED_RUNTIME_DIR: runtime, EMBED_WORKER_PATH: relayExecutable(folder, worker, plans, name) }
  const end = await node(`const { code, message } = await (${source}).catch((error) => error); console.log(JSON.stringify({ code, message }))`, { env })
  assertGood(end)
  return JSON.parse(end.stdout)
}

/** Checks code and words of the error that comes of a plan. */
function answers(plan, code, words, source = "embed('text')") {
  test(`${code}: ${plan}`, unix, async () => {
    const error = await withPlan(plan, source)
    assert.equal(error.code, code, error.message)
    for (const word of words) assert.match(error.message, word)
  })
}

answers('leaving', 'EMBED_SHUTTING_DOWN', [/^worker: is about to exit/, /successor/])
answers('cancelled', 'EMBED_CANCELLED', [/^request: cancelled/], "embed('word '.repeat(50_000), { truncate: true })")
// The worker's part of it, a batch that panics, is tested where a batch can be made to: nothing that a
// client sends makes one.
answers('defect', 'EMBED_INTERNAL', [/batch/, /defect/, /try again/])
answers('newer worker', 'EMBED_PROTOCOL', [/^worker 0\.\d+\.\d+ \(pid \d+\)/, /speaks protocol 2, this client speaks 1/])
answers('newer client', 'EMBED_PROTOCOL', [/client 0\.\d+\.\d+ \(process \d+\) speaks version 2, this worker version 1/])
answers('stray answer', 'EMBED_PROTOCOL', [/^worker: an answer to request 1099511627776, which has none outstanding/])
answers('half a float', 'EMBED_PROTOCOL', [/^worker: a vector of 1534 bytes, not a multiple of 4/])
answers('cut', 'EMBED_WORKER_UNAVAILABLE', [/^connection to the worker/])

test('EMBED_MODEL_INVALID: which part of the file, where, what was found and what was wanted', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'embed-'))
  after(() => rmSync(folder, { recursive: true, force: true }))
  const whole = readFileSync(DEFAULT_MODEL)
  const damaged = {
    'cut.gguf': [whole.subarray(0, 20_000_000), /tensor `[a-z0-9._]+`: needs \d+ bytes at \d+, file ends at 20000000/],
    'head.gguf': [whole.subarray(0, 1000), /file ends at 1000/],
    'magic.gguf': [Buffer.concat([Buffer.from('GGML'), whole.subarray(4)]), /magic: found `GGML` at byte 0, wanted `GGUF`/],
    'version.gguf': [Buffer.concat([whole.subarray(0, 4), Buffer.from([9, 0, 0, 0]), whole.subarray(8)]), /version.*9/]
  }
  for (const [name, [bytes, words]] of Object.entries(damaged)) {
    const model = join(folder, name)
    writeFileSync(model, bytes)
    const error = await embed('text', { model }).catch((error) => error)
    assert.match(error.code, /^EMBED_MODEL_(INVALID|UNSUPPORTED)$/, `${name}: ${error.message}`)
    assert.match(error.message, words, name)
  }
})

test('EMBED_OVERLOADED: an interactive text is refused at once, an array waits for room', async () => {
  // Four processes at the same moment, each with as much text under way as one may have, which is half of
  // what the worker's queue holds.
  const source = `
    const controller = new AbortController()
    const { signal } = controller
    const long = 'word '.repeat(12_000)
    await embed('warm')
    process.stdout.write('ready')
    await new Promise((resolve) => process.stdin.once('data', resolve))
    const codes = new Set()
    let told
    const calls = Array.from({ length: 80 }, (_, i) => embed(i + long, { truncate: true, signal }).catch((error) => {
      codes.add(error.code)
      if (error.code === 'EMBED_OVERLOADED') told ??= error.message
    }))
    const array = embed(['one', 'two'])
    // It is said to all: enough was seen.
    process.stdin.once('data', () => controller.abort())
    await Promise.race([Promise.all(calls), new Promise((resolve) => signal.addEventListener('abort', resolve)), new Promise((resolve) => {
      const look = setInterval(() => told && (clearInterval(look), resolve()), 5)
      signal.addEventListener('abort', () => clearInterval(look))
    })])
    process.stdout.write('seen')
    await Promise.all(calls)
    console.log(JSON.stringify({ codes: [...codes], told, array: (await array).length }))
    process.stdin.destroy()
  `
  const children = []
  const seen = (word) => Promise.all(children.map(({ output }) => untilSaid(output, word)))
  const ends = Array.from({ length: 4 }, () => node(source, { onSpawn: (child, output) => children.push({ child, output }) }))
  await seen('ready')
  children.forEach(({ child }) => child.stdin.write('go'))
  await Promise.any(children.map(({ output }) => untilSaid(output, 'seen')))
  children.forEach(({ child }) => child.stdin.write('stop'))
  const results = (await Promise.all(ends)).map((end) => {
    assertGood(end)
    return JSON.parse(/\{.*/.exec(end.stdout)[0])
  })
  const told = results.map(({ told }) => told).filter(Boolean)
  assert.ok(told.length > 0, JSON.stringify(results))
  for (const message of told) assert.match(message, /^queue: holds \d+ bytes of text, \d+ more would pass the limit of 8388608/)
  for (const { codes, array } of results) {
    assert.equal(array, 2)
    for (const code of codes) assert.ok(['EMBED_OVERLOADED', 'ABORT_ERR'].includes(code), code)
  }
})

async function untilSaid(output, word) {
  await until(() => output.stdout.includes(word), () => `"${word}" was not said: ${output.stdout} ${output.stderr}`)
}

test('every code has a test, and no other exists', async () => {
  const folder = fileURLToPath(new URL('.', import.meta.url))
  const specs = readdirSync(folder).filter((name) => name.endsWith('.spec.mjs')).map((name) => readFileSync(join(folder, name), 'utf8')).join('\n')
  for (const code of documentedCodes()) assert.match(specs, new RegExp(`['/^]${code}\\b`), code)
  const readme = readFileSync(join(folder, '..', 'README.md'), 'utf8')
  const inReadme = new Set(readme.match(/`(EMBED_[A-Z_]+|ABORT_ERR)` \|/g).map((cell) => cell.slice(1, -3)))
  for (const code of documentedCodes()) {
    if (code !== 'EMBED_CANCELLED') assert.ok(inReadme.has(code), `README.md says nothing of ${code}`)
  }
})
