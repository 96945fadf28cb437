// What this machine reaches with the default model: the figures that README.md states.
//
//   npm run figures
//
// Each is a median of fresh processes or of many calls; timings are this machine's, and a busy
// machine's are worse.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

import { build, report, root } from './build.mjs'

const MB = 1024 * 1024
const STARTS = 15
const CALLS = 200

const packageUrl = JSON.stringify(pathToFileURL(join(root, 'index.js')).href)
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1]

/** Runs a script in a Node of its own and gives what it prints as JSON. */
function node(source, runtime) {
  const env = { ...process.env, EMBED_RUNTIME_DIR: runtime, EMBED_IDLE_TIMEOUT: '1' }
  const args = ['--expose-gc', '--input-type=module', '-e', source]
  const { stdout, stderr, status } = spawnSync(process.execPath, args, { cwd: root, env })
  if (status !== 0) throw new Error(stderr.toString())
  return JSON.parse(stdout)
}

/** In a folder of its own, so that a new worker is started. */
function fresh(source) {
  const runtime = mkdtempSync(join(tmpdir(), 'embed-figures-'))
  try {
    return node(source, runtime)
  } finally {
    rmSync(runtime, { recursive: true, force: true })
  }
}

const first = `
  const start = performance.now()
  const { embed } = await import(${packageUrl})
  const imported = performance.now()
  await embed('The quick brown fox')
  console.log(JSON.stringify([imported - start, performance.now() - imported]))
`

const memory = (work) => `
  const texts = Array.from({ length: 1000 }, (_, i) => 'text number ' + i + ', of which there are a thousand')
  ${work}
  for (let i = 0; i < 5; i++) { gc(); await new Promise(setImmediate) }
  console.log(JSON.stringify(process.memoryUsage().rss))
`

const speed = `
  import { embed } from ${packageUrl}
  const median = ${median}
  const words = 'the quick brown fox jumps over the lazy dog and runs into a dark old wood '.repeat(40).split(' ')
  const text = (tokens, i) => words.slice(i % 15, i % 15 + tokens - 2).join(' ')
  await embed(text(250, 0))
  const latency = {}
  for (const tokens of [12, 64, 256]) {
    const times = []
    for (let i = 0; i < ${CALLS}; i++) {
      const start = performance.now()
      await embed(text(tokens, i))
      times.push(performance.now() - start)
    }
    latency[tokens] = median(times)
  }
  const rates = []
  for (let round = 0; round < 5; round++) {
    const start = performance.now()
    await embed(Array.from({ length: 400 }, (_, i) => text(64, i + round)))
    rates.push(400 * 64 / (performance.now() - start) * 1000)
  }
  console.log(JSON.stringify({ latency, rate: median(rates), memory: worker() }))

  /** Memory of the worker's own, in bytes, as the system counts it. */
  function worker() {
    if (process.platform !== 'linux') return null
    for (const pid of readdirSync('/proc').filter((name) => /^\\d+$/.test(name))) {
      try {
        if (!readFileSync('/proc/' + pid + '/environ', 'utf8').includes(process.env.EMBED_RUNTIME_DIR)) continue
        if (!readFileSync('/proc/' + pid + '/cmdline', 'utf8').includes('serve')) continue
        return 1024 * /Anonymous: *(\\d+)/.exec(readFileSync('/proc/' + pid + '/smaps_rollup', 'utf8'))[1]
      } catch {}
    }
  }
  import { readdirSync, readFileSync } from 'node:fs'
`

await report(() => {
  build()
  const starts = Array.from({ length: STARTS }, () => fresh(first))
  const without = fresh(memory(''))
  const embedding = (work) => fresh(`import { embed } from ${packageUrl}\n${memory(work)}`)
  const alone = embedding('for (const text of texts) await embed(text)')
  const array = embedding('globalThis.kept = await embed(texts)')
  const { latency, rate, memory: own } = fresh(speed)
  const mb = (bytes) => `${(bytes / MB).toFixed(1)} MB`
  const rows = {
    'import of the package': `${median(starts.map(([time]) => time)).toFixed(1)} ms`,
    'first vector, worker started': `${median(starts.map(([, time]) => time)).toFixed(0)} ms`,
    'Node without the package': mb(without),
    'Node, 1,000 texts one by one': `${mb(alone)} (${mb(alone - without)} more)`,
    'Node, 1,000 texts at once, vectors kept': `${mb(array)} (${mb(array - without)} more)`,
    "worker's own memory": own === null ? 'not measured on this system' : mb(own),
    ...Object.fromEntries(
      Object.entries(latency).map(([tokens, time]) => [`text of ${tokens} tokens, median`, `${time.toFixed(2)} ms`])
    ),
    'bulk, texts of 64 tokens': `${rate.toFixed(0)} tokens/s`
  }
  for (const [name, value] of Object.entries(rows)) console.log(`${name.padEnd(42)}${value}`)
})
