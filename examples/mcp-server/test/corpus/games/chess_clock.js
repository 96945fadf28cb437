/** Two players, one of whose time runs; each move gives back some seconds. */
export class Clock {
  #left
  #running = null
  #since = 0

  constructor(minutes, bonusSeconds, now = () => performance.now()) {
    this.#left = [minutes * 60_000, minutes * 60_000]
    this.bonus = bonusSeconds * 1000
    this.now = now
  }

  press(player) {
    const at = this.now()
    if (this.#running === player) this.#left[player] += this.bonus - (at - this.#since)
    this.#running = 1 - player
    this.#since = at
  }

  hasLost(player) {
    const used = this.#running === player ? this.now() - this.#since : 0
    return this.#left[player] - used <= 0
  }
}
