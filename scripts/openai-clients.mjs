// The endpoint over HTTP, asked by the clients that people use: OpenAI's own, and LangChain's.
//
//   node scripts/openai-clients.mjs
//
// Builds what is missing, installs the two clients into a folder of its own, starts a worker and compares
// what comes with what `embed` answers. Not part of `npm test`: it needs the npm registry.

import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'

import { Failure, build, report, root, worker } from './build.mjs'

/** The last ones that run on Node 20. */
const CLIENTS = { openai: '6.49.0', '@langchain/openai': '1.5.8', '@langchain/core': '1.4.0' }

const TEXTS = ['The quick brown fox', '', 'naïve café, 東京', 'x '.repeat(300)]

/** Longer than any worker takes to start. */
const START_MS = 30_000

/** Installs the clients; gives a function that imports them. */
function install(folder) {
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, dependencies: CLIENTS }))
  const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm'
  const options = { cwd: folder, stdio: ['ignore', 2, 2], shell: process.platform === 'win32' }
  const { status } = spawnSync(npm, ['install', '--no-audit', '--no-fund', '--ignore-scripts'], options)
  if (status !== 0) throw new Failure('npm install: failed; this needs the npm registry')
  const require = createRequire(join(folder, 'package.json'))
  return (name) => import(pathToFileURL(require.resolve(name)))
}

/** Starts a worker over HTTP; gives its process and its address. */
async function serve(env) {
  const child = spawn(worker, ['serve', '--http', '0'], { env, stdio: ['ignore', 'pipe', 'inherit'], windowsHide: true })
  const timer = setTimeout(() => child.kill(), START_MS)
  for await (const line of createInterface({ input: child.stdout })) {
    clearTimeout(timer)
    const { ready, error } = JSON.parse(line)
    if (error) throw new Failure(error.message)
    return { child, url: `${ready.http}/v1` }
  }
  throw new Failure('worker: ended before it was ready')
}

/** Every component the same, to the last bit: both ways carry the floats themselves. */
function assertSame(found, wanted, what) {
  assert.equal(found.length, wanted.length, what)
  for (const [index, vector] of found.entries()) {
    assert.deepEqual(Float32Array.from(vector), wanted[index], `${what}, text ${index}`)
  }
}

/** The official client. */
async function openai(load, options, wanted, embed) {
  const { default: OpenAI } = await load('openai')
  const client = new OpenAI({ baseURL: options.url, apiKey: options.key, maxRetries: 0 })
  const model = 'all-MiniLM-L6-v2'
  const vectors = ({ data }) => data.map(({ embedding }) => embedding)
  // Without a format the client asks for base64 and decodes it; with one it takes numbers.
  for (const format of [{}, { encoding_format: 'float' }]) {
    const many = await client.embeddings.create({ model, input: TEXTS, ...format })
    assertSame(vectors(many), wanted, JSON.stringify(format))
    assert.equal(many.model, model)
    assert.ok(many.usage.prompt_tokens > 300 && many.usage.total_tokens === many.usage.prompt_tokens)
    const one = await client.embeddings.create({ model, input: TEXTS[0], ...format })
    assertSame(vectors(one), wanted.slice(0, 1), 'one text')
  }
  const short = await client.embeddings.create({ model, input: TEXTS[0], dimensions: 64 })
  assertSame(vectors(short), [await embed(TEXTS[0], { dimensions: 64 })], 'dimensions')
  // `hello world` as this model's own tokenizer has it.
  const tokens = await client.embeddings.create({ model, input: [101, 7592, 2088, 102] })
  assertSame(vectors(tokens), [await embed('hello world')], 'tokens')
  const models = await client.models.list()
  assert.ok(models.data.some(({ id }) => id === model))
  assert.equal((await client.models.retrieve(model)).id, model)
  const refusals = [
    [{ model: 'gpt-4o', input: 'a' }, OpenAI.NotFoundError, 'model_not_found'],
    [{ model, input: 'x '.repeat(1000) }, OpenAI.BadRequestError, 'EMBED_TEXT_TOO_LONG'],
    [{ model, input: 'a', dimensions: 9999 }, OpenAI.BadRequestError, 'EMBED_BAD_ARGUMENT']
  ]
  for (const [request, type, code] of refusals) {
    await assert.rejects(client.embeddings.create(request), (error) => error instanceof type && error.code === code)
  }
  const stranger = new OpenAI({ baseURL: options.url, apiKey: 'sk-wrong-wrong-wrong', maxRetries: 0 })
  await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError)
}

/** LangChain's class. */
async function langchain(load, options, wanted) {
  const { OpenAIEmbeddings } = await load('@langchain/openai')
  const embeddings = new OpenAIEmbeddings({
    model: 'all-MiniLM-L6-v2',
    apiKey: options.key,
    // It makes blanks of line ends, unless it is told not to.
    stripNewLines: false,
    batchSize: 3,
    maxRetries: 0,
    configuration: { baseURL: options.url }
  })
  assertSame(await embeddings.embedDocuments(TEXTS), wanted, 'documents')
  assertSame([await embeddings.embedQuery(TEXTS[2])], [wanted[2]], 'a query')
}

await report(async () => {
  build()
  const folder = mkdtempSync(join(tmpdir(), 'embed-openai-'))
  const key = 'sk-of-a-test-0123456789'
  let running
  try {
    process.env.EMBED_RUNTIME_DIR = join(folder, 'run')
    process.env.EMBED_CACHE_DIR = join(folder, 'cache')
    process.env.EMBED_IDLE_TIMEOUT = '0'
    const load = install(folder)
    running = await serve({ ...process.env, EMBED_API_KEY: key })
    const { embed } = createRequire(import.meta.url)(root)
    const wanted = await embed(TEXTS)
    const options = { url: running.url, key }
    await openai(load, options, wanted, embed)
    console.log(`openai ${CLIENTS.openai}: right vectors, errors of the right classes`)
    await langchain(load, options, wanted)
    console.log(`@langchain/openai ${CLIENTS['@langchain/openai']}: right vectors`)
  } finally {
    if (running) {
      const ended = new Promise((resolve) => running.child.once('exit', resolve))
      running.child.kill()
      await ended
    }
    rmSync(folder, { recursive: true, force: true })
  }
})
