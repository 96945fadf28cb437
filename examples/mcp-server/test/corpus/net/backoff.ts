const FIRST_MS = 200
const LAST_MS = 30_000

/** Tries again and again, with pauses that double and that no two clients share. */
export async function persistently<T>(attempt: () => Promise<T>, tries = 6): Promise<T> {
  for (let n = 0; ; n++) {
    try {
      return await attempt()
    } catch (error) {
      if (n + 1 >= tries) throw error
      const ceiling = Math.min(LAST_MS, FIRST_MS * 2 ** n)
      await new Promise((resolve) => setTimeout(resolve, Math.random() * ceiling))
    }
  }
}
