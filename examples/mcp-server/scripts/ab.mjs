// Both embedders side by side, on the same file and texts: do their vectors agree, and what do they cost?
//
//   npm run ab
//   npm run ab -- FOLDER --questions 10
//
// FOLDER's passages are embedded, and the first questions of the tests; default: the corpus and all of the tests.
// Each runs in a Node process of its own. EMBED_MODEL names the file. The exit code is 1 if they disagree.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

import { read, walk } from '../src/files.mjs'
import { passages } from '../src/passages.mjs'
import { Skipped } from '../src/regular.mjs'
import { anonymousOf, workersOf } from './memory.mjs'
import { aligned, megabytes } from './table.mjs'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const { values, positionals: [folder = join(root, 'test', 'corpus')] } = parseArgs({
  allowPositionals: true,
  options: { questions: { type: 'string', default: '30' } }
})
const corpus = realpathSync(resolve(folder))

/** More passages make the slower side's run longer, and nothing clearer. */
const PASSAGES_MAX = 2000

/** Below it two vectors are not the same model's. What is lost are roundings of quantized arithmetic. */
const COSINE_MIN = 0.99

const runtime = join(mkdtempSync(join(tmpdir(), 'embed-ab-')), 'run')
mkdirSync(runtime, { mode: 0o700 })
process.once('exit', () => rmSync(dirname(runtime), { recursive: true, force: true, maxRetries: 20, retryDelay: 50 }))

const documents = await textsOf(corpus)
const questions = JSON.parse(readFileSync(join(root, 'test', 'questions.json'), 'utf8'))
  .slice(0, Number(values.questions))
  .map(({ question }) => question)
console.log(`${documents.length} passages of ${corpus}, ${questions.length} questions`)
const sides = []
for (const external of ['true', 'false']) sides.push(await side(external))
const [ours, legacy] = sides

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1]
const milliseconds = (ms) => `${ms.toFixed(1)} ms`
const row = (name, figure) => [name, ...sides.map(figure)]
console.log(`\n${aligned([
  ['', ...sides.map(({ name }) => name)],
  row('ready', ({ openMs }) => milliseconds(openMs)),
  row('passages', ({ documentsMs }) => `${((1000 * documents.length) / documentsMs).toFixed(0)} /s`),
  row('a question, median', ({ questionsMs }) => milliseconds(median(questionsMs))),
  row('Node, resident', ({ memory }) => megabytes(memory.rss)),
  row('Node, own', ({ anonymous }) => megabytes(anonymous)),
  row('V8 heap', ({ memory }) => megabytes(memory.heapUsed)),
  row('worker, own', ({ worker }) => (worker === undefined ? 'none' : megabytes(worker)))
])}`)

// A text that one of them has refused as too long has no vector there.
const both = [...documents.keys()].filter((i) => sides.every(({ vectors }) => vectors[i] instanceof Float32Array))
const cosines = both.map((i) => dot(ours.vectors[i], legacy.vectors[i])).concat(questions.map((_, i) => dot(ours.asked[i], legacy.asked[i])))
const best = ({ vectors, asked }, i) => both.map((n) => [dot(vectors[n], asked[i]), n]).sort(([a], [b]) => b - a).slice(0, 3).map(([, n]) => n)
const sameFirst = questions.filter((_, i) => best(ours, i)[0] === best(legacy, i)[0]).length
const common = questions.map((_, i) => best(ours, i).filter((n) => best(legacy, i).includes(n)).length)
const worst = Math.min(...cosines)
console.log(`\n${aligned([
  ['agreement', 'found'],
  ['texts with a vector from both', `${both.length + questions.length} of ${documents.length + questions.length}`],
  ['cosine, median', median(cosines).toFixed(5)],
  ['cosine, worst', worst.toFixed(5)],
  ['questions with the same best passage', `${sameFirst} of ${questions.length}`],
  ['of the best three, the same', `${common.reduce((a, b) => a + b, 0)} of ${3 * questions.length}`]
])}`)
if (!(worst >= COSINE_MIN)) {
  console.log(`\nworst cosine: wanted >= ${COSINE_MIN}, found ${worst.toFixed(5)}  BROKEN`)
  process.exitCode = 1
}

/** The passages of a folder, as the server embeds them. */
async function textsOf(folder) {
  const texts = []
  for await (const { path, skipped } of walk(folder)) {
    if (skipped || texts.length >= PASSAGES_MAX) continue
    try {
      const { text } = await read(folder, path)
      texts.push(...passages(text).map(({ text }) => `${path}\n${text}`))
    } catch (error) {
      if (!(error instanceof Skipped)) throw error
    }
  }
  return texts.slice(0, PASSAGES_MAX)
}

/** Runs one embedder over everything and gives what it has found. */
async function side(external) {
  const child = fork(join(root, 'scripts', 'ab-side.mjs'), {
    env: { ...process.env, USE_EXTERNAL_EMBEDDER: external, EMBED_RUNTIME_DIR: runtime, EMBED_IDLE_TIMEOUT: '1' },
    serialization: 'advanced'
  })
  child.send({ documents, questions })
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`USE_EXTERNAL_EMBEDDER=${external}: ended with exit code ${code}`)
  })
  const [outcome] = await Promise.race([once(child, 'message'), ended])
  ended.catch(() => {})
  const workers = external === 'true' ? workersOf(runtime).map(anonymousOf) : []
  const found = { ...outcome, anonymous: anonymousOf(child.pid), worker: workers[0] }
  child.send('done')
  await once(child, 'exit')
  return found
}

function dot(a, b) {
  return a.reduce((sum, value, i) => sum + value * b[i], 0)
}
