// One run: users under load, a trouble that comes every second or so, and what is left of it afterwards.

import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'

import { root } from '../build.mjs'
import { memoryOf } from '../compare/memory.mjs'
import { randomNumbers } from '../compare/texts.mjs'
import { signal, workers, zombiesOf } from '../processes.mjs'
import { holds, now, pause } from './clock.mjs'
import { textsFor } from './texts.mjs'
import { TROUBLES } from './troubles.mjs'
import { User } from './users.mjs'

/** The model that ships with the package. */
export const DEFAULT_MODEL = join(root, 'models', 'all-MiniLM-L6-v2.Q8_0.gguf')

/** What every user asks for, again and again. */
const TEXTS = { single: 120, bulk: 120 }

/** Milliseconds from one single text to the next, and from one array to the next, of one user. */
const LOAD = { everyMs: 20, pauseMs: 150, arrayTexts: 32 }

/** Between two blows, in milliseconds. */
const BLOW_MS = [500, 1500]

/** Calm at the end, so that the last blow, too, is seen to be overcome. */
const AFTERMATH_MS = 4000

/** Nothing may be pending longer: the time limit of a text, and some. */
const SETTLE_MS = 45_000

/** How long a worker stays without clients, in seconds, and how long it and its files may be there after. */
const IDLE_TIMEOUT = 1
const LEFTOVERS_MS = 15_000

/** How often the worker's memory is looked at. */
const SAMPLE_MS = 1000

/**
 * Runs `processes` users for `seconds`, with blows of `trouble` at random moments after `seed`. Gives
 * `{ trouble, users, blows, leftovers, worker }`: what each user wrote down, when each blow fell, what was left,
 * and samples of the workers' memory.
 */
export async function run({ trouble, processes, seconds, seed, model, load = LOAD, log = () => {} }) {
  const folder = mkdtempSync(join(tmpdir(), 'embed-storm-'))
  const [calm, runtime] = ['calm', 'run'].map((name) => join(folder, name))
  for (const dir of [calm, runtime]) mkdirSync(dir, { mode: 0o700 })
  const file = join(folder, basename(model))
  copyFileSync(model, file)
  const random = randomNumbers(seed)
  const environment = (dir) => ({ EMBED_RUNTIME_DIR: dir, EMBED_MODEL: file, EMBED_IDLE_TIMEOUT: String(IDLE_TIMEOUT) })
  try {
    const texts = await references(textsFor(model, seed, TEXTS), environment(calm))
    const plague = await TROUBLES[trouble]({ runtime, folder, model: file, random })
    const users = Array.from({ length: processes }, () => new User({ ...environment(runtime), ...plague.env }))
    try {
      await all(users, (user, i) => user.ask('prepare', { ...texts, ...load, seed: seed + i, seconds: seconds + AFTERMATH_MS / 1000 }))
      await all(users, (user) => user.ask('begin'))
      log(`${processes} processes ask for vectors; ${trouble} for ${seconds} s`)
      const worker = observe(runtime)
      const blows = await rage({ plague, seconds, random, pids: users.map(({ pid }) => pid) })
      await pause(AFTERMATH_MS)
      log('waiting for what is still to be settled')
      const records = await all(users, (user) => user.ask('end', { patienceMs: SETTLE_MS }))
      const standing = plague.standing?.() ?? []
      const zombies = zombiesOf(users.map(({ pid }) => pid))
      const ends = await all(users, (user) => user.end())
      const leftovers = [
        ...standing.map((pid) => `worker ${pid}: was hit, and its users left it there`),
        ...zombies.map((pid) => `process ${pid}: has ended, and nobody has waited for it`),
        ...ends.filter(Boolean),
        ...(await left(runtime))
      ]
      return { trouble, users: records, blows, leftovers, worker: worker() }
    } finally {
      await plague.end()
      users.forEach(({ child }) => child.kill('SIGKILL'))
    }
  } finally {
    for (const dir of [calm, runtime]) workers(dir).forEach((pid) => signal(pid, 'SIGKILL'))
    rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 })
  }
}

const all = (users, ask) => Promise.all(users.map(ask))

/** Each text with the vector that it has in calm, alone, of a worker that serves nobody else. */
async function references(texts, env) {
  const user = new User(env)
  const withVectors = async (list) => {
    const vectors = await user.ask('vectors', { texts: list.map(({ text }) => text) })
    return list.map((entry, i) => ({ ...entry, vector: vectors[i] }))
  }
  const known = { single: await withVectors(texts.single), bulk: await withVectors(texts.bulk) }
  await user.end()
  return known
}

/** Blow after blow until the time is over. */
async function rage({ plague, seconds, random, pids }) {
  const blows = []
  const over = now() + seconds * 1000
  const wait = () => BLOW_MS[0] + random() * (BLOW_MS[1] - BLOW_MS[0])
  for (let ms = wait(); now() + ms < over; ms = wait()) {
    await pause(ms)
    const blow = await plague.blow(pids)
    if (blow) blows.push(blow)
  }
  await pause(over - now())
  return blows
}

/** Looks at the workers' memory until it is asked for the samples. */
function observe(runtime) {
  const samples = []
  const timer = setInterval(() => {
    for (const pid of workers(runtime)) {
      const memory = memoryOf(pid)
      if (memory) samples.push({ at: now(), pid, ...memory })
    }
  }, SAMPLE_MS)
  return () => {
    clearInterval(timer)
    return samples
  }
}

/** The workers and files that are there although nobody needs them any more. */
async function left(runtime) {
  const files = () => (existsSync(runtime) ? readdirSync(runtime) : [])
  const isEmpty = () => workers(runtime).length === 0 && files().length === 0
  if (await holds(isEmpty, LEFTOVERS_MS)) return []
  return [...workers(runtime).map((pid) => `worker ${pid}: still there`), ...files().map((name) => `file ${name}: still there`)]
}
