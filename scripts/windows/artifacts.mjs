// What cargo builds for Windows: worker, addon and tests, in one go, so that no crate is compiled twice.

import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

import { artifactsOf, Failure, productsOf, root } from '../build.mjs'
import { cargo, targetDirectory, TRIPLE } from './toolchain.mjs'

/** Where Windows' node.exe finds what Linux's finds beside it, under another name. */
export const worker = join(root, 'bin', 'embed-worker.exe')
export const addon = join(root, 'embed-client.win32-x64.node')

/** What the last build has left, for steps that are called alone. */
const LIST = join(targetDirectory, 'artifacts.json')

/** What tests spend their time in, besides our own. */
const HOT = ['aho-corasick', 'fancy-regex', 'memchr', 'regex-automata', 'sha2', 'tokenizers', 'unicode-normalization-alignments', 'unicode-segmentation']

/**
 * Crates of others without optimisation, as far as no test has to wait for them: macros and build scripts, which
 * run here and not there, are half of the work.
 */
const PROFILE = ['*=0', ...HOT.map((name) => `${name}=2`)].flatMap((pair) => {
  const [name, level] = pair.split('=')
  return ['--config', `profile.dev.package."${name}".opt-level=${level}`]
})

export function build() {
  const args = ['build', '--target', TRIPLE, '--workspace', '--lib', '--bins', '--tests', '--examples']
  const messages = cargo([...args, ...PROFILE, '--message-format', 'json-render-diagnostics'], {
    stdio: ['ignore', 'pipe', 2],
    maxBuffer: 1 << 28,
    // Debug symbols of the tests take gigabytes and nobody reads them here.
    env: { CARGO_PROFILE_DEV_DEBUG: '0' }
  })
  const artifacts = artifactsOf(messages)
  const tests = artifacts
    .filter(({ profile, executable }) => profile.test && executable)
    .map(({ package_id: id, target, executable }) => ({ crate: crateOf(id), name: target.name, executable }))
  const products = productsOf(artifacts)
  const suspend = artifacts.find(({ target }) => target.kind.includes('example') && target.name === 'suspend')
  writeFileSync(LIST, JSON.stringify(tests))
  place(products.worker, worker)
  place(suspend.executable, join(root, 'bin', 'suspend.exe'))
  place(products.addon, addon)
}

/** `path+file:///a/embed-client#0.1.0`, or `…/a/folder#embed-client@0.1.0`. */
function crateOf(id) {
  const [path, version] = id.split('#')
  return version.includes('@') ? version.split('@')[0] : basename(path)
}

function place(source, destination) {
  mkdirSync(dirname(destination), { recursive: true })
  copyFileSync(source, destination)
}

/** The test programs: `{ crate, name, executable }`. */
export function tests() {
  if (!existsSync(LIST)) throw new Failure('windows: nothing was built; run `node scripts/windows.mjs build` first')
  return JSON.parse(readFileSync(LIST, 'utf8'))
}

/** The program of that name, or the file itself. */
export function program(name = '') {
  return name === 'embed-worker' ? worker : name
}
