// A server with a small heap indexes thousands of files and answers questions meanwhile.
//
//   npm run v8-safety
//   npm run v8-safety -- --folder ~/.cargo/registry/src --minutes 5
//   npm run v8-safety -- --no-legacy
//
// Once with @embed/client, once with the legacy embedder if it is installed (`npm run legacy`); each for
// at most some minutes. Bounds are asked of the first one only; the exit code is 1 if one is broken.
// Without --folder a tree of files is made. Memory is what Linux counts; elsewhere the server's own word.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js'

import { anonymousOf, residentOf, workersOf } from './memory.mjs'
import { aligned, megabytes } from './table.mjs'

const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** V8's old space, in MiB: a fifth of what an editor's server has by default on a small machine. */
const HEAP_MIB = 64

/** The promise: Node with the addon, whatever is indexed. What the SDK needs comes on top. */
const NODE_BYTES_MAX = 100e6

/** Fewer files would be no load. */
const FILES_MIN = 5000

/** How much more the heap may hold after its collections at the end than at the beginning: paths of files are kept. */
const HEAP_GROWTH_MAX = 8e6

/** From an answer to the next question, in milliseconds. */
const EVERY_MS = 250

const { values } = parseArgs({
  options: {
    folder: { type: 'string' },
    files: { type: 'string', default: String(FILES_MIN) },
    minutes: { type: 'string', default: '10' },
    'no-legacy': { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false }
  }
})
if (values.help) {
  console.log('usage: npm run v8-safety -- [--folder PATH | --files 5000] [--minutes 10] [--no-legacy]')
  process.exit()
}

const temporary = realpathSync(mkdtempSync(join(tmpdir(), 'embed-v8-')))
process.once('exit', () => rmSync(temporary, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 }))
const folder = realpathSync(values.folder ?? makeTree(join(temporary, 'tree'), Number(values.files)))
const questions = JSON.parse(readFileSync(join(root, 'test', 'questions.json'), 'utf8')).map(({ question }) => question)

const node = await restingNode()
const sdk = await restingServer()
console.log(`${folder}, V8's old space bounded to ${HEAP_MIB} MiB`)
console.log(`Node alone ${megabytes(node)}, a server of the SDK that does nothing ${megabytes(sdk)}\n`)

const sides = [await run('true')]
const hasLegacy = existsSync(join(root, 'legacy', 'node_modules', 'node-llama-cpp'))
if (!values['no-legacy'] && hasLegacy) sides.push(await run('false'))
if (!values['no-legacy'] && !hasLegacy) console.log('the legacy embedder is not installed: `npm run legacy`\n')

const row = (name, figure) => [name, ...sides.map((side) => figure(side) ?? 'not known')]
const ms = (value) => (value === undefined ? 'none' : `${value.toFixed(0)} ms`)
console.log(aligned([
  ['', ...sides.map(({ name }) => name)],
  row('files gone through', ({ job }) => `${job.done} of ${job.files}`),
  row('of them embedded', ({ job }) => `${job.embedded}, ${job.passages} passages`),
  row('passages a second', ({ job, seconds }) => (job.passages / seconds).toFixed(0)),
  row('how it ended', ({ job, died }) => died ?? job.state),
  row('questions answered meanwhile', ({ times, refused }) => `${times.length}, ${refused} refused`),
  row('a question, median and worst', ({ times }) => `${ms(quantile(times, 0.5))}, ${ms(quantile(times, 1))}`),
  row('Node, resident, most', ({ rss }) => megabytes(rss)),
  row('V8 heap, most', ({ heaps }) => megabytes(Math.max(...heaps))),
  row('V8 heap, growth', ({ heaps }) => megabytes(growth(heaps))),
  row('worker, own, most', ({ worker }) => (worker ? megabytes(worker) : 'none'))
]))

const [{ job, died, rss, heaps, times, refused }] = sides
const rssMax = NODE_BYTES_MAX + Math.max(0, sdk - node)
const bounds = [
  ['files', `>= ${FILES_MIN}`, String(job.files), job.files >= FILES_MIN],
  ['indexed to the end', 'done', died ?? job.state, job.state === 'done' && !died],
  ['files without vectors', '0', String(job.failed), job.failed === 0],
  ['Node, resident', `< ${megabytes(rssMax)}`, megabytes(rss), rss < rssMax],
  ['growth of the heap', `< ${megabytes(HEAP_GROWTH_MAX)}`, megabytes(growth(heaps)), growth(heaps) < HEAP_GROWTH_MAX],
  ['questions answered meanwhile', 'all', `${times.length} of ${times.length + refused}`, times.length > 0 && refused === 0]
]
console.log(`\n${aligned([['', 'wanted', 'found', ''], ...bounds.map(([name, wanted, found, ok]) => [name, wanted, found, ok ? '' : 'BROKEN'])])}`)
if (bounds.some(([, , , ok]) => !ok)) process.exitCode = 1

