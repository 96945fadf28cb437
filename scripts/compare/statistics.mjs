// The few statistics of the comparison.

/** The value below which a share of the values lies, interpolated between neighbours. */
export function quantile(values, share) {
  if (values.length === 0) throw new Error('no values')
  const sorted = values.toSorted((a, b) => a - b)
  const at = (sorted.length - 1) * share
  const below = Math.floor(at)
  const above = Math.min(below + 1, sorted.length - 1)
  // Equal neighbours may both be infinite.
  return sorted[below] === sorted[above] ? sorted[below] : sorted[below] + (sorted[above] - sorted[below]) * (at - below)
}

export const median = (values) => quantile(values, 0.5)

export const sum = (values) => values.reduce((total, value) => total + value, 0)

const dot = (a, b) => a.reduce((total, value, i) => total + value * b[i], 0)

/** Of vectors of any length. */
export function cosine(a, b) {
  if (a.length !== b.length) throw new Error(`vectors of ${a.length} and ${b.length} dimensions`)
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))
}

/** Items of a list in the order of a round: each round begins with another one. */
export function rotated(items, round) {
  const by = round % Math.max(items.length, 1)
  return [...items.slice(by), ...items.slice(0, by)]
}

/** What the line of least squares through the points gains for each unit of `xs`. */
export function slope(xs, ys) {
  const mean = (values) => sum(values) / values.length
  const [x, y] = [mean(xs), mean(ys)]
  const spread = sum(xs.map((value) => (value - x) ** 2))
  if (!(spread > 0)) throw new Error('a slope needs two points at least')
  return sum(xs.map((value, i) => (value - x) * (ys[i] - y))) / spread
}
