// Builds for Windows on a Debian machine, and runs what was built under Wine.
//
//   node scripts/windows.mjs                     all steps
//   node scripts/windows.mjs setup build rust    only these
//   node scripts/windows.mjs rust -- embed-log   only tests of that crate, or file of __test__
//   node scripts/windows.mjs rust -- embed-worker/server::    only those of its tests
//   node scripts/windows.mjs run -- embed-worker info models/all-MiniLM-L6-v2.Q8_0.gguf
//
// Steps, in their order:
//
//   setup     installs a cross compiler and Wine (apt), builds Rust's standard library, fetches node.exe
//   build     embed-worker.exe, the addon and the tests
//   vector    one text's vector from Linux and from Windows, bit for bit
//   rust      the tests of all crates
//   node      the tests in __test__, in Windows' node.exe
//   package   the packages for Windows, installed into an empty project
//
// What Wine does otherwise than Windows, and what is therefore left out, is said in scripts/windows/left-out.mjs.

import { parseArgs } from 'node:util'

import { Failure, report } from './build.mjs'
import { build, program } from './windows/artifacts.mjs'
import { testNode } from './windows/node.mjs'
import { testPackage } from './windows/package.mjs'
import { testRust } from './windows/rust.mjs'
import { endAll, setUp, wine, workersLeft } from './windows/toolchain.mjs'
import { compareVectors } from './windows/vector.mjs'

const STEPS = {
  setup: setUp,
  build,
  vector: compareVectors,
  rust: testRust,
  node: testNode,
  package: testPackage
}

const USAGE = `usage: node scripts/windows.mjs [${Object.keys(STEPS).join('] [')}] [-- NAME...]
       node scripts/windows.mjs run -- embed-worker ARGUMENT...`

await report(async () => {
  const { steps, names } = argumentsOf(process.argv.slice(2))
  if (steps.includes('run')) return wine([program(names[0]), ...names.slice(1)], { stdio: 'inherit' })
  try {
    for (const step of steps.length > 0 ? steps : Object.keys(STEPS)) {
      const begun = Date.now()
      console.error(`\nwindows: ${step}`)
      await STEPS[step](names)
      console.error(`windows: ${step}: ${Math.round((Date.now() - begun) / 1000)} s`)
    }
    const left = await workersLeft()
    if (left.length > 0) throw new Failure(`windows: a worker outlived the tests: ${left.join(', ')}`)
  } finally {
    endAll()
  }
})

function argumentsOf(args) {
  const { positionals, values } = parseArgs({ args, allowPositionals: true, options: { help: { type: 'boolean', short: 'h' } } })
  const end = args.indexOf('--')
  const names = end < 0 ? [] : args.slice(end + 1)
  const steps = positionals.slice(0, positionals.length - names.length)
  const unknown = steps.filter((step) => !(step in STEPS) && step !== 'run')
  if (values.help || unknown.length > 0) throw new Failure(USAGE)
  return { steps, names }
}
