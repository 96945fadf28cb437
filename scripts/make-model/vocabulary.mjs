// The tokenizer's keys of a made model: a real vocabulary from a file, or a made one of the same size.

import { join } from 'node:path'

import { Failure, root } from '../build.mjs'
import { bool, numbers, readKeys, string, strings, TOKENIZER_MODELS, u32 } from './gguf.mjs'

/** The file whose vocabulary models with WordPiece have unless another is named: bert-base-uncased's. */
const WORD_PIECE_FILE = join(root, 'models', 'all-MiniLM-L6-v2.Q8_0.gguf')

/** Tokens of Qwen's vocabularies that stand for no text. */
const SPECIALS = ['<|endoftext|>', '<|im_start|>', '<|im_end|>']

/** llama.cpp's numbers of what a token is. */
const TOKEN_TYPES = { normal: 1, control: 3, unused: 5 }

/** `{ keys, vocabulary, tokenTypes }` for a shape, from `file` if one is named. */
export function tokenizerOf({ architecture, vocabulary }, { tokenizer, addsEos }, file) {
  if (file === undefined && tokenizer === TOKENIZER_MODELS.byteLevel) {
    return { keys: byteLevelKeys(vocabulary, Boolean(addsEos)), vocabulary }
  }
  const source = file ?? WORD_PIECE_FILE
  const keys = readKeys(source, 'tokenizer.')
  const found = keys.get('tokenizer.ggml.model')?.toString('utf8', 12)
  if (found !== tokenizer) {
    throw new Failure(`${source}: its vocabulary is of the kind "${found}"; ${architecture} wants "${tokenizer}".`)
  }
  // What a text begins and ends with is the architecture's and not the vocabulary's.
  if (tokenizer === TOKENIZER_MODELS.byteLevel) keys.set('tokenizer.ggml.add_eos_token', bool(Boolean(addsEos)))
  return {
    keys,
    vocabulary: Number(keys.get('tokenizer.ggml.tokens').readBigUInt64LE(8)),
    tokenTypes: keys.get('tokenizer.ggml.token_type_count')?.readUInt32LE(4)
  }
}

/** A byte-level vocabulary of `size` tokens: no real one, but as large, and with words in it. */
function byteLevelKeys(size, addsEos) {
  const merges = madeMerges(size - 256 - SPECIALS.length)
  const tokens = [...byteLetters(), ...merges.map(([left, right]) => left + right), ...SPECIALS]
  const types = tokens.map((_, id) => (id < tokens.length - SPECIALS.length ? TOKEN_TYPES.normal : TOKEN_TYPES.control))
  for (let id = tokens.length; id < size; id++) {
    tokens.push(`[PAD${id}]`)
    types.push(TOKEN_TYPES.unused)
  }
  const end = tokens.indexOf(SPECIALS[0])
  return new Map([
    ['tokenizer.ggml.model', string(TOKENIZER_MODELS.byteLevel)],
    ['tokenizer.ggml.pre', string('qwen2')],
    ['tokenizer.ggml.tokens', strings(tokens)],
    ['tokenizer.ggml.token_type', numbers(types)],
    ['tokenizer.ggml.merges', strings(merges.map((pair) => pair.join(' ')))],
    ['tokenizer.ggml.eos_token_id', u32(end)],
    ['tokenizer.ggml.padding_token_id', u32(end)],
    ['tokenizer.ggml.add_bos_token', bool(false)],
    ['tokenizer.ggml.add_eos_token', bool(addsEos)]
  ])
}

/** The letters that GPT-2 writes bytes with: themselves where that can be seen, else those from U+0100 on. */
function byteLetters() {
  const seen = (byte) => (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad)
  let next = 0x100
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(seen(byte) ? byte : next++))
}

const SPACE = '\u0120'
/** From the commonest of English to the rarest. */
const LETTERS = [...'etaoinsrhldcumfpgwybvkxjqz']

/**
 * At most `count` merges of tokens that came before: two letters, three, a space before one, two or
 * three, and four, the commonest first. A word's letters go before its space, since no merge of a space
 * and two letters with a third would make the same token.
 */
function madeMerges(count) {
  const each = (lefts, rights) => lefts.flatMap((left) => rights.map((right) => [left, right]))
  const joined = (pairs) => pairs.map((pair) => pair.join(''))
  const twos = each(LETTERS, LETTERS)
  const threes = each(joined(twos), LETTERS)
  // Of more than the commonest letters there would be several times too many.
  const common = LETTERS.slice(0, 19)
  const commonTwos = joined(each(common, common))
  const merges = [
    ...twos,
    ...threes,
    ...each([SPACE], LETTERS),
    ...each([SPACE], joined(twos)),
    ...each([SPACE], joined(threes)),
    ...each(commonTwos, commonTwos)
  ]
  return merges.slice(0, count)
}
