// The ways between Node and the worker: a socket or pipe, and TCP where there can be none.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'

import { embed } from '../index.js'
import { suspend } from '../scripts/processes.mjs'
import { assertGood, freshRuntime, node, until, useRuntime, workers } from './support/runtime.mjs'

const runtime = useRuntime()

/** Longer than a socket's path may be anywhere, and a name that every file system takes. */
const LONG_NAME = 'd'.repeat(110)

const fresh = (name) => freshRuntime(runtime, name)

const pipesHaveShortNames = { skip: process.platform === 'win32' && 'the name of a pipe is short wherever its files lie' }

/** A program that prints the vector of a text, and what lies beside its worker meanwhile. */
const PRINT = `
const vector = await embed('text')
const files = (await import('node:fs')).readdirSync(process.env.EMBED_RUNTIME_DIR)
console.log(JSON.stringify({ vector: [...vector], kinds: files.map((file) => file.split('.').pop()).sort() }))
`

async function printed(env) {
  const end = await node(PRINT, { env })
  assertGood(end)
  return JSON.parse(end.stdout)
}

test('over TCP a text has the same vector, bit for bit', async () => {
  const local = [...(await embed('text'))]
  const { vector, kinds } = await printed({ EMBED_RUNTIME_DIR: fresh('tcp'), EMBED_TRANSPORT: 'tcp' })
  assert.deepEqual(vector, local)
  assert.ok(kinds.includes('tcp') && !kinds.includes('sock'), `${kinds}`)
})

test('a directory whose path is too long for a socket makes it TCP by itself', pipesHaveShortNames, async () => {
  const EMBED_RUNTIME_DIR = fresh(LONG_NAME)
  const { kinds } = await printed({ EMBED_RUNTIME_DIR })
  assert.ok(kinds.includes('tcp'), `${kinds}`)
})

test('EMBED_TRANSPORT=local forbids that, and says what to do', pipesHaveShortNames, async () => {
  const EMBED_RUNTIME_DIR = join(runtime, LONG_NAME)
  const source = 'await embed("text").catch((error) => console.log(error.code, error.message))'
  const end = await node(source, { env: { EMBED_RUNTIME_DIR, EMBED_TRANSPORT: 'local' } })
  assertGood(end)
  assert.match(end.stdout, /^EMBED_WORKER_UNAVAILABLE .*103.*EMBED_RUNTIME_DIR/s)
})

/** A worker on TCP that a program has just left, and the bytes of its key. */
async function leftAlone(EMBED_RUNTIME_DIR) {
  await printed({ EMBED_RUNTIME_DIR, EMBED_TRANSPORT: 'tcp', EMBED_IDLE_TIMEOUT: '60' })
  const [pid] = workers(EMBED_RUNTIME_DIR)
  const name = readdirSync(EMBED_RUNTIME_DIR).find((file) => file.endsWith('.tcp'))
  return { pid, key: readFileSync(join(EMBED_RUNTIME_DIR, name)) }
}

test('who takes the port of a killed worker hears 32 bytes, and the text has its vector', async () => {
  const EMBED_RUNTIME_DIR = fresh('taken')
  const { pid, key } = await leftAlone(EMBED_RUNTIME_DIR)
  process.kill(pid, 'SIGKILL')
  const heard = []
  const impostor = createServer((socket) => {
    socket.on('error', () => {})
    socket.on('data', (bytes) => {
      heard.push(bytes)
      // Two times what it has heard is as long as a worker's answer.
      socket.write(Buffer.concat([bytes, bytes]))
    })
  })
  await until(() => !workers(EMBED_RUNTIME_DIR).includes(pid))
  const port = key.readUInt16LE(12)
  await new Promise((resolve, reject) => impostor.on('error', reject).listen(port, '127.0.0.1', resolve))
  try {
    const { vector } = await printed({ EMBED_RUNTIME_DIR, EMBED_TRANSPORT: 'tcp' })
    assert.equal(vector.length, 384)
  } finally {
    impostor.close()
  }
  const secret = key.subarray(18)
  assert.ok(heard.length > 0, 'the client looked there first')
  for (const bytes of heard) {
    assert.equal(bytes.length, 32)
    assert.notDeepEqual(bytes, secret)
  }
})

test('a worker on TCP that hangs is ended and replaced', async () => {
  const EMBED_RUNTIME_DIR = fresh('hangs')
  const { pid } = await leftAlone(EMBED_RUNTIME_DIR)
  suspend(pid)
  const { vector } = await printed({ EMBED_RUNTIME_DIR, EMBED_TRANSPORT: 'tcp' })
  assert.equal(vector.length, 384)
  assert.ok(!workers(EMBED_RUNTIME_DIR).includes(pid), 'it is gone')
})

test('clients with another wish share the worker that is there', async () => {
  const EMBED_RUNTIME_DIR = fresh('shared')
  const hold = 'await embed("text"); process.stdout.write("ready"); for await (const _ of process.stdin); await embed("again")'
  let ready
  const isReady = new Promise((resolve) => (ready = resolve))
  let first
  const end = node(hold, {
    env: { EMBED_RUNTIME_DIR, EMBED_TRANSPORT: 'tcp' },
    onSpawn(child) {
      first = child
      child.stdout.on('data', ready)
    }
  })
  await Promise.race([isReady, end])
  const before = workers(EMBED_RUNTIME_DIR)
  assert.equal(before.length, 1)
  for (const EMBED_TRANSPORT of ['auto', 'tcp']) await printed({ EMBED_RUNTIME_DIR, EMBED_TRANSPORT })
  const source = 'await embed("text").catch((error) => console.log(error.code, error.message))'
  const forbidden = await node(source, { env: { EMBED_RUNTIME_DIR, EMBED_TRANSPORT: 'local' } })
  assert.match(forbidden.stdout, /^EMBED_WORKER_UNAVAILABLE .*EMBED_TRANSPORT=local/s)
  assert.deepEqual(workers(EMBED_RUNTIME_DIR), before)
  assert.ok(readdirSync(EMBED_RUNTIME_DIR).some((file) => file.endsWith('.tcp')))
  first.stdin.end()
  assertGood(await end)
})
