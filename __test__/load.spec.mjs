// Which addon is loaded, and what is said if there is none.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'

import { PLATFORMS, thisPlatform } from '../scripts/pack.mjs'
import { root } from './support/runtime.mjs'

const { loaderOf, PLATFORMS: known } = createRequire(import.meta.url)('../load.js')

const platform = thisPlatform()

let folder

before(() => (folder = mkdtempSync(join(tmpdir(), 'embed-load-'))))
after(() => rmSync(folder, { recursive: true, force: true }))

/** A project with the package but no addon; `others` are packages of platforms, each with an addon of that source. */
function project(name, others = {}) {
  const scope = join(folder, name, 'node_modules', '@embed')
  mkdirSync(join(scope, 'client'), { recursive: true })
  for (const file of ['index.js', 'load.js', 'package.json']) copyFileSync(join(root, file), join(scope, 'client', file))
  for (const [other, addon] of Object.entries(others)) {
    mkdirSync(join(scope, `client-${other}`))
    writeFileSync(join(scope, `client-${other}`, 'package.json'), '{}')
    writeFileSync(join(scope, `client-${other}`, 'embed-client.node'), addon)
  }
  return join(folder, name)
}

/** What comes of loading the package there, in a Node that claims to run on `system`. */
function load(cwd, system = {}) {
  const claims = Object.entries(system).map(([name, value]) => `Object.defineProperty(process, '${name}', { value: '${value}' });`)
  const source = `${claims.join('')} try { require('@embed/client') } catch ({ code, message, cause }) { console.log(JSON.stringify({ code, message, cause: cause?.message })) }`
  const { stdout, stderr } = spawnSync(process.execPath, ['--eval', source], { cwd, encoding: 'utf8' })
  assert.equal(stderr, '')
  return JSON.parse(stdout)
}

test('the systems that it knows are those for which there are packages', () => {
  assert.deepEqual([...known].sort(), Object.keys(PLATFORMS).sort())
})

test('a package that is not there is named, with what to do', () => {
  const { code, message } = load(project('none'))
  assert.equal(code, 'EMBED_ADDON_MISSING')
  assert.match(message, new RegExp(`^@embed/client: the package @embed/client-${platform} is not there, nor is .*embed-client\\.${platform}\\.node; run \`npm install\` again on this system and without \`--omit=optional\``))
})

test('a package of another system is named as what is there instead', () => {
  const other = platform.startsWith('win32') ? 'linux-x64-gnu' : 'win32-x64'
  const { message } = load(project('moved', { [other]: '' }))
  assert.match(message, new RegExp(`@embed/client-${platform} is not there, only @embed/client-${other}, which is for another system`))
})

test('a system without a package is named, and those that have one', () => {
  const { code, message } = load(project('unknown'), { platform: 'sunos', arch: 'sparc' })
  assert.equal(code, 'EMBED_ADDON_MISSING')
  assert.ok(message.startsWith(`@embed/client: there is no package for sunos-sparc, only for ${known.join(', ')}; in a clone, \`npm run build\``), message)
})

test('a processor without a package is named', () => {
  assert.match(load(project('processor'), { arch: 'riscv64' }).message, /^@embed\/client: there is no package for \w+-riscv64/)
})

test('an addon that cannot be loaded is named, with the reason and what to do', () => {
  const others = Object.fromEntries(Object.keys(PLATFORMS).map((each) => [each, `no addon, for ${each}`]))
  const { code, message, cause } = load(project('damaged', others))
  assert.equal(code, 'EMBED_ADDON_MISSING')
  const file = join('@embed', `client-${platform}`, 'embed-client.node')
  assert.ok(message.includes(`${file}: cannot be loaded (${cause}); install the package again`), message)
  assert.ok(cause.length > 0)
})

test('of two packages for Linux, the one is loaded whose libc this Node has', { skip: process.platform !== 'linux' && 'others have one libc' }, () => {
  const both = { 'linux-x64-gnu': '', 'linux-x64-musl': '', 'linux-arm64-gnu': '' }
  assert.ok(load(project('both', both)).message.includes(join(`client-${platform}`, 'embed-client.node')))
})

/** A program of 64 bits whose second segment names a loader, which stands at the end of the file. */
function program(loader) {
  const [header, entry] = [64, 56]
  const path = Buffer.from(`${loader}\0`)
  const bytes = Buffer.alloc(header + 2 * entry + 1000 + path.length)
  const at = bytes.length - path.length
  bytes.write('\x7fELF\x02\x01', 'latin1')
  bytes.writeBigUInt64LE(BigInt(header), 32)
  bytes.writeUInt16LE(entry, 54)
  bytes.writeUInt16LE(2, 56)
  bytes.writeUInt32LE(6, header)
  bytes.writeUInt32LE(3, header + entry)
  bytes.writeBigUInt64LE(BigInt(at), header + entry + 8)
  bytes.writeBigUInt64LE(BigInt(path.length), header + entry + 32)
  path.copy(bytes, at)
  return bytes
}

test("a program's loader is read from its file, and nothing from what is no program", () => {
  const of = (bytes) => {
    const file = join(folder, 'program')
    writeFileSync(file, bytes)
    return loaderOf(file)
  }
  for (const loader of ['/lib/ld-musl-x86_64.so.1', '/lib64/ld-linux-x86-64.so.2']) assert.equal(of(program(loader)), loader)
  const whole = program('/lib/ld-musl-x86_64.so.1')
  for (const length of [0, 3, 63, 64, 100, 175]) assert.equal(of(whole.subarray(0, length)), undefined, `${length} bytes`)
  const none = Buffer.from(whole)
  none.writeUInt32LE(1, 64 + 56)
  assert.equal(of(none), undefined, 'a static program')
  assert.equal(of(Buffer.from('#!/bin/sh\n'.repeat(20))), undefined)
  assert.equal(loaderOf(join(folder, 'absent')), undefined)
  if (process.platform === 'linux') assert.match(loaderOf('/proc/self/exe'), /^\/.*ld-/)
})
