// A model of gigabytes: what its worker holds for itself, how soon it is ready, how it reads its file.
//
//   node scripts/full-model.mjs                        makes a model of nomic-embed-code's shape first
//   node scripts/full-model.mjs --model M.gguf --lengths 12,512,2000 --bulk 100
//
// Prints what was wanted and what was found; the exit code is 1 if a bound is broken. What wants root (a
// file that is not cached, a control group of 1 GB) is left out without it, and that is said.

import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, openSync, closeSync, readFileSync, readSync, realpathSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'

import { addonPath, build, Failure, report, root, run, worker } from './build.mjs'
import { median } from './compare/statistics.mjs'
import { memoryOf } from './compare/memory.mjs'
import { dropCaches, makeGroup } from './full-model/confine.mjs'
import { signal, workers } from './processes.mjs'
import { holds, now } from './storm/clock.mjs'

const MB = 1e6

/** Bounds. */
const READY_MS = 1000
const WORKER_BYTES = 50 * MB
const NODE_BYTES = 100 * MB
const NODE_GROWTH_BYTES = 10 * MB
/** What is read of a file that is not cached, as a share of it: each page once. */
const READ_SHARE = 1.02
/** Memory of the group in which a worker has to do with less than its file. */
const GROUP_BYTES = 1 << 30

const STARTS = 5
const IDLE_TIMEOUT = 600
const TIMEOUT_MS = 3_600_000
const PATIENCE_MS = 30_000
const SAMPLE_MS = 100
const READ_BYTES = 8 << 20

const OPTIONS = {
  help: { type: 'boolean', short: 'h', default: false },
  model: { type: 'string' },
  lengths: { type: 'string', default: '12,512,2000' },
  bulk: { type: 'string', default: '100' }
}

const USAGE = 'usage: node scripts/full-model.mjs [--model M.gguf] [--lengths 12,512,2000] [--bulk 100]'

let broken = 0

function say(what, found, wanted, isGood) {
  if (!isGood) broken++
  console.log(`${isGood ? '' : 'BROKEN: '}${what}: ${found}; wanted ${wanted}`)
}

const mb = (bytes) => `${(bytes / MB).toFixed(1)} MB`
const seconds = (ms) => `${(ms / 1000).toFixed(2)} s`

/** Single letters, of which each is a token in any byte-level vocabulary. */
const textOf = (tokens, seed = 0) =>
  Array.from({ length: tokens }, (_, i) => String.fromCharCode(97 + ((i * i + 7 * i + seed) % 26))).join(' ')

/** A place for workers of its own. */
class Place {
  constructor(program = worker) {
    this.folder = mkdtempSync(join(tmpdir(), 'embed-full-'))
    this.runtime = join(this.folder, 'run')
    this.program = program
    mkdirSync(this.runtime, { mode: 0o700 })
    Object.assign(process.env, this.environment())
  }

  environment() {
    return { EMBED_RUNTIME_DIR: this.runtime, EMBED_IDLE_TIMEOUT: String(IDLE_TIMEOUT), EMBED_WORKER_PATH: this.program }
  }

  pid() {
    return workers(this.runtime)[0]
  }

  async leave() {
    for (const pid of workers(this.runtime)) signal(pid, 'SIGKILL')
    await holds(() => workers(this.runtime).length === 0, PATIENCE_MS)
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 })
  }
}

/** The package asks the environment at every call, and with it the place that was made last. */
async function embedder() {
  const { embed } = await import(pathToFileURL(join(root, 'index.js')).href)
  return (texts, model) => embed(texts, { model, timeoutMs: TIMEOUT_MS })
}

/** Milliseconds from a worker's start to its first line. */
async function readyMs(model) {
  const place = new Place()
  try {
    const began = now()
    const child = spawn(worker, ['serve', '--model', model], { env: { ...process.env }, stdio: ['ignore', 'pipe', 'ignore'] })
    const line = await new Promise((done) => child.stdout.once('data', done).once('end', done))
    if (!String(line).includes('"ready"')) throw new Failure(`the worker did not start: ${line}`)
    const took = now() - began
    child.kill('SIGKILL')
    return took
  } finally {
    await place.leave()
  }
}

/** Embeds and says how long that took and the most that the worker had for itself meanwhile. */
async function watched(place, embed, texts, model) {
  let most = 0
  const look = () => (most = Math.max(most, memoryOf(place.pid())?.anonymous ?? 0))
  const timer = setInterval(look, SAMPLE_MS)
  const began = now()
  const vectors = await embed(texts, model)
  const ms = now() - began
  look()
  clearInterval(timer)
  return { vectors, ms, most }
}

