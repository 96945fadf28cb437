// A plan of relay.mjs: connections that are cut in the middle of a frame, or hear garbage, on command.
//
// The commands come as lines of JSON over the socket whose path is the plan's argument; each names the
// process whose connection it means, and is answered when it is done.

import { connect } from 'node:net'
import { createInterface } from 'node:readline'

import { randomNumbers } from '../compare/texts.mjs'
import { garbage } from './garbage.mjs'
import { now } from './clock.mjs'

export default function plan(path, links) {
  const control = connect(path)
  const say = (line) => control.writable && control.write(`${JSON.stringify(line)}\n`)
  control.on('error', () => {})
  createInterface(control).on('error', () => {}).on('line', (text) => {
    const command = JSON.parse(text)
    const link = [...links].find(({ pid }) => pid === command.pid)
    if (link) link.order = command
  })

  /** Does what was ordered for this side, as soon as it has a message to do it at. */
  function obey(link, side, to, { bytes }) {
    const { order } = link
    if (order?.side !== side) return undefined
    link.order = undefined
    say({ id: order.id, at: now() })
    const random = randomNumbers(order.seed)
    if (order.what === 'garbage') return [garbage(random), bytes]
    // At least a byte of the frame arrives, and at least one is missing.
    const part = bytes.subarray(0, 1 + Math.floor(random() * (bytes.length - 1)))
    to.write(part, () => link.cut())
    return []
  }

  return (link) => ({
    request: (message) => {
      if (message.kind === 'hello') link.pid = message.fields.pid
      return obey(link, 'worker', link.worker, message)
    },
    response: (message) => obey(link, 'client', link.client, message)
  })
}
