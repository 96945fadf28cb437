// This package, as its users call it. EMBED_THREADS and EMBED_RUNTIME_DIR come with the environment.

import { processesWith } from '../memory.mjs'

/** A thousand texts of a large model wait longer than a user would let them. */
const TIMEOUT_MS = 3_600_000

let embedTexts
let model

export async function open(file) {
  ;({ embed: embedTexts } = await import('../../../index.js'))
  model = file
}

export async function embed(texts) {
  const options = { model, timeoutMs: TIMEOUT_MS }
  return texts.length === 1 ? [await embedTexts(texts[0], options)] : embedTexts(texts, options)
}

/** The worker ends by itself when this process has. */
export async function close() {}

export function pids() {
  return [process.pid, ...processesWith(' serve ', process.env.EMBED_RUNTIME_DIR)]
}
