// Who lives how long: Node, the worker, and the files between them.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'

import { embed } from '../index.js'
import { suspend } from '../scripts/processes.mjs'
import { assertGood, assertSame, freshRuntime, node, nothingLeft, packageUrl, until, useRuntime, workers } from './support/runtime.mjs'

const runtime = useRuntime()

const fresh = (name) => freshRuntime(runtime, name)

test('an idle Node ends by itself, and its worker after it', async () => {
  const EMBED_RUNTIME_DIR = fresh('idle')
  const end = await node('console.log((await embed("text")).length)', { env: { EMBED_RUNTIME_DIR } })
  assertGood(end)
  assert.equal(end.stdout, '384\n')
  await nothingLeft(EMBED_RUNTIME_DIR)
})

test('a pending promise keeps Node alive, a settled one does not', async () => {
  const end = await node('process.on("exit", () => console.log(done)); let done = false; embed("text").then(() => (done = true))')
  assertGood(end)
  assert.equal(end.stdout, 'true\n')
})

test('importing does nothing', async () => {
  const EMBED_RUNTIME_DIR = fresh('import')
  assertGood(await node('if (typeof embed !== "function") process.exit(1)', { env: { EMBED_RUNTIME_DIR } }))
  assert.deepEqual(workers(EMBED_RUNTIME_DIR), [])
})

test('Node may exit in the middle of a call', async () => {
  const source = 'embed(Array(5000).fill("a text that takes its time")); await embed("text"); process.exit(7)'
  assert.deepEqual(await node(source), { code: 7, signal: null, stdout: '', stderr: '' })
})

test('20 processes at once share one worker, which leaves after the last, killed or not', async () => {
  const EMBED_RUNTIME_DIR = fresh('twenty')
  const children = []
  const ends = Array.from({ length: 20 }, (_, i) =>
    node(`await embed("text ${i}"); process.stdout.write("ready"); for await (const _ of process.stdin); await embed("again")`, {
      env: { EMBED_RUNTIME_DIR },
      onSpawn: (child, output) => children.push({ child, output })
    })
  )
  const ended = Promise.race(ends).then((end) => assert.fail(`ended too soon: ${JSON.stringify(end)}`))
  const ready = until(() => children.every(({ output }) => output.stdout === 'ready'))
  await Promise.race([ready, ended])
  ended.catch(() => {})
  assert.equal(workers(EMBED_RUNTIME_DIR).length, 1)
  children.forEach(({ child }, i) => (i % 4 === 0 ? child.kill('SIGKILL') : child.stdin.end()))
  for (const [i, end] of (await Promise.all(ends)).entries()) {
    if (i % 4 !== 0) assertGood(end)
  }
  await nothingLeft(EMBED_RUNTIME_DIR)
})

test('a worker killed in the middle of 500 texts: every text is answered, with the right vector', async () => {
  const texts = Array.from({ length: 500 }, (_, i) => `text ${i} ${'and more of it '.repeat(i % 20)}`)
  const expected = await embed(texts)
  for (const together of [false, true]) {
    const [pid] = workers(runtime)
    let answered = 0
    const kill = () => {
      if (++answered === 5) process.kill(pid, 'SIGKILL')
    }
    const vectors = together
      ? await embed(texts, { onProgress: kill })
      : await Promise.all(texts.map((text) => embed(text).finally(kill)))
    vectors.forEach((vector, i) => assertSame(vector, expected[i], `text ${i}`))
    assert.ok(!workers(runtime).includes(pid), 'it was not killed')
  }
})

test('a worker killed between two calls is replaced unseen', async () => {
  const expected = await embed('text')
  for (let i = 0; i < 5; i++) {
    const pids = workers(runtime)
    assert.equal(pids.length, 1)
    process.kill(pids[0], 'SIGKILL')
    assertSame(await embed('text'), expected)
  }
})

test('a worker asked to end is replaced, and loses no text', async () => {
  const texts = Array.from({ length: 300 }, (_, i) => `text ${i}`)
  const expected = await embed(texts)
  const [pid] = workers(runtime)
  const promises = texts.map((text) => embed(text))
  process.kill(pid, 'SIGTERM')
  const vectors = await Promise.all(promises)
  vectors.forEach((vector, i) => assertSame(vector, expected[i], `text ${i}`))
  await until(() => !workers(runtime).includes(pid))
})

test('a text that was not answered twice is an error that tells why', async () => {
  // Stopped, so that no text is answered before the kill; then its successor meets the same fate.
  await embed('warm')
  let [pid] = workers(runtime)
  suspend(pid)
  const promise = embed('text')
  const failed = promise.catch((error) => error)
  process.kill(pid, 'SIGKILL')
  const first = pid
  await until(() => ([pid] = workers(runtime)) && pid !== undefined && pid !== first)
  process.kill(pid, 'SIGKILL')
  const result = await failed
  // The successor may have been quick enough to answer.
  if (result instanceof Error) {
    assert.equal(result.code, 'EMBED_WORKER_UNAVAILABLE')
    assert.match(result.message, /ended with|end/)
  } else {
    assert.equal(result.length, 384)
  }
  assert.equal((await embed('text')).length, 384)
})

