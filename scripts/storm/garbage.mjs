// Bytes that the protocol does not allow, each kind wrong at another place.

import { framed, message } from './wire.mjs'

const bytes = (random, length) => Buffer.from(Array.from({ length }, () => Math.floor(random() * 256)))

const KINDS = [
  /** No length that a frame may have. */
  (random) => Buffer.concat([Buffer.from([0xff, 0xff, 0xff, 0xff]), bytes(random, 64)]),
  /** Just beyond the largest frame. */
  (random) => Buffer.concat([Buffer.from([0x01, 0x00, 0x01, 0x00]), bytes(random, 64)]),
  /** A frame without a message. */
  () => framed(Buffer.alloc(0)),
  /** A frame of no MessagePack; 0xc1 begins no value. */
  (random) => framed(Buffer.concat([Buffer.from([0xc1]), bytes(random, Math.floor(random() * 200))])),
  /** A message of no known kind. */
  () => message('wipe', { id: 1 }),
  /** A known kind without its fields. */
  () => message('embed', {}),
  /** A second hello, of another version at that. */
  () => message('hello', { protocol: 99, version: '99.0.0', pid: 1 }),
  /** Another protocol. */
  () => Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'),
  /** Maps within maps, deeper than any message. */
  () => framed(Buffer.concat([Buffer.alloc(20_000, Buffer.from([0x81, 0xa1, 0x61])), Buffer.from([0xc0])])),
  /** A string that claims four gigabytes. */
  () => framed(Buffer.from([0x81, 0xa4, 0x70, 0x69, 0x6e, 0x67, 0xdb, 0xff, 0xff, 0xff, 0xff]))
]

export const garbage = (random) => KINDS[Math.floor(random() * KINDS.length)](random)
