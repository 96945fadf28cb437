// How little memory it takes, in Node and in the worker.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

import { worker } from '../scripts/build.mjs'
import { assertGood, node, until, useRuntime, workers } from './support/runtime.mjs'

const runtime = useRuntime()

const MB = 1024 * 1024

/** The promises of README.md. */
const NODE_RSS_MAX = 100 * MB
const NODE_GROWTH_MAX = 10 * MB
const WORKER_PRIVATE_MAX = 50 * MB

const TEXTS = "const texts = Array.from({ length: 1000 }, (_, i) => `text number ${i}, of which there are a thousand`)\n"

/** Collects garbage until it makes no difference, then prints what is left. */
const REPORT = `
  for (let i = 0; i < 5; i++) { gc(); await new Promise(setImmediate) }
  console.log(JSON.stringify(process.memoryUsage()))
`

/** Memory of a Node of its own after `source`. */
async function memoryAfter(source, options) {
  const end = await node(TEXTS + source + REPORT, { args: ['--expose-gc'], ...options })
  assertGood(end)
  return JSON.parse(end.stdout)
}

test('1,000 texts leave Node below 100 MB, and within 10 MB of a Node that embeds nothing', async (t) => {
  const without = await memoryAfter('globalThis.kept = texts', { imports: false })
  const alone = await memoryAfter('for (const text of texts) await embed(text)')
  const array = await memoryAfter('await embed(texts)')
  for (const [name, { rss }] of Object.entries({ alone, array })) {
    t.diagnostic(`${name}: ${(rss / MB).toFixed(1)} MB, ${((rss - without.rss) / MB).toFixed(1)} more than without`)
    assert.ok(rss < NODE_RSS_MAX, `${name}: ${rss}`)
    assert.ok(rss - without.rss < NODE_GROWTH_MAX, `${name}: ${rss} after ${without.rss}`)
  }
})

test('heap, external memory and array buffers stay flat', async () => {
  const source = `
    const usage = () => {
      for (let i = 0; i < 5; i++) gc()
      return process.memoryUsage()
    }
    const round = async () => {
      for (let i = 0; i < 300; i++) await embed(texts[i])
      await embed(texts, { onProgress() {}, signal })
      await embed('word '.repeat(600)).catch(() => {})
      await embed(5).catch(() => {})
    }
    const { signal } = new AbortController()
    await round()
    const before = usage()
    for (let i = 0; i < 5; i++) await round()
    const after = usage()
    console.log(JSON.stringify({ before, after }))
  `
  const end = await node(TEXTS + source, { args: ['--expose-gc'] })
  assertGood(end)
  const { before, after } = JSON.parse(end.stdout)
  // Five rounds return 10 MB of vectors; a leak of any of it would show.
  for (const [name, most] of Object.entries({ heapUsed: 1, external: 0.5, arrayBuffers: 0.5 })) {
    assert.ok(after[name] - before[name] < most * MB, `${name}: ${before[name]} became ${after[name]}`)
  }
})

test('no byte of the model is in Node', { skip: process.platform !== 'linux' && 'only Linux tells' }, async () => {
  const source = `
    import { readFileSync } from 'node:fs'
    await embed(texts)
    process.stdout.write(readFileSync('/proc/self/maps', 'utf8'))
  `
  const end = await node(TEXTS + source)
  assertGood(end)
  assert.ok(end.stdout.includes('embed-client'), 'the addon is mapped')
  assert.ok(!end.stdout.includes('.gguf'), end.stdout)
})

/** Bytes of a worker's own, as the system counts them. */
function ownMemory(pid) {
  if (process.platform === 'linux') {
    const memory = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
    const field = (name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(memory)[1]) * 1024
    return Math.max(field('Private_Dirty'), field('Anonymous'))
  }
  // Windows tells it to the worker, and that to whoever asks.
  const [{ stats }] = JSON.parse(execFileSync(worker, ['stats', '--json', '--pid', String(pid)], { encoding: 'utf8' }))
  return stats.private_bytes
}

test('the worker has less than 50 MB of its own', { skip: process.platform === 'darwin' && 'the system does not tell' }, async (t) => {
  let own
  const source = 'await embed(texts); await Promise.all(texts.map((text) => embed(text))); console.log("done"); for await (const _ of process.stdin);'
  const end = await node(TEXTS + source, {
    onSpawn: async (child, output) => {
      await until(() => output.stdout.includes('done') || child.exitCode !== null)
      const [pid] = workers(runtime)
      own = ownMemory(pid)
      child.stdin.end()
    }
  })
  assertGood(end)
  t.diagnostic(`worker: ${(own / MB).toFixed(1)} MB of its own`)
  assert.ok(own > 0 && own < WORKER_PRIVATE_MAX, `${own} bytes`)
})
