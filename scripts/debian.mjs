// Debian's own Rust, which builds for other systems: its compiler, and the standard library from its sources.
//
// What is made once lies in one folder outside of the clone, so that a fresh clone does not begin from nothing:
// EMBED_CROSS_CACHE, else `embed-client-cross` under XDG_CACHE_HOME or ~/.cache.

import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'

import { Failure, run } from './build.mjs'

const PACKAGES = ['rustc-web', 'cargo-web', 'rust-web-src']

/** The standard library must be built by the compiler, and from the sources, of one version. */
const CARGO = '/usr/bin/cargo'
const RUSTC = '/usr/bin/rustc'
const SOURCES = '/usr/lib/rustlib/src/rust/library'

const cacheHome = process.env.XDG_CACHE_HOME || join(homedir(), '.cache')
const cache = process.env.EMBED_CROSS_CACHE || join(cacheHome, 'embed-client-cross')

/** Installs Debian's Rust and `packages`, as far as they are missing. */
export function installPackages(packages) {
  const wanted = [...PACKAGES, ...packages]
  const isInstalled = (name) => existsSync(`/var/lib/dpkg/info/${name}.list`) || existsSync(`/var/lib/dpkg/info/${name}:amd64.list`)
  if (wanted.every(isInstalled)) return
  if (!existsSync('/usr/bin/apt-get')) throw new Failure('cross: needs Debian 12 or a system like it')
  const asRoot = process.getuid() === 0 ? [] : ['sudo']
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const apt = (...args) => {
    const [program, ...rest] = [...asRoot, 'apt-get', '-qq', ...args]
    run(program, rest, { env })
  }
  console.error(`cross: installing ${wanted.filter((name) => !isInstalled(name)).join(' ')}`)
  apt('update')
  apt('install', '-y', '--no-install-recommends', ...wanted)
}

/** Lets `make` fill a folder, unless it has been filled. */
export function once(folder, make) {
  const mark = join(folder, 'complete')
  if (existsSync(mark)) return
  console.error(`cross: making ${folder}`)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  make(folder)
  writeFileSync(mark, '')
}

/** A folder of the cache for what is made from `source`: of another one it is another. */
export function cacheFolder(name, source) {
  return join(cache, `${name}-${createHash('sha256').update(source).digest('hex').slice(0, 12)}`)
}

/** How the standard library is built: with what a program that is optimised as a whole takes from it. */
const LIBRARY_FLAGS = '-Cembed-bitcode=yes'

/** Where the standard library for `triple` lies: a sysroot, in rustc's words. */
export function sysroot(triple) {
  return cacheFolder(`library-${triple}`, execFileSync(RUSTC, ['--version'], { encoding: 'utf8' }) + LIBRARY_FLAGS)
}

/** Where the libraries lie within it. */
export const librariesOf = (triple) => join(sysroot(triple), 'lib', 'rustlib', triple, 'lib')

/** Builds Rust's standard library for `triple`, which Debian has for few; then `add(folder)` may put more beside it. */
export function buildLibrary(triple, add = () => {}) {
  once(sysroot(triple), () => {
    const empty = mkdtempSync(join(tmpdir(), 'embed-library-'))
    try {
      mkdirSync(join(empty, 'src'))
      writeFileSync(join(empty, 'src', 'lib.rs'), '')
      writeFileSync(join(empty, 'Cargo.toml'), '[package]\nname = "empty"\nversion = "0.0.0"\nedition = "2024"\n')
      const target = join(empty, 'target')
      // Cargo builds a standard library only for those who ask for what is unstable.
      const env = { ...toolsEnvironment(), RUSTC_BOOTSTRAP: '1', RUSTFLAGS: LIBRARY_FLAGS, CARGO_HOME: join(empty, 'home'), CARGO_TARGET_DIR: target }
      const sources = ['source.crates-io.replace-with="vendored"', `source.vendored.directory="${SOURCES}/vendor"`]
      const args = ['build', '--quiet', '--offline', '--release', '--target', triple, '-Zbuild-std=std,panic_unwind,panic_abort,test']
      run(CARGO, [...args, ...sources.flatMap((source) => ['--config', source])], { cwd: empty, env })
      const built = join(target, triple, 'release', 'deps')
      const libraries = librariesOf(triple)
      mkdirSync(libraries, { recursive: true })
      for (const file of readdirSync(built)) {
        if (file.endsWith('.rlib') && !file.startsWith('libempty')) copyFileSync(join(built, file), join(libraries, file))
      }
      add(libraries)
    } finally {
      rmSync(empty, { recursive: true, force: true })
    }
  })
}

/** An environment without what would turn a build for another system into another. */
function toolsEnvironment() {
  const { RUSTFLAGS, RUSTUP_TOOLCHAIN, CARGO, ...env } = process.env
  // Debian's compiler, whatever rustup has put before it.
  return { ...env, PATH: `/usr/bin:${env.PATH}` }
}

/**
 * Runs cargo for `triple`. `linker` links, where rustc does not know one itself; programs that cargo runs are
 * handed to `runner`.
 */
export function cargo(triple, args, { targetDirectory, linker, runner, rustflags = [], env, ...options }) {
  const prefix = `CARGO_TARGET_${triple.toUpperCase().replaceAll('-', '_')}`
  return run(CARGO, args, {
    ...options,
    env: {
      ...toolsEnvironment(),
      CARGO_TARGET_DIR: targetDirectory,
      [`${prefix}_RUSTFLAGS`]: [`--sysroot=${sysroot(triple)}`, ...rustflags].join(' '),
      ...(linker && { [`${prefix}_LINKER`]: linker }),
      ...(runner && { [`${prefix}_RUNNER`]: runner }),
      ...env
    }
  })
}
