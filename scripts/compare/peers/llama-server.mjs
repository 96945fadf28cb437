// llama-server behind Node's fetch, which keeps connections alive.

import { spawn } from 'node:child_process'
import { createServer } from 'node:net'

/** How many texts go in one request, and how many requests are under way at once. */
const REQUEST_TEXTS = 100
const REQUESTS = 4

const POLL_MS = 2
const START_MS = 600_000

let server
let url

/** What `--help` of llama.cpp 0.6 has; `setting` adds slots, physical batch and more. */
export function serverArguments(model, { threads, context, setting, port }) {
  const { slots, batch, extra = [] } = setting
  return [
    ...['--model', model, '--embeddings', '--host', '127.0.0.1', '--port', port],
    ...['--threads', threads, '--threads-batch', threads, '--parallel', slots, '--ctx-size', context * slots],
    ...['--batch-size', batch, '--ubatch-size', batch, '--no-webui', '--no-slots', '--cache-ram', 0],
    ...['--log-verbosity', 1, ...extra]
  ].map(String)
}

/** Starts a server and waits until it has loaded the model, or answered a `first` text. */
export async function start(model, options, first) {
  const port = await freePort()
  const child = spawn(options.llamaServer, serverArguments(model, { ...options, port }), {
    stdio: ['ignore', 'ignore', 'pipe'],
    windowsHide: true
  })
  let said = ''
  let ended
  child.stderr.setEncoding('utf8').on('data', (text) => (said = (said + text).slice(-2000)))
  child.on('error', (error) => (ended = error.message))
  child.on('exit', (code, signal) => (ended = signal ?? `exit code ${code}`))
  // Not even a failure of ours may leave it behind.
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)
  child.once('exit', () => process.off('exit', kill))
  const giveUp = Date.now() + START_MS
  const origin = `http://127.0.0.1:${port}`
  const address = `${origin}/v1/embeddings`
  const answers = () => (first === undefined ? isHealthy(origin) : post(address, [first]))
  while (!(await answers().catch(() => false))) {
    if (ended) throw new Error(`llama-server ended (${ended}): ${said.trim().split('\n').slice(-5).join('\n')}`)
    if (Date.now() > giveUp) throw new Error('llama-server does not answer')
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
  return { child, address }
}

export async function open(model, options) {
  const started = await start(model, options)
  server = started.child
  url = started.address
}

export async function embed(texts) {
  const parts = []
  for (let i = 0; i < texts.length; i += REQUEST_TEXTS) parts.push(texts.slice(i, i + REQUEST_TEXTS))
  const vectors = Array(parts.length)
  let next = 0
  const lane = async () => {
    while (next < parts.length) {
      const i = next++
      vectors[i] = await post(url, parts[i])
    }
  }
  await Promise.all(Array.from({ length: REQUESTS }, lane))
  return vectors.flat()
}

async function isHealthy(origin) {
  const response = await fetch(`${origin}/health`)
  await response.arrayBuffer()
  return response.ok
}

/** Base64 rather than JSON numbers: the faster of the two for both sides. */
async function post(address, texts) {
  const response = await fetch(address, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ input: texts, encoding_format: 'base64' })
  })
  if (!response.ok) throw new Error(`llama-server: ${response.status} ${(await response.text()).slice(0, 300)}`)
  const { data } = await response.json()
  return data.sort((a, b) => a.index - b.index).map(({ embedding }) => {
    const { buffer, byteOffset, length } = Buffer.from(embedding, 'base64')
    return new Float32Array(buffer.slice(byteOffset, byteOffset + length))
  })
}

export async function close() {
  if (!server || server.exitCode !== null || server.signalCode !== null) return
  const end = new Promise((resolve) => server.once('exit', resolve))
  // It has nothing to save, and takes seconds to end by itself on a busy machine.
  server.kill('SIGKILL')
  await end
}

export const pids = () => [process.pid, server.pid]

function freePort() {
  return new Promise((resolve, reject) => {
    const probe = createServer().once('error', reject)
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address()
      probe.close(() => resolve(port))
    })
  })
}
