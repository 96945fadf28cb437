// What may happen to a worker while its users go on: each trouble has a blow, which tells when it fell
// and whom it may concern.

import { connect, createServer } from 'node:net'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

import { worker } from '../build.mjs'
import { signal, suspend, workers } from '../processes.mjs'
import { now, pause } from './clock.mjs'
import { garbage } from './garbage.mjs'
import { relayExecutable } from './relay.mjs'
import { ModelFile } from './model-file.mjs'
import { message } from './wire.mjs'

const relayPlan = fileURLToPath(new URL('relay-troubles.mjs', import.meta.url))

/** How long a relay may take to find a frame for its order. */
const ORDER_MS = 2000

/** How long a stranger's connection is left open for an answer. */
const STRANGER_MS = 500

const pick = (list, random) => list[Math.floor(random() * list.length)]

/**
 * By name: a function of `{ runtime, folder, model, random }` that gives `{ env, blow, end }`. `env` is
 * for the users; `blow(pids)` resolves to `{ at, what, pids }`, or to nothing if there was nobody to hit;
 * `standing()`, where there is one, lists workers that were hit and are still there.
 */
export const TROUBLES = {
  none: () => ({ env: {}, blow: async () => undefined, end: async () => {} }),
  kill: (run) => struck(run, 'killed', (pid) => signal(pid, 'SIGKILL')),
  stop: (run) => struck(run, 'stopped', suspend),
  cut: (run) => relayed(run, ({ order }) => [order('cut', 'client'), order('cut', 'worker')]),
  garbage: (run) => relayed(run, ({ order }) => [order('garbage', 'client'), order('garbage', 'worker'), () => strange(run)]),
  truncate: ({ model, random }) => {
    const file = new ModelFile(model, random)
    return {
      env: {},
      blow: async (pids) => {
        const at = now()
        return { at, what: await file.damage(), pids }
      },
      end: async () => file.restore()
    }
  }
}

/** Those that can be had without Unix's sockets, and files that may be changed while they are mapped. */
export const EVERYWHERE = ['none', 'kill', 'stop']

/** A worker that has not been hit yet is hit; `strike(pid)` says whether it was there. */
function struck({ runtime, random }, what, strike) {
  const hit = new Set()
  const blow = async (pids) => {
    const victims = workers(runtime).filter((pid) => !hit.has(pid))
    if (victims.length === 0) return undefined
    const victim = pick(victims, random)
    hit.add(victim)
    const at = now()
    return strike(victim) ? { at, what, pids } : undefined
  }
  // One that nobody replaced would stay for ever.
  const end = async () => hit.forEach((pid) => signal(pid, 'SIGKILL'))
  const standing = () => workers(runtime).filter((pid) => hit.has(pid))
  return { env: {}, blow, standing, end }
}

/** Troubles on the way between a client and the worker, by a relay that takes orders. */
async function relayed({ folder, random }, kinds) {
  const relays = new Set()
  const asked = new Map()
  const server = createServer((relay) => {
    relays.add(relay)
    relay.on('error', () => {}).once('close', () => relays.delete(relay))
    createInterface(relay).on('error', () => {}).on('line', (line) => {
      const { id, at } = JSON.parse(line)
      asked.get(id)?.(at)
      asked.delete(id)
    })
  })
  const control = join(folder, 'control')
  await new Promise((resolve) => server.listen(control, resolve))
  let orders = 0
  const order = (what, side) => async (pids) => {
    const [id, pid, seed] = [++orders, pick(pids, random), Math.floor(random() * 2 ** 32)]
    const done = new Promise((resolve) => asked.set(id, resolve))
    for (const relay of relays) relay.write(`${JSON.stringify({ id, pid, seed, what, side })}\n`)
    const at = await Promise.race([done, pause(ORDER_MS)])
    return at && { at, what: `${what}, towards the ${side}`, pids: [pid] }
  }
  const blows = kinds({ order })
  return {
    env: { EMBED_WORKER_PATH: relayExecutable(folder, worker, relayPlan, control) },
    blow: (pids) => pick(blows, random)(pids),
    end: async () => {
      relays.forEach((relay) => relay.destroy())
      await new Promise((resolve) => server.close(resolve))
    }
  }
}

/** A connection of its own that says garbage to the worker, and leaves or stays. Nobody else may notice. */
async function strange({ runtime, random }) {
  const name = readdirSync(runtime).find((name) => name.endsWith('-real.sock'))
  if (name === undefined) return undefined
  const at = now()
  const socket = connect(join(runtime, name)).on('error', () => {}).resume()
  const begun = random() < 0.5 ? [message('hello', { protocol: 1, version: '0.0.0', pid: process.pid })] : []
  socket.write(Buffer.concat([...begun, garbage(random), ...(random() < 0.5 ? [garbage(random)] : [])]))
  pause(STRANGER_MS).then(() => socket.destroy())
  return { at, what: 'garbage, from a stranger', pids: [] }
}
