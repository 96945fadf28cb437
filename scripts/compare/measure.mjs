// What is measured of one model, in which order.
//
// Every part of a round is done by one contender after the other, and each round begins with
// another one, so that a machine that becomes slower does so for everybody.

import { spawnSync } from 'node:child_process'

import { Contender } from './contender.mjs'
import { cosine, median, quantile, rotated, sum } from './statistics.mjs'
import { mixedLengths } from './texts.mjs'

const CALIBRATION_TEXTS = 20

/**
 * How much of what is measured. `warm` calls precede those that count; `agreement` mixed texts are
 * compared vector by vector; `calibration` texts tell how many of the `bulk` a contender can afford.
 */
export const PLANS = {
  full: {
    rounds: 5, calls: { 12: 30, 64: 20, 256: 10, 512: 8 }, warm: 2, partMs: 3000,
    short: 20, bulk: 1000, bulkMs: 12_000, calibration: CALIBRATION_TEXTS, agreement: 20, cold: 7
  },
  quick: {
    rounds: 2, calls: { 12: 10, 64: 6, 256: 4, 512: 3 }, warm: 2, partMs: 1000,
    short: 5, bulk: 100, bulkMs: 3000, calibration: CALIBRATION_TEXTS, agreement: 20, cold: 2
  },
  // For models of which one token takes tens of milliseconds: everybody embeds the same ten texts.
  large: {
    rounds: 2, calls: { 12: 3, 60: 2, 256: 1 }, warm: 1, partMs: 20_000,
    short: 1, bulk: 10, bulkMs: 0, calibration: 0, agreement: 2, cold: 1
  }
}

/** From this size on a model is measured by the plan for large ones, in bytes. */
export const LARGE = 2 ** 30

const SHORT_TEXTS = 10
const SHORT_TOKENS = [8, 9, 10, 11, 12, 12, 13, 14, 15, 16]
const BULK_SEED = 1
/** Threads that spin after their last work have gone to sleep by then. */
const SETTLE_MS = 100

/** Below it, a contender has computed something else. */
const COSINE_MIN = 0.9

/** Measures every contender of `specs`; one that fails has `failure`, and the others go on. */
export async function measure({ specs, texts, plan, context, log }) {
  const contenders = specs.map((spec) => new Contender(spec))
  const results = new Map(
    contenders.map((contender) => [contender, { name: contender.name, peer: contender.peer, setting: contender.setting ?? null }])
  )
  const each = async (what, order, work) => {
    for (const contender of order) {
      const result = results.get(contender)
      if (result.failure) continue
      try {
        await new Promise((resolve) => setTimeout(resolve, SETTLE_MS))
        await work(contender, result)
      } catch (error) {
        result.failure = `${what}: ${error.message}`
        log(`${contender.name} has failed: ${result.failure}`)
        await contender.close()
      }
    }
  }
  const lengths = Object.keys(plan.calls).map(Number).filter((tokens) => tokens <= context)
  const mixed = mixedLengths(plan.bulk, BULK_SEED)
  const bulk = texts.ofLengths(mixed, BULK_SEED)

  try {
    await each('open', contenders, async (contender, result) => {
      log(`opening ${contender.name}`)
      Object.assign(result, await contender.open())
      result.memory = { idle: contender.memory() }
      result.latency = Object.fromEntries(lengths.map((tokens) => [tokens, { rounds: [] }]))
      result.short = { rounds: [] }
      result.bulk = { rounds: [] }
    })
    await agreement({ contenders, results, each, texts: [...texts.ofLengths(lengths, 2), ...bulk.slice(0, plan.agreement)] })
    await each('calibration', contenders, async (contender, { bulk: mine }) => {
      mine.texts = await affordable(contender, bulk, plan)
      mine.tokens = sum(mixed.slice(0, mine.texts))
    })
    for (let round = 0; round < plan.rounds; round++) {
      const order = rotated(contenders, round)
      for (const tokens of lengths) {
        log(`round ${round + 1} of ${plan.rounds}: texts of ${tokens} tokens`)
        const [warm, ...calls] = texts.many(plan.calls[tokens] + 1, tokens, 1000 * tokens + round).map((text) => [text])
        await each('latency', order, async (contender, { latency }) => {
          latency[tokens].rounds.push(await contender.ask('time', { warm, calls, warmCalls: plan.warm, limitMs: plan.partMs }))
        })
      }
      log(`round ${round + 1} of ${plan.rounds}: ${SHORT_TEXTS} short texts`)
      const [warm, ...calls] = Array.from({ length: plan.short + 1 }, (_, i) =>
        texts.ofLengths(SHORT_TOKENS, 1_000_000 + 1000 * round + i)
      )
      await each('short texts', order, async (contender, { short }) => {
        short.rounds.push(await contender.ask('time', { warm, calls, warmCalls: plan.warm, limitMs: plan.partMs }))
      })
      log(`round ${round + 1} of ${plan.rounds}: up to ${plan.bulk} mixed texts`)
      await each('mixed texts', order, async (contender, { bulk: mine }) => {
        const calls = [bulk.slice(0, mine.texts)]
        mine.rounds.push(await contender.ask('time', { warm: bulk.slice(0, plan.calibration || 1), calls, warmCalls: plan.warm, limitMs: 0 }))
      })
    }
    await each('memory', contenders, async (contender, { memory }) => (memory.load = contender.memory()))
  } finally {
    for (const contender of contenders) await contender.close()
  }
  await coldStarts({ contenders, results, each, plan, log, text: texts.ofLengths([12], 3)[0] })
  return contenders.map((contender) => {
    const result = results.get(contender)
    return result.failure ? result : { ...result, figures: figures(result) }
  })
}

