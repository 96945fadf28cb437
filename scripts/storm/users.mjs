// The parent's side of user.mjs: processes under load, asked over IPC.

import { fork } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const program = join(dirname(fileURLToPath(import.meta.url)), 'user.mjs')

/** How long a process may take to end by itself once nobody asks it any more. */
const END_MS = 5000

/** Everything that runs, for the end of this process. */
const running = new Set()
process.once('exit', () => running.forEach((child) => child.kill('SIGKILL')))

export class User {
  constructor(env) {
    this.child = fork(program, [], {
      env: { ...process.env, ...env },
      execArgv: ['--expose-gc'],
      serialization: 'advanced',
      stdio: ['ignore', 'pipe', 'pipe', 'ipc']
    })
    running.add(this.child)
    this.pid = this.child.pid
    this.waiting = new Map()
    this.asked = 0
    this.said = ''
    const read = ['stdout', 'stderr'].map((name) => {
      const stream = this.child[name].setEncoding('utf8').on('data', (text) => (this.said += text))
      return new Promise((resolve) => stream.once('close', resolve))
    })
    this.child.on('message', ({ id, result, error }) => {
      const { resolve, reject } = this.waiting.get(id)
      this.waiting.delete(id)
      error === undefined ? resolve(result) : reject(new Error(`process ${this.pid}: ${error}`))
    })
    // Not 'close', which does not come once the channel was closed from this side. Its pipes are read to
    // their ends, so that its last words are known.
    const exit = new Promise((resolve) => this.child.once('exit', (code, signal) => resolve({ code, signal })))
    this.ended = Promise.all([exit, ...read]).then(([end]) => end)
    this.ended.then(({ code, signal }) => {
      running.delete(this.child)
      const error = new Error(`process ${this.pid} has ended (${signal ?? `exit code ${code}`}): ${this.said.trim().slice(-2000)}`)
      for (const { reject } of this.waiting.values()) reject(error)
    })
  }

  ask(operation, argument = {}) {
    const id = ++this.asked
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject })
      this.child.send({ id, operation, argument }, (error) => error && reject(error))
    })
  }

  /** Lets it end by itself, as a Node program does whose client is idle; what is wrong with its end, if anything. */
  async end() {
    if (this.child.connected) this.child.disconnect()
    const patience = setTimeout(() => this.child.kill('SIGKILL'), END_MS)
    const { code, signal } = await this.ended
    clearTimeout(patience)
    if (signal === 'SIGKILL') return `process ${this.pid}: still ran after ${END_MS} ms`
    if (code !== 0 || this.said !== '') return `process ${this.pid}: ${signal ?? `exit code ${code}`} ${this.said.trim()}`
    return undefined
  }
}
