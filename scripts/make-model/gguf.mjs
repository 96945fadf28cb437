// A GGUF file: how keys and random tensors are written, and the keys of another one read.

import { closeSync, openSync, readSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

import { Failure } from '../build.mjs'
import { TYPES } from './types.mjs'

/** What `tokenizer.ggml.model` calls the kinds of vocabularies. */
export const TOKENIZER_MODELS = { wordPiece: 'bert', byteLevel: 'gpt2' }

const ALIGNMENT = 32
const CHUNK_BYTES = 1 << 20

/** The largest page that a file is cached in. */
const BLOCK_BYTES = 2 << 20

const aligned = (offset) => Math.ceil(offset / ALIGNMENT) * ALIGNMENT

function fixed(size, write, value) {
  const bytes = Buffer.alloc(size)
  bytes[write](value)
  return bytes
}
const rawU32 = (value) => fixed(4, 'writeUInt32LE', value)
const rawU64 = (value) => fixed(8, 'writeBigUInt64LE', BigInt(value))
const rawString = (text) => Buffer.concat([rawU64(Buffer.byteLength(text)), Buffer.from(text)])

// A key's value begins with the number of its type.
export const u32 = (value) => Buffer.concat([rawU32(4), rawU32(value)])
export const f32 = (value) => Buffer.concat([rawU32(6), fixed(4, 'writeFloatLE', value)])
export const bool = (value) => Buffer.concat([rawU32(7), Buffer.from([Number(value)])])
export const string = (value) => Buffer.concat([rawU32(8), rawString(value)])
export const strings = (values) => array(8, values.map(rawString))
export const numbers = (values) => array(5, values.map((value) => fixed(4, 'writeInt32LE', value)))

function array(type, values) {
  return Buffer.concat([rawU32(9), rawU32(type), rawU64(values.length), ...values])
}

/** The keys of a file that begin with `prefix`, each with the bytes of its value. */
export function readKeys(file, prefix) {
  const SCALAR_BYTES = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8]
  const STRING = 8
  const ARRAY = 9
  const bytes = beginning(file)
  const size = (offset) => Number(bytes.readBigUInt64LE(offset))
  const endOf = (type, offset) => {
    if (type === STRING) return offset + 8 + size(offset)
    if (type !== ARRAY) return offset + SCALAR_BYTES[type]
    const [inner, count] = [bytes.readUInt32LE(offset), size(offset + 4)]
    let end = offset + 12
    for (let i = 0; i < count; i++) end = endOf(inner, end)
    return end
  }
  const keys = new Map()
  let offset = 24
  for (let left = size(16); left > 0; left--) {
    const value = endOf(STRING, offset)
    const key = bytes.toString('utf8', offset + 8, value)
    offset = endOf(bytes.readUInt32LE(value), value + 4)
    if (key.startsWith(prefix)) keys.set(key, bytes.subarray(value, offset))
  }
  return keys
}

/** The vocabularies of today's models take a tenth of it. */
const METADATA_MAX = 64 * 1024 * 1024

/** As much of a file as its keys may take. */
function beginning(path) {
  let file
  try {
    file = openSync(path, 'r')
    const bytes = Buffer.alloc(METADATA_MAX)
    return bytes.subarray(0, readSync(file, bytes, 0, METADATA_MAX, 0))
  } catch (error) {
    if (!error.syscall) throw error
    throw new Failure(`${path}: cannot be read: ${error.message}`)
  } finally {
    if (file !== undefined) closeSync(file)
  }
}

/** Writes the file under a name of its own and gives it its own when it is whole. */
export function write(destination, keys, tensors, random) {
  const temporary = join(dirname(destination), `.${basename(destination)}.${process.pid}`)
  let file
  try {
    file = openSync(temporary, 'wx')
    const written = writeAll(file, keys, tensors, random)
    closeSync(file)
    file = undefined
    renameSync(temporary, destination)
    return written
  } catch (error) {
    if (!error.syscall) throw error
    throw new Failure(`${destination}: cannot be written: ${error.message}`)
  } finally {
    if (file !== undefined) closeSync(file)
    rmSync(temporary, { force: true })
  }
}

function writeAll(file, keys, tensors, random) {
  const infos = []
  let end = 0
  for (const { name, dims, type, bytes } of tensors) {
    infos.push(rawString(name), rawU32(dims.length), ...dims.map(rawU64), rawU32(TYPES[type].number), rawU64(end))
    end = aligned(end + bytes)
  }
  const header = Buffer.concat([
    Buffer.from('GGUF'),
    rawU32(3),
    rawU64(tensors.length),
    rawU64(keys.length),
    ...keys.flatMap(([key, value]) => [rawString(key), value]),
    ...infos
  ])
  const blocks = new Blocks(file)
  const pad = (bytes) => blocks.write(Buffer.alloc(aligned(bytes) - bytes))
  blocks.write(header)
  pad(header.length)
  const buffer = new ArrayBuffer(CHUNK_BYTES)
  const [bytes, halves, words] = [Uint8Array, Uint16Array, Uint32Array].map((View) => new View(buffer))
  const chunk = { buffer, bytes, halves, words }
  for (const tensor of tensors) {
    const type = TYPES[tensor.type]
    const most = Math.trunc(CHUNK_BYTES / type.bytes)
    for (let left = tensor.bytes / type.bytes; left > 0; left -= most) {
      const count = Math.min(left, most)
      random.fill(words, Math.ceil((count * type.bytes) / 4))
      type.shape(chunk, count, tensor)
      blocks.write(bytes.subarray(0, count * type.bytes))
    }
    pad(tensor.bytes)
  }
  blocks.end()
  return aligned(header.length) + end
}

/**
 * Writes a file in whole blocks, so that Linux keeps it in its cache in pages of that size, which it does
 * for what a model is read from the disk in as well.
 */
class Blocks {
  #file
  #block = Buffer.alloc(BLOCK_BYTES)
  #used = 0

  constructor(file) {
    this.#file = file
  }

  write(bytes) {
    for (let from = 0; from < bytes.length; ) {
      const room = bytes.subarray(from, from + BLOCK_BYTES - this.#used)
      this.#block.set(room, this.#used)
      this.#used += room.length
      from += room.length
      if (this.#used === BLOCK_BYTES) this.end()
    }
  }

  end() {
    writeFileSync(this.#file, this.#block.subarray(0, this.#used))
    this.#used = 0
  }
}
