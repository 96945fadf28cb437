// Writes a GGUF model of a published model's shape with random weights, so that a class of models
// can be measured without a download. Its vectors mean nothing.
//
//   node scripts/make-model.mjs nomic-embed-text-v1.5 --type Q4_K_M model.gguf
//
// One seed gives one file, byte for byte. What was written goes to stderr.

import { closeSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { parseArgs } from 'node:util'

import { Failure, report, root } from './build.mjs'

// The models: their sizes.

const [COLUMNS, ...ROWS] = [
  ['model',                 'architecture', 'layers', 'width', 'heads', 'inner', 'context', 'pooling', 'ropeBase'],
  ['all-MiniLM-L6-v2',      'bert',                6,     384,      12,    1536,       512, 'mean'],
  ['bge-base-en-v1.5',      'bert',               12,     768,      12,    3072,       512, 'cls'],
  ['nomic-embed-text-v1.5', 'nomic-bert',         12,     768,      12,    3072,      2048, 'mean',         1000]
]
const MODELS = Object.fromEntries(
  ROWS.map((row) => [row[0], Object.fromEntries(COLUMNS.map((column, i) => [column, row[i]]))])
)

/** The sizes that an option of the same name replaces. */
const SIZES = ['layers', 'width', 'heads', 'inner', 'context']

/** Beyond what any published model has. */
const SIZE_MAX = 1 << 16

/** The file whose vocabulary the models share: bert-base-uncased's. */
const VOCABULARY = join(root, 'models', 'all-MiniLM-L6-v2.Q8_0.gguf')

// The architectures: which tensors there are. Names and keys are llama.cpp's.

/** Standard deviation of what tells texts apart. */
const TOKENS = 0.05
/** And of what they share, which is less, lest all vectors be nearly the same. */
const SHARED = 0.02
const NORM_WEIGHTS = 0.1

/** By default the weights of a product, which leave a row about as long as it is. */
function matrix(name, rows, cols, spread = 1 / Math.sqrt(cols)) {
  return { name: `${name}.weight`, dims: [cols, rows], centre: 0, spread }
}

function bias(name, size) {
  return { name: `${name}.bias`, dims: [size], centre: 0, spread: SHARED }
}

function linear(name, rows, cols) {
  return [matrix(name, rows, cols), bias(name, rows)]
}

function norm(name, size) {
  return [{ name: `${name}.weight`, dims: [size], centre: 1, spread: NORM_WEIGHTS }, bias(name, size)]
}

function blocks(layers, tensors) {
  return Array.from({ length: layers }, (_, layer) => tensors(`blk.${layer}`)).flat()
}

const ARCHITECTURES = {
  bert: {
    keys: () => [],
    tensors: ({ layers, width, inner, context, vocabulary, tokenTypes }) => [
      matrix('token_embd', vocabulary, width, TOKENS),
      matrix('position_embd', context, width, SHARED),
      matrix('token_types', tokenTypes, width, SHARED),
      ...norm('token_embd_norm', width),
      ...blocks(layers, (block) => [
        ...linear(`${block}.attn_q`, width, width),
        ...linear(`${block}.attn_k`, width, width),
        ...linear(`${block}.attn_v`, width, width),
        ...linear(`${block}.attn_output`, width, width),
        ...norm(`${block}.attn_output_norm`, width),
        ...linear(`${block}.ffn_up`, inner, width),
        ...linear(`${block}.ffn_down`, width, inner),
        ...norm(`${block}.layer_output_norm`, width)
      ])
    ]
  },
  'nomic-bert': {
    keys: ({ ropeBase }) => [['rope.freq_base', f32(ropeBase)]],
    tensors: ({ layers, width, inner, vocabulary, tokenTypes }) => [
      matrix('token_embd', vocabulary, width, TOKENS),
      matrix('token_types', tokenTypes, width, SHARED),
      ...norm('token_embd_norm', width),
      ...blocks(layers, (block) => [
        matrix(`${block}.attn_qkv`, 3 * width, width),
        matrix(`${block}.attn_output`, width, width),
        ...norm(`${block}.attn_output_norm`, width),
        matrix(`${block}.ffn_up`, inner, width),
        matrix(`${block}.ffn_gate`, inner, width),
        matrix(`${block}.ffn_down`, width, inner),
        ...norm(`${block}.layer_output_norm`, width)
      ])
    ]
  }
}

// The mixtures: which type a tensor gets. They follow src/llama-quant.cpp of llama.cpp.

const MIXTURES = {
  F16: { fileType: 1, type: 'F16' },
  Q8_0: { fileType: 7, type: 'Q8_0' },
  Q4_K_M: { fileType: 15, type: 'Q4_K', better: 'Q6_K' },
  Q5_K_M: { fileType: 17, type: 'Q5_K', better: 'Q6_K' }
}

/** What takes the place of a type whose blocks do not divide a row. */
const FALLBACKS = { Q4_K: 'Q5_0', Q5_K: 'Q5_1', Q6_K: 'Q8_0' }

function typeOf({ name, dims }, { type, better = type }, layers) {
  if (dims.length === 1 || /^(position_embd|token_types)\./.test(name)) return 'F32'
  const layer = /^blk\.(\d+)\.(attn_v|attn_qkv|ffn_down)\./.exec(name)?.[1]
  const isBetter = layer === undefined ? name === 'token_embd.weight' : takesMoreBits(Number(layer), layers)
  let chosen = isBetter ? better : type
  while (dims[0] % TYPES[chosen].elements !== 0) chosen = FALLBACKS[chosen] ?? 'F16'
  return chosen
}

/** The first and last eighth of the layers, and every third between. */
function takesMoreBits(layer, layers) {
  const eighth = Math.trunc(layers / 8)
  return layer < eighth || layer >= Math.trunc((7 * layers) / 8) || (layer - eighth) % 3 === 2
}

// The types: how random weights are written. Numbers and layouts are those of ggml.h and ggml-common.h.
//
// A block comes as random bits, which are as good as any quantized values; `shape` then gives its
// scales what makes the weights' mean 0 and their deviation `spread`.

/** The standard deviation of whole numbers, `levels` in a row, that are equally likely. */
const deviation = (levels) => Math.sqrt((levels ** 2 - 1) / 12)

/** Random bits as a factor around 1, so that no two blocks have the same scale. */
const around1 = (bits) => 0.75 + (bits & 0xffff) / 0x20000

const TYPES = {
  F32: {
    number: 0,
    elements: 1,
    bytes: 4,
    shape({ buffer, words }, count, { centre, spread }) {
      const floats = new Float32Array(buffer)
      for (let i = 0; i < count; i++) floats[i] = centre + uniform(words[i] / 2 ** 32, spread)
    }
  },
  F16: {
    number: 1,
    elements: 1,
    bytes: 2,
    shape({ halves }, count, { centre, spread }) {
      const table = Uint16Array.from({ length: 1 << 16 }, (_, i) => half(centre + uniform(i / 2 ** 16, spread)))
      for (let i = 0; i < count; i++) halves[i] = table[halves[i]]
    }
  },
  Q5_0: {
    number: 6,
    elements: 32,
    bytes: 22,
    shape({ halves }, count, { spread }) {
      const scale = spread / deviation(32)
      // With either sign, since the values' own mean is not 0 but -1/2.
      for (let i = 0; i < 11 * count; i += 11) {
        halves[i] = half((i % 2 === 0 ? scale : -scale) * around1(halves[i]))
      }
    }
  },
  Q5_1: {
    number: 7,
    elements: 32,
    bytes: 24,
    shape({ halves }, count, { spread }) {
      const scale = spread / deviation(32)
      for (let i = 0; i < 12 * count; i += 12) {
        const own = scale * around1(halves[i])
        halves[i] = half(own)
        halves[i + 1] = half(-15.5 * own)
      }
    }
  },
  Q8_0: {
    number: 8,
    elements: 32,
    bytes: 34,
    shape({ halves, bytes }, count, { spread }) {
      const scale = spread / deviation(256)
      for (let i = 0; i < 17 * count; i += 17) {
        halves[i] = half(scale * around1(halves[i]))
        // No quantizer writes -128.
        for (let j = 2 * i + 2; j < 2 * i + 34; j++) if (bytes[j] === 0x80) bytes[j] = 0x7f
      }
    }
  },
  Q4_K: { number: 12, elements: 256, bytes: 144, shape: shapeK(144, 16) },
  Q5_K: { number: 13, elements: 256, bytes: 176, shape: shapeK(176, 32) },
  Q6_K: {
    number: 14,
    elements: 256,
    bytes: 210,
    shape({ halves }, count, { spread }) {
      // The 16 scales within the block remain random bytes, of either sign.
      const scale = spread / (deviation(64) * deviation(256))
      for (let i = 104; i < 105 * count; i += 105) halves[i] = half(scale * around1(halves[i]))
    }
  }
}

/** Q4_K and Q5_K: two f16, then eight scales and eight minimums of 6 bits in 12 bytes. */
function shapeK(bytes, levels) {
  // Scales vary from 32 to 63. A minimum takes off what the values have on average: its upper three
  // bits are its scale's, and the lower three leave each 32 weights a mean of their own, but a small
  // one. Else, what GELU gives being positive, it would add the same to all texts.
  const own = deviation(8)
  const middle = (levels - 1) / 2
  const values = Math.hypot(deviation(levels) * Math.hypot(47.5, deviation(32)), middle * Math.SQRT2 * own)
  return ({ halves, words }, count, { spread }) => {
    for (let i = 0; i < (bytes / 4) * count; i += bytes / 4) {
      const scale = (spread / values) * around1(words[i])
      halves[2 * i] = half(scale)
      halves[2 * i + 1] = half(middle * scale)
      // Four scales, and the upper two bits of four more; as many minimums; the lower four bits of
      // these four scales and minimums.
      words[i + 1] |= 0xa0a0a0a0
      words[i + 2] = (words[i + 1] & 0xf8f8f8f8) | (words[i + 2] & 0x07070707)
      words[i + 3] = (words[i + 3] & 0x7f7f7f7f) | ((words[i + 3] & 0x08080808) << 4)
    }
  }
}

/** From a number between 0 and 1 to one around 0 with standard deviation `spread`. */
function uniform(number, spread) {
  return (2 * number - 1) * Math.sqrt(3) * spread
}

const float = new Float32Array(1)
const floatBits = new Uint32Array(float.buffer)

/** The bits of the f16 nearest to `value`, which is within its range. */
function half(value) {
  float[0] = value
  const sign = (floatBits[0] >>> 16) & 0x8000
  const magnitude = floatBits[0] & 0x7fffffff
  const SMALLEST_NORMAL = 0x38800000
  if (magnitude < SMALLEST_NORMAL) return sign | Math.round(Math.abs(value) * 2 ** 24)
  return sign | ((magnitude - 0x38000000 + 0x1000) >>> 13)
}

/** Marsaglia's xorshift128, which fills a buffer about as fast as the disk takes it. */
class Random {
  #state = new Uint32Array(4)

  constructor(seed) {
    // Mixed, so that seeds that differ in one bit begin far from each other.
    for (let i = 0; i < 4; i++) {
      let word = Math.imul(seed ^ (seed >>> 16), 0x85ebca6b) + Math.imul(i + 1, 0x9e3779b9)
      word = Math.imul(word ^ (word >>> 13), 0xc2b2ae35)
      this.#state[i] = word ^ (word >>> 16)
    }
  }

  fill(words, count) {
    let [x, y, z, w] = this.#state
    for (let i = 0; i < count; i++) {
      const t = x ^ (x << 11)
      x = y
      y = z
      z = w
      w ^= (w >>> 19) ^ t ^ (t >>> 8)
      words[i] = w
    }
    this.#state.set([x, y, z, w])
  }
}

// The file.

const ALIGNMENT = 32
const CHUNK_BYTES = 1 << 20

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
const u32 = (value) => Buffer.concat([rawU32(4), rawU32(value)])
const f32 = (value) => Buffer.concat([rawU32(6), fixed(4, 'writeFloatLE', value)])
const bool = (value) => Buffer.concat([rawU32(7), Buffer.from([Number(value)])])
const string = (value) => Buffer.concat([rawU32(8), rawString(value)])

const POOLINGS = { mean: 1, cls: 2 }

function keysOf(shape, mixture, name, tokenizer) {
  const own = [
    ['block_count', u32(shape.layers)],
    ['context_length', u32(shape.context)],
    ['embedding_length', u32(shape.width)],
    ['feed_forward_length', u32(shape.inner)],
    ['attention.head_count', u32(shape.heads)],
    ['attention.layer_norm_epsilon', f32(1e-12)],
    ['attention.causal', bool(false)],
    ['pooling_type', u32(POOLINGS[shape.pooling])],
    ...ARCHITECTURES[shape.architecture].keys(shape)
  ]
  return [
    ['general.architecture', string(shape.architecture)],
    ['general.type', string('model')],
    ['general.name', string(name)],
    ...own.map(([key, value]) => [`${shape.architecture}.${key}`, value]),
    ...tokenizer,
    ['general.quantization_version', u32(2)],
    ['general.file_type', u32(mixture.fileType)]
  ]
}

/** The keys of a file that begin with `prefix`, each with the bytes of its value. */
function readKeys(file, prefix) {
  const SCALAR_BYTES = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8]
  const STRING = 8
  const ARRAY = 9
  const bytes = readFileSync(file)
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

/** Writes the file under a name of its own and gives it its own when it is whole. */
function write(destination, keys, tensors, random) {
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
  const pad = (bytes) => writeFileSync(file, Buffer.alloc(aligned(bytes) - bytes))
  writeFileSync(file, header)
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
      writeFileSync(file, bytes.subarray(0, count * type.bytes))
    }
    pad(tensor.bytes)
  }
  return aligned(header.length) + end
}

