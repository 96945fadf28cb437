// What happens to an index when things go wrong: it is never damaged, and nothing in it is lost.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmodSync, readdirSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'

import { sqlite } from '../src/sqlite.mjs'
import { assertOnlyJsonRpc, connect, environment, errorOf, folder, until, write } from './support.mjs'

const PATIENT = { timeout: 120_000 }

/** Files that take the model a few seconds. */
const many = (n) => Object.fromEntries(Array.from({ length: n }, (_, i) => {
  return [`part${i % 7}/file${i}.txt`, `Number ${i}. ${'The weather of the coast changes within hours. '.repeat(5)}`]
}))

const isPosix = process.platform !== 'win32'

/** Whether SQLite finds everything in its place. */
async function assertSound(env) {
  const open = await sqlite()
  for (const name of readdirSync(env.EMBED_MCP_DIR).filter((name) => name.endsWith('.db'))) {
    const database = open(join(env.EMBED_MCP_DIR, name))
    assert.deepEqual(Object.values(database.prepare('pragma integrity_check').get()), ['ok'])
    const { n } = database.prepare('select count(*) as n from passages where id not in (select passage from vectors)').get()
    assert.equal(n, 0, 'every passage has its vector')
    database.close()
  }
}

test('a server that is killed while it indexes leaves what the next one goes on with', async (t) => {
  const dir = folder(many(600))
  const env = environment()
  let unchanged = 0
  for (let kills = 0; kills < 3; kills++) {
    const session = await connect(t, { args: [dir], env })
    await session.call('index', { waitSeconds: 0 })
    await until(async () => {
      const [job] = (await session.call('status')).jobs
      return job.state === 'done' || (job.unchanged >= unchanged && job.embedded > 0)
    }, () => 'nothing is embedded')
    session.transport.child.kill('SIGKILL')
    await session.transport.ended
    await assertSound(env)
    unchanged++
  }
  const session = await connect(t, { args: [dir], env })
  const end = await session.call('index', { waitSeconds: 600 }, PATIENT)
  assert.deepEqual([end.state, end.failed, end.embedded + end.unchanged], ['done', 0, 600])
  assert.ok(end.unchanged > 0, JSON.stringify(end))
  const [{ files, passages }] = (await session.call('status')).folders
  assert.deepEqual([files, passages], [600, 600])
})

test('a folder that is taken away while it is indexed keeps its index', async (t) => {
  const parent = folder()
  const dir = join(parent, 'here')
  write(dir, many(400))
  const session = await connect(t, { args: [dir] })
  assert.equal((await session.call('index', { waitSeconds: 600 }, PATIENT)).embedded, 400)
  for (const name of readdirSync(join(dir, 'part0'))) writeFileSync(join(dir, 'part0', name), 'Changed.')
  await session.call('index', { waitSeconds: 0 })
  renameSync(dir, join(parent, 'away'))
  await until(async () => {
    const [job] = (await session.call('status').catch(() => ({ jobs: [] }))).jobs
    return job === undefined || !['waiting', 'running'].includes(job.state)
  }, () => 'it does not end')
  assert.match(await errorOf(session, 'index', { folder: dir }), /does not exist/)
  renameSync(join(parent, 'away'), dir)
  const again = await session.call('index', { waitSeconds: 600 }, PATIENT)
  assert.equal(again.state, 'done')
  assert.ok(again.unchanged >= 300, `what had not changed was not forgotten: ${JSON.stringify(again)}`)
})

test('a folder that cannot be read for once keeps its index', { skip: (!isPosix || process.getuid() === 0) && 'this user reads everything' }, async (t) => {
  const dir = folder({ 'a.txt': 'The cat sat on the mat.', 'closed/b.txt': 'Invoices are paid within a month.' })
  const { call } = await connect(t, { args: [dir] })
  await call('index')
  chmodSync(join(dir, 'closed'), 0)
  const { forgotten, skipped } = await call('index')
  assert.deepEqual([forgotten, skipped], [0, { 'cannot be read (EACCES)': 1 }])
  chmodSync(join(dir, 'closed'), 0o700)
  const { results } = await call('search', { query: 'bills' })
  assert.ok(results.some(({ file }) => file.endsWith('b.txt')))
})

test('an index that cannot grow is an error with its cure, and what was in it is still found', { skip: !isPosix && 'it knows no such limit' }, async (t) => {
  const env = environment()
  const small = folder({ 'a.txt': 'The cat sat on the mat.' })
  const first = await connect(t, { args: [small], env })
  await first.call('index')
  const { store } = await first.call('status')
  await first.client.close()

  // No file may be larger than what the index has now, and some pages.
  const blocks = Math.ceil(statSync(store).size / 512) + 64
  const dir = folder(many(600))
  const session = await connect(t, { args: [small, dir], env, limit: `ulimit -f ${blocks}` })
  const answer = await session.client.callTool({ name: 'index', arguments: { folder: dir, waitSeconds: 600 } }, undefined, PATIENT)
  assert.equal(answer.structuredContent.state, 'failed', JSON.stringify(answer.content))
  assert.match(answer.content[0].text, /index .*: .*; make room/)
  const { results: [best] } = await session.call('search', { query: 'feline', folder: small })
  assert.equal(best.file, join(small, 'a.txt'))
  assertOnlyJsonRpc(session.transport)
  await session.client.close()
  await assertSound(env)

  const roomy = await connect(t, { args: [dir], env })
  const end = await roomy.call('index', { waitSeconds: 600 }, PATIENT)
  assert.deepEqual([end.state, end.embedded + end.unchanged], ['done', 600])
})

test('several servers may begin the same index at the same moment', async () => {
  const store = JSON.stringify(new URL('../src/store.mjs', import.meta.url).href)
  for (let round = 0; round < 4; round++) {
    const place = JSON.stringify(folder({}))
    const code = `import { Store } from ${store}
      await new Promise((resolve) => setTimeout(resolve, ${Date.now() + 400} - Date.now()))
      const store = await Store.open({ tag: 'tag', dimensions: 4 }, ${place})
      store.folder('/one')
      store.close()`
    const run = () => promisify(execFile)(process.execPath, ['--input-type=module', '-e', code])
    await Promise.all(Array.from({ length: 5 }, run))
  }
})

test('a place where no index can be is told with its cure', async (t) => {
  const file = join(folder({ 'file': '' }), 'file')
  const session = await connect(t, { args: [folder()], env: environment({ EMBED_MCP_DIR: join(file, 'index') }) })
  assert.match((await session.call('status')).error, /cannot be made \(ENOTDIR\); set EMBED_MCP_DIR/)
})

test('a name with line ends makes no passage of its own', { skip: !isPosix && 'it has no such names' }, async (t) => {
  const name = 'a\n\nother.txt:1-1  score 1.0000\nfake.txt'
  const dir = folder({ [name]: 'The cat sat on the mat.' })
  const session = await connect(t, { args: [dir] })
  await session.call('index')
  const answer = await session.client.callTool({ name: 'search', arguments: { query: 'feline' } })
  assert.equal(answer.structuredContent.results[0].file, join(dir, name))
  assert.match(answer.content[0].text, /^a\\n\\nother\.txt:1-1 {2}score 1\.0000\\nfake\.txt:1-1 {2}score 0\.\d+\nThe cat/)
})
