// Embeds with node-llama-cpp: the model is in this process, as it was before @embed/client.
//
// It stands here for a move: run both, compare them (`npm run ab`), then delete this folder and its line
// in src/providers/provider.mjs.

import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'

import { log } from '../src/log.mjs'
import { PROBE, tagOf } from '../src/providers/provider.mjs'

/** The file that @embed/client takes by default, so that both take the same. */
const DEFAULT_MODEL = 'models/all-MiniLM-L6-v2.Q8_0.gguf'

/** Header and vocabulary of most files are within their first so many bytes. */
const HEADER_BYTES = 1024 * 1024

/** Tokens that a model puts around a text. */
const SPECIAL_TOKENS = 2

/** @implements {import('../src/providers/provider.mjs').EmbeddingProvider} */
export class LegacyProvider {
  name = 'legacy'
  #file = process.env.EMBED_MODEL || defaultModel()
  #llama
  #model
  #context

  async open() {
    if (!this.#context) await this.#load()
    const probe = await this.#vector(PROBE)
    return {
      name: basename(this.#file),
      dimensions: probe.length,
      contextTokens: this.#model.trainContextSize,
      tag: tagOf(this.name, await headerOf(this.#file), probe)
    }
  }

  async embed(texts, { signal }) {
    const results = []
    // One after the other: the library computes no two texts at once, and a question comes in between.
    for (const text of texts) {
      signal?.throwIfAborted()
      results.push(await this.#vector(text).catch((error) => error))
    }
    return results
  }

  async close() {
    await this.#llama?.dispose()
  }

  async #load() {
    const { getLlama } = await import('node-llama-cpp').catch((error) => {
      throw new Error('node-llama-cpp: is not installed; run `npm run legacy`, or leave USE_EXTERNAL_EMBEDDER alone', { cause: error })
    })
    const quiet = { build: 'never', skipDownload: true, progressLogs: false, logLevel: 'error' }
    this.#llama = await getLlama({ ...quiet, gpu: false, logger: (_level, message) => log(message.trim()) })
    this.#model = await this.#llama.loadModel({ modelPath: this.#file })
    // It refuses a text that fills its context to the last token.
    this.#context = await this.#model.createEmbeddingContext({ contextSize: this.#model.trainContextSize + 1 })
  }

  async #vector(text) {
    const tokens = this.#model.tokenize(text).length + SPECIAL_TOKENS
    if (tokens > this.#model.trainContextSize) {
      const message = `text: ${tokens} tokens, the model reads ${this.#model.trainContextSize}`
      throw Object.assign(new Error(message), { code: 'EMBED_TEXT_TOO_LONG' })
    }
    const { vector } = await this.#context.getEmbeddingFor(text)
    const length = Math.hypot(...vector)
    return Float32Array.from(vector, (value) => value / length)
  }
}

function defaultModel() {
  const { resolve } = createRequire(import.meta.url)
  return join(dirname(resolve('@embed/client/package.json')), DEFAULT_MODEL)
}

async function headerOf(file) {
  const handle = await open(file)
  try {
    const { size } = await handle.stat()
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(HEADER_BYTES), 0, HEADER_BYTES, 0)
    return createHash('sha256').update(`${size}\n`).update(buffer.subarray(0, bytesRead)).digest('hex')
  } finally {
    await handle.close()
  }
}
