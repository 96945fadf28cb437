// The workers that run in a runtime directory, on every system.

import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'

/** Process ids of the workers that listen in a runtime directory. */
export function workers(dir) {
  return processes()
    .filter(({ command }) => command.includes(' serve ') && command.includes(endpointPart(dir)))
    .map(({ pid }) => pid)
}

/** What of a runtime directory stands on a worker's command line. Pipes have no directory. */
function endpointPart(dir) {
  return process.platform === 'win32' ? '\\\\.\\pipe\\embed-' : dir
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
  const [program, args] =
    process.platform === 'win32'
      ? ['powershell', ['-NoProfile', '-Command', 'Get-CimInstance Win32_Process | ForEach-Object { "$($_.ProcessId) $($_.CommandLine)" }']]
      : ['ps', ['-axww', '-o', 'pid=,command=']]
  return execFileSync(program, args, { encoding: 'utf8' })
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
