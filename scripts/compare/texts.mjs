// English-like texts of an exact number of tokens, the same for everybody and on every run.
//
// Every word is one piece of the model's vocabulary, so that the count is known by construction.

import { Failure } from '../build.mjs'

/** The most frequent words of the vocabulary that are used. */
const POOL = 6000

/** Words between two full stops. */
const SENTENCE_MIN = 6
const SENTENCE_MAX = 16

/** Ten lengths in tokens, 64 on average: many short texts, few long ones. */
const MIXTURE = [8, 12, 16, 24, 32, 44, 60, 80, 108, 256]

/** Numbers in [0, 1), the same after the same seed (mulberry32). */
export function randomNumbers(seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Words that are one piece each, at a text's beginning as well as after a space, the frequent first. */
export function singlePieceWords({ tokenizer, pieces, merges }) {
  const isByteLevel = tokenizer === 'gpt2'
  const mark = isByteLevel ? 'Ġ' : '▁'
  const words = pieces
    .filter((piece) => piece.startsWith(mark) && /^[a-z]{2,12}$/.test(piece.slice(1)))
    .map((piece) => piece.slice(1))
  if (!isByteLevel) return words.slice(0, POOL)
  const ranks = new Map(merges.map((merge, rank) => [merge, rank]))
  const isReached = (word) => becomesOne(word, ranks) && becomesOne(mark + word, ranks)
  const reached = []
  for (let i = 0; i < words.length && reached.length < POOL; i++) if (isReached(words[i])) reached.push(words[i])
  return reached
}

/** Whether merging makes one piece of a word: a vocabulary may have pieces that no merge leads to. */
function becomesOne(word, ranks) {
  const parts = [...word]
  while (parts.length > 1) {
    const rankOf = (i) => ranks.get(`${parts[i]} ${parts[i + 1]}`) ?? Number.POSITIVE_INFINITY
    let first = 0
    for (let i = 1; i + 1 < parts.length; i++) if (rankOf(i) < rankOf(first)) first = i
    if (rankOf(first) === Number.POSITIVE_INFINITY) return false
    parts.splice(first, 2, parts[first] + parts[first + 1])
  }
  return true
}

/** Makes texts out of `words` for a tokenizer that adds `specials` tokens to each. */
export class Texts {
  constructor(words, specials) {
    if (words.length < 1000) throw new Failure(`the vocabulary has ${words.length} words of one piece; 1,000 are needed`)
    this.words = words
    this.specials = specials
  }

  /** One text of `tokens` tokens, those that the tokenizer adds included. */
  one(tokens, random) {
    const parts = []
    let left = 0
    for (let rest = tokens - this.specials; rest > 0; rest--) {
      if (left === 0 && parts.length > 0) {
        parts[parts.length - 1] += '.'
        left = sentenceLength(random)
        continue
      }
      if (parts.length === 0) left = sentenceLength(random)
      // As in any text, the n-th word is about n times rarer than the first.
      parts.push(this.words[Math.floor(this.words.length ** random()) - 1])
      left--
    }
    return parts.join(' ')
  }

  /** `count` texts of `tokens` tokens; other ones for every `seed`. */
  many(count, tokens, seed) {
    const random = randomNumbers(seed)
    return Array.from({ length: count }, () => this.one(tokens, random))
  }

  /** `count` texts with the given lengths, each of them drawn for itself. */
  ofLengths(lengths, seed) {
    const random = randomNumbers(seed)
    return lengths.map((tokens) => this.one(tokens, random))
  }
}

/**
 * Lengths of `count` mixed texts from 8 to 256 tokens. Every ten of them have 64 tokens on average,
 * so that a beginning of the list is as good as all of it.
 */
export function mixedLengths(count, seed) {
  const random = randomNumbers(seed)
  return Array.from({ length: Math.ceil(count / MIXTURE.length) }, () => shuffled(varied(random), random))
    .flat()
    .slice(0, count)
}

/** The mixture with lengths moved between neighbours. */
function varied(random) {
  const lengths = [...MIXTURE]
  for (let i = 0; i < lengths.length; i += 2) {
    const moved = Math.floor((random() * (lengths[i + 1] - lengths[i])) / 2)
    lengths[i] += moved
    lengths[i + 1] -= moved
  }
  return lengths
}

function shuffled(values, random) {
  for (let i = values.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1))
    ;[values[i], values[j]] = [values[j], values[i]]
  }
  return values
}

const sentenceLength = (random) => SENTENCE_MIN + Math.floor(random() * (SENTENCE_MAX - SENTENCE_MIN))
