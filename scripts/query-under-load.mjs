// The question of a person while 10,000 texts are being indexed: how long it waits.
//
//   node scripts/query-under-load.mjs
//   node scripts/query-under-load.mjs --model nomic.gguf --texts 2000
//
// One Node process; the array is in flight all the time, and every so often a short text is asked for,
// one at a time, so that each question is a batch of its own.
// The time of a batch is what the worker itself has counted: its computing time less that of the
// questions, for each batch that was not a question's. The exit code is 1 if a bound is broken.

import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

import { addonPath, build, Failure, report, worker } from './build.mjs'
import { aligned } from './compare/report.mjs'
import { quantile, sum } from './compare/statistics.mjs'
import { randomNumbers } from './compare/texts.mjs'
import { now, pause } from './storm/clock.mjs'
import { DEFAULT_MODEL } from './storm/run.mjs'
import { textsFor } from './storm/texts.mjs'
import { Frames, message, parse } from './storm/wire.mjs'

/** The promises; the second one is of the default model. */
const P95_BATCHES_MAX = 2
const P95_MS_MAX = 60

/** From an answer to the next question, in milliseconds: drawn anew each time, so never in step with batches. */
const EVERY_MS = [20, 80]

/** Questions in calm, to know what they cost without the load. */
const CALM_QUESTIONS = 100

const OPTIONS = {
  help: { type: 'boolean', short: 'h', default: false },
  texts: { type: 'string', default: '10000' },
  model: { type: 'string', default: DEFAULT_MODEL },
  json: { type: 'string' }
}

const USAGE = `usage: node scripts/query-under-load.mjs [--texts 10000] [--model FILE] [--json FILE]`

await report(async () => {
  const values = argumentsOf(process.argv.slice(2))
  if (values.help) return console.log(USAGE)
  const n = Number(values.texts)
  if (!(Number.isInteger(n) && n > 0)) throw new Failure(`--texts ${values.texts}: not a number of texts`)
  const model = resolve(values.model)
  if (!(existsSync(worker) && existsSync(addonPath()))) build()
  const folder = mkdtempSync(join(tmpdir(), 'embed-query-'))
  const runtime = join(folder, 'run')
  mkdirSync(runtime, { mode: 0o700 })
  Object.assign(process.env, { EMBED_RUNTIME_DIR: runtime, EMBED_MODEL: model, EMBED_IDLE_TIMEOUT: '1' })
  process.once('exit', () => rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 }))

  const outcome = await measure(runtime, textsFor(model, 1, { single: 200, bulk: n }))
  const { calm, questions, batchMs, tokensPerSecond } = outcome
  const row = (name, times) => [name, String(times.length), ...[0.5, 0.95, 1].map((share) => `${quantile(times, share).toFixed(1)} ms`)]
  console.log(aligned([['', 'questions', 'p50', 'p95', 'max'], row('in calm', calm), row(`while ${n} texts are indexed`, questions)]).join('\n'))
  const p95 = quantile(questions, 0.95)
  const bounds = [['p95', `< ${P95_MS_MAX} ms`, `${p95.toFixed(1)} ms`, model !== DEFAULT_MODEL || p95 < P95_MS_MAX]]
  if (batchMs !== null) {
    const batches = p95 / batchMs
    bounds.push(['p95 in batches', `<= ${P95_BATCHES_MAX}`, batches.toFixed(2), batches <= P95_BATCHES_MAX])
    console.log(`\na batch of the index took ${batchMs.toFixed(1)} ms of computing, ${outcome.batchTokens.toFixed(0)} tokens on average`)
  }
  console.log(`the index went on with ${tokensPerSecond.toFixed(0)} tokens/s\n`)
  console.log(aligned([['', 'wanted', 'found', ''], ...bounds.map(([name, wanted, found, ok]) => [name, wanted, found, ok ? '' : 'BROKEN'])]).join('\n'))
  if (values.json) writeFileSync(values.json, `${JSON.stringify({ model, texts: n, ...outcome })}\n`)
  if (bounds.some(([, , , ok]) => !ok)) process.exitCode = 1
})

async function measure(runtime, { single, bulk }) {
  const { embed } = await import('../index.js')
  const random = randomNumbers(1)
  const ask = async () => {
    const { text } = single[Math.floor(random() * single.length)]
    const begin = now()
    await embed(text)
    return now() - begin
  }
  await ask()
  const before = await stats(runtime)
  const calm = []
  for (let i = 0; i < CALM_QUESTIONS; i++) calm.push(await ask())
  const loaded = await stats(runtime)

  let indexing = true
  const begin = now()
  const index = embed(bulk.map(({ text }) => text)).finally(() => (indexing = false))
  const questions = []
  while (indexing) {
    await Promise.race([index, pause(EVERY_MS[0] + random() * (EVERY_MS[1] - EVERY_MS[0]))])
    if (indexing) questions.push(await ask())
  }
  const indexMs = now() - begin
  await index
  const after = await stats(runtime)
  const tokens = sum(bulk.map(({ tokens }) => tokens))
  const outcome = { calm, questions, indexMs, tokensPerSecond: (1000 * tokens) / indexMs, batchMs: null }
  if (!after) return outcome
  const ofOne = (loaded.compute_us - before.compute_us) / (loaded.batches - before.batches)
  const batches = after.batches - loaded.batches - questions.length
  const computeUs = after.compute_us - loaded.compute_us - questions.length * ofOne
  return { ...outcome, batches, batchMs: computeUs / batches / 1000, batchTokens: tokens / batches }
}

/** What the worker tells of itself over the wire; null where its endpoint is not a file. */
async function stats(runtime) {
  const name = readdirSync(runtime).find((name) => name.endsWith('.sock'))
  if (name === undefined) return null
  const socket = connect(join(runtime, name))
  socket.write(message('hello', { protocol: 1, version: 'query-under-load', pid: process.pid }))
  socket.write(message('stats', { id: 1 }))
  const frames = new Frames()
  for await (const chunk of socket) {
    for (const { kind, fields } of frames.push(chunk).map(parse)) {
      if (kind === 'stats') return fields.stats
      if (kind === 'error') throw new Failure(`worker: ${fields.message}`)
    }
  }
  throw new Failure('worker: has closed the connection without telling its statistics')
}

function argumentsOf(args) {
  try {
    return parseArgs({ args, options: OPTIONS }).values
  } catch (error) {
    throw new Failure(`${error.message}\n\n${USAGE}`)
  }
}