/** Indexes the folder with one embedder and asks meanwhile. */
async function run(external) {
  const dir = join(temporary, external)
  for (const name of ['index', 'run', 'cache']) mkdirSync(join(dir, name), { recursive: true, mode: 0o700 })
  const runtime = join(dir, 'run')
  const env = { ...process.env, USE_EXTERNAL_EMBEDDER: external, EMBED_MCP_DIR: join(dir, 'index'), EMBED_RUNTIME_DIR: runtime, EMBED_CACHE_DIR: join(dir, 'cache'), EMBED_IDLE_TIMEOUT: '1' }
  const { client, pid, ended } = await connect([`--max-old-space-size=${HEAP_MIB}`, join(root, 'server.mjs'), folder], env)
  const call = async (name, args, options) => (await client.callTool({ name, arguments: args }, undefined, options)).structuredContent
  const side = { name: external === 'true' ? 'external' : 'legacy', heaps: [], times: [], refused: 0, rss: 0, worker: 0 }
  const begin = performance.now()
  const minutes = Number(values.minutes)
  const bound = { timeout: 60_000 * minutes + 60_000 }
  let over = false
  const indexing = call('index', { folder, waitSeconds: 60 * minutes }, bound).finally(() => (over = true))
  // What it says before it dies, if it dies.
  indexing.catch(() => {})
  try {
    for (let n = 0; !over; n++) {
      await Promise.race([indexing, pause(EVERY_MS)])
      const asked = performance.now()
      const { structuredContent, content, isError } = await client.callTool({ name: 'search', arguments: { query: questions[n % questions.length] } }, undefined, bound)
      if (!isError && structuredContent.incomplete) side.times.push(performance.now() - asked)
      // Before the first file has its vectors there is nothing to be found.
      else if (isError && !content[0].text.includes('nothing is indexed')) side.refused++
      const { memory, jobs } = await call('status', {}, bound)
      side.job = jobs[0] ?? side.job
      side.heaps.push(memory.heapUsed)
      side.rss = Math.max(side.rss, memory.rss, residentOf(pid) ?? 0)
      if (external === 'true') side.worker = Math.max(side.worker, ...workersOf(runtime).map((pid) => anonymousOf(pid) ?? 0))
    }
    side.job = await indexing
  } catch (error) {
    side.died = await Promise.race([ended, pause(1000, error.message)])
    side.job ??= { files: 0, done: 0, embedded: 0, passages: 0, failed: 0 }
  }
  side.seconds = (performance.now() - begin) / 1000
  await client.close().catch(() => {})
  return side
}

/** A client of a server in a process of its own; `ended` tells how that ended. */
async function connect(args, env = process.env) {
  const transport = new StdioClientTransport({ command: process.execPath, args, env, stderr: 'pipe' })
  const client = new Client({ name: 'v8-safety', version: '1' })
  let said = ''
  transport.stderr.on('data', (text) => (said = (said + text).slice(-4000)))
  const ended = new Promise((resolve) => {
    client.onclose = () => resolve(/FATAL ERROR: .*/.exec(said)?.[0] ?? 'the server has ended')
  })
  await client.connect(transport)
  return { client, pid: transport.pid, ended }
}

/** Resident bytes of a server that has been asked once. */
async function restingServer() {
  const { client, pid } = await connect([`--max-old-space-size=${HEAP_MIB}`, join(root, 'scripts', 'bare-server.mjs')])
  await client.listTools()
  await client.callTool({ name: 'nothing', arguments: {} })
  const bytes = residentOf(pid) ?? 0
  await client.close()
  return bytes
}

/** Resident bytes of a Node that does nothing. */
async function restingNode() {
  const end = spawnSync(process.execPath, [`--max-old-space-size=${HEAP_MIB}`, '--print', 'process.memoryUsage().rss'], { encoding: 'utf8' })
  return Number(end.stdout)
}

/** How much more a heap holds after its collections in its last third than in its second. */
function growth(heaps) {
  const third = Math.max(1, Math.floor(heaps.length / 3))
  const least = (part) => part.reduce((a, b) => Math.min(a, b), Infinity)
  return Math.max(0, least(heaps.slice(-third)) - least(heaps.slice(third, 2 * third + 1)))
}

function quantile(values, share) {
  return values.toSorted((a, b) => a - b)[Math.min(values.length - 1, Math.floor(share * values.length))]
}

/** Files of some lines that look like a program's, always the same ones. */
function makeTree(dir, n) {
  const words = 'account archive batch buffer cache channel client cursor delta driver engine event filter frame graph handle index journal kernel label matrix node offset packet query range sample table unit vector window'.split(' ')
  let state = 1
  const word = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return words[state % words.length]
  }
  for (let i = 0; i < n; i++) {
    const file = join(dir, `module${i % 50}`, `${word()}-${i}.js`)
    mkdirSync(dirname(file), { recursive: true })
    const lines = Array.from({ length: 12 }, () => `  const ${word()}${i} = ${word()}(${word()}, ${word()})  // the ${word()} of a ${word()}`)
    writeFileSync(file, `export function ${word()}() {\n${lines.join('\n')}\n}\n`)
  }
  return dir
}
