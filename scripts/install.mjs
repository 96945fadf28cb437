// Installs tarballs of scripts/pack.mjs into an empty project, as a user would, and embeds a text there.
//
//   node scripts/install.mjs dist/embed-client-0.1.0.tgz dist/embed-client-linux-x64-gnu-0.1.0.tgz

import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

import { Failure, report } from './build.mjs'

export const TEXT = 'The quick brown fox'

/** What a user's program may be: prints the vector of `TEXT`, or why there is none. */
export const PROGRAM = `
  require('@embed/client').embed(${JSON.stringify(TEXT)}).then(
    (vector) => console.log(JSON.stringify([...vector])),
    (error) => { console.error(error); process.exitCode = 1 })`

/**
 * Makes the project's `folder` and installs `tarballs` there with npm; gives the folder. `system` is `{ os, cpu }`,
 * and on Linux `libc`, if it is not this one's. Packages of other platforms, which nobody has published, are not
 * asked for.
 */
export function install(folder, tarballs, system = {}) {
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'package.json'), '{ "name": "project", "private": true }\n')
  const other = Object.entries(system).map(([key, value]) => `--${key}=${value}`)
  // What is named on the command line is held against this system all the same.
  if (other.length > 0) other.push('--force')
  execFileSync('npm', ['install', '--offline', '--no-audit', '--no-fund', ...other, ...tarballs], {
    cwd: folder,
    // npm is a script, which Windows does not run as a program.
    shell: process.platform === 'win32',
    stdio: ['ignore', 2, 2]
  })
  return folder
}

/** The environment of a program that finds no Rust and nothing of this clone. */
export function bareEnvironment() {
  const own = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(npm_|CARGO|RUST|PATH$)/i.test(name)))
  return { ...own, PATH: process.platform === 'win32' ? process.env.SystemRoot : '/usr/bin:/bin' }
}

function main() {
  const tarballs = process.argv.slice(2).map((file) => resolve(file))
  if (tarballs.length === 0) throw new Failure('usage: node scripts/install.mjs TARBALL...')
  const folder = mkdtempSync(join(tmpdir(), 'embed-install-'))
  try {
    const project = install(join(folder, 'a project'), tarballs)
    const env = { ...bareEnvironment(), EMBED_RUNTIME_DIR: join(folder, 'run'), EMBED_CACHE_DIR: join(folder, 'cache'), EMBED_IDLE_TIMEOUT: '1' }
    const vector = JSON.parse(execFileSync(process.execPath, ['--eval', PROGRAM], { cwd: project, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 2] }))
    if (!(vector.length === 384 && vector.every(Number.isFinite))) throw new Failure(`install: no vector of 384 numbers: ${vector}`)
    console.log(`${process.platform}-${process.arch}, Node ${process.versions.node}: the packages embed in an empty project`)
  } finally {
    // The worker leaves a second later; until then Windows keeps its files.
    rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 200 })
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await report(main)
