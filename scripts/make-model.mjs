// Writes a GGUF model of a published model's shape with random weights, so that a class of models
// can be measured without a download. Its vectors mean nothing.
//
//   node scripts/make-model.mjs nomic-embed-text-v1.5 --type Q4_K_M model.gguf
//
// One seed gives one file, byte for byte. What was written goes to stderr.

import { parseArgs } from 'node:util'

import { Failure, report } from './build.mjs'
import { string, u32, write } from './make-model/gguf.mjs'
import { ARCHITECTURES, MIXTURES, MODELS, SIZES, tensorsOf } from './make-model/shapes.mjs'
import { Random, TYPES } from './make-model/types.mjs'
import { tokenizerOf } from './make-model/vocabulary.mjs'

/** Beyond what any published model has. */
const SIZE_MAX = 1 << 16

const list = (table) => Object.keys(table).join(', ')

const USAGE = `usage: node scripts/make-model.mjs MODEL [options] OUT.gguf

Writes a GGUF file of MODEL's shape with random weights.

MODEL      ${list(MODELS)}
--type     ${list(MIXTURES)}; default Q4_K_M
--seed     of the random weights, a whole number; default 0
--layers, --width, --heads, --inner, --context
           another size than MODEL's
--vocabulary
           a GGUF file whose vocabulary the model gets; default: that of all-MiniLM-L6-v2 or, where
           MODEL has another kind, a made one of its size
--help     this text`

class Misuse extends Failure {
  exitCode = 2
}

function readArguments() {
  const options = {
    type: { type: 'string', default: 'Q4_K_M' },
    seed: { type: 'string', default: '0' },
    vocabulary: { type: 'string' }
  }
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
  checkHeads(shape)
  const { vocabulary } = values
  const seed = wholeNumber('seed', values.seed, 0, 2 ** 32 - 1)
  return { model, destination, shape, type: values.type, seed, vocabulary }
}

function checkHeads({ width, heads, keyHeads, headWidth }) {
  if (headWidth === undefined && width % (2 * heads) !== 0) {
    throw new Misuse(`A width of ${width} cannot be shared by ${heads} heads: each takes an even number.`)
  }
  if (keyHeads !== undefined && heads % keyHeads !== 0) {
    throw new Misuse(`${heads} heads cannot share ${keyHeads} heads of keys: each would serve as many.`)
  }
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

const POOLINGS = { mean: 1, cls: 2, last: 3 }

function keysOf(shape, mixture, name, tokenizer) {
  const own = [
    ['block_count', u32(shape.layers)],
    ['context_length', u32(shape.context)],
    ['embedding_length', u32(shape.width)],
    ['feed_forward_length', u32(shape.inner)],
    ['attention.head_count', u32(shape.heads)],
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

await report(() => {
  const wanted = readArguments()
  if (!wanted) return console.log(USAGE)
  const { model, destination, type: mixtureName, seed } = wanted
  const mixture = MIXTURES[mixtureName]
  const architecture = ARCHITECTURES[wanted.shape.architecture]
  const { keys: tokenizer, ...sizes } = tokenizerOf(wanted.shape, architecture, wanted.vocabulary)
  const shape = { ...wanted.shape, ...sizes }
  const tensors = tensorsOf(shape, mixture)
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
