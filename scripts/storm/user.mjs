// A Node process under steady load: single texts at their times, arrays one after the other.
//
// Forked by users.mjs, asked over IPC. Single texts come whether or not earlier ones were answered,
// as from people; an array follows its predecessor after a pause, as in an index that is built.
// Every vector is compared, bit for bit, with the one that was computed in calm. What is written down
// goes into arrays of a fixed size, so that the memory which grows is not this program's.

import { readdirSync } from 'node:fs'

import { embed } from '../../index.js'
import { randomNumbers } from '../compare/texts.mjs'
import { now, pause } from './clock.mjs'

/** Single texts without an answer beyond which no more are asked. */
const WAITING_MAX = 2000

/** How often memory is looked at. */
const SAMPLE_MS = 1000
const SAMPLE_FIELDS = ['at', 'rss', 'heapUsed', 'external', 'arrayBuffers', 'descriptors']

/** What became of a call. */
const PENDING = 0
const RIGHT = 1
const WRONG = 2
const FAILED = 3

/** What is written down of `capacity` calls. */
class Log {
  constructor(capacity) {
    this.n = 0
    this.pending = 0
    this.asked = new Float64Array(capacity)
    this.settled = new Float64Array(capacity)
    this.tokens = new Float64Array(capacity)
    this.outcome = new Uint8Array(capacity)
  }

  /** The number of a call that begins now; undefined if there is no room for another. */
  begin(tokens) {
    if (this.n === this.asked.length) return undefined
    this.asked[this.n] = now()
    this.tokens[this.n] = tokens
    this.pending++
    return this.n++
  }

  end(call, outcome) {
    if (this.outcome[call] === PENDING) this.pending--
    else state.settledTwice++
    this.outcome[call] = outcome
    this.settled[call] = now()
  }

  report() {
    const cut = (array) => array.slice(0, this.n)
    return { asked: cut(this.asked), settled: cut(this.settled), tokens: cut(this.tokens), outcome: cut(this.outcome) }
  }
}

/** `single` and `bulk` are `[{ text, tokens, vector }]`, once they are given. */
const state = { running: false, settledTwice: 0, notAsked: 0, texts: { right: 0, wrong: 0 }, errors: new Map(), disorder: 0 }

const operations = {
  vectors: async ({ texts }) => {
    const vectors = []
    for (const text of texts) vectors.push(await embed(text))
    return vectors
  },
  prepare: async (plan) => {
    Object.assign(state, plan, { random: randomNumbers(plan.seed) })
    const calls = (plan.seconds * 1000) / plan.everyMs
    state.singles = new Log(Math.ceil(calls * 1.2) + 1000)
    state.arrays = new Log(Math.ceil((plan.seconds * 1000) / plan.pauseMs) + 1000)
    state.samples = new Float64Array(SAMPLE_FIELDS.length * Math.ceil(plan.seconds + 60))
    state.nSamples = 0
    await embed(state.single[0].text)
    await embed(state.bulk.slice(0, 8).map(({ text }) => text))
  },
  begin: () => {
    state.running = true
    state.timers = [setInterval(askSingle, state.everyMs), setInterval(sample, SAMPLE_MS)]
    sample()
    askArrays()
  },
  /** No more is asked; waits until all is settled, or for so long. */
  end: async ({ patienceMs }) => {
    state.running = false
    state.timers.forEach(clearInterval)
    const giveUp = now() + patienceMs
    while (state.singles.pending + state.arrays.pending > 0 && now() < giveUp) await pause(10)
    sample()
    const { singles, arrays, settledTwice, notAsked, texts, errors, disorder } = state
    const samples = Array.from({ length: state.nSamples }, (_, i) =>
      Object.fromEntries(SAMPLE_FIELDS.map((field, n) => [field, state.samples[i * SAMPLE_FIELDS.length + n]]))
    )
    const pending = singles.pending + arrays.pending
    return { pid: process.pid, singles: singles.report(), arrays: arrays.report(), pending, settledTwice, notAsked, texts, errors: [...errors], disorder, samples }
  }
}

const pick = (list) => list[Math.floor(state.random() * list.length)]

function isSame(vector, expected) {
  if (!(vector instanceof Float32Array) || vector.length !== expected.length) return false
  const bits = (array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength)
  return bits(vector).equals(bits(expected))
}

/** Counts what became of a text. */
function check(result, { vector, text }) {
  if (result instanceof Error) {
    const code = result.code ?? result.name
    const known = state.errors.get(code)
    if (known) known.times++
    else state.errors.set(code, { times: 1, message: result.message })
    return FAILED
  }
  if (isSame(result, vector)) {
    state.texts.right++
    return RIGHT
  }
  state.texts.wrong++
  state.firstWrong ??= text
  return WRONG
}

function askSingle() {
  const call = state.singles.pending < WAITING_MAX ? state.singles.begin(0) : undefined
  if (call === undefined) {
    state.notAsked++
    return
  }
  const wanted = pick(state.single)
  state.singles.tokens[call] = wanted.tokens
  const settle = (result) => state.singles.end(call, check(result, wanted))
  embed(wanted.text).then(settle, settle)
}

async function askArrays() {
  while (state.running) {
    const wanted = Array.from({ length: 1 + Math.floor(state.random() * state.arrayTexts) }, () => pick(state.bulk))
    const call = state.arrays.begin(wanted.reduce((sum, { tokens }) => sum + tokens, 0))
    if (call === undefined) return
    let last = 0
    const onProgress = (done, total) => {
      if (done < last || total !== wanted.length) state.disorder++
      last = done
    }
    const results = await embed(wanted.map(({ text }) => text), { onProgress }).catch((error) => error)
    if (Array.isArray(results) && last !== wanted.length) state.disorder++
    const each = Array.isArray(results) ? results : (results.results ?? wanted.map(() => results))
    const outcomes = wanted.map((text, i) => check(each[i], text))
    state.arrays.end(call, Math.max(...outcomes))
    await pause(state.pauseMs)
  }
}

/** Garbage is collected first, so that what grows is what is kept. */
function sample() {
  if ((state.nSamples + 1) * SAMPLE_FIELDS.length > state.samples.length) return
  globalThis.gc()
  const { rss, heapUsed, external, arrayBuffers } = process.memoryUsage()
  const descriptors = process.platform === 'linux' ? readdirSync('/proc/self/fd').length : 0
  state.samples.set([now(), rss, heapUsed, external, arrayBuffers, descriptors], state.nSamples++ * SAMPLE_FIELDS.length)
}

process.on('message', async ({ id, operation, argument }) => {
  try {
    process.send({ id, result: await operations[operation](argument) })
  } catch (error) {
    process.send({ id, error: `${error.code ?? error.name}: ${error.message}` })
  }
})
