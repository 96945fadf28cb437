// Thirty questions in other words than the files': the right file is among the first three.

import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

import { connect, corpus, root } from './support.mjs'

/** Of thirty. */
const FOUND_MIN = 27

const FIRST = 3

test('questions find the file that answers them', async (t) => {
  const questions = JSON.parse(readFileSync(join(root, 'test', 'questions.json'), 'utf8'))
  assert.equal(questions.length, 30)
  for (const { file } of questions) assert.ok(existsSync(join(corpus, file)), file)
  const { call } = await connect(t, { args: [corpus] })
  assert.equal((await call('index')).state, 'done')
  const missed = []
  for (const { question, file } of questions) {
    const { results } = await call('search', { query: question })
    const files = [...new Set(results.map(({ file }) => file))].slice(0, FIRST)
    if (!files.includes(join(corpus, file))) missed.push({ question, file, files })
  }
  t.diagnostic(`${questions.length - missed.length} of ${questions.length} questions`)
  assert.ok(questions.length - missed.length >= FOUND_MIN, JSON.stringify(missed, null, 2))
})