// The command line.

const list = (table) => Object.keys(table).join(', ')

const USAGE = `usage: node scripts/make-model.mjs MODEL [options] OUT.gguf

Writes a GGUF file of MODEL's shape with random weights.

MODEL      ${list(MODELS)}
--type     ${list(MIXTURES)}; default Q4_K_M
--seed     of the random weights, a whole number; default 0
--layers, --width, --heads, --inner, --context
           another size than MODEL's
--help     this text`

class Misuse extends Failure {
  exitCode = 2
}

function readArguments() {
  const options = { type: { type: 'string', default: 'Q4_K_M' }, seed: { type: 'string', default: '0' } }
  for (const size of SIZES) options[size] = { type: 'string' }
  options.help = { type: 'boolean' }
  const { values, positionals } = parse({ options, allowPositionals: true })
  if (values.help) return undefined
  if (positionals.length !== 2) {
    throw new Misuse(`A model and an output file are wanted, not ${positionals.length} names.\n\n${USAGE}`)
  }
  const [model, destination] = positionals
  if (!Object.hasOwn(MODELS, model)) throw new Misuse(`No model is called "${model}"; there are ${list(MODELS)}.`)
  if (!Object.hasOwn(MIXTURES, values.type)) {
    throw new Misuse(`--type cannot be "${values.type}"; there are ${list(MIXTURES)}.`)
  }
  const shape = { ...MODELS[model] }
  for (const size of SIZES) {
    if (values[size] !== undefined) shape[size] = wholeNumber(size, values[size], 1, SIZE_MAX)
  }
  if (shape.width % (2 * shape.heads) !== 0) {
    throw new Misuse(`A width of ${shape.width} cannot be shared by ${shape.heads} heads: each takes an even number.`)
  }
  return { model, destination, shape, type: values.type, seed: wholeNumber('seed', values.seed, 0, 2 ** 32 - 1) }
}

