// node-llama-cpp, in process, with the CPU build that its npm package brings.
//
// One context computes one text at a time, whatever a caller does: more than one text at once is
// queued by its lock.

import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

let llama
let context

export async function open(model, { peers, threads, context: tokens }) {
  const { getLlama } = await import(pathToFileURL(join(peers, 'node-llama-cpp', 'entry.mjs')).href)
  llama = await getLlama({
    gpu: false,
    build: 'never',
    skipDownload: true,
    logLevel: 'error',
    progressLogs: false,
    maxThreads: threads
  })
  const loaded = await llama.loadModel({ modelPath: model })
  // It refuses a text that fills its context to the last token.
  context = await loaded.createEmbeddingContext({ threads, contextSize: tokens + 1 })
}

export async function embed(texts) {
  const embeddings = await Promise.all(texts.map((text) => context.getEmbeddingFor(text)))
  return embeddings.map(({ vector }) => Float32Array.from(vector))
}

export async function close() {
  await llama?.dispose()
}

export const pids = () => [process.pid]
