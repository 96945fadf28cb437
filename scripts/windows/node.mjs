// The tests in __test__, in Windows' node.exe under Wine.

import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { Failure, root } from '../build.mjs'
import { ofNode } from './left-out.mjs'
import { nodeExe, windowsPath, wine } from './toolchain.mjs'

/** No test takes longer than this on a slow machine; one that does hangs. Wine starts programs slowly. */
const TIMEOUT_MS = 300_000

/** Runs every file of tests, one after the other; with `names`, only those files. */
export function testNode(names) {
  const specs = readdirSync(join(root, '__test__')).filter((file) => file.endsWith('.spec.mjs'))
  const failed = []
  for (const spec of specs.filter((file) => names.length === 0 || names.some((name) => file.startsWith(name)))) {
    const leftOut = ofNode(spec)
    for (const [test, reason] of leftOut) console.error(`windows: ${spec}: left out: ${test}: ${reason}`)
    if (leftOut.some(([test]) => test === 'all')) continue
    const skips = leftOut.map(([test]) => `--test-skip-pattern=/^${escape(test)}/`)
    console.error(`windows: ${spec}`)
    const begun = Date.now()
    try {
      node(['--test', `--test-timeout=${TIMEOUT_MS}`, ...skips, windowsPath(join(root, '__test__', spec))])
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      failed.push(spec)
    }
    console.error(`windows: ${spec}: ${Math.round((Date.now() - begun) / 1000)} s`)
  }
  if (failed.length > 0) throw new Failure(`windows: tests failed: ${failed.join(', ')}`)
}

const escape = (text) => text.replaceAll(/[\\^$.*+?()[\]{}|/]/g, '\\$&')

/**
 * Runs node.exe and shows what it says, its standard output only unless `quiet`; gives its standard output. It cannot
 * write to a pipe of Linux, only to a file.
 */
export function node(args, { cwd = root, env, quiet = false } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'embed-windows-'))
  const [stdout, stderr] = ['stdout', 'stderr'].map((name) => join(folder, name))
  const [out, err] = [stdout, stderr].map((file) => openSync(file, 'w'))
  try {
    wine([nodeExe, ...args], { cwd, env, stdio: ['ignore', out, err] })
    return readFileSync(stdout, 'utf8')
  } finally {
    closeSync(out)
    closeSync(err)
    process.stderr.write((quiet ? '' : readFileSync(stdout, 'utf8')) + readFileSync(stderr, 'utf8'))
    rmSync(folder, { recursive: true, force: true })
  }
}
