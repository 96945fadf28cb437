// A program that stands in for `embed-worker`: the real worker, and a relay between it and its clients.
//
//   node relay.mjs WORKER PLAN ARGUMENT serve --model FILE --endpoint ADDRESS ...
//
// It starts WORKER with the same arguments at an endpoint beside ADDRESS, listens at ADDRESS itself, and
// hands every frame on. PLAN is a module whose default export, given ARGUMENT, makes for each connection
// a link's `{ request, response }`: what to do with a message of either side. Without a say in it, a
// message goes on untouched. For systems with Unix sockets.

import { spawn } from 'node:child_process'
import { chmodSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath, pathToFileURL } from 'node:url'

import { Frames, parse } from './wire.mjs'

const program = fileURLToPath(import.meta.url)

/** Makes an executable in `folder` that relays by `plan`, for EMBED_WORKER_PATH. */
export function relayExecutable(folder, worker, plan, argument = '') {
  const file = join(folder, 'relay')
  const quoted = [process.execPath, program, worker, plan, argument].map((word) => `'${word.replaceAll("'", "'\\''")}'`)
  writeFileSync(file, `#!/bin/sh\nexec ${quoted.join(' ')} "$@"\n`)
  chmodSync(file, 0o700)
  return file
}

/** One client's connection and its twin to the worker. */
class Link {
  constructor(client, realAddress, plan) {
    this.client = client
    this.worker = connect(realAddress)
    const { request, response } = plan(this)
    this.carry(client, this.worker, request)
    this.carry(this.worker, client, response)
  }

  /** Hands on what `from` says, message by message. */
  carry(from, to, handle) {
    const frames = new Frames()
    from.on('data', (chunk) => {
      for (const bytes of frames.push(chunk)) {
        if (to.destroyed) return
        const instead = handle?.(parse(bytes))
        const full = (instead ?? [bytes]).map((frame) => to.write(frame)).includes(false)
        if (full) {
          from.pause()
          to.once('drain', () => from.resume())
        }
      }
    })
    from.on('error', () => {})
    from.on('end', () => to.end())
    from.on('close', () => to.destroy())
  }

  /** Ends both connections; `then` first, if a side is to hear something before. */
  cut() {
    this.client.destroy()
    this.worker.destroy()
  }
}

async function main([worker, planFile, argument, ...args]) {
  const at = args.indexOf('--endpoint') + 1
  const address = args[at]
  const realAddress = address.replace(/\.sock$/, '-real.sock')
  const { default: makePlan } = await import(pathToFileURL(planFile).href)
  const links = new Set()
  const plan = makePlan(argument, links)

  const child = spawn(worker, args.with(at, realAddress), { stdio: ['ignore', 'pipe', 'inherit'] })
  for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(name, () => child.kill(name))
  const ended = new Promise((resolve) => child.once('exit', (code, signal) => resolve({ code, signal })))
  const line = await new Promise((resolve) => createInterface(child.stdout).once('line', resolve).once('close', () => resolve('')))

  let inode
  if (line.startsWith('{"ready"')) {
    const server = createServer((client) => {
      const link = new Link(client, realAddress, plan)
      links.add(link)
      client.once('close', () => links.delete(link))
    })
    // Under a name of its own first: Node removes the name that it was given when the server ends, and
    // the address is the successor's by then.
    const own = `${address}.${process.pid}`
    await new Promise((resolve) => server.listen(own, resolve))
    renameSync(own, address)
    inode = statSync(address).ino
    ended.then(() => server.close())
  }
  process.stdout.write(`${line.replaceAll(realAddress, address)}\n`)

  const { code, signal } = await ended
  if (inode !== undefined && statSync(address, { throwIfNoEntry: false })?.ino === inode) rmSync(address)
  for (const link of links) link.cut()
  if (signal) process.kill(process.pid, signal)
  else process.exit(code)
}

if (process.argv[1] === program) await main(process.argv.slice(2))
