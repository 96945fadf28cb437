// A server of its own for every test, driven by the official client; every byte of its stdout is kept.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { ReadBuffer, serializeMessage } from '@modelcontextprotocol/sdk/shared/stdio.js'
import { JSONRPCMessageSchema, ListRootsRequestSchema } from '@modelcontextprotocol/sdk/types.js'

export const root = dirname(dirname(fileURLToPath(import.meta.url)))
export const server = join(root, 'server.mjs')
export const corpus = join(root, 'test', 'corpus')

/** Nothing here takes longer, even on a slow machine with other work. */
const PATIENCE_MS = 60_000

/** What is to be removed when all servers of the file have ended. */
const folders = []

process.once('exit', () => {
  for (const dir of folders) rmSync(dir, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 })
})

/** A folder with some files, real path, for a test. */
export function folder(files = {}) {
  const dir = realpathSync(mkdtempSync(join(tmpdir(), 'embed-mcp-')))
  folders.push(dir)
  write(dir, files)
  return dir
}

/** Writes files: `{ 'path/of/file': contents }`. */
export function write(dir, files) {
  for (const [path, contents] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, path)), { recursive: true })
    writeFileSync(join(dir, path), contents)
  }
}

/** The environment of a server whose index and worker are nobody else's. */
export function environment(env = {}) {
  const dir = folder()
  for (const name of ['index', 'run', 'cache']) mkdirSync(join(dir, name), { mode: 0o700 })
  return {
    ...process.env,
    EMBED_MCP_DIR: join(dir, 'index'),
    EMBED_RUNTIME_DIR: join(dir, 'run'),
    EMBED_CACHE_DIR: join(dir, 'cache'),
    EMBED_IDLE_TIMEOUT: '1',
    ...env
  }
}

/**
 * A client with a server behind it: `{ client, transport, call, env }`. `call(tool, arguments)` gives
 * what a tool has answered, and fails if it is an error. `limit` is what a shell does before it becomes
 * the server.
 */
export async function connect(t, { args = [], env = environment(), roots, nodeArgs = [], limit } = {}) {
  const transport = new RecordingTransport([...nodeArgs, server, ...args], env, limit)
  const client = new Client({ name: 'test', version: '1' }, { capabilities: roots ? { roots: { listChanged: true } } : {} })
  if (roots) client.setRequestHandler(ListRootsRequestSchema, () => ({ roots: roots() }))
  t.after(() => client.close())
  await client.connect(transport)
  const call = async (name, args = {}, options) => {
    const answer = await client.callTool({ name, arguments: args }, undefined, options)
    assert.ok(!answer.isError, JSON.stringify(answer.content))
    return answer.structuredContent
  }
  return { client, transport, call, env }
}

/** What a tool says is wrong. */
export async function errorOf({ client }, name, args = {}) {
  const answer = await client.callTool({ name, arguments: args })
  assert.ok(answer.isError, JSON.stringify(answer))
  return answer.content.map(({ text }) => text).join('\n')
}

/** The stdio transport of the official client, with everything that the server has said in `stdout`. */
class RecordingTransport {
  stdout = ''
  stderr = ''
  #buffer = new ReadBuffer()

  constructor(args, env, limit) {
    const node = [process.execPath, ...args]
    this.command = limit ? ['/bin/sh', '-c', `${limit}; exec "$@"`, 'sh', ...node] : node
    this.env = env
  }

  async start() {
    const [program, ...args] = this.command
    this.child = spawn(program, args, { env: this.env, stdio: 'pipe', windowsHide: true })
    this.ended = new Promise((resolve) => this.child.once('close', (code, signal) => resolve({ code, signal })))
    this.ended.then(() => this.onclose?.())
    this.child.stderr.setEncoding('utf8').on('data', (text) => (this.stderr += text))
    this.child.stdin.on('error', (error) => this.onerror?.(error))
    this.child.stdout.on('data', (chunk) => {
      this.stdout += chunk.toString('latin1')
      this.#buffer.append(chunk)
      for (let message; (message = this.#next()); ) this.onmessage?.(message)
    })
  }

  async send(message) {
    this.child.stdin.write(serializeMessage(message))
  }

  /** As a client that has gone: only stdin is closed. */
  async close() {
    this.child.stdin.end()
    const watchdog = setTimeout(() => this.child.kill('SIGKILL'), PATIENCE_MS)
    this.end = await this.ended
    clearTimeout(watchdog)
  }

  #next() {
    try {
      return this.#buffer.readMessage()
    } catch (error) {
      this.onerror?.(error)
      return null
    }
  }
}

/** Fails unless all that was ever written to stdout are messages of JSON-RPC, one a line. */
export function assertOnlyJsonRpc({ stdout }) {
  const lines = Buffer.from(stdout, 'latin1').toString('utf8').split('\n')
  assert.equal(lines.pop(), '', 'the last line is whole')
  assert.ok(lines.length > 0)
  for (const line of lines) {
    assert.doesNotThrow(() => JSONRPCMessageSchema.parse(JSON.parse(line)), `on stdout: ${line}`)
  }
}

/** Looks again and again until `condition` gives something. */
export async function until(condition, describe) {
  const giveUp = Date.now() + PATIENCE_MS
  for (;;) {
    const value = await condition()
    if (value) return value
    if (Date.now() > giveUp) assert.fail(`after ${PATIENCE_MS} ms: ${describe()}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
