// The packages as they are published: installed into an empty project, and used there.

import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'

import { addonPath, worker } from '../scripts/build.mjs'
import { bareEnvironment, install, PROGRAM } from '../scripts/install.mjs'
import { packageName, packMain, packPlatform, PLATFORMS, thisPlatform } from '../scripts/pack.mjs'
import { assertGood, nothingLeft, root, useRuntime } from './support/runtime.mjs'

const runtime = useRuntime()
const platform = thisPlatform()

let folder
let tarballs
let project

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'embed-package-'))
  tarballs = [packMain(folder), packPlatform(platform, { addon: addonPath(), worker }, folder)]
  project = install(join(folder, 'a project'), tarballs)
})

after(async () => {
  await nothingLeft(runtime)
  rmSync(folder, { recursive: true, force: true })
})

/** Runs a program in a folder where no Rust is on the PATH, and nothing of this clone in the environment. */
function node(source, { cwd = project, env = {} } = {}) {
  return spawnSync(process.execPath, ['--eval', source], { cwd, encoding: 'utf8', env: { ...bareEnvironment(), ...env } })
}

/** The vector that a user's program has printed. */
function vectorOf(end) {
  assertGood({ code: end.status, ...end })
  const vector = JSON.parse(end.stdout)
  assert.equal(vector.length, 384)
  return vector
}

/** What a program says that loads the package. */
const LOAD = "try { require('@embed/client'); console.log('loaded') } catch ({ code, message }) { console.log(code, message) }"

test('two tarballs are all that a project needs', () => {
  vectorOf(node(PROGRAM))
})

test('they hold what they need and nothing else, and run nothing when they are installed', () => {
  const scope = join(project, 'node_modules', '@embed')
  assert.deepEqual(readdirSync(scope).sort(), ['client', `client-${platform}`])
  assert.deepEqual(readdirSync(join(scope, `client-${platform}`)).sort(), ['LICENSE', 'README.md', 'bin', 'embed-client.node', 'package.json'])
  assert.deepEqual(readdirSync(join(scope, 'client')).sort(), ['CHANGELOG.md', 'LICENSE', 'README.md', 'index.d.ts', 'index.js', 'load.js', 'models', 'package.json'])
  assert.deepEqual(readdirSync(join(scope, 'client', 'models')).sort(), ['LICENSE', 'README.md', 'SHA256SUMS', 'all-MiniLM-L6-v2.Q8_0.gguf'])
  assert.equal(readdirSync(join(scope, `client-${platform}`, 'bin')).length, 1)
  const manifests = readdirSync(scope).map((name) => JSON.parse(readFileSync(join(scope, name, 'package.json'), 'utf8')))
  for (const { name, version, scripts, dependencies } of manifests) {
    assert.equal(version, manifests[0].version, name)
    assert.deepEqual([scripts, dependencies], [undefined, undefined], name)
  }
  const [main, own] = manifests
  assert.deepEqual(main.optionalDependencies, Object.fromEntries(Object.keys(PLATFORMS).map((each) => [packageName(each), main.version])))
  const { os, cpu, libc } = PLATFORMS[platform]
  assert.deepEqual([own.os, own.cpu, own.libc], [os, cpu, libc])
  assert.deepEqual([main.os, main.cpu, main.libc, main.private, main.files], [undefined, undefined, undefined, undefined, undefined])
  assert.deepEqual(own.engines, main.engines)
})

test('a platform is asked of a system in the words of npm', () => {
  for (const [platform, { os, cpu, libc }] of Object.entries(PLATFORMS)) {
    const words = { gnu: 'glibc', musl: 'musl' }
    const [system, processor, library] = platform.split('-')
    assert.deepEqual({ os, cpu, libc }, { os: [system], cpu: [processor], libc: library && [words[library]] }, platform)
  }
})

test('a clone cannot be published, nor under another version than its crates', () => {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  assert.equal(manifest.private, true, 'it has the binaries of one system, and names no other')
  const [, version] = /^version = "(.*)"$/m.exec(readFileSync(join(root, 'Cargo.toml'), 'utf8'))
  assert.equal(manifest.version, version)
})

test('without the package of the platform, the error names it and says what to do', () => {
  const other = install(join(folder, 'without'), [tarballs[0]])
  const end = node(LOAD, { cwd: other })
  assert.match(end.stdout, new RegExp(`^EMBED_ADDON_MISSING .*@embed/client-${platform} is not there.*npm install`))
})

test('an addon that does not load says why', () => {
  const other = join(folder, 'damaged')
  cpSync(project, other, { recursive: true })
  const addon = join(other, 'node_modules', '@embed', `client-${platform}`, 'embed-client.node')
  cpSync(join(root, 'package.json'), addon)
  const end = node(LOAD, { cwd: other })
  assert.match(end.stdout, /^EMBED_ADDON_MISSING .*embed-client\.node: cannot be loaded \(.+\).*install/)
})

test('EMBED_WORKER_PATH goes before the package', () => {
  const end = node(PROGRAM, { env: { EMBED_WORKER_PATH: join(folder, 'no-such-worker'), EMBED_RUNTIME_DIR: `${runtime}-path` } })
  assert.equal(end.status, 1)
  assert.match(end.stderr, /no-such-worker[\s\S]*code: 'EMBED_WORKER_UNAVAILABLE'/)
})

test("the worker's own command finds the model of the package beside it", () => {
  const bin = join(project, 'node_modules', '@embed', `client-${platform}`, 'bin')
  const [program] = readdirSync(bin)
  const line = execFileSync(join(bin, program), ['embed', 'The quick brown fox'], { cwd: folder, encoding: 'utf8' })
  assert.equal(JSON.parse(line).vector.length, 384)
})

test("in Electron's archive, worker and model are those that lie unpacked beside it", () => {
  // Electron shows the archive as a folder; here it is one, from which what cannot be used there has gone.
  const app = join(folder, 'resources')
  const packed = join(app, 'app.asar')
  const unpacked = join(app, 'app.asar.unpacked')
  cpSync(project, packed, { recursive: true })
  for (const part of [join('client', 'models'), join(`client-${platform}`, 'bin')]) {
    const inside = join('node_modules', '@embed', part)
    mkdirSync(join(unpacked, inside, '..'), { recursive: true })
    renameSync(join(packed, inside), join(unpacked, inside))
  }
  assert.ok(!existsSync(join(packed, 'node_modules', '@embed', `client-${platform}`, 'bin')))
  assert.deepEqual(vectorOf(node(PROGRAM, { cwd: packed })), vectorOf(node(PROGRAM)))
})