async function memory(model, lengths, bulk) {
  const place = new Place()
  try {
    const embed = await embedder()
    const first = await watched(place, embed, textOf(4), model)
    console.log(`first vector after ${seconds(first.ms)}, with what was cached`)
    const before = process.memoryUsage().rss
    const asked = lengths.map((tokens) => [`a text of ${tokens} tokens`, textOf(tokens)])
    asked.push([`${bulk} texts of 4 tokens`, Array.from({ length: bulk }, (_, seed) => textOf(4, seed))])
    for (const [what, texts] of asked) {
      const { ms, most } = await watched(place, embed, texts, model)
      say(`${what}, in ${seconds(ms)}, the worker's own memory`, mb(most), `< ${mb(WORKER_BYTES)}`, most < WORKER_BYTES)
    }
    const { rss } = process.memoryUsage()
    say('Node', mb(rss), `< ${mb(NODE_BYTES)}`, rss < NODE_BYTES)
    say('Node has grown by', mb(rss - before), `< ${mb(NODE_GROWTH_BYTES)}`, rss - before < NODE_GROWTH_BYTES)
    const maps = readFileSync('/proc/self/maps', 'utf8').split('\n').filter((line) => line.endsWith(realpathSync(model)))
    say('maps of the model in Node', maps.length, 0, maps.length === 0)
    return first.vectors
  } finally {
    await place.leave()
  }
}

/** Milliseconds that reading a file from its beginning to its end takes. */
function readAll(path) {
  const [file, buffer, began] = [openSync(path, 'r'), Buffer.alloc(READ_BYTES), now()]
  while (readSync(file, buffer, 0, READ_BYTES, null) > 0);
  closeSync(file)
  return now() - began
}

async function cold(model) {
  if (!dropCaches()) return console.log('NOT RUN: a file that is not cached (wants root)')
  const plain = readAll(model)
  const place = new Place()
  try {
    const embed = await embedder()
    dropCaches()
    const { ms } = await watched(place, embed, textOf(4), model)
    const read = Number(/^read_bytes: (\d+)$/m.exec(readFileSync(`/proc/${place.pid()}/io`, 'utf8'))[1])
    const { size } = statSync(model)
    console.log(`not cached: first vector after ${seconds(ms)}; reading the whole file alone takes ${seconds(plain)}`)
    say('read of the file', `${mb(read)} of ${mb(size)}`, `<= ${READ_SHARE} of it`, read <= READ_SHARE * size)
  } finally {
    await place.leave()
  }
}

async function confined(model, wanted) {
  const group = makeGroup(GROUP_BYTES)
  if (!group) return console.log('NOT RUN: a control group of 1 GB (wants root and a memory controller)')
  const place = new Place()
  try {
    place.program = join(place.folder, 'embed-worker')
    Object.assign(process.env, place.environment())
    group.writeProgram(place.program)
    const embed = await embedder()
    // What others have read is counted for them, and not for the group.
    dropCaches()
    const [first, second] = [await watched(place, embed, textOf(4), model), await watched(place, embed, textOf(4, 1), model)]
    const pid = place.pid()
    say('the worker is in the group', group.holds(pid), true, group.holds(pid))
    say('killed for want of memory', group.kills(), 0, group.kills() === 0)
    const same = Buffer.compare(Buffer.from(first.vectors.buffer), Buffer.from(wanted.buffer)) === 0
    say('the same vector as with memory enough', same, true, same)
    const most = Math.max(first.most, second.most)
    say('its own memory in 1 GB', mb(most), `< ${mb(WORKER_BYTES)}`, most < WORKER_BYTES)
    const peak = group.peakBytes()
    console.log(`in 1 GB: a text in ${seconds(first.ms)}, the next in ${seconds(second.ms)}${peak ? `; at most ${mb(peak)} with the file's pages` : ''}`)
  } finally {
    await place.leave()
    await holds(() => group.remove(), PATIENCE_MS)
  }
}

function argumentsOf(args) {
  try {
    return parseArgs({ args, options: OPTIONS }).values
  } catch (error) {
    throw new Failure(`${error.message}\n\n${USAGE}`)
  }
}

/** The file that was named, or one that is made once. */
function modelOf(named) {
  if (named) return resolve(named)
  const folder = join(root, 'target', 'tmp')
  const model = join(folder, 'nomic-embed-code.gguf')
  mkdirSync(folder, { recursive: true })
  if (!existsSync(model)) run(process.execPath, [join(root, 'scripts', 'make-model.mjs'), 'nomic-embed-code', model])
  return model
}

await report(async () => {
  const { help, model: named, lengths, bulk } = argumentsOf(process.argv.slice(2))
  if (help) return console.log(USAGE)
  if (process.platform !== 'linux') throw new Failure('full-model: only Linux tells what is looked at here')
  if (!(existsSync(worker) && existsSync(addonPath()))) build()
  const model = modelOf(named ?? process.env.EMBED_FULL_MODEL)
  console.log(`${model}: ${mb(statSync(model).size)}`)
  const starts = []
  for (let i = 0; i < STARTS; i++) starts.push(await readyMs(model))
  say('ready, median', seconds(median(starts)), `< ${seconds(READY_MS)}`, median(starts) < READY_MS)
  const vector = await memory(model, lengths.split(',').map(Number), Number(bulk))
  await cold(model)
  await confined(model, vector)
  if (broken > 0) process.exitCode = 1
})
