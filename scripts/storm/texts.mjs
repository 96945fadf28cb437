// What the users of a run ask for: texts of known lengths.

import { describeModel, readMetadata } from '../compare/gguf.mjs'
import { mixedLengths, singlePieceWords, Texts } from '../compare/texts.mjs'

/** Tokens that a WordPiece tokenizer adds to a text. */
const SPECIALS = 2

/** `{ single, bulk }`: short texts as people ask them, mixed ones as documents are cut; `{ text, tokens }` each. */
export function textsFor(model, seed, { single, bulk }) {
  const texts = new Texts(singlePieceWords(describeModel(readMetadata(model))), SPECIALS)
  const made = (lengths, seed) => texts.ofLengths(lengths, seed).map((text, i) => ({ text, tokens: lengths[i] }))
  return {
    single: made(Array.from({ length: single }, (_, i) => 8 + (i % 17)), seed),
    bulk: made(mixedLengths(bulk, seed + 1), seed + 1)
  }
}
