// The types: how random weights are written. Numbers and layouts are those of ggml.h and ggml-common.h.
//
// A block comes as random bits, which are as good as any quantized values; `shape` then gives its
// scales what makes the weights' mean 0 and their deviation `spread`.

/** The standard deviation of whole numbers, `levels` in a row, that are equally likely. */
const deviation = (levels) => Math.sqrt((levels ** 2 - 1) / 12)

/** Random bits as a factor around 1, so that no two blocks have the same scale. */
const around1 = (bits) => 0.75 + (bits & 0xffff) / 0x20000

export const TYPES = {
  F32: {
    number: 0,
    elements: 1,
    bytes: 4,
    shape({ buffer, words }, count, { centre, spread }) {
      const floats = new Float32Array(buffer)
      for (let i = 0; i < count; i++) floats[i] = centre + uniform(words[i] / 2 ** 32, spread)
    }
  },
  F16: {
    number: 1,
    elements: 1,
    bytes: 2,
    shape({ halves }, count, { centre, spread }) {
      const table = Uint16Array.from({ length: 1 << 16 }, (_, i) => half(centre + uniform(i / 2 ** 16, spread)))
      for (let i = 0; i < count; i++) halves[i] = table[halves[i]]
    }
  },
  Q5_0: {
    number: 6,
    elements: 32,
    bytes: 22,
    shape({ halves }, count, { spread }) {
      const scale = spread / deviation(32)
      // With either sign, since the values' own mean is not 0 but -1/2.
      for (let i = 0; i < 11 * count; i += 11) {
        halves[i] = half((i % 2 === 0 ? scale : -scale) * around1(halves[i]))
      }
    }
  },
  Q5_1: {
    number: 7,
    elements: 32,
    bytes: 24,
    shape({ halves }, count, { spread }) {
      const scale = spread / deviation(32)
      for (let i = 0; i < 12 * count; i += 12) {
        const own = scale * around1(halves[i])
        halves[i] = half(own)
        halves[i + 1] = half(-15.5 * own)
      }
    }
  },
  Q8_0: {
    number: 8,
    elements: 32,
    bytes: 34,
    shape({ halves, bytes }, count, { spread }) {
      const scale = spread / deviation(256)
      for (let i = 0; i < 17 * count; i += 17) {
        halves[i] = half(scale * around1(halves[i]))
        // No quantizer writes -128.
        for (let j = 2 * i + 2; j < 2 * i + 34; j++) if (bytes[j] === 0x80) bytes[j] = 0x7f
      }
    }
  },
  Q4_K: { number: 12, elements: 256, bytes: 144, shape: shapeK(144, 16) },
  Q5_K: { number: 13, elements: 256, bytes: 176, shape: shapeK(176, 32) },
  Q6_K: {
    number: 14,
    elements: 256,
    bytes: 210,
    shape({ halves }, count, { spread }) {
      // The 16 scales within the block remain random bytes, of either sign.
      const scale = spread / (deviation(64) * deviation(256))
      for (let i = 104; i < 105 * count; i += 105) halves[i] = half(scale * around1(halves[i]))
    }
  }
}

/** Q4_K and Q5_K: two f16, then eight scales and eight minimums of 6 bits in 12 bytes. */
function shapeK(bytes, levels) {
  // Scales vary from 32 to 63. A minimum takes off what the values have on average: its upper three
  // bits are its scale's, and the lower three leave each 32 weights a mean of their own, but a small
  // one. Else, what GELU gives being positive, it would add the same to all texts.
  const own = deviation(8)
  const middle = (levels - 1) / 2
  const values = Math.hypot(deviation(levels) * Math.hypot(47.5, deviation(32)), middle * Math.SQRT2 * own)
  return ({ halves, words }, count, { spread }) => {
    for (let i = 0; i < (bytes / 4) * count; i += bytes / 4) {
      const scale = (spread / values) * around1(words[i])
      halves[2 * i] = half(scale)
      halves[2 * i + 1] = half(middle * scale)
      // Four scales, and the upper two bits of four more; as many minimums; the lower four bits of
      // these four scales and minimums.
      words[i + 1] |= 0xa0a0a0a0
      words[i + 2] = (words[i + 1] & 0xf8f8f8f8) | (words[i + 2] & 0x07070707)
      words[i + 3] = (words[i + 3] & 0x7f7f7f7f) | ((words[i + 3] & 0x08080808) << 4)
    }
  }
}

/** From a number between 0 and 1 to one around 0 with standard deviation `spread`. */
function uniform(number, spread) {
  return (2 * number - 1) * Math.sqrt(3) * spread
}

const float = new Float32Array(1)
const floatBits = new Uint32Array(float.buffer)

/** The bits of the f16 nearest to `value`, which is within its range. */
function half(value) {
  float[0] = value
  const sign = (floatBits[0] >>> 16) & 0x8000
  const magnitude = floatBits[0] & 0x7fffffff
  const SMALLEST_NORMAL = 0x38800000
  if (magnitude < SMALLEST_NORMAL) return sign | Math.round(Math.abs(value) * 2 ** 24)
  return sign | ((magnitude - 0x38000000 + 0x1000) >>> 13)
}

/** Marsaglia's xorshift128, which fills a buffer about as fast as the disk takes it. */
export class Random {
  #state = new Uint32Array(4)

  constructor(seed) {
    // Mixed, so that seeds that differ in one bit begin far from each other.
    for (let i = 0; i < 4; i++) {
      let word = Math.imul(seed ^ (seed >>> 16), 0x85ebca6b) + Math.imul(i + 1, 0x9e3779b9)
      word = Math.imul(word ^ (word >>> 13), 0xc2b2ae35)
      this.#state[i] = word ^ (word >>> 16)
    }
  }

  fill(words, count) {
    let [x, y, z, w] = this.#state
    for (let i = 0; i < count; i++) {
      const t = x ^ (x << 11)
      x = y
      y = z
      z = w
      w ^= (w >>> 19) ^ t ^ (t >>> 8)
      words[i] = w
    }
    this.#state.set([x, y, z, w])
  }
}
