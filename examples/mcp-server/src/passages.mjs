// Cuts a file into passages: some lines each, of which the last are the next one's first.

/** Longer passages mean too many things at once to be found by one of them. Some 300 tokens of code. */
export const PASSAGE_CHARS_MAX = 1200

/** Code of short lines. */
const PASSAGE_LINES_MAX = 40

/** What stands at a cut stands whole in one of the two passages, most of the time. */
const OVERLAP_LINES = 4

/** A token has at least so many characters in any text that people write, or nearly. */
const CHARS_PER_TOKEN_MIN = 2

/** Most characters of a passage for a model whose context has so many tokens. */
export function passageChars(contextTokens) {
  return Math.min(PASSAGE_CHARS_MAX, contextTokens * CHARS_PER_TOKEN_MIN)
}

/**
 * Passages of a text: `{ firstLine, lastLine, text }`, lines counted from 1, none of them blank.
 * They end at a blank line where there is one in their second half.
 */
export function passages(text, charsMax = PASSAGE_CHARS_MAX) {
  const lines = text.split(/\r\n|\n|\r/)
  const found = []
  for (let first = 0; first < lines.length; ) {
    if (lines[first].length > charsMax) {
      for (const part of parts(lines[first], charsMax)) add(found, first, first, part)
      first++
      continue
    }
    const end = endOf(lines, first, charsMax)
    add(found, first, end - 1, lines.slice(first, end).join('\n'))
    if (end === lines.length) break
    // Never a passage without a line of its own.
    first = Math.max(first + 1, lines[end].length > charsMax || lines[end - 1].trim() === '' ? end : end - OVERLAP_LINES)
  }
  return found
}

/** A passage that a model has refused as too long, in two; undefined if it cannot be cut. */
export function halves({ firstLine, lastLine, text }) {
  const lines = text.split('\n')
  if (lines.length > 1) {
    const middle = lines.length >> 1
    return [
      { firstLine, lastLine: firstLine + middle - 1, text: lines.slice(0, middle).join('\n') },
      { firstLine: firstLine + middle, lastLine, text: lines.slice(middle).join('\n') }
    ].filter(({ text }) => text.trim() !== '')
  }
  if (text.length < 2) return undefined
  return parts(text, Math.ceil(text.length / 2)).map((text) => ({ firstLine, lastLine, text }))
}

/** The line after the last one of a passage that begins at `first`. */
function endOf(lines, first, charsMax) {
  let chars = 0
  let end = first
  let blank
  while (end < lines.length && end - first < PASSAGE_LINES_MAX) {
    chars += lines[end].length + 1
    if (chars > charsMax + 1) break
    end++
    if (lines[end - 1].trim() === '' && chars > charsMax / 2) blank = end
  }
  return end === lines.length ? end : (blank ?? end)
}

function add(found, first, last, text) {
  if (text.trim() !== '') found.push({ firstLine: first + 1, lastLine: last + 1, text })
}

/** A long line in pieces, cut between characters. */
function parts(line, charsMax) {
  const found = []
  for (let begin = 0; begin < line.length; ) {
    let end = Math.min(begin + charsMax, line.length)
    const isPair = end < line.length && /[\ud800-\udbff]/.test(line[end - 1]) && end - 1 > begin
    if (isPair) end--
    found.push(line.slice(begin, end))
    begin = end
  }
  return found
}
