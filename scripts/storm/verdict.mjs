// What a run has shown, and whether it is what was promised.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'

import { root } from '../build.mjs'
import { aligned } from '../compare/report.mjs'
import { median, quantile, slope, sum } from '../compare/statistics.mjs'

/** The promises. */
const RIGHT_SHARE_MIN = 0.99
const RECOVERY_MEDIAN_MS_MAX = 200
const RECOVERY_WORST_MS_MAX = 3000

/** Before it, a process still grows: code is compiled, caches are filled. */
export const WARM_UP_MS = 10_000

/** Samples, one a second, below which a slope is noise. */
const GROWTH_SAMPLES_MIN = 45

/** What is kept for each text that was ever asked would show as more than this, in KB a minute. */
const GROWTH_KB_MIN_MAX = 256

/** Descriptors that come and go: a connection that is made while another still ends. */
const DESCRIPTORS_MAX = 4

/** `outcome` of a text that has its right vector; see user.mjs. */
const RIGHT = 1

/** Every code that index.d.ts knows, and that of an aborted call. */
export function documentedCodes() {
  const types = readFileSync(join(root, 'index.d.ts'), 'utf8')
  return new Set(['ABORT_ERR', ...types.match(/'EMBED_[A-Z_]+'/g).map((quoted) => quoted.slice(1, -1))])
}

/** Milliseconds from each blow to the next vector of each process that it concerns; Infinity if none came. */
export function recoveries({ users, blows }) {
  return blows.flatMap(({ at, pids }) =>
    users
      .filter(({ pid }) => pids.includes(pid))
      .map(({ singles: { asked, settled, outcome } }) => {
        // Of the texts asked after the blow, the first that was answered: no answer from before it counts.
        let next = Infinity
        for (let i = asked.findIndex((time) => time >= at); i >= 0 && i < asked.length && asked[i] < next; i++) {
          if (outcome[i] === RIGHT) next = Math.min(next, settled[i])
        }
        return next - at
      })
  )
}

/** `{ rss, heapUsed, external, arrayBuffers }` of all users in KB a minute after the warm-up; null if the run was short. */
export function growth(users) {
  const of = (field) => {
    const slopes = users.map(({ samples }) => {
      const warm = samples.filter(({ at }) => at - samples[0].at >= WARM_UP_MS)
      return warm.length < GROWTH_SAMPLES_MIN ? null : (slope(warm.map(({ at }) => at), warm.map((sample) => sample[field])) * 60_000) / 1024
    })
    return slopes.includes(null) ? null : Math.max(...slopes)
  }
  const fields = ['rss', 'heapUsed', 'external', 'arrayBuffers']
  const found = Object.fromEntries(fields.map((field) => [field, of(field)]))
  return found.rss === null ? null : found
}

/** Errors of all users: `{ CODE: { times, message } }`. */
function errorsOf(users) {
  const errors = {}
  for (const [code, { times, message }] of users.flatMap(({ errors }) => errors)) {
    errors[code] ??= { times: 0, message }
    errors[code].times += times
  }
  return errors
}

/** Figures of a run, and the bounds that it was to keep: `{ figures, bounds: [{ name, wanted, found, ok }] }`. */
export function judge(outcome) {
  const { trouble, users, blows, leftovers } = outcome
  const calls = sum(users.map(({ singles, arrays }) => singles.asked.length + arrays.asked.length))
  const [right, wrong, pending, twice, notAsked, disorder] = [
    (user) => user.texts.right, (user) => user.texts.wrong, (user) => user.pending,
    (user) => user.settledTwice, (user) => user.notAsked, (user) => user.disorder
  ].map((of) => sum(users.map(of)))
  const errors = errorsOf(users)
  const failed = sum(Object.values(errors).map(({ times }) => times))
  const texts = right + wrong + failed
  const share = right / texts
  const documented = documentedCodes()
  const strange = Object.keys(errors).filter((code) => !documented.has(code))
  const times = recoveries(outcome)
  const descriptors = users.map(({ samples }) => samples.at(-1).descriptors - samples[0].descriptors)
  const grown = growth(users)

  const bounds = []
  const bound = (name, wanted, found, ok) => bounds.push({ name, wanted, found: String(found), ok })
  bound('calls that settled once', calls, calls - pending - twice, pending + twice === 0)
  bound('wrong vectors', 0, wrong, wrong === 0)
  bound('right vectors', `>= ${100 * RIGHT_SHARE_MIN} %`, `${(100 * share).toFixed(3)} %`, share >= RIGHT_SHARE_MIN)
  bound('errors without a documented code', 0, strange.join(' ') || 0, strange.length === 0)
  bound('progress out of order', 0, disorder, disorder === 0)
  if (times.length > 0) {
    const [middle, worst] = [median(times), Math.max(...times)]
    // A hang is known by nothing but silence, and that has to last before it is one.
    const isHang = trouble === 'stop'
    const wanted = isHang ? 'any' : `< ${RECOVERY_MEDIAN_MS_MAX} ms`
    bound('blow to next vector, median', wanted, `${middle.toFixed(0)} ms`, isHang || middle < RECOVERY_MEDIAN_MS_MAX)
    bound('blow to next vector, worst', `< ${RECOVERY_WORST_MS_MAX} ms`, `${worst.toFixed(0)} ms`, worst < RECOVERY_WORST_MS_MAX)
  }
  if (grown) {
    const kept = grown.heapUsed + grown.external
    bound("growth of Node's heap and buffers", `< ${GROWTH_KB_MIN_MAX} KB/min`, `${kept.toFixed(0)} KB/min`, kept < GROWTH_KB_MIN_MAX)
  }
  bound('descriptors more than at the start', `<= ${DESCRIPTORS_MAX}`, Math.max(...descriptors), Math.max(...descriptors) <= DESCRIPTORS_MAX)
  bound('left behind', 0, leftovers.length, leftovers.length === 0)
  return { figures: { calls, texts, right, wrong, errors, notAsked, blows: blows.length, growth: grown, leftovers }, recoveries: times, bounds }
}

/** The table of a verdict. */
export function table({ figures, recoveries: times, bounds }, { blows }) {
  const rows = [['', 'wanted', 'found', ''], ...bounds.map(({ name, wanted, found, ok }) => [name, String(wanted), found, ok ? '' : 'BROKEN'])]
  const lines = aligned(rows)
  lines.push('', `${figures.texts} texts in ${figures.calls} calls, ${figures.notAsked} not asked because too many waited; ${figures.blows} blows`)
  const kinds = new Set(blows.map(({ what }) => what))
  for (const kind of kinds) if (kinds.size > 1) lines.push(`  ${blows.filter(({ what }) => what === kind).length} x ${kind}`)
  if (times.length > 0) lines.push(`blow to next vector: p95 ${quantile(times, 0.95).toFixed(0)} ms, of ${times.length}`)
  if (figures.growth) {
    const shown = Object.entries(figures.growth).map(([name, value]) => `${name} ${value.toFixed(0)}`)
    lines.push(`growth in KB/min after ${WARM_UP_MS / 1000} s, the worst process: ${shown.join(', ')}`)
  }
  for (const [code, { times, message }] of Object.entries(figures.errors)) lines.push(`${times} x ${code}: ${message}`)
  lines.push(...figures.leftovers.map((line) => `left behind: ${line}`))
  return lines
}

/** Typed arrays as lists, for JSON.stringify. */
export const plain = (_, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value)
