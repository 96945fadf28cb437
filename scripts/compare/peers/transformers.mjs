// transformers.js on onnxruntime-node, with an int8 ONNX file of the same model.

import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

/**
 * A batch is padded to its longest text, so that many texts go in small ones of about one length.
 * In characters, padding included; of what was tried the fastest, by some 10 % before batches of 16.
 */
const BATCH_CHARACTERS = 2000

let extract

export async function open(_model, { peers, threads }) {
  const { env, pipeline } = await import(pathToFileURL(join(peers, 'transformers', 'entry.mjs')).href)
  env.allowRemoteModels = false
  env.localModelPath = join(peers, 'models')
  extract = await pipeline('feature-extraction', 'all-MiniLM-L6-v2', {
    dtype: 'q8',
    device: 'cpu',
    session_options: { intraOpNumThreads: threads, interOpNumThreads: 1 }
  })
}

export async function embed(texts) {
  const vectors = Array(texts.length)
  for (const batch of batches(texts)) {
    const tensor = await extract(batch.map((i) => texts[i]), { pooling: 'mean', normalize: true })
    const width = tensor.dims.at(-1)
    batch.forEach((i, row) => (vectors[i] = tensor.data.slice(row * width, (row + 1) * width)))
    tensor.dispose()
  }
  return vectors
}

/** Indices of the texts, from short to long. */
function batches(texts) {
  const all = [[]]
  for (const i of Array.from(texts.keys()).sort((a, b) => texts[a].length - texts[b].length)) {
    const last = all.at(-1)
    if (last.length > 0 && (last.length + 1) * texts[i].length > BATCH_CHARACTERS) all.push([i])
    else last.push(i)
  }
  return all
}

export async function close() {
  await extract?.dispose()
}

export const pids = () => [process.pid]
