import { randomBytes, timingSafeEqual } from 'node:crypto'

const LIFETIME_MS = 14 * 24 * 60 * 60 * 1000

/** Gives a visitor a fresh cookie value after the password was right. */
export function begin(store, userId) {
  const token = randomBytes(32).toString('base64url')
  store.set(token, { userId, expires: Date.now() + LIFETIME_MS })
  return token
}

/** Who this cookie belongs to, or null when it is unknown or too old. */
export function whoIs(store, token) {
  const entry = store.get(token)
  if (!entry) return null
  if (entry.expires < Date.now()) {
    store.delete(token)
    return null
  }
  return entry.userId
}

export function logOut(store, token) {
  store.delete(token)
}

export const same = (a, b) => a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b))
