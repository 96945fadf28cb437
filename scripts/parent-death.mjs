// Node killed with requests in flight, again and again: its worker must be gone within its time.
//
//   node scripts/parent-death.mjs                 100 rounds
//   node scripts/parent-death.mjs --rounds 1000 --seed 7
//
// In each round a Node process of its own asks for single texts and an array, and is killed at a random
// moment, which may be before its worker has started. A worker stays so long as its idle time says after
// its last client has gone, or for a few seconds if none has ever come. The exit code is 1 if one stayed
// longer, or left a file.

import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'

import { addonPath, build, Failure, report, root, worker } from './build.mjs'
import { quantile } from './compare/statistics.mjs'
import { randomNumbers } from './compare/texts.mjs'
import { signal, workers } from './processes.mjs'
import { holds, now, pause } from './storm/clock.mjs'

/** How long a worker waits for its first client, whatever its idle time; the worker's own constant. */
const FIRST_CLIENT_MS = 5000

/** Seconds that a worker stays after its last client. */
const IDLE_TIMEOUT = 1

/** On top of that: the batch in work, the last look of the timer, and a machine with other work to do. */
const GRACE_MS = 2000

/** A worker that is there after so long will never leave. */
const PATIENCE_MS = 30_000

/** The moment of death, in milliseconds after its worker's first file has appeared, and after its first vector. */
const EARLY_MS = [0, 4]
const LATE_MS = [0, 300]

/** Rounds of ten in which Node dies while its worker starts. */
const EARLY_SHARE = 0.3

const packageUrl = JSON.stringify(pathToFileURL(join(root, 'index.js')).href)

const PROGRAM = `
  import { embed } from ${packageUrl}
  const busy = () => embed(Array.from({ length: 3000 }, (_, i) => 'a text of an index that takes its time, number ' + i))
  for (let i = 0; i < 50; i++) embed('a question of a person, number ' + i)
  busy()
  await embed('first')
  process.stdout.write('first')
  busy()
  process.stdin.resume()
`

/**
 * Kills a Node process in a runtime directory of its own. Gives `{ early, goneMs, files }`: whether it died
 * before its first vector; when the last worker had gone, Infinity if never; and the files that were left.
 */
export async function round(random) {
  const folder = mkdtempSync(join(tmpdir(), 'embed-death-'))
  const runtime = join(folder, 'run')
  mkdirSync(runtime, { mode: 0o700 })
  const env = { ...process.env, EMBED_RUNTIME_DIR: runtime, EMBED_IDLE_TIMEOUT: String(IDLE_TIMEOUT) }
  const child = spawn(process.execPath, ['--input-type=module', '--eval', PROGRAM], { env, stdio: ['pipe', 'pipe', 'ignore'], windowsHide: true })
  const ended = new Promise((resolve) => child.once('exit', resolve))
  const early = random() < EARLY_SHARE
  const files = () => (existsSync(runtime) ? readdirSync(runtime) : [])
  const between = ([least, most]) => pause(least + random() * (most - least))
  try {
    if (early) {
      while (files().length === 0 && child.exitCode === null) await new Promise(setImmediate)
      await between(EARLY_MS)
    } else {
      await new Promise((resolve) => child.stdout.once('data', resolve).once('end', resolve))
      await between(LATE_MS)
    }
    child.kill('SIGKILL')
    await ended
    const died = now()
    const isGone = () => workers(runtime).length === 0 && files().length === 0
    const gone = await holds(isGone, PATIENCE_MS)
    return { early, goneMs: gone ? now() - died : Infinity, files: files() }
  } finally {
    child.kill('SIGKILL')
    for (const pid of workers(runtime)) signal(pid, 'SIGKILL')
    rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 })
  }
}

const OPTIONS = {
  help: { type: 'boolean', short: 'h', default: false },
  rounds: { type: 'string', default: '100' },
  seed: { type: 'string', default: '1' }
}

const USAGE = 'usage: node scripts/parent-death.mjs [--rounds 100] [--seed 1]'

async function main() {
  const { help, rounds, seed } = argumentsOf(process.argv.slice(2))
  if (help) return console.log(USAGE)
  for (const [name, value] of Object.entries({ rounds, seed })) {
    if (!(Number.isInteger(Number(value)) && Number(value) >= 1)) throw new Failure(`--${name} ${value}: not a whole number of 1 or more`)
  }
  if (!(existsSync(worker) && existsSync(addonPath()))) build()
  const random = randomNumbers(Number(seed))
  const results = []
  for (let i = 0; i < Number(rounds); i++) results.push(await round(random))
  const most = (early) => (early ? Math.max(FIRST_CLIENT_MS, IDLE_TIMEOUT * 1000) : IDLE_TIMEOUT * 1000) + GRACE_MS
  for (const early of [false, true]) {
    const times = results.filter((result) => result.early === early).map(({ goneMs }) => goneMs)
    if (times.length === 0) continue
    const ms = (share) => `${quantile(times, share).toFixed(0)} ms`
    const what = early ? 'killed while it started' : 'killed with requests in flight'
    console.log(`${what}: ${times.length} rounds; worker gone after ${ms(0.5)} (median), ${ms(1)} (most); wanted <= ${most(early)} ms`)
  }
  const late = results.filter(({ early, goneMs }) => !(goneMs <= most(early)))
  for (const { early, goneMs, files } of late) console.log(`BROKEN: ${early ? 'early' : 'late'}, ${goneMs} ms, left: ${files.join(' ') || 'nothing'}`)
  console.log(`${results.length - late.length} of ${results.length} rounds left nothing in time`)
  if (late.length > 0) process.exitCode = 1
}

function argumentsOf(args) {
  try {
    return parseArgs({ args, options: OPTIONS }).values
  } catch (error) {
    throw new Failure(`${error.message}\n\n${USAGE}`)
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await report(main)
