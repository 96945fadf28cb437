// Builds packages for other Linux systems on a Debian 12 machine, and uses them as their users would.
//
//   node scripts/cross.mjs                                               both platforms, all steps
//   node scripts/cross.mjs linux-arm64-gnu                               only this one
//   node scripts/cross.mjs linux-arm64-gnu kernels                       only this step
//   node scripts/cross.mjs linux-arm64-gnu kernels -- -p embed-protocol  with these arguments for `cargo test`
//
// Platforms: linux-arm64-gnu, whose programs run under qemu, and linux-x64-musl. Steps, in their order:
//
//   kernels   the tests of the kernels
//   package   the packages, installed into an empty project: the worker's command there, and embed() in a Node for
//             aarch64, or the addon in musl's loader; vectors have the same bits as this machine's
//
// scripts/windows.mjs is the same for Windows.

import { parseArgs } from 'node:util'

import { Failure, report } from './build.mjs'
import { testPackage } from './cross/package.mjs'
import { TARGETS } from './cross/targets.mjs'

const PLATFORMS = ['linux-arm64-gnu', 'linux-x64-musl']

const STEPS = {
  kernels(platform, args) {
    const target = TARGETS[platform]
    target.setUp()
    const tests = args.length > 0 ? args : ['-p', 'embed-worker', '--lib', 'kernels']
    target.cargo(['test', '--target', target.triple, ...tests], { stdio: ['ignore', 2, 2] })
  },
  package: testPackage
}

const USAGE = `usage: node scripts/cross.mjs [${PLATFORMS.join('] [')}] [${Object.keys(STEPS).join('] [')}] [-- ARGUMENT...]`

await report(async () => {
  const { platforms, steps, args } = argumentsOf(process.argv.slice(2))
  for (const platform of platforms) {
    for (const step of steps) {
      const begun = Date.now()
      console.error(`\ncross: ${platform}: ${step}`)
      await STEPS[step](platform, args)
      console.error(`cross: ${platform}: ${step}: ${Math.round((Date.now() - begun) / 1000)} s`)
    }
  }
})

function argumentsOf(words) {
  const end = words.includes('--') ? words.indexOf('--') : words.length
  const args = words.slice(end + 1)
  const { positionals, values } = parseArgs({ args: words.slice(0, end), allowPositionals: true, options: { help: { type: 'boolean', short: 'h' } } })
  const [platforms, steps] = [PLATFORMS, Object.keys(STEPS)].map((known) => positionals.filter((word) => known.includes(word)))
  if (values.help || platforms.length + steps.length < positionals.length) throw new Failure(USAGE)
  return { platforms: platforms.length > 0 ? platforms : PLATFORMS, steps: steps.length > 0 ? steps : Object.keys(STEPS), args }
}
