// The storms of scripts/storm.mjs, a few seconds of each. No time is judged here.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'

import { garbage } from '../scripts/storm/garbage.mjs'
import { DEFAULT_MODEL, run } from '../scripts/storm/run.mjs'
import { judge, recoveries, table } from '../scripts/storm/verdict.mjs'
import { Frames, framed, message, parse } from '../scripts/storm/wire.mjs'
import { embed } from '../index.js'
import { root, useRuntime, workers } from './support/runtime.mjs'

const runtime = useRuntime()

/** A storm, and what must hold whatever the machine's speed. */
async function weather(t, trouble, seconds) {
  const seed = Math.floor(Math.random() * 2 ** 32)
  const outcome = await run({ trouble, processes: 2, seconds, seed, model: DEFAULT_MODEL })
  const verdict = judge(outcome)
  const shown = `seed ${seed}\n${table(verdict, outcome).join('\n')}`
  t.diagnostic(`${outcome.blows.length} blows, ${verdict.figures.texts} texts, seed ${seed}`)
  assert.ok(outcome.blows.length >= 2, shown)
  for (const { name, ok } of verdict.bounds) assert.ok(ok || /^(blow to|growth|right vectors)/.test(name), `${name}\n${shown}`)
  // On a machine so slow that a text waits from one blow to the next, some are lost twice.
  assert.ok(verdict.figures.right > 0.9 * verdict.figures.texts, shown)
  // Each process has had an answer after each blow that concerned it.
  assert.ok(verdict.recoveries.every(Number.isFinite), shown)
}

test('a worker killed again and again: right vectors, each call settled once, nothing left', (t) => weather(t, 'kill', 8))

test('a worker stopped again and again, and never continued', (t) => weather(t, 'stop', 6))

const unix = { skip: process.platform === 'win32' && 'no Unix sockets' }

test('connections cut in the middle of a frame', unix, (t) => weather(t, 'cut', 5))

test('the model cut, replaced and rewritten', { skip: process.platform === 'win32' && 'a file stays as it is while it is mapped' }, (t) => weather(t, 'truncate', 6))

test('garbage towards clients, towards the worker, and from strangers', unix, (t) => weather(t, 'garbage', 5))

test('no garbage, whole or cut, keeps a worker from its other clients', unix, async () => {
  await embed('warm')
  const [pid] = workers(runtime)
  const address = join(runtime, readdirSync(runtime).find((name) => name.endsWith('.sock')))
  let seed = 0
  const random = () => (seed = (seed + 0.137) % 1)
  const strangers = Array.from({ length: 60 }, (_, i) => {
    const socket = connect(address).on('error', () => {}).resume()
    const hello = message('hello', { protocol: 1, version: '0', pid: process.pid })
    const bytes = garbage(random)
    socket.write(Buffer.concat([...(i % 2 ? [hello] : []), i % 3 ? bytes : bytes.subarray(0, bytes.length >> 1)]))
    if (i % 3 === 0) socket.destroy()
    return socket
  })
  for (let i = 0; i < 20; i++) assert.equal((await embed(`text ${i}`)).length, 384)
  strangers.forEach((socket) => socket.destroy())
  assert.deepEqual(workers(runtime), [pid], 'the same worker')
})

test('the wire in JavaScript is that of PROTOCOL.md', async () => {
  const document = readFileSync(join(root, 'PROTOCOL.md'), 'utf8')
  const bytesOf = (name) => {
    const [, block] = new RegExp(`<!-- bytes: ${name} -->\\n\`\`\`text\\n(.*?)\`\`\``, 's').exec(document)
    return Buffer.from(block.split('\n').map((line) => line.split('|')[0].replaceAll(' ', '')).join(''), 'hex')
  }
  const hello = message('hello', { protocol: 1, version: '0.1.0', pid: 4242 })
  assert.deepEqual(hello, bytesOf('hello'))
  const { kind, fields } = parse(bytesOf('vector'))
  assert.deepEqual([kind, fields.id, fields.tokens, fields.timings.compute_us], ['vector', 7, 3, 900])
  assert.deepEqual(new Float32Array(new Uint8Array(fields.vector).buffer), Float32Array.of(0.6, -0.8))
  assert.deepEqual(parse(bytesOf('embed')).fields.params.dimensions, null)
  const stream = Buffer.concat([hello, bytesOf('embed'), framed(Buffer.alloc(0))])
  const frames = new Frames()
  const found = [...stream].flatMap((byte) => frames.push(Buffer.from([byte])))
  assert.deepEqual(Buffer.concat(found), stream)
  assert.equal(found.length, 3)
})

test('a recovery is counted from the blow to an answer to a text asked after it', () => {
  const user = (pid, ...calls) => {
    const [asked, settled, outcome] = [0, 1, 2].map((i) => Float64Array.from(calls.map((call) => call[i])))
    return { pid, singles: { asked, settled, outcome } }
  }
  // Asked before the blow at 10 and answered after it; a failure; then two, the later one answered first.
  const first = user(1, [9, 11, 1], [12, 13, 3], [14, 40, 1], [15, 30, 1])
  const second = user(2, [9, 50, 1])
  const blow = (...pids) => ({ at: 10, pids })
  assert.deepEqual(recoveries({ users: [first, second], blows: [blow(1), blow(1, 2), blow()] }), [20, 20, Infinity])
})
