// A worker in a control group of little memory, and a file that is not in the system's cache. Linux only,
// and both want root.

import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { worker } from '../build.mjs'

/** Where the system keeps groups with a limit of memory: those of version 2, then of version 1. */
const HIERARCHIES = [
  { root: '/sys/fs/cgroup', limit: 'memory.max', peak: 'memory.peak', kills: 'memory.events' },
  { root: '/sys/fs/cgroup/memory', limit: 'memory.limit_in_bytes', peak: 'memory.max_usage_in_bytes', kills: 'memory.oom_control' }
]

/** Forgets what the system has cached of files; whether it may be asked to. */
export function dropCaches() {
  try {
    writeFileSync('/proc/sys/vm/drop_caches', '1')
    return true
  } catch {
    return false
  }
}

/** A group of at most `bytes` bytes, or undefined where none can be made. */
export function makeGroup(bytes) {
  for (const { root, limit, peak, kills } of HIERARCHIES) {
    // Where nothing is mounted, a folder would be one like any other.
    if (!existsSync(join(root, 'cgroup.procs'))) continue
    const folder = join(root, `embed-full-model-${process.pid}`)
    try {
      mkdirSync(folder)
    } catch {
      continue
    }
    try {
      writeFileSync(join(folder, limit), String(bytes))
      return new Group(folder, { peak, kills })
    } catch {
      rmdirSync(folder)
    }
  }
  return undefined
}

class Group {
  #files

  constructor(folder, files) {
    this.folder = folder
    this.#files = files
  }

  /** Writes a program that puts itself into the group and then becomes the worker. */
  writeProgram(path) {
    const script = `#!/bin/sh\necho $$ > '${join(this.folder, 'cgroup.procs')}' || exit 1\nexec '${worker}' "$@"\n`
    writeFileSync(path, script, { mode: 0o700 })
  }

  /** Whether a process is in it. */
  holds(pid) {
    return readFileSync(join(this.folder, 'cgroup.procs'), 'utf8').split('\n').includes(String(pid))
  }

  /** The most memory that it ever had, or undefined where that is not told. */
  peakBytes() {
    const path = join(this.folder, this.#files.peak)
    return existsSync(path) ? Number(readFileSync(path, 'utf8')) : undefined
  }

  /** How many of its processes the system has killed for want of memory. */
  kills() {
    return Number(/^oom_kill (\d+)$/m.exec(readFileSync(join(this.folder, this.#files.kills), 'utf8'))?.[1] ?? 0)
  }

  /** Whether it could be removed: not while a process of it has yet to end. */
  remove() {
    try {
      rmdirSync(this.folder)
      return true
    } catch {
      return false
    }
  }
}
