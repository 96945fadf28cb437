// The examples do what they say.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

import { assertGood, nodeFile, root, useRuntime } from './support/runtime.mjs'

useRuntime()

const search = join(root, 'examples', 'search.mjs')

test('search finds the paragraph that means the same in other words', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'embed-example-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'notes.txt')
  writeFileSync(file, 'Bread rises because yeast makes gas.\n\nThe cat sat on the mat.\n\nInvoices are paid within 30 days.\n')
  const end = await nodeFile(search, { cwd: folder, after: ['what does a feline do?', file] })
  assertGood(end)
  const [first] = end.stdout.split('\n')
  assert.match(first, /notes\.txt:3 {2}The cat sat on the mat\.$/)
})

test('search without files says how it is used', async () => {
  const end = await nodeFile(search)
  assert.equal(end.code, 2)
  assert.match(end.stderr, /^usage: /)
})
