// Plans of scripts/storm/relay.mjs: a real worker whose messages are changed on their way, each plan in
// one way, so that a client hears every answer that the protocol has.

import { message } from '../../scripts/storm/wire.mjs'

/** Ids that no request of a client has. */
const NOBODY = 2 ** 40
const OWN = NOBODY + 1

/** Texts that take a while, so that a worker which is told to stop has something to finish. */
const LONG = 'word '.repeat(10_000)
const PARAMS = { truncate: true, normalize: true, dimensions: null, priority: 'bulk', deadline_ms: null }

const PLANS = {
  /** Every worker is told to stop, with a text in work, just before the client's first text arrives. */
  leaving: () => ({
    request: ({ kind, bytes }) =>
      kind === 'embed'
        ? [message('embed', { id: OWN, text: LONG, more: false, params: PARAMS }), message('shutdown', { id: NOBODY }), bytes]
        : undefined,
    response: ({ fields: { id } }) => (id === OWN || id === NOBODY ? [] : undefined)
  }),
  /** A text in parts is cancelled before its second part. */
  cancelled: () => ({
    request: ({ kind, fields }) => (kind === 'part' ? [message('cancel', { id: fields.id })] : undefined)
  }),
  /** What a worker answers when a batch has panicked; see the tests of its `batch::run`. */
  defect: () => ({
    response: ({ kind, fields: { id } }) =>
      kind === 'vector'
        ? [message('error', { id, code: 'EMBED_INTERNAL', message: "worker: this text's batch failed by a defect; try again" })]
        : undefined
  }),
  'newer worker': () => ({
    response: ({ kind, fields }) => (kind === 'hello' ? [message('hello', { ...fields, protocol: 2 })] : undefined)
  }),
  'newer client': () => ({
    request: ({ kind, fields }) => (kind === 'hello' ? [message('hello', { ...fields, protocol: 2 })] : undefined)
  }),
  /** An answer to a question that nobody has asked. */
  'stray answer': () => ({
    response: ({ kind, fields }) => (kind === 'vector' ? [message('vector', { ...fields, id: NOBODY })] : undefined)
  }),
  /** Half a float. */
  'half a float': () => ({
    response: ({ kind, fields }) =>
      kind === 'vector' ? [message('vector', { ...fields, vector: fields.vector.subarray(2) })] : undefined
  }),
  /** Every answer is cut in its middle, and the connection with it. */
  cut: (link) => ({
    response: ({ kind, bytes }) => {
      if (kind !== 'vector') return undefined
      link.client.write(bytes.subarray(0, bytes.length >> 1), () => link.cut())
      return []
    }
  })
}

export default (name) => PLANS[name]
