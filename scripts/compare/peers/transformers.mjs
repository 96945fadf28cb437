// transformers.js on onnxruntime-node, with an int8 ONNX file of the same model.

import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

/** A batch is padded to its longest text: many texts go in small ones, of texts of about one length. */
const BATCH = 16

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
  const order = Array.from(texts.keys()).sort((a, b) => texts[a].length - texts[b].length)
  const vectors = Array(texts.length)
  for (let start = 0; start < order.length; start += BATCH) {
    const batch = order.slice(start, start + BATCH)
    const tensor = await extract(batch.map((i) => texts[i]), { pooling: 'mean', normalize: true })
    const width = tensor.dims.at(-1)
    batch.forEach((i, row) => (vectors[i] = tensor.data.slice(row * width, (row + 1) * width)))
    tensor.dispose()
  }
  return vectors
}

export async function close() {
  await extract?.dispose()
}

export const pids = () => [process.pid]
