// What the system counts for processes. Only Linux tells; elsewhere it is null.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Bytes that are a process's own: what is mapped from files may be dropped and is shared. */
export function anonymousOf(pid) {
  try {
    const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
    return 1024 * Number(/^Anonymous:\s+(\d+) kB/m.exec(rollup)[1])
  } catch {
    return null
  }
}

/** Resident bytes of a process, mapped files included. */
export function residentOf(pid) {
  try {
    return 1024 * Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1])
  } catch {
    return null
  }
}

/** The processes of the workers of a runtime directory: their cards lie beside their locks. */
export function workersOf(runtime) {
  return readdirSync(runtime).filter((name) => name.endsWith('.json')).flatMap((name) => {
    try {
      return [JSON.parse(readFileSync(join(runtime, name), 'utf8')).pid]
    } catch {
      return []
    }
  })
}
