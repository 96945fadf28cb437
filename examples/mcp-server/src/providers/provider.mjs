// The one interface behind which the two embedders stand, and the switch between them.

/**
 * What an embedder is of.
 *
 * @typedef {object} Model
 * @property {string} name what people call it
 * @property {number} dimensions length of a vector
 * @property {number} contextTokens most tokens in one text
 * @property {string} tag differs whenever vectors must not be compared with earlier ones
 */

/**
 * @typedef {object} EmbeddingProvider
 * @property {string} name
 * @property {() => Promise<Model>} open
 *   Gets ready: after it the first text costs no more than any other. May be called again.
 * @property {(texts: string[], how: { task: 'query' | 'document', signal?: AbortSignal })
 *   => Promise<(Float32Array | Error)[]>} embed
 *   A vector of unit length for each text, or why it has none; rejects if no text can have one.
 *   A question goes before documents. An error of a text that is too long has the code
 *   EMBED_TEXT_TOO_LONG.
 * @property {() => Promise<void>} close
 */

import { createHash } from 'node:crypto'

/** A text whose vector tells weights apart, which a fingerprint of a file's header cannot. */
export const PROBE = 'The quick brown fox jumps over the lazy dog.'

/** A tag of all that makes vectors comparable: whose they are, and one of them, bit for bit. */
export function tagOf(name, fingerprint, probe) {
  const bits = new Uint8Array(probe.buffer, probe.byteOffset, probe.byteLength)
  const digest = createHash('sha256').update(`${name}\n${fingerprint}\n`).update(bits).digest('hex')
  return `${name}-${digest.slice(0, 20)}`
}

/** `USE_EXTERNAL_EMBEDDER`: whether to embed in a process of its own, or in this one. Default: true. */
export function wantsExternal(env = process.env) {
  const value = env.USE_EXTERNAL_EMBEDDER || 'true'
  if (value !== 'true' && value !== 'false') throw new Error(`USE_EXTERNAL_EMBEDDER: is ${value}, must be true or false`)
  return value === 'true'
}

/** The provider that the environment chooses. @returns {Promise<EmbeddingProvider>} */
export async function provider(env = process.env) {
  // Loaded only if chosen.
  if (wantsExternal(env)) return new (await import('./external.mjs')).ExternalProvider()
  return new (await import('../../legacy/provider.mjs')).LegacyProvider()
}
