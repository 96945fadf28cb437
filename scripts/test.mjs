// Every test: builds, then Rust's, then Node's. Nothing is skipped.

import { readdirSync } from 'node:fs'
import { join } from 'node:path'

import { build, buildTestTools, report, root, run } from './build.mjs'

/** No test takes longer than this on a slow machine; one that does hangs. */
const TIMEOUT_MS = 180_000

await report(() => {
  build()
  buildTestTools()
  run('cargo', ['test', '--workspace'])
  const folder = join(root, '__test__')
  const specs = readdirSync(folder).filter((file) => file.endsWith('.spec.mjs'))
  // One file at a time: some measure memory, some load every core.
  const options = ['--test', '--test-concurrency=1', `--test-timeout=${TIMEOUT_MS}`]
  run(process.execPath, [...options, ...specs.map((file) => join(folder, file))], { stdio: 'inherit' })
})
