// The tests of all crates, under Wine.

import { join } from 'node:path'

import { Failure, root } from '../build.mjs'
import { tests } from './artifacts.mjs'
import { ofRust } from './left-out.mjs'
import { wine } from './toolchain.mjs'

/** Runs every test program in its crate's folder, as cargo does; with `names`, only those crates'. */
export function testRust(names) {
  const failed = []
  const wanted = tests().filter(({ crate }) => names.length === 0 || names.includes(crate))
  for (const { crate, name, executable } of wanted) {
    const leftOut = ofRust(crate)
    for (const [test, reason] of leftOut) console.error(`windows: ${crate}: left out: ${test}: ${reason}`)
    const skips = leftOut.flatMap(([test]) => ['--skip', test])
    console.error(`windows: ${crate} ${name}`)
    try {
      wine([executable, ...skips], { cwd: join(root, crate), stdio: ['ignore', 2, 2], env: { RUST_BACKTRACE: '0' } })
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      failed.push(`${crate} ${name}`)
    }
  }
  if (failed.length > 0) throw new Failure(`windows: tests failed: ${failed.join(', ')}`)
}