/** Processor time that a process has used, in the system's ticks. */
function cpuTicks(pid) {
  const [user, system] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1).split(' ').slice(11, 13)
  return Number(user) + Number(system)
}

/** The first message of a thread, which must not end without one. */
function message(thread) {
  return new Promise((resolve, reject) => {
    thread.once('message', resolve).once('error', reject)
    thread.once('exit', (code) => reject(new Error(`the thread ended without a message, exit code ${code}`)))
  })
}

test('threads share the connection of their process', async () => {
  const expected = await embed('text')
  const source = `
    import { parentPort } from 'node:worker_threads'
    import { embed } from ${JSON.stringify(packageUrl)}
    parentPort.postMessage(await embed('text'))
  `
  const threads = Array.from({ length: 4 }, () => new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`)))
  // All at once: a message that nobody listens for is lost.
  for (const vector of await Promise.all(threads.map(message))) assertSame(vector, expected)
  assert.equal(workers(runtime).length, 1)
})

test('a pending promise keeps its thread alive, an idle client does not', async () => {
  // In a process of its own, which ends only if nothing idle keeps it.
  const source = `
    import { Worker } from 'node:worker_threads'
    const body = (text) => \`
      import { embed } from ${JSON.stringify(packageUrl)}
      let settled = 0
      process.on('exit', () => process.exitCode = settled)
      await embed('idle from here on')
      for (let i = 0; i < 10; i++) embed('\${text} ' + i).then(() => settled++)
    \`
    const threads = ['a', 'b', 'c'].map((text) => new Worker(new URL('data:text/javascript,' + encodeURIComponent(body(text)))))
    await embed('the main thread is idle while they work')
    const codes = await Promise.all(threads.map((thread) => new Promise((resolve) => thread.once('exit', resolve))))
    console.log(codes.join())
  `
  const end = await node(source)
  assertGood(end)
  assert.equal(end.stdout, '10,10,10\n')
})

test('threads ended with requests in flight leave the process alone', async () => {
  // In a process of its own, because what goes wrong here is a crash.
  const source = `
    import { Worker } from 'node:worker_threads'
    const body = \`
      import { parentPort } from 'node:worker_threads'
      import { embed } from ${JSON.stringify(packageUrl)}
      const many = () => embed(Array.from({ length: 2000 }, (_, i) => 'text ' + i), { onProgress() {}, signal: new AbortController().signal })
      for (let i = 0; i < 200; i++) embed('text ' + i)
      many()
      await embed('first')
      parentPort.postMessage('busy')
      many()
    \`
    for (let round = 0; round < 20; round++) {
      const thread = new Worker(new URL('data:text/javascript,' + encodeURIComponent(body)))
      await new Promise((resolve, reject) => thread.once('message', resolve).once('error', reject))
      await thread.terminate()
    }
    console.log((await embed('still here')).length)
  `
  const end = await node(source)
  assertGood(end)
  assert.equal(end.stdout, '384\n')
  assert.equal(end.stderr, '')
})

test('a thread that was ended has its texts computed no longer', { skip: process.platform !== 'linux' && 'no /proc' }, async () => {
  await embed('warm')
  const [pid] = workers(runtime)
  // More than a minute's work.
  const source = `
    import { parentPort } from 'node:worker_threads'
    import { embed } from ${JSON.stringify(packageUrl)}
    embed(Array(500_000).fill('a text of a thread that will not wait for its vectors, '.repeat(4)))
    for (let i = 0; i < 100; i++) embed('alone ' + i)
    parentPort.postMessage(await embed('busy'))
  `
  const thread = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`))
  await message(thread)
  await thread.terminate()
  await until(async () => {
    const before = cpuTicks(pid)
    await new Promise((resolve) => setTimeout(resolve, 200))
    return cpuTicks(pid) === before
  }, () => 'the worker still computes')
  assert.deepEqual(workers(runtime), [pid])
})

test('nothing is ever written to stdout', async () => {
  const source = `
    await embed(['a', 'b'])
    await embed('word '.repeat(600)).catch(() => {})
    await embed('a', { model: '/no/such' }).catch(() => {})
    await embed(5).catch(() => {})
  `
  const quiet = await node(source, { env: { RUST_LOG: 'trace' } })
  assertGood(quiet)
  assert.deepEqual([quiet.stdout, quiet.stderr], ['', ''], 'nobody asked for logs')
  const end = await node(source, { env: { EMBED_LOG: 'trace' } })
  assertGood(end)
  assert.equal(end.stdout, '')
  const lines = end.stderr.trim().split('\n')
  for (const line of lines) {
    assert.match(line, /^[-0-9T:.]+Z embed-client\[\d+\] +(TRACE|DEBUG|INFO|WARN) /, 'what the worker logs is its own affair')
  }
})

test('a socket lies in a directory that only the user may enter', { skip: process.platform === 'win32' && 'pipes have no directory' }, async () => {
  await embed('text')
  assert.equal(readdirSync(runtime).filter((name) => name.endsWith('.sock')).length, 1)
})
