// The switch between the two embedders, and their comparison.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

import { connect, environment, errorOf, folder, root } from './support.mjs'

const isInstalled = existsSync(join(root, 'legacy', 'node_modules', 'node-llama-cpp'))

const FILES = { 'a.txt': 'The cat sat on the mat.', 'b.txt': 'Invoices are paid within a month.', 'c.txt': 'Bread rises because yeast makes gas.' }

test('a switch that is neither on nor off is refused', async (t) => {
  const session = await connect(t, { args: [folder()], env: environment({ USE_EXTERNAL_EMBEDDER: 'perhaps' }) })
  assert.match(await errorOf(session, 'search', { query: 'x' }), /must be true or false/)
  assert.match((await session.call('status')).error, /USE_EXTERNAL_EMBEDDER: is perhaps, must be true or false/)
})

test('without the legacy embedder, choosing it says how to get it', { skip: isInstalled && 'it is installed' }, async (t) => {
  const session = await connect(t, { args: [folder()], env: environment({ USE_EXTERNAL_EMBEDDER: 'false' }) })
  assert.match((await session.call('status')).error, /npm run legacy/)
})

test('the legacy embedder finds the same, in an index of its own', { skip: !isInstalled && 'not installed: npm run legacy' }, async (t) => {
  const dir = folder(FILES)
  const env = environment()
  for (const [external, name] of [['true', 'external'], ['false', 'legacy']]) {
    const session = await connect(t, { args: [dir], env: { ...env, USE_EXTERNAL_EMBEDDER: external } })
    const { provider, folders } = await session.call('status')
    assert.equal(provider, name)
    assert.deepEqual(folders, [], 'it has none of the other one’s vectors')
    const { state, embedded } = await session.call('index')
    assert.deepEqual([state, embedded], ['done', 3])
    const [best] = (await session.call('search', { query: 'feline', limit: 1 })).results
    assert.equal(best.file, join(dir, 'a.txt'))
    await session.client.close()
  }
  const indexes = readdirSync(env.EMBED_MCP_DIR).filter((file) => file.endsWith('.db'))
  assert.deepEqual(indexes.map((file) => file.split('-')[0]).sort(), ['external', 'legacy'])
})

test('npm run ab shows that both agree', { skip: !isInstalled && 'not installed: npm run legacy' }, () => {
  const ab = join(root, 'scripts', 'ab.mjs')
  const { status, stdout, stderr } = spawnSync(process.execPath, [ab, folder(FILES), '--questions', '3'], { encoding: 'utf8', env: environment() })
  assert.equal(status, 0, stdout + stderr)
  assert.match(stdout, /3 passages of .*, 3 questions/)
  assert.match(stdout, /Node, resident +\d+\.\d MB +\d+\.\d MB/)
  assert.match(stdout, /texts with a vector from both +6 of 6/)
  assert.match(stdout, /cosine, worst +0\.99\d+/)
})
