// Models by name: found in the Hugging Face cache, and fetched only if the user has said so.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, beforeEach, test } from 'node:test'

import { embed } from '../index.js'
import { root, useRuntime } from './support/runtime.mjs'

useRuntime()

const MODEL = join(root, 'models', 'all-MiniLM-L6-v2.Q8_0.gguf')
const NAME = 'owner/name:model.gguf'

let bytes
let hub
let downloads

before(async () => {
  bytes = readFileSync(MODEL)
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  hub = createServer((request, response) => {
    if (!request.url.startsWith('/owner/name/resolve/main/')) {
      response.writeHead(404, { 'X-Error-Code': 'EntryNotFound' }).end()
      return
    }
    response.writeHead(200, { 'Content-Length': bytes.length, ETag: `"${sha256}"`, 'X-Repo-Commit': 'a'.repeat(40) })
    if (request.method === 'HEAD') return response.end()
    downloads += 1
    response.end(bytes)
  })
  await new Promise((resolve) => hub.listen(0, '127.0.0.1', resolve))
  process.env.HF_ENDPOINT = `http://127.0.0.1:${hub.address().port}`
  for (const name of ['HF_HUB_CACHE', 'HUGGINGFACE_HUB_CACHE', 'HF_HUB_OFFLINE', 'HTTP_PROXY', 'http_proxy', 'ALL_PROXY', 'all_proxy']) {
    delete process.env[name]
  }
})

after(() => hub.close())

beforeEach(() => {
  downloads = 0
  const home = mkdtempSync(join(tmpdir(), 'embed-hf-'))
  // When the workers have gone that have its files mapped: Windows removes none before.
  process.once('exit', () => rmSync(home, { recursive: true, force: true }))
  process.env.HF_HOME = home
  delete process.env.EMBED_AUTO_PULL
})

test('a model that is not here is an error that names the command', async () => {
  await assert.rejects(embed('a text', { model: NAME }), (error) => {
    assert.equal(error.code, 'EMBED_MODEL_NOT_FOUND')
    assert.match(error.message, /embed-worker(\.exe)?" pull owner\/name:model\.gguf`, or set EMBED_AUTO_PULL=1/)
    return true
  })
  await assert.rejects(embed('a text', { model: 'bge-m3' }), { code: 'EMBED_MODEL_NOT_FOUND' })
  await assert.rejects(embed('a text', { model: 'owner/name:../x' }), { code: 'EMBED_BAD_ARGUMENT' })
  assert.equal(downloads, 0)
})

test('with EMBED_AUTO_PULL it is fetched once, and found from then on', async () => {
  const wanted = await embed('a text', { model: MODEL })
  process.env.EMBED_AUTO_PULL = '1'
  const [one, [many]] = await Promise.all([embed('a text', { model: NAME }), embed(['a text'], { model: NAME })])
  assert.deepEqual(one, wanted)
  assert.deepEqual(many, wanted)
  assert.equal(downloads, 1)
  delete process.env.EMBED_AUTO_PULL
  assert.deepEqual(await embed('a text', { model: NAME }), wanted)
  process.env.EMBED_MODEL = NAME
  try {
    assert.deepEqual(await embed('a text'), wanted)
  } finally {
    delete process.env.EMBED_MODEL
  }
  assert.equal(downloads, 1)
})

test('a download that fails says why', async () => {
  process.env.EMBED_AUTO_PULL = '1'
  await assert.rejects(embed('a text', { model: 'owner/other:model.gguf' }), (error) => {
    assert.equal(error.code, 'EMBED_MODEL_NOT_FOUND')
    assert.match(error.message, /cannot be fetched: .*has no such file/)
    return true
  })
})

test('the model that ships has a name, too', async () => {
  assert.deepEqual(await embed('a text', { model: 'all-MiniLM-L6-v2' }), await embed('a text', { model: MODEL }))
})
