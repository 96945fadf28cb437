// Vectors for passages, whatever becomes of the worker meanwhile.

import { setTimeout as pause } from 'node:timers/promises'

import { halves } from './passages.mjs'

/** What another try may mend. Anything else is the model's fault, or ours. */
const PASSING = new Set(['EMBED_WORKER_UNAVAILABLE', 'EMBED_TIMEOUT', 'EMBED_OVERLOADED', 'EMBED_SHUTTING_DOWN', 'EMBED_INTERNAL'])

/** Pauses before another try, in milliseconds: in all, longer than the client's own first spell without tries. */
const PAUSES_MS = [500, 1000, 2000, 4000, 8000]

/**
 * `passages` with a `vector` or an `error` each. One that the model finds too long comes back as
 * several. Each is embedded with the `path` of its file before it, which often says what it is about.
 */
export async function withVectors(passages, provider, signal) {
  const texts = passages.map(({ path, text }) => `${path}\n${text}`)
  const results = await persistently(texts, provider, signal)
  const found = await Promise.all(
    passages.map(async (passage, i) => {
      const result = results[i]
      if (!(result instanceof Error)) return { ...passage, vector: result }
      const parts = result.code === 'EMBED_TEXT_TOO_LONG' ? halves(passage) : undefined
      if (!parts) return { ...passage, error: result }
      return withVectors(parts.map((part) => ({ ...passage, ...part })), provider, signal)
    })
  )
  return found.flat()
}

/** A vector or an error for each text; those that passing trouble has cost are tried again. */
async function persistently(texts, provider, signal) {
  const results = Array(texts.length)
  let left = texts.map((_, i) => i)
  for (let tries = 0; ; tries++) {
    const answers = await embed(left.map((i) => texts[i]), provider, signal)
    left.forEach((i, n) => (results[i] = answers[n]))
    left = left.filter((i) => PASSING.has(results[i]?.code))
    if (left.length === 0 || tries === PAUSES_MS.length) return results
    await pause(PAUSES_MS[tries], undefined, { signal })
  }
}

async function embed(texts, provider, signal) {
  try {
    return await provider.embed(texts, { task: 'document', signal })
  } catch (error) {
    if (!PASSING.has(error.code)) throw error
    return texts.map(() => error)
  }
}
