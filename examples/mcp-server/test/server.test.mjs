// The server as a client sees it.

import assert from 'node:assert/strict'
import { copyFileSync, mkdirSync, openSync, readdirSync, readSync, renameSync, rmSync, statSync, symlinkSync, unlinkSync, writeSync, closeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { pathToFileURL } from 'node:url'

import { assertOnlyJsonRpc, connect, corpus, environment, errorOf, folder, until, write } from './support.mjs'

const { resolve } = createRequire(import.meta.url)
const MODEL = join(dirname(resolve('@embed/client/package.json')), 'models', 'all-MiniLM-L6-v2.Q8_0.gguf')

/** Files that take the model a few seconds. */
const many = (n) => Object.fromEntries(Array.from({ length: n }, (_, i) => {
  return [`part${i % 7}/file${i}.txt`, `Number ${i}. ${'The weather of the coast changes within hours. '.repeat(5)}`]
}))

test('it introduces itself and its tools even if there is no model', async (t) => {
  const env = environment({ EMBED_MODEL: join(folder(), 'no-model.gguf') })
  const session = await connect(t, { args: [corpus], env })
  const { tools } = await session.client.listTools()
  assert.deepEqual(tools.map(({ name }) => name), ['index', 'search', 'status'])
  assert.match(session.client.getInstructions(), /by meaning/)
  assert.match(await errorOf(session, 'search', { query: 'anything' }), /no-model\.gguf/)
  const answer = await session.client.callTool({ name: 'index', arguments: {} })
  assert.ok(answer.isError)
  assert.equal(answer.structuredContent.state, 'failed')
  assert.match(answer.content[0].text, /no-model\.gguf/)
  assert.match((await session.call('status')).error, /no-model\.gguf/)
  // As soon as there is one, all is well.
  copyFileSync(MODEL, env.EMBED_MODEL)
  assert.equal((await session.call('index')).state, 'done')
  assertOnlyJsonRpc(session.transport)
})

test('what dependencies print does not get between its messages', async (t) => {
  // It begins as soon as the server has begun.
  const chatter = `
    const { write } = process.stdout
    const chat = () => process.stdout.write !== write && (console.log('stray'), process.stdout.write('stray'))
    setInterval(chat, 1).unref()`
  const session = await connect(t, { args: [corpus], nodeArgs: ['--import', `data:text/javascript,${encodeURIComponent(chatter)}`] })
  await session.call('index')
  await session.call('search', { query: 'bread' })
  await until(() => session.transport.stderr.includes('stray'), () => session.transport.stderr)
  await session.client.close()
  assertOnlyJsonRpc(session.transport)
})

test('only what has changed is embedded again', async (t) => {
  const dir = folder({ 'a.txt': 'The cat sat on the mat.', 'sub/b.txt': 'Invoices are paid within a month.', 'c.txt': '' })
  const { call } = await connect(t, { args: [dir] })
  const counts = async () => {
    const { embedded, unchanged, forgotten, failed } = await call('index')
    return { embedded, unchanged, forgotten, failed }
  }
  assert.deepEqual(await counts(), { embedded: 3, unchanged: 0, forgotten: 0, failed: 0 })
  assert.deepEqual(await counts(), { embedded: 0, unchanged: 3, forgotten: 0, failed: 0 })

  const best = async (query) => (await call('search', { query, limit: 1 })).results[0]
  assert.equal((await best('feline')).changed, false)
  write(dir, { 'a.txt': 'Rockets leave the atmosphere within minutes.' })
  assert.equal((await best('feline')).changed, true, 'the index is older than the file')
  write(dir, { 'd.txt': 'A new file about violins.' })
  rmSync(join(dir, 'c.txt'))
  renameSync(join(dir, 'sub', 'b.txt'), join(dir, 'sub', 'e.txt'))
  assert.deepEqual(await counts(), { embedded: 3, unchanged: 0, forgotten: 2, failed: 0 })
  const { results } = await call('search', { query: 'feline' })
  assert.deepEqual(results.map(({ file }) => file).sort(), ['a.txt', 'd.txt', join('sub', 'e.txt')].map((file) => join(dir, file)))
  assert.ok(results.every(({ changed, text }) => !changed && !text.includes('cat')))
  const [{ files, passages }] = (await call('status')).folders
  assert.deepEqual({ files, passages }, { files: 3, passages: 3 })
})

test('results are places in files, best first, and may be bounded to a folder', async (t) => {
  const filler = Array.from({ length: 60 }, (_, i) => `const value${i} = ${i}`).join('\n')
  const dir = folder({ 'a/long.js': `${filler}\n\n// Sends an e-mail to whoever has forgotten the password.\nfunction remind(user) {}\n`, 'b/short.md': 'How to bake bread.' })
  const { call } = await connect(t, { args: [dir] })
  await call('index')
  const { results, incomplete } = await call('search', { query: 'password recovery mail' })
  assert.equal(incomplete, false)
  const [best] = results
  assert.equal(best.file, join(dir, 'a', 'long.js'))
  assert.ok(best.firstLine <= 62 && best.lastLine >= 62, JSON.stringify(best))
  assert.match(best.text, /forgotten the password/)
  assert.ok(results.every(({ score }, i) => score <= 1 && (i === 0 || score <= results[i - 1].score)))
  const { results: bounded } = await call('search', { query: 'password recovery mail', folder: join(dir, 'b') })
  assert.deepEqual(bounded.map(({ file }) => file), [join(dir, 'b', 'short.md')])
})

test('progress is told while it indexes, and cancelling the call stops it', async (t) => {
  const dir = folder(many(600))
  const session = await connect(t, { args: [dir] })
  const told = []
  const abort = new AbortController()
  const onprogress = (progress) => {
    told.push(progress)
    if (told.length === 2) abort.abort()
  }
  await assert.rejects(session.call('index', { waitSeconds: 600 }, { onprogress, signal: abort.signal }))
  const [job] = await until(async () => {
    const { jobs } = await session.call('status')
    return jobs[0].state === 'cancelled' && jobs
  }, () => 'the job is not cancelled')
  assert.ok(job.done < 600, `${job.done}`)
  assert.deepEqual(job.errors, [])
  for (const [i, { progress, total }] of told.entries()) {
    assert.ok(progress <= total && (i === 0 || progress > told[i - 1].progress), JSON.stringify(told))
  }

  // What was done is not done again, and questions are answered meanwhile.
  const { state } = await session.call('index', { waitSeconds: 0 })
  assert.ok(['waiting', 'running'].includes(state), state)
  const { incomplete } = await session.call('search', { query: 'weather' })
  assert.equal(incomplete, true)
  const end = await session.call('index', { waitSeconds: 600 }, { timeout: 120_000 })
  assert.equal(end.state, 'done')
  assert.ok(end.unchanged >= job.embedded, JSON.stringify(end))
  assert.equal(end.embedded + end.unchanged, 600)
  assertOnlyJsonRpc(session.transport)
})

test('a job in the background can be stopped, and ends with the client', async (t) => {
  const dir = folder(many(2000))
  const session = await connect(t, { args: [dir] })
  await session.call('index', { waitSeconds: 0 })
  assert.equal((await session.call('index', { cancel: true })).state, 'cancelled')
  assert.match(await errorOf(session, 'index', { cancel: true }), /is not being indexed/)
  await session.call('index', { waitSeconds: 0 })
  await session.client.close()
  assert.deepEqual(session.transport.end, { code: 0, signal: null })
  assertOnlyJsonRpc(session.transport)
})

test('only allowed folders are read, however they are named', async (t) => {
  const outside = folder({ 'secret.txt': 'a secret' })
  const dir = folder({ 'sub/a.txt': 'no secret' })
  symlinkSync(outside, join(dir, 'way-out'), 'junction')
  const session = await connect(t, { args: [dir] })
  for (const path of [outside, join(dir, 'way-out'), join(dir, '..'), '..', `${dir}-other`, '/']) {
    for (const [tool, args] of [['index', {}], ['search', { query: 'secret' }]]) {
      assert.match(await errorOf(session, tool, { ...args, folder: path }), /is not inside|does not exist/, path)
    }
  }
  assert.match(await errorOf(session, 'index', { folder: join(dir, 'sub', 'a.txt') }), /is not a folder/)
  assert.equal((await session.call('index', { folder: 'sub' })).folder, join(dir, 'sub'))
  const { results } = await session.call('search', { query: 'secret' })
  assert.deepEqual(results.map(({ file }) => file), [join(dir, 'sub', 'a.txt')])

  // Another session, which may read something else, does not see it.
  const other = await connect(t, { args: [outside], env: session.env })
  assert.match(await errorOf(other, 'search', { query: 'secret' }), /nothing is indexed/)
  assert.deepEqual((await other.call('status')).folders, [])
})

test('without arguments the roots of the client are allowed, as they are now', async (t) => {
  const [first, second] = [folder({ 'a.txt': 'one' }), folder({ 'b.txt': 'two' })]
  let roots = [first]
  const session = await connect(t, { roots: () => roots.map((path) => ({ uri: pathToFileURL(path).href })) })
  assert.equal((await session.call('index')).folder, first)
  assert.match(await errorOf(session, 'index', { folder: second }), /is not inside/)
  roots = [first, second]
  await session.client.sendRootsListChanged()
  assert.equal((await session.call('index', { folder: second })).state, 'done')
  assert.match(await errorOf(session, 'index'), /name one/)
})

test('vectors of two models are never compared', async (t) => {
  const models = folder()
  const model = join(models, 'model.gguf')
  copyFileSync(MODEL, model)
  const dir = folder({ 'a.txt': 'The cat sat on the mat.' })
  const env = environment({ EMBED_MODEL: model })
  const session = await connect(t, { args: [dir], env })
  await session.call('index')
  const { model: { tag } } = await session.call('status')

  // Another file with the same header, and so with the same fingerprint: only some weights differ.
  const other = join(models, 'other.gguf')
  copyFileSync(MODEL, other)
  changeWeights(other)
  renameSync(other, model)
  assert.match(await errorOf(session, 'search', { query: 'feline' }), /was replaced by another one/)
  assert.match(await errorOf(session, 'search', { query: 'feline' }), /was replaced by another one|nothing is indexed/)
  assert.equal((await session.call('index')).embedded, 1, 'everything is embedded again')
  const now = await session.call('status')
  assert.notEqual(now.model.tag, tag)
  assert.equal(readdirSync(env.EMBED_MCP_DIR).filter((name) => name.endsWith('.db')).length, 2)

  // The first model's vectors are where they were.
  copyFileSync(MODEL, other)
  renameSync(other, model)
  const again = await session.call('index')
  assert.deepEqual([again.embedded, again.unchanged], [0, 1])
  assert.equal((await session.call('status')).model.tag, tag)
})

test('a passage of more tokens than the model reads is cut until it fits', async (t) => {
  const dir = folder({ 'dense.txt': '猫坐在垫子上。'.repeat(400), 'a.txt': 'something else' })
  const { call } = await connect(t, { args: [dir] })
  const { state, failed, passages, errors } = await call('index')
  assert.deepEqual([state, failed, errors], ['done', 0, []])
  assert.ok(passages > 4, `${passages}`)
  const [best] = (await call('search', { query: '猫坐在垫子上。', limit: 1 })).results
  assert.equal(best.file, join(dir, 'dense.txt'))
})

test('files that change, come and go while it indexes do no harm', async (t) => {
  const files = many(200)
  const dir = folder(files)
  const { call } = await connect(t, { args: [dir] })
  const names = Object.keys(files)
  let writing = true
  const writer = (async () => {
    for (let n = 0; writing; n++) {
      const name = names[(n * 31) % names.length]
      if (n % 3 === 0) rmSync(join(dir, name), { force: true })
      else write(dir, { [name]: `Version ${n}. ${'A longer text. '.repeat(n % 50)}` })
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
  })()
  const during = await call('index', { waitSeconds: 600 }, { timeout: 120_000 })
  writing = false
  await writer
  assert.equal(during.state, 'done', JSON.stringify(during))
  const after = await call('index', { waitSeconds: 600 }, { timeout: 120_000 })
  assert.deepEqual([after.state, after.failed], ['done', 0])
  const there = names.filter((name) => statSync(join(dir, name), { throwIfNoEntry: false }))
  const [{ files: indexed }] = (await call('status')).folders
  assert.equal(indexed, there.length)
})

test('an index that is not one is an error that names it', async (t) => {
  const env = environment()
  const session = await connect(t, { args: [corpus], env })
  const { store } = await session.call('status')
  await session.client.close()
  for (const name of readdirSync(env.EMBED_MCP_DIR)) unlinkSync(join(env.EMBED_MCP_DIR, name))
  mkdirSync(store)
  const again = await connect(t, { args: [corpus], env })
  assert.ok((await again.call('status')).error.includes(store))
})

test('two servers may fill one index at once', async (t) => {
  const files = many(200)
  const dir = folder(files)
  const env = environment()
  const sessions = await Promise.all([connect(t, { args: [dir], env }), connect(t, { args: [dir], env })])
  const ends = await Promise.all(sessions.map(({ call }) => call('index', { waitSeconds: 600 }, { timeout: 120_000 })))
  for (const end of ends) assert.deepEqual([end.state, end.errors], ['done', []])
  const [{ files: n, passages }] = (await sessions[0].call('status')).folders
  assert.equal(n, 200)
  assert.equal(passages, 200)
})

/** Flips the lowest bit of some bytes in all of the file's second half: a valid file of slightly other weights. */
function changeWeights(file) {
  const handle = openSync(file, 'r+')
  const { size } = statSync(file)
  const bytes = Buffer.alloc(64)
  for (let at = Math.floor(size / 2); at + bytes.length < size; at += 16 * 1024) {
    readSync(handle, bytes, 0, bytes.length, at)
    for (let i = 0; i < bytes.length; i++) bytes[i] ^= 1
    writeSync(handle, bytes, 0, bytes.length, at)
  }
  closeSync(handle)
}
