// Mixed load for a long time: what grows, what fails, and whether it stays as fast as it was.
//
//   node scripts/soak.mjs                       30 minutes
//   node scripts/soak.mjs --minutes 2 --json soak.json
//
// Two Node processes ask for single texts every 20 ms and for arrays one after the other; every vector
// is compared bit for bit with that of the same text in calm. Memory of Node is what it has after its
// garbage was collected; memory of the worker is what is private to it. A slope is that of the line of
// least squares, after a tenth of the time. The exit code is 1 if a bound is broken.

import { existsSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'

import { addonPath, build, Failure, report, worker } from './build.mjs'
import { aligned } from './compare/report.mjs'
import { quantile, slope, sum } from './compare/statistics.mjs'
import { DEFAULT_MODEL, run } from './storm/run.mjs'
import { judge, plain } from './storm/verdict.mjs'

const MB = 1024 * 1024

/** Part of the time before memory is judged. */
const WARM_UP_SHARE = 0.1

/** Rows of the table over time. */
const SPANS = 10

/** What is kept of every text would show as far more: 60 texts a second are 3,600 a minute. */
const NODE_GROWTH_KB_MIN_MAX = 64
const WORKER_GROWTH_KB_MIN_MAX = 64

/** A slope over less time is noise: figures are shown, not judged. */
const JUDGED_MINUTES_MIN = 5

const OPTIONS = {
  help: { type: 'boolean', short: 'h', default: false },
  minutes: { type: 'string', default: '30' },
  processes: { type: 'string', default: '2' },
  model: { type: 'string', default: DEFAULT_MODEL },
  json: { type: 'string' }
}

const USAGE = `usage: node scripts/soak.mjs [--minutes 30] [--processes 2] [--model FILE] [--json FILE]`

await report(async () => {
  const values = argumentsOf(process.argv.slice(2))
  if (values.help) return console.log(USAGE)
  const [minutes, processes] = ['minutes', 'processes'].map((name) => positive(name, values[name]))
  if (!(existsSync(worker) && existsSync(addonPath()))) build()
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(130))
  const seconds = Math.ceil(minutes * 60)
  const outcome = await run({ trouble: 'none', processes, seconds, seed: 1, model: values.model, log: (line) => console.error(line) })
  const verdict = judge(outcome)
  const { rows, slopes, pids } = overTime(outcome)
  const bounds = verdict.bounds.filter(({ name }) => !name.startsWith('growth'))
  const bound = (name, wanted, found, ok) => bounds.push({ name, wanted, found, ok })
  const failed = sum(Object.values(verdict.figures.errors).map(({ times }) => times))
  bound('errors', 0, failed, failed === 0)
  bound('workers in all that time', 1, pids.length, pids.length === 1)
  const isJudged = minutes >= JUDGED_MINUTES_MIN
  for (const [name, most, found] of [
    ["growth of Node's heap and buffers", NODE_GROWTH_KB_MIN_MAX, slopes['heapUsed'] + slopes['external']],
    ["growth of the worker's own memory", WORKER_GROWTH_KB_MIN_MAX, slopes.worker]
  ]) bound(name, `< ${most} KB/min`, `${found.toFixed(1)} KB/min`, !isJudged || found < most)

  const shown = Object.entries(slopes).map(([name, value]) => `${name} ${value.toFixed(1)}`)
  const verdicts = bounds.map(({ name, wanted, found, ok }) => [name, String(wanted), String(found), ok ? '' : 'BROKEN'])
  const errors = Object.entries(verdict.figures.errors).map(([code, { times, message }]) => `${times} x ${code}: ${message}`)
  console.log([...aligned(rows), '', ...aligned([['', 'wanted', 'found', ''], ...verdicts]), '', `slopes in KB/min: ${shown.join(', ')}`, ...errors].join('\n'))
  if (values.json) writeFileSync(values.json, `${JSON.stringify({ minutes, processes, rows, slopes, bounds, ...outcome }, plain)}\n`)
  if (bounds.some(({ ok }) => !ok)) process.exitCode = 1
})

/** The table over time, the slopes of memory, and the workers that were seen. */
function overTime({ users, worker: workerSamples }) {
  const begin = Math.min(...users.map(({ samples }) => samples[0].at))
  const end = Math.max(...users.map(({ samples }) => samples.at(-1).at))
  const span = (end - begin) / SPANS
  const header = ['minute', 'texts/s', 'tokens/s', 'single p50', 'p95', 'p99', 'max', 'Node rss', 'worker own']
  const rows = Array.from({ length: SPANS }, (_, i) => {
    const [from, to] = [begin + i * span, begin + (i + 1) * span]
    const isIn = (at) => at >= from && at < to
    const calls = (log) => users.flatMap((user) => Array.from(user[log].asked, (asked, n) => ({ asked, settled: user[log].settled[n], tokens: user[log].tokens[n] })))
    const [singles, arrays] = ['singles', 'arrays'].map((log) => calls(log).filter(({ settled }) => isIn(settled)))
    const times = singles.map(({ asked, settled }) => settled - asked)
    const ms = (share) => `${quantile(times, share).toFixed(1)} ms`
    const mb = (samples, field) => `${(Math.max(0, ...samples.filter(({ at }) => isIn(at)).map((sample) => sample[field])) / MB).toFixed(1)} MB`
    const perSecond = (amount) => ((amount / span) * 1000).toFixed(0)
    return [
      ((to - begin) / 60_000).toFixed(1), perSecond(singles.length), perSecond(sum([...singles, ...arrays].map(({ tokens }) => tokens))),
      ms(0.5), ms(0.95), ms(0.99), ms(1), mb(users.flatMap(({ samples }) => samples), 'rss'), mb(workerSamples, 'anonymous')
    ]
  })
  const warm = ({ at }) => at - begin >= (end - begin) * WARM_UP_SHARE
  const kbPerMinute = (samples, field) => (slope(samples.map(({ at }) => at), samples.map((sample) => sample[field])) * 60_000) / 1024
  const node = (field) => Math.max(...users.map(({ samples }) => kbPerMinute(samples.filter(warm), field)))
  const slopes = Object.fromEntries(['rss', 'heapUsed', 'external', 'arrayBuffers'].map((field) => [field, node(field)]))
  const own = workerSamples.filter(warm)
  slopes.worker = own.length > 1 ? kbPerMinute(own, 'anonymous') : 0
  return { rows: [header, ...rows], slopes, pids: [...new Set(workerSamples.map(({ pid }) => pid))] }
}

function argumentsOf(args) {
  try {
    return parseArgs({ args, options: OPTIONS }).values
  } catch (error) {
    throw new Failure(`${error.message}\n\n${USAGE}`)
  }
}

function positive(name, value) {
  const number = Number(value)
  if (!(number > 0)) throw new Failure(`--${name} ${value}: not a number above 0`)
  return number
}
