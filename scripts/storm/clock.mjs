// One clock for all processes of a run, and pauses.

/** Milliseconds of the system's monotonic clock, which all its processes share. */
export const now = () => Number(process.hrtime.bigint()) / 1e6

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

/** Looks again and again until `condition` holds; whether it did within `patienceMs`. */
export async function holds(condition, patienceMs) {
  for (const giveUp = now() + patienceMs; now() < giveUp; await pause(10)) {
    if (await condition()) return true
  }
  return condition()
}