function parse(config) {
  try {
    return parseArgs(config)
  } catch (error) {
    throw new Misuse(`${error.message}\n\n${USAGE}`)
  }
}

function wholeNumber(option, text, least, most) {
  const value = /^\d+$/.test(text) ? Number(text) : NaN
  if (value >= least && value <= most) return value
  throw new Misuse(`--${option} has to be a whole number from ${least} to ${most}, not "${text}".`)
}

await report(() => {
  const wanted = readArguments()
  if (!wanted) return console.log(USAGE)
  const { model, destination, shape, type: mixtureName, seed } = wanted
  const mixture = MIXTURES[mixtureName]
  const tokenizer = readKeys(VOCABULARY, 'tokenizer.')
  shape.tokenTypes = tokenizer.get('tokenizer.ggml.token_type_count').readUInt32LE(4)
  shape.vocabulary = Number(tokenizer.get('tokenizer.ggml.tokens').readBigUInt64LE(8))
  const tensors = ARCHITECTURES[shape.architecture].tensors(shape).map((tensor) => {
    const type = typeOf(tensor, mixture, shape.layers)
    const elements = tensor.dims.reduce((product, size) => product * size)
    return { ...tensor, type, bytes: (elements / TYPES[type].elements) * TYPES[type].bytes }
  })
  const keys = keysOf(shape, mixture, `${model} (random weights, seed ${seed})`, tokenizer)
  const size = write(destination, keys, tensors, new Random(seed))
  const mb = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`
  console.error(`wrote ${destination}: ${mb(size)}, ${tensors.length} tensors`)
  for (const type of Object.keys(TYPES)) {
    const ofType = tensors.filter((tensor) => tensor.type === type)
    const bytes = ofType.reduce((sum, tensor) => sum + tensor.bytes, 0)
    const count = String(ofType.length).padStart(4)
    if (bytes > 0) console.error(`  ${type.padEnd(6)}${count} tensors ${mb(bytes).padStart(10)}`)
  }
})