/** How many of the mixed texts a contender can embed in the time of the plan, in tens. */
async function affordable(contender, bulk, plan) {
  if (plan.calibration === 0) return bulk.length
  const some = bulk.slice(0, plan.calibration)
  const request = { warm: some.slice(0, 1), calls: [some, some], warmCalls: plan.warm, limitMs: plan.bulkMs }
  const ms = Math.min(...(await contender.ask('time', request)))
  const texts = Math.floor((plan.bulkMs * plan.calibration) / ms / 10) * 10
  return Math.min(Math.max(texts, 10), bulk.length)
}

/** Cosines with the vectors of this package, if it takes part. */
async function agreement({ contenders, results, each, texts }) {
  let reference
  const ours = contenders.filter(({ peer }) => peer === 'ours')
  await each('agreement', [...ours, ...contenders.filter(({ peer }) => peer !== 'ours')], async (contender, result) => {
    const vectors = await contender.ask('vectors', { texts })
    if (contender.peer === 'ours') reference = vectors
    if (!reference) return
    const cosines = vectors.map((vector, i) => cosine(vector, reference[i]))
    result.agreement = { mean: sum(cosines) / cosines.length, min: Math.min(...cosines), cosines }
    if (!(result.agreement.mean >= COSINE_MIN)) {
      throw new Error(`its vectors have a mean cosine of ${result.agreement.mean.toFixed(3)} with ours`)
    }
  })
}

/** All others have ended by now. The first start of each is not counted: it reads files. */
async function coldStarts({ contenders, each, plan, log, text }) {
  for (let round = 0; round <= plan.cold; round++) {
    log(`cold start ${round} of ${plan.cold}`)
    const empty = emptyNode()
    await each('cold start', rotated(contenders, round), async (contender, result) => {
      result.cold ??= { samples: [] }
      if (contender.peer === 'llama-server') {
        result.coldServer ??= { samples: [] }
        const time = await contender.coldServer(text)
        if (round > 0) result.coldServer.samples.push(time)
      }
      const time = await contender.cold(text)
      if (round === 0) return
      result.cold.samples.push(time)
      // What the start of a Node process takes that does nothing is nobody's merit or fault.
      result.coldOwn ??= { samples: [] }
      result.coldOwn.samples.push(Math.max(0, time - empty))
    })
  }
}

/** Milliseconds of a Node process that does nothing, the least of some. */
function emptyNode() {
  const times = Array.from({ length: 3 }, () => {
    const begin = performance.now()
    spawnSync(process.execPath, ['--eval', '0'])
    return performance.now() - begin
  })
  return Math.min(...times)
}

/** By name: what the table shows, `{ value, unit, higherIsBetter }`. */
function figures({ latency, short, bulk, cold, coldOwn, coldServer, memory, agreement }) {
  const rows = {}
  for (const [tokens, { rounds }] of Object.entries(latency)) {
    const p50 = median(rounds.map(median))
    rows[`one text of ${tokens} tokens, p50`] = { value: p50, unit: 'ms' }
    rows[`one text of ${tokens} tokens, p95`] = { value: quantile(rounds.flat(), 0.95), unit: 'ms' }
  }
  const perSecond = (amount, { rounds }) => (1000 * amount) / median(rounds.map(median))
  const rate = (value, unit) => ({ value, unit, higherIsBetter: true })
  rows[`${SHORT_TEXTS} short texts in one call`] = rate(perSecond(SHORT_TEXTS, short), 'texts/s')
  rows['mixed texts in one call, texts'] = rate(perSecond(bulk.texts, bulk), 'texts/s')
  rows['mixed texts in one call, tokens'] = rate(perSecond(bulk.tokens, bulk), 'tokens/s')
  rows['start of Node to first vector'] = { value: median(cold.samples), unit: 'ms' }
  rows['the same, less an empty Node'] = { value: median(coldOwn.samples), unit: 'ms' }
  if (coldServer) rows['start of the server alone to first vector'] = { value: median(coldServer.samples), unit: 'ms' }
  if (memory.load) {
    const total = (key, processes) => ({ value: sum(processes.map((each) => each[key])) / 2 ** 20, unit: 'MB' })
    rows['anonymous memory, in Node'] = total('anonymous', memory.load.filter(({ node }) => node))
    rows['anonymous memory, all processes'] = total('anonymous', memory.load)
    rows['private dirty memory, all processes'] = total('privateDirty', memory.load)
    rows['resident memory, all processes'] = total('rss', memory.load)
  }
  if (agreement) {
    rows['cosine to ours, mean'] = { value: agreement.mean, unit: '' }
    rows['cosine to ours, least'] = { value: agreement.min, unit: '' }
  }
  return rows
}
