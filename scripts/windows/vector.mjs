// A text's vector is the same on both systems, bit for bit, on every instruction set that this machine has.

import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { build, Failure, root, worker as native } from '../build.mjs'
import { worker } from './artifacts.mjs'
import { wine } from './toolchain.mjs'

const MODEL = join('models', 'all-MiniLM-L6-v2.Q8_0.gguf')

/** Short, longer, and empty. */
const TEXTS = ['The quick brown fox', 'Grüße, 世界! '.repeat(8), '']

const SETS = ['portable', 'avx2', 'avxvnni', 'avx512vnni']

export function compareVectors() {
  if (!existsSync(native)) build()
  let compared = 0
  for (const set of SETS) {
    const args = ['embed', '--model', MODEL, ...TEXTS]
    const env = { EMBED_ISA: set }
    const expected = spawnSync(native, args, { cwd: root, env: { ...process.env, ...env }, encoding: 'utf8' })
    // The CPU does not have it.
    if (expected.status !== 0) continue
    const found = wine([worker, ...args], { env, stdio: ['ignore', 'pipe', 2] }).toString().replaceAll('\r\n', '\n')
    if (found !== expected.stdout) {
      throw new Failure(`windows: ${set}: other vectors than on Linux\nLinux:   ${expected.stdout.slice(0, 200)}\nWindows: ${found.slice(0, 200)}`)
    }
    if (found.trim().split('\n').length !== TEXTS.length) throw new Failure(`windows: ${set}: not ${TEXTS.length} vectors`)
    console.error(`windows: ${set}: ${TEXTS.length} vectors, the same bits as on Linux`)
    compared++
  }
  if (compared === 0) throw new Failure('windows: no instruction set could be compared')
}
