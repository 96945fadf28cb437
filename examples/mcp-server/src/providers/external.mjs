// Embeds with @embed/client: the model is in a process of its own, shared with all other servers.

import { embed } from '@embed/client'

import { PROBE, tagOf } from './provider.mjs'

/** How long one passage may take, in milliseconds. Other servers may be indexing, too. */
const DOCUMENT_MS = 120_000

/** @implements {import('./provider.mjs').EmbeddingProvider} */
export class ExternalProvider {
  name = 'external'
  #probe
  /** Whether the model's own words for a task may be asked for. */
  #takesTasks

  async open() {
    const { probe, takesTasks } = await this.#embedProbe()
    this.#takesTasks = takesTasks
    this.#probe = probe
    const { name, dimensions, contextTokens, fingerprint } = probe.model
    return { name, dimensions, contextTokens, tag: tagOf(this.name, fingerprint, probe) }
  }

  async embed(texts, { task, signal }) {
    const lane = task === 'query' ? { priority: 'interactive' } : { priority: 'bulk', timeoutMs: DOCUMENT_MS }
    const options = { ...lane, signal }
    // The model's file may be replaced at any time, and the next worker embeds with what is there then.
    // A text's vector is the same, bit for bit, as long as the model is.
    const [vectors, [probe]] = await Promise.all([
      this.#embed(texts, { ...options, ...(this.#takesTasks && { task }) }),
      this.#embed([PROBE], { ...options, ...(this.#takesTasks && { task: 'document' }) })
    ])
    const { fingerprint } = this.#probe.model
    const isOther = (vector) => vector.model !== undefined && vector.model.fingerprint !== fingerprint
    if (!(probe instanceof Error) && !isSame(probe, this.#probe)) throw new ModelChanged()
    if (vectors.some(isOther)) throw new ModelChanged()
    return vectors
  }

  async close() {}

  /** The vector of a document, made as all others will be. */
  async #embedProbe() {
    const options = { priority: 'interactive' }
    try {
      const [probe] = await this.#embed([PROBE], { ...options, task: 'document' })
      return { probe, takesTasks: true }
    } catch (error) {
      if (error.code !== 'EMBED_BAD_ARGUMENT') throw error
      // It is not known which words this model wants before questions and documents: none, then.
      const [probe] = await this.#embed([PROBE], options)
      return { probe, takesTasks: false }
    }
  }

  /** Never the fallback of `EMBED_FALLBACK`: hash embeddings do not belong in an index. */
  async #embed(texts, options) {
    try {
      return await embed(texts, { ...options, fallback: 'none' })
    } catch (error) {
      if (error.code === 'EMBED_BATCH') return error.results
      throw error
    }
  }
}

/** Bit for bit. */
const isSame = (a, b) => Buffer.compare(Buffer.from(a.buffer), Buffer.from(b.buffer)) === 0

/** The model is another one than when the index was opened. */
export class ModelChanged extends Error {
  code = 'MODEL_CHANGED'

  constructor() {
    super('the model was replaced by another one; try again')
  }
}
