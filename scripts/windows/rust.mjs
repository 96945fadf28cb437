// The tests of all crates, under Wine.

import { join } from 'node:path'

import { Failure, root } from '../build.mjs'
import { tests } from './artifacts.mjs'
import { ofRust } from './left-out.mjs'
import { wine } from './toolchain.mjs'

/**
 * Runs every test program in its crate's folder, as cargo does; with `names`, only those crates' tests. A name is
 * that of a crate, or of some tests of one: `embed-worker/server::`.
 */
export function testRust(names) {
  const failed = []
  const wanted = names.map((name) => name.split('/'))
  for (const { crate, name, executable } of tests()) {
    const filters = wanted.filter(([wantedCrate]) => wantedCrate === crate).map(([, filter]) => filter)
    if (wanted.length > 0 && filters.length === 0) continue
    const leftOut = ofRust(crate)
    for (const [test, reason] of leftOut) console.error(`windows: ${crate}: left out: ${test}: ${reason}`)
    const skips = leftOut.flatMap(([test]) => ['--skip', test])
    const only = filters.includes(undefined) ? [] : filters
    console.error(`windows: ${crate} ${name} ${only.join(' ')}`)
    const begun = Date.now()
    try {
      wine([executable, ...only, ...skips], { cwd: join(root, crate), stdio: ['ignore', 2, 2], env: { RUST_BACKTRACE: '0' } })
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      failed.push(`${crate} ${name}`)
    }
    console.error(`windows: ${crate} ${name}: ${Math.round((Date.now() - begun) / 1000)} s`)
  }
  if (failed.length > 0) throw new Failure(`windows: tests failed: ${failed.join(', ')}`)
}
