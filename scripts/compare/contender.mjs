// The parent's side of a contender: a child process with one peer in it, and what it is asked.

import { fork, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { memoryOf } from './memory.mjs'
import { start } from './peers/llama-server.mjs'

const folder = dirname(fileURLToPath(import.meta.url))
const driver = join(folder, 'driver.mjs')

/** Nothing that is asked takes longer, even of a large model; what does hangs. */
const PATIENCE_MS = 1_800_000
const END_MS = 10_000

/** What a process said at last may be read after its end is known. */
const LAST_WORDS_MS = 100

/** Everything that runs, for the end of this process. */
const running = new Set()

export class Contender {
  /** `peer` names the adapter; `setting`, if any, one way of running it. */
  constructor({ peer, setting, model, options }) {
    Object.assign(this, { peer, setting, model, options: { ...options, setting } })
    this.name = setting ? `${peer} ${setting.name}` : peer
    this.adapter = join(folder, 'peers', `${peer}.mjs`)
    this.pids = []
    this.asked = 0
    this.waiting = new Map()
    this.said = ''
    this.failure = null
  }

  async open() {
    running.add(this)
    this.runtime = runtimeFolder()
    this.child = fork(driver, [this.adapter], {
      env: this.environment(this.runtime),
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc']
    })
    this.child.stderr.setEncoding('utf8').on('data', (text) => (this.said = (this.said + text).slice(-2000)))
    this.child.on('message', ({ id, result, error }) => {
      const { resolve, reject } = this.waiting.get(id)
      this.waiting.delete(id)
      error === undefined ? resolve(result) : reject(new Error(error))
    })
    this.child.once('error', (error) => this.rejectAll(error))
    // Not 'close': it does not come once the channel was closed from this side.
    this.ended = new Promise((resolve) => this.child.once('exit', resolve))
    this.child.once('exit', async (code, signal) => {
      await new Promise((resolve) => setTimeout(resolve, LAST_WORDS_MS))
      this.rejectAll(new Error(`its process ended (${signal ?? `exit code ${code}`}): ${this.said.trim()}`))
    })
    await this.ask('ready')
    const bare = memoryOf(this.child.pid)
    const begin = performance.now()
    await this.ask('open', { model: this.model, options: this.options })
    await this.ask('vectors', { texts: ['first'] })
    this.pids = await this.ask('pids')
    return { bare, openMs: performance.now() - begin }
  }

  environment(runtime) {
    const { threads } = this.options
    return { ...process.env, EMBED_RUNTIME_DIR: runtime, EMBED_THREADS: String(threads), EMBED_IDLE_TIMEOUT: '1' }
  }

  ask(operation, argument) {
    const id = ++this.asked
    return new Promise((resolve, reject) => {
      const patience = setTimeout(() => {
        this.kill()
        reject(new Error(`${operation}: no answer in ${PATIENCE_MS / 1000} s`))
      }, PATIENCE_MS)
      const settle = (how) => (value) => {
        clearTimeout(patience)
        how(value)
      }
      this.waiting.set(id, { resolve: settle(resolve), reject: settle(reject) })
      this.child.send({ id, operation, argument }, (error) => error && this.rejectAll(error))
    })
  }

  rejectAll(error) {
    for (const { reject } of this.waiting.values()) reject(error)
    this.waiting.clear()
  }

  /** `[{ pid, node, anonymous, privateDirty, rss }]`, or null where the system does not tell. */
  memory() {
    const processes = this.pids.map((pid) => ({ pid, node: pid === this.child.pid, ...memoryOf(pid) }))
    return processes.every(({ rss }) => rss !== undefined) ? processes : null
  }

  /** Milliseconds from the start of llama-server to its first vector, without a Node process to start it. */
  async coldServer(text) {
    const begin = performance.now()
    const { child } = await start(this.model, this.coldOptions(), text)
    const time = performance.now() - begin
    const end = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGKILL')
    await end
    return time
  }

  /** An empty run of llama-server before the first text would only delay it. */
  coldOptions() {
    const { setting, ...options } = this.options
    return { ...options, setting: setting && { ...setting, extra: [...(setting.extra ?? []), '--no-warmup'] } }
  }

  /** Milliseconds from the start of a Node process to its first vector, with nothing of it running before. */
  async cold(text) {
    const runtime = runtimeFolder()
    const begin = performance.now()
    const args = [driver, this.adapter, this.model, JSON.stringify(this.coldOptions()), text]
    const child = spawn(process.execPath, args, {
      env: this.environment(runtime),
      stdio: ['pipe', 'pipe', 'pipe']
    })
    const cold = {
      abandon() {
        child.kill('SIGKILL')
        remove(runtime)
      }
    }
    running.add(cold)
    const output = { stdout: '', stderr: '' }
    let time
    child.stderr.setEncoding('utf8').on('data', (text) => (output.stderr += text))
    child.stdout.setEncoding('utf8').on('data', (text) => {
      output.stdout += text
      if (output.stdout.startsWith('first\n')) time ??= performance.now() - begin
      // The process ids follow; then it has served.
      if (output.stdout.endsWith(']\n')) child.stdin.end()
    })
    const code = await new Promise((resolve, reject) => child.once('error', reject).once('close', resolve))
    running.delete(cold)
    const pids = /\[.*\]/.exec(output.stdout)?.[0] ?? '[]'
    endProcesses(JSON.parse(pids).filter((pid) => pid !== child.pid))
    remove(runtime)
    if (code !== 0 || time === undefined) throw new Error(`cold start: ${output.stderr.trim().slice(-2000)}`)
    return time
  }

  /** Asks it to end, and sees to it. */
  async close() {
    if (!this.child) return
    if (this.child.connected) this.child.disconnect()
    const patience = setTimeout(() => this.kill(), END_MS)
    await this.ended
    clearTimeout(patience)
    this.kill()
  }

  /** At once, with all that its child has started. */
  kill() {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill('SIGKILL')
    this.abandon()
  }

  /** Without waiting: the child sees the end of its channel, ends what it has started, and itself. */
  abandon() {
    running.delete(this)
    endProcesses(this.pids.filter((pid) => pid !== this.child.pid))
    this.pids = []
    remove(this.runtime)
  }
}

// Whatever the reason for the end. Servers under a cold start have a handler of their own.
process.once('exit', () => {
  for (const each of running) each.abandon()
})

function endProcesses(pids) {
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGTERM')
    } catch {
      // It has ended already.
    }
  }
}

const runtimeFolder = () => mkdtempSync(join(tmpdir(), 'embed-compare-'))

/** A worker that is about to end may still hold files in it. */
function remove(folder) {
  rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 })
}
