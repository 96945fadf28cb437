/** Keeps the entries that were used last; the oldest falls out when it is full. */
export class LeastRecentlyUsed {
  #entries = new Map()

  constructor(capacity) {
    this.capacity = capacity
  }

  get(key) {
    if (!this.#entries.has(key)) return undefined
    const value = this.#entries.get(key)
    this.#entries.delete(key)
    this.#entries.set(key, value)
    return value
  }

  set(key, value) {
    this.#entries.delete(key)
    this.#entries.set(key, value)
    if (this.#entries.size > this.capacity) this.#entries.delete(this.#entries.keys().next().value)
  }
}
