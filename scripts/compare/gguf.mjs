// The metadata of a GGUF file: what the comparison has to know of a model before anybody loads it.

import { closeSync, openSync, readSync } from 'node:fs'

import { Failure } from '../build.mjs'

/** The vocabularies of today's models take a tenth of it. */
const METADATA_MAX = 64 * 1024 * 1024

/** By type id: how a number is read, and its size. */
const NUMBERS = {
  0: ['readUInt8', 1],
  1: ['readInt8', 1],
  2: ['readUInt16LE', 2],
  3: ['readInt16LE', 2],
  4: ['readUInt32LE', 4],
  5: ['readInt32LE', 4],
  6: ['readFloatLE', 4],
  7: ['readUInt8', 1],
  10: ['readBigUInt64LE', 8],
  11: ['readBigInt64LE', 8],
  12: ['readDoubleLE', 8]
}
const STRING = 8
const ARRAY = 9

/** All keys and values of a file, as a plain object. */
export function readMetadata(file) {
  const bytes = beginning(file)
  if (bytes.toString('latin1', 0, 4) !== 'GGUF') throw new Failure(`${file}: not a GGUF file`)
  let at = 4
  const number = (type) => {
    const [method, size] = NUMBERS[type] ?? fail(`value type ${type} is unknown`)
    if (at + size > bytes.length) fail('the metadata end too early')
    const value = bytes[method](at)
    at += size
    return Number(value)
  }
  const string = () => {
    const length = number(10)
    if (at + length > bytes.length) fail('the metadata end too early')
    at += length
    return bytes.toString('utf8', at - length, at)
  }
  const value = (type) => {
    if (type === STRING) return string()
    if (type !== ARRAY) return number(type)
    const of = number(4)
    return Array.from({ length: number(10) }, () => value(of))
  }
  const fail = (what) => {
    throw new Failure(`${file}: ${what} (byte ${at})`)
  }
  number(4) // version
  number(10) // tensors
  const entries = number(10)
  return Object.fromEntries(Array.from({ length: entries }, () => [string(), value(number(4))]))
}

function beginning(file) {
  const descriptor = openSync(file, 'r')
  try {
    const buffer = Buffer.alloc(METADATA_MAX)
    return buffer.subarray(0, readSync(descriptor, buffer, 0, METADATA_MAX, 0))
  } finally {
    closeSync(descriptor)
  }
}

/** What of the metadata the comparison uses. */
export function describeModel(metadata) {
  const architecture = metadata['general.architecture']
  const of = (key) => metadata[`${architecture}.${key}`]
  return {
    name: metadata['general.name'] ?? null,
    architecture,
    layers: of('block_count'),
    width: of('embedding_length'),
    context: of('context_length'),
    tokenizer: metadata['tokenizer.ggml.model'],
    pieces: metadata['tokenizer.ggml.tokens'],
    merges: metadata['tokenizer.ggml.merges']
  }
}

/** Whether the ONNX file that transformers.js gets may be of the same model. Cosines tell for certain. */
export function isMiniLm({ architecture, layers, width, tokenizer, pieces }) {
  return architecture === 'bert' && tokenizer === 'bert' && layers === 6 && width === 384 && pieces.length === 30522
}
