// Node processes under steady load while something happens to their worker every second or so.
//
//   node scripts/storm.mjs --trouble kill                  it is killed
//   node scripts/storm.mjs --trouble stop                  it is stopped where it stands, and never continued
//   node scripts/storm.mjs --trouble cut                   a connection is cut in the middle of a frame
//   node scripts/storm.mjs --trouble garbage               a client, the worker, or a stranger's connection hears garbage
//   node scripts/storm.mjs --trouble truncate              the model's file is cut, replaced, rewritten, and restored
//   node scripts/storm.mjs --trouble none                  the load alone
//
// Every vector is compared bit for bit with that of the same text in calm. The time to the next vector
// goes from a blow to the first answer, in each process that it concerns, to a text asked after it.
// The exit code is 1 if a bound is broken. `cut`, `garbage` and `truncate` need Unix.

import { existsSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'

import { addonPath, build, Failure, report, worker } from './build.mjs'
import { DEFAULT_MODEL, run } from './storm/run.mjs'
import { EVERYWHERE, TROUBLES } from './storm/troubles.mjs'
import { judge, plain, table } from './storm/verdict.mjs'

const OPTIONS = {
  help: { type: 'boolean', short: 'h', default: false },
  trouble: { type: 'string', default: 'kill' },
  processes: { type: 'string', default: '4' },
  seconds: { type: 'string', default: '60' },
  seed: { type: 'string' },
  model: { type: 'string', default: DEFAULT_MODEL },
  json: { type: 'string' }
}

const USAGE = `usage: node scripts/storm.mjs [options]

  --trouble NAME   ${Object.keys(TROUBLES).join(', ')} [default: kill]
  --processes N    Node processes under load [default: 4]
  --seconds N      how long the trouble lasts [default: 60]
  --seed N         of texts and moments [default: another one each time]
  --model FILE     a BERT model in GGUF [default: the one that ships with the package]
  --json FILE      write everything there, each call included`

await report(async () => {
  const values = argumentsOf(process.argv.slice(2))
  if (values.help) return console.log(USAGE)
  const { trouble, model } = values
  if (!(trouble in TROUBLES)) throw new Failure(`--trouble ${trouble}: not one of ${Object.keys(TROUBLES).join(', ')}`)
  if (process.platform === 'win32' && !EVERYWHERE.includes(trouble)) throw new Failure(`--trouble ${trouble}: needs Unix`)
  if (!existsSync(model)) throw new Failure(`${model}: no such file`)
  const [processes, seconds] = ['processes', 'seconds'].map((name) => count(name, values[name]))
  const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 32) : count('seed', values.seed)
  if (!(existsSync(worker) && existsSync(addonPath()))) build()
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(130))

  const outcome = await run({ trouble, processes, seconds, seed, model, log: (line) => console.error(line) })
  const verdict = judge(outcome)
  console.log([`trouble: ${trouble}, seed ${seed}`, '', ...table(verdict, outcome)].join('\n'))
  if (values.json) writeFileSync(values.json, `${JSON.stringify({ processes, seconds, seed, ...verdict, ...outcome }, plain)}\n`)
  if (verdict.bounds.some(({ ok }) => !ok)) process.exitCode = 1
})

function argumentsOf(args) {
  try {
    return parseArgs({ args, options: OPTIONS }).values
  } catch (error) {
    throw new Failure(`${error.message}\n\n${USAGE}`)
  }
}

function count(name, value) {
  const number = Number(value)
  if (!Number.isInteger(number) || number < 1) throw new Failure(`--${name} ${value}: not a whole number of 1 or more`)
  return number
}
