// What the system counts for a process. Only Linux tells.

import { readdirSync, readFileSync } from 'node:fs'

/** `{ anonymous, privateDirty, rss }` in bytes, or null where the system does not tell. */
export function memoryOf(pid) {
  if (process.platform !== 'linux') return null
  try {
    const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
    const field = (name) => 1024 * Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(rollup)[1])
    return { anonymous: field('Anonymous'), privateDirty: field('Private_Dirty'), rss: field('Rss') }
  } catch {
    return null
  }
}

/** Process ids whose command line has all of `parts`; none where the system does not tell. */
export function processesWith(...parts) {
  if (process.platform !== 'linux') return []
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
        return parts.every((part) => command.includes(part))
      } catch {
        return false
      }
    })
    .map(Number)
}
