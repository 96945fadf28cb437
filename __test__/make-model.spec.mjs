// Models of a given shape with random weights: they load, they tell texts apart, a seed is a file.

import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

import { embed } from '../index.js'
import { assertGood, cosine, nodeFile, norm, root, useRuntime } from './support/runtime.mjs'

const folder = mkdtempSync(`${useRuntime()}-models-`)
// At the very end, when no worker maps a file any more.
process.once('exit', () => rmSync(folder, { recursive: true, force: true }))

const script = join(root, 'scripts', 'make-model.mjs')
const make = (...args) => nodeFile(script, { after: args })

/** Whole blocks of 256, and no more of them than a row needs. */
const TINY = ['--layers', '2', '--width', '256', '--heads', '4', '--inner', '256']

/** Random layers draw texts together; nearer than this they would measure nothing. */
const TOO_NEAR = 0.95

/** A sum of some hundred rounded squares is off by less. */
const NORM_TOLERANCE = 1e-5

const TEXTS = ['The quick brown fox jumps over the lazy dog.', 'How do I reset my password?', 'cat']

async function assertTellsApart(model, dimensions) {
  const vectors = await embed(TEXTS, { model })
  for (const [i, vector] of vectors.entries()) {
    assert.equal(vector.length, dimensions)
    assert.ok(Math.abs(norm(vector) - 1) < NORM_TOLERANCE, String(norm(vector)))
    for (const other of vectors.slice(i + 1)) {
      const similarity = cosine(vector, other)
      assert.ok(similarity < TOO_NEAR, `cosine ${similarity}`)
    }
  }
}

for (const type of ['F16', 'Q8_0', 'Q4_K_M', 'Q5_K_M']) {
  test(`a model of type ${type} tells texts apart`, async () => {
    const model = join(folder, `nomic-${type}.gguf`)
    assertGood(await make('nomic-embed-text-v1.5', '--type', type, ...TINY, model))
    await assertTellsApart(model, 256)
  })
}

for (const name of ['all-MiniLM-L6-v2', 'bge-base-en-v1.5']) {
  test(`a model of the shape of ${name} tells texts apart`, async () => {
    const model = join(folder, `${name}.gguf`)
    assertGood(await make(name, '--layers', '1', model))
    await assertTellsApart(model, name === 'bge-base-en-v1.5' ? 768 : 384)
  })
}

/** Narrow, since a vocabulary of 152,000 makes up for it. */
const NARROW = ['--width', '256', '--heads', '8', '--inner', '256']

for (const name of ['Qwen3-Embedding-0.6B', 'nomic-embed-code']) {
  test(`a model of the shape of ${name} tells texts apart, with a made vocabulary`, async () => {
    const model = join(folder, `${name}.gguf`)
    assertGood(await make(name, ...NARROW, '--layers', '2', model))
    await assertTellsApart(model, 256)
  })
}

test('a model takes the vocabulary of another file, if it is of its kind', async () => {
  const [other, model] = [join(folder, 'vocabulary.gguf'), join(folder, 'same-vocabulary.gguf')]
  assertGood(await make('nomic-embed-code', ...NARROW, '--layers', '1', other))
  assertGood(await make('nomic-embed-code', ...NARROW, '--layers', '1', '--vocabulary', other, model))
  assert.ok(readFileSync(other).equals(readFileSync(model)))
  const end = await make('bge-base-en-v1.5', '--vocabulary', other, model)
  assert.equal(end.code, 1)
  assert.match(end.stderr, /its vocabulary is of the kind "gpt2"; bert wants "bert"/)
})

test('the tensors have the types that llama-quantize gives them', async () => {
  const types = async (...args) => {
    const end = await make(...args, join(folder, 'types.gguf'))
    assertGood(end)
    return Object.fromEntries([...end.stderr.matchAll(/^ +(\w+) +(\d+) tensors/gm)].map(([, type, n]) => [type, Number(n)]))
  }
  // Twelve layers: the better type for 0, 3, 6, 9, 10 and 11.
  assert.deepEqual(await types('nomic-embed-text-v1.5', ...NARROW), { F32: 51, Q4_K: 48, Q6_K: 13 })
  // 28 layers: the better type for 14 of them and for `output`, the worse for `token_embd`.
  assert.deepEqual(await types('nomic-embed-code', ...NARROW), { F32: 141, Q4_K: 169, Q6_K: 29 })
  // Rows of 384 are not whole blocks of 256; those of 1,536 are.
  assert.deepEqual(await types('all-MiniLM-L6-v2'), { F32: 64, Q5_0: 28, Q8_0: 3, Q4_K: 4, Q6_K: 2 })
})

test('a seed gives the same bytes, another seed others', async () => {
  const bytes = async (...args) => {
    const model = join(folder, 'seed.gguf')
    assertGood(await make('nomic-embed-text-v1.5', ...TINY, ...args, model))
    return readFileSync(model)
  }
  const first = await bytes('--seed', '1')
  assert.ok(first.equals(await bytes('--seed', '1')))
  assert.ok(!first.equals(await bytes('--seed', '2')))
})

test('what cannot be made is refused in a sentence', async () => {
  const before = readdirSync(folder)
  const model = join(folder, 'refused.gguf')
  const cases = [
    [[], 2, /^A model and an output file are wanted/],
    [['nomic', model], 2, /^No model is called "nomic"; there are all-MiniLM-L6-v2, /],
    [['all-MiniLM-L6-v2', '--type', 'Q9', model], 2, /^--type cannot be "Q9"; there are F16, /],
    [['all-MiniLM-L6-v2', '--seed', '-1', model], 2, /--seed/],
    [['all-MiniLM-L6-v2', '--layers', '0', model], 2, /^--layers has to be a whole number from 1 to \d+, not "0"/],
    [['all-MiniLM-L6-v2', '--heads', '7', model], 2, /^A width of 384 cannot be shared by 7 heads/],
    [['nomic-embed-code', '--heads', '7', model], 2, /^7 heads cannot share 4 heads of keys/],
    [['nomic-embed-code', '--vocabulary', join(folder, 'absent'), model], 1, /absent: cannot be read: ENOENT/],
    [['all-MiniLM-L6-v2', '--depth', '1', model], 2, /--depth/],
    [['all-MiniLM-L6-v2', join(folder, 'absent', 'model.gguf')], 1, /model\.gguf: cannot be written: ENOENT/]
  ]
  for (const [args, code, message] of cases) {
    const end = await make(...args)
    assert.equal(end.code, code, end.stderr)
    assert.match(end.stderr, message)
    assert.doesNotMatch(end.stderr, /^ +at /m)
  }
  assert.deepEqual(readdirSync(folder), before)
})
