// PROTOCOL.md in JavaScript: frames of MessagePack, as far as the two processes use it.
//
// For programs that stand between a client and a worker, or ask a worker what only the wire tells.

/** Cuts a stream into frames, each with its four bytes of length. */
export class Frames {
  rest = Buffer.alloc(0)

  /** The frames that `chunk` completes. */
  push(chunk) {
    this.rest = this.rest.length > 0 ? Buffer.concat([this.rest, chunk]) : chunk
    const frames = []
    while (this.rest.length >= 4 && this.rest.length >= 4 + this.rest.readUInt32LE(0)) {
      const end = 4 + this.rest.readUInt32LE(0)
      frames.push(this.rest.subarray(0, end))
      this.rest = this.rest.subarray(end)
    }
    return frames
  }
}

/** A payload with its length before it. */
export function framed(payload) {
  const length = Buffer.alloc(4)
  length.writeUInt32LE(payload.length)
  return Buffer.concat([length, payload])
}

/** The frame of a message. */
export const message = (kind, fields) => framed(encode({ [kind]: fields }))

/** `{ kind, fields, bytes }` of a frame. */
export function parse(bytes) {
  const [[kind, fields]] = Object.entries(decode(bytes.subarray(4)))
  return { kind, fields, bytes }
}

function encode(value) {
  if (value === null) return Buffer.from([0xc0])
  if (typeof value === 'boolean') return Buffer.from([value ? 0xc3 : 0xc2])
  if (typeof value === 'number') return encodeCount(value)
  if (Buffer.isBuffer(value)) return Buffer.concat([withSize(0xc4, 0xc5, 0xc6, value.length), value])
  if (typeof value === 'string') {
    const text = Buffer.from(value)
    const head = text.length < 32 ? Buffer.from([0xa0 | text.length]) : withSize(0xd9, 0xda, 0xdb, text.length)
    return Buffer.concat([head, text])
  }
  const entries = Object.entries(value)
  if (entries.length > 15) throw new RangeError(`a map of ${entries.length}: messages have fewer fields`)
  return Buffer.concat([Buffer.from([0x80 | entries.length]), ...entries.flat().map(encode)])
}

function encodeCount(value) {
  if (!Number.isInteger(value) || value < 0) throw new RangeError(`${value}: messages hold counts only`)
  if (value < 0x80) return Buffer.from([value])
  if (value <= 0xffffffff) return withSize(0xcc, 0xcd, 0xce, value)
  const bytes = Buffer.from([0xcf, 0, 0, 0, 0, 0, 0, 0, 0])
  bytes.writeBigUInt64BE(BigInt(value), 1)
  return bytes
}

/** A type byte for one, two or four bytes of size, and the size. */
function withSize(one, two, four, size) {
  if (size <= 0xff) return Buffer.from([one, size])
  if (size <= 0xffff) return Buffer.from([two, size >> 8, size & 0xff])
  const bytes = Buffer.from([four, 0, 0, 0, 0])
  bytes.writeUInt32BE(size, 1)
  return bytes
}

function decode(payload) {
  let at = 0
  const take = (n) => {
    if (at + n > payload.length) throw new RangeError(`a message ends after ${payload.length} bytes, within a value`)
    return payload.subarray(at, (at += n))
  }
  const count = (bytes) => Number(BigInt(`0x${take(bytes).toString('hex')}`))
  const many = (n) => Array.from({ length: n }, value)
  const map = (n) => Object.fromEntries(Array.from({ length: n }, () => [value(), value()]))
  function value() {
    const type = count(1)
    if (type < 0x80) return type
    if (type < 0x90) return map(type & 0x0f)
    if (type < 0xa0) return many(type & 0x0f)
    if (type < 0xc0) return take(type & 0x1f).toString()
    if (type >= 0xe0) return type - 0x100
    switch (type) {
      case 0xc0: return null
      case 0xc2: return false
      case 0xc3: return true
      case 0xc4: case 0xc5: case 0xc6: return Buffer.from(take(count(1 << (type - 0xc4))))
      case 0xca: return take(4).readFloatBE()
      case 0xcb: return take(8).readDoubleBE()
      case 0xcc: case 0xcd: case 0xce: case 0xcf: return count(1 << (type - 0xcc))
      case 0xd9: case 0xda: case 0xdb: return take(count(1 << (type - 0xd9))).toString()
      case 0xdc: case 0xdd: return many(count(2 << (type - 0xdc)))
      case 0xde: case 0xdf: return map(count(2 << (type - 0xde)))
      default: throw new RangeError(`type 0x${type.toString(16)}: no message has it`)
    }
  }
  return value()
}
