// The models and the architectures: sizes, tensors and the types that these get.
// Names, keys and mixtures are llama.cpp's.

import { bool, f32, TOKENIZER_MODELS, u32 } from './gguf.mjs'
import { TYPES } from './types.mjs'

// The models: their sizes. Where a size is missing, the architecture has no such thing or the usual one.

const [COLUMNS, ...ROWS] = [
  ['model',                 'architecture', 'layers', 'width', 'heads', 'inner', 'context', 'pooling', 'ropeBase', 'keyHeads', 'headWidth', 'vocabulary', 'tied'],
  ['all-MiniLM-L6-v2',      'bert',                6,     384,      12,    1536,       512, 'mean'],
  ['bge-base-en-v1.5',      'bert',               12,     768,      12,    3072,       512, 'cls'],
  ['nomic-embed-text-v1.5', 'nomic-bert',         12,     768,      12,    3072,      2048, 'mean',         1000],
  ['Qwen3-Embedding-0.6B',  'qwen3',              28,    1024,      16,    3072,     32768, 'last',          1e6,          8,         128,       151669,   true],
  ['nomic-embed-code',      'qwen2',              28,    3584,      28,   18944,     32768, 'last',          1e6,          4,         128,       152064,  false]
]
export const MODELS = Object.fromEntries(
  ROWS.map((row) => [row[0], Object.fromEntries(COLUMNS.map((column, i) => [column, row[i]]))])
)

/** The sizes that an option of the same name replaces. */
export const SIZES = ['layers', 'width', 'heads', 'inner', 'context']

// The architectures: which tensors there are.

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

/** A norm without a shift. */
function scale(name, size) {
  return { name: `${name}.weight`, dims: [size], centre: 1, spread: NORM_WEIGHTS }
}

function norm(name, size) {
  return [scale(name, size), bias(name, size)]
}

function blocks(layers, tensors) {
  return Array.from({ length: layers }, (_, layer) => tensors(`blk.${layer}`)).flat()
}

const encoderKeys = () => [
  ['attention.layer_norm_epsilon', f32(1e-12)],
  ['attention.causal', bool(false)]
]

const decoderKeys = ({ keyHeads, headWidth, ropeBase }) => [
  ['attention.head_count_kv', u32(keyHeads)],
  ['attention.key_length', u32(headWidth)],
  ['attention.value_length', u32(headWidth)],
  ['attention.layer_norm_rms_epsilon', f32(1e-6)],
  ['rope.freq_base', f32(ropeBase)]
]

/** `project` makes the product for queries, keys or values; `headNorms` what norms them. */
function decoderTensors(project, headNorms) {
  return ({ layers, width, heads, keyHeads, headWidth, inner, vocabulary, tied }) => [
    matrix('token_embd', vocabulary, width, TOKENS),
    ...blocks(layers, (block) => [
      scale(`${block}.attn_norm`, width),
      ...project(`${block}.attn_q`, heads * headWidth, width),
      ...project(`${block}.attn_k`, keyHeads * headWidth, width),
      ...project(`${block}.attn_v`, keyHeads * headWidth, width),
      ...headNorms(block, headWidth),
      matrix(`${block}.attn_output`, width, heads * headWidth),
      scale(`${block}.ffn_norm`, width),
      matrix(`${block}.ffn_gate`, inner, width),
      matrix(`${block}.ffn_up`, inner, width),
      matrix(`${block}.ffn_down`, width, inner)
    ]),
    scale('output_norm', width),
    ...(tied ? [] : [matrix('output', vocabulary, width)])
  ]
}

export const ARCHITECTURES = {
  bert: {
    tokenizer: TOKENIZER_MODELS.wordPiece,
    keys: encoderKeys,
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
    tokenizer: TOKENIZER_MODELS.wordPiece,
    keys: (shape) => [...encoderKeys(), ['rope.freq_base', f32(shape.ropeBase)]],
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
  },
  qwen2: {
    tokenizer: TOKENIZER_MODELS.byteLevel,
    keys: decoderKeys,
    tensors: decoderTensors(linear, () => [])
  },
  qwen3: {
    tokenizer: TOKENIZER_MODELS.byteLevel,
    addsEos: true,
    keys: decoderKeys,
    tensors: decoderTensors(
      (...product) => [matrix(...product)],
      (block, headWidth) => [scale(`${block}.attn_q_norm`, headWidth), scale(`${block}.attn_k_norm`, headWidth)]
    )
  }
}

// The mixtures: which type a tensor gets. They follow src/llama-quant.cpp of llama.cpp.

export const MIXTURES = {
  F16: { fileType: 1, type: 'F16' },
  Q8_0: { fileType: 7, type: 'Q8_0' },
  Q4_K_M: { fileType: 15, type: 'Q4_K', better: 'Q6_K' },
  Q5_K_M: { fileType: 17, type: 'Q5_K', better: 'Q6_K' }
}

/** What takes the place of a type whose blocks do not divide a row. */
const FALLBACKS = { Q4_K: 'Q5_0', Q5_K: 'Q5_1', Q6_K: 'Q8_0' }

/** The tensors of a shape, each with its type and size in this mixture. */
export function tensorsOf(shape, mixture) {
  const tensors = ARCHITECTURES[shape.architecture].tensors(shape)
  // What makes tokens of vectors gets the better type; without `output`, that is `token_embd`.
  const last = tensors.some(({ name }) => name === 'output.weight') ? 'output.weight' : 'token_embd.weight'
  return tensors.map((tensor) => {
    const type = typeOf(tensor, mixture, shape.layers, last)
    const elements = tensor.dims.reduce((product, size) => product * size)
    return { ...tensor, type, bytes: (elements / TYPES[type].elements) * TYPES[type].bytes }
  })
}

function typeOf({ name, dims }, { type, better = type }, layers, last) {
  if (dims.length === 1 || /^(position_embd|token_types)\./.test(name)) return 'F32'
  const layer = /^blk\.(\d+)\.(attn_v|attn_qkv|ffn_down)\./.exec(name)?.[1]
  const isBetter = layer === undefined ? name === last : takesMoreBits(Number(layer), layers)
  let chosen = isBetter ? better : type
  while (dims[0] % TYPES[chosen].elements !== 0) chosen = FALLBACKS[chosen] ?? 'F16'
  return chosen
}

/** The first and last eighth of the layers, and every third between. */
function takesMoreBits(layer, layers) {
  const eighth = Math.trunc(layers / 8)
  return layer < eighth || layer >= Math.trunc((7 * layers) / 8) || (layer - eighth) % 3 === 2
}
