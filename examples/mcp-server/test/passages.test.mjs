import assert from 'node:assert/strict'
import { test } from 'node:test'

import { halves, PASSAGE_CHARS_MAX, passages } from '../src/passages.mjs'

const numbered = (n, line = (i) => `line ${i + 1}`) => Array.from({ length: n }, (_, i) => line(i)).join('\n')

/** Every line that is not blank is in a passage which says so, as it is. */
function assertCovers(text, found) {
  const lines = text.split('\n')
  const covered = new Set()
  for (const { firstLine, lastLine, text } of found) {
    assert.equal(text, lines.slice(firstLine - 1, lastLine).join('\n'))
    for (let line = firstLine; line <= lastLine; line++) covered.add(line)
  }
  lines.forEach((line, i) => assert.ok(line.trim() === '' || covered.has(i + 1), `line ${i + 1}`))
}

test('a short file is one passage, an empty one none', () => {
  assert.deepEqual(passages('one\ntwo'), [{ firstLine: 1, lastLine: 2, text: 'one\ntwo' }])
  assert.deepEqual(passages(''), [])
  assert.deepEqual(passages('\n \n\t\n'), [])
})

test('passages of a long file overlap and cover it', () => {
  const text = numbered(200)
  const found = passages(text)
  assertCovers(text, found)
  for (const [i, { firstLine }] of found.entries()) {
    if (i > 0) assert.equal(firstLine, found[i - 1].lastLine - 3)
  }
})

test('a passage is as long as it may be, and no longer', () => {
  const exact = 'x'.repeat(99)
  const text = numbered(100, () => exact)
  const found = passages(text, 500)
  assertCovers(text, found)
  assert.equal(found[0].text.length, 499, 'five lines and four ends of lines')
  assert.ok(found.every(({ text }) => text.length <= 500))
})

test('a passage ends at a blank line in its second half', () => {
  const text = numbered(60, (i) => (i === 29 ? '' : `line ${i + 1}`.padEnd(40, '.')))
  const [first, second] = passages(text, 1500)
  assert.equal(first.lastLine, 30)
  assert.equal(second.firstLine, 31)
  assertCovers(text, passages(text, 1500))
})

test('a line that is longer than a passage is cut between characters', () => {
  const line = '\u{1f600}'.repeat(PASSAGE_CHARS_MAX)
  const text = `before\n${line}\nafter`
  const found = passages(text)
  const parts = found.filter(({ firstLine, lastLine }) => firstLine === 2 && lastLine === 2)
  assert.equal(parts.map(({ text }) => text).join(''), line)
  assert.ok(parts.every(({ text }) => text.isWellFormed() && text.length <= PASSAGE_CHARS_MAX))
  assert.deepEqual([found[0].text, found.at(-1).text], ['before', 'after'])
})

test('lines may end as on Windows', () => {
  assert.deepEqual(passages('one\r\ntwo\r\n').map(({ lastLine, text }) => [lastLine, text]), [[3, 'one\ntwo\n']])
})

test('halves of a passage are all of it, down to one character', () => {
  const [first, second] = halves({ firstLine: 3, lastLine: 6, text: 'a\nb\nc\nd' })
  assert.deepEqual([first, second], [{ firstLine: 3, lastLine: 4, text: 'a\nb' }, { firstLine: 5, lastLine: 6, text: 'c\nd' }])
  assert.deepEqual(halves({ firstLine: 1, lastLine: 1, text: 'abcd' }).map(({ text }) => text), ['ab', 'cd'])
  assert.equal(halves({ firstLine: 1, lastLine: 1, text: 'a' }), undefined)
})
