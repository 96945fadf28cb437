// The workers that run in a runtime directory, on every system.

import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { root } from './build.mjs'

/** Process ids of the workers that listen in a runtime directory. */
export function workers(dir) {
  // Pipes have no directory, and Windows has no simple list of processes; but every worker leaves its card there.
  if (process.platform === 'win32') return cards(dir).map(({ pid }) => pid).filter(isRunning)
  return processes()
    .filter(({ command }) => command.includes(' serve ') && command.includes(dir))
    .map(({ pid }) => pid)
}

function cards(dir) {
  const names = existsSync(dir) ? readdirSync(dir) : []
  return names.filter((name) => name.endsWith('.json')).flatMap((name) => {
    try {
      return [JSON.parse(readFileSync(join(dir, name), 'utf8'))]
    } catch {
      // Gone meanwhile, or about to.
      return []
    }
  })
}

function isRunning(pid) {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return error.code === 'EPERM'
  }
}

function processes() {
  if (process.platform === 'linux') {
    return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).flatMap((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
        // A process that has ended but was not waited for yet has no command line.
        return command === '' ? [] : [{ pid: Number(pid), command }]
      } catch {
        return []
      }
    })
  }
  return execFileSync('ps', ['-axww', '-o', 'pid=,command='], { encoding: 'utf8' })
    .split('\n')
    .map((line) => /^\s*(\d+) (.*)$/.exec(line))
    .filter(Boolean)
    .map(([, pid, command]) => ({ pid: Number(pid), command }))
}

/** Processes that have ended and that one of `parents` has not waited for; none where only Linux tells. */
export function zombiesOf(parents) {
  if (process.platform !== 'linux') return []
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).flatMap((pid) => {
    try {
      // After the name in brackets, which may hold anything: the state, then the parent.
      const [state, parent] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1).split(' ')
      return state === 'Z' && parents.includes(Number(parent)) ? [Number(pid)] : []
    } catch {
      return []
    }
  })
}

/** Sends a signal to a process that may have ended meanwhile; whether it had not. */
export function signal(pid, name) {
  try {
    return process.kill(pid, name)
  } catch (error) {
    if (error.code === 'ESRCH') return false
    throw error
  }
}

/** Stops a process where it stands, until `resume` or its end. Windows has no signal for it, but a function. */
export function suspend(pid) {
  return process.platform === 'win32' ? suspender(String(pid)) : signal(pid, 'SIGSTOP')
}

/** Lets a process go on that was stopped. */
export function resume(pid) {
  return process.platform === 'win32' ? suspender('--resume', String(pid)) : signal(pid, 'SIGCONT')
}

function suspender(...args) {
  const program = join(root, 'bin', 'suspend.exe')
  const { status, error } = spawnSync(program, args, { windowsHide: true })
  if (error) throw error
  return status === 0
}
