// The platforms for which a Debian 12 machine on x86-64 builds packages besides its own.

import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'

import { artifactsOf, Failure, productsOf, root, run } from '../build.mjs'
import { buildLibrary, cacheFolder, cargo, installPackages, librariesOf, once } from '../debian.mjs'
import * as windows from '../windows/toolchain.mjs'

const unwinderSource = join(root, 'scripts', 'cross', 'unwind.c')

/** Names of Debian's C library and compiler for musl. */
const MUSL = 'x86_64-unknown-linux-musl'
const MUSL_LIBRARIES = '/usr/lib/x86_64-linux-musl'
const MUSL_STARTUP = ['crt1.o', 'rcrt1.o', 'Scrt1.o', 'crti.o', 'crtn.o', 'libc.a']
const GCC_STARTUP = ['crtbegin.o', 'crtbeginS.o', 'crtend.o', 'crtendS.o', 'libgcc.a']

/**
 * By platform: `runner`, the words before a program of it that run it here; `setUp()`, which installs what is
 * missing; and `cargo(args, options)`, of which `options.product` says whether worker or addon is built.
 */
export const TARGETS = {
  'linux-arm64-gnu': {
    triple: 'aarch64-unknown-linux-gnu',
    runner: ['qemu-aarch64-static', '-L', '/usr/aarch64-linux-gnu'],
    setUp() {
      // The last is for Node, which is in C++.
      installPackages(['gcc-aarch64-linux-gnu', 'libc6-dev-arm64-cross', 'qemu-user-static', 'libstdc++6-arm64-cross'])
      buildLibrary(this.triple)
    },
    cargo(args, { product, ...options } = {}) {
      const [targetDirectory, runner] = [targetDirectoryOf('linux-arm64-gnu'), this.runner.join(' ')]
      return cargo(this.triple, args, { targetDirectory, linker: 'aarch64-linux-gnu-gcc', runner, ...options })
    }
  },
  'linux-x64-musl': {
    triple: MUSL,
    runner: [],
    setUp() {
      installPackages(['gcc', 'musl-tools'])
      buildLibrary(MUSL, addMusl)
      once(unwinder(), buildUnwinder)
    },
    /** A worker needs no library of the system; an addon is loaded into a Node that has one already. */
    cargo(args, { product = 'worker', ...options } = {}) {
      const targetDirectory = targetDirectoryOf('linux-x64-musl')
      if (product === 'worker') return cargo(MUSL, args, { targetDirectory, linker: 'gcc', ...options })
      const rustflags = ['-Ctarget-feature=-crt-static', `-Lnative=${unwinder()}`]
      return cargo(MUSL, args, { targetDirectory, linker: 'musl-gcc', rustflags, ...options })
    }
  },
  'win32-x64': {
    triple: windows.TRIPLE,
    setUp: windows.setUp,
    cargo: (args, { product, ...options } = {}) => windows.cargo(args, options)
  }
}

const targetDirectoryOf = (platform) => join(root, 'target', platform)

/** What the standard library for musl needs beside it: musl itself, and an unwinder. */
function addMusl(libraries) {
  const folder = join(libraries, 'self-contained')
  mkdirSync(folder)
  for (const file of MUSL_STARTUP) copyFileSync(join(MUSL_LIBRARIES, file), join(folder, file))
  for (const file of GCC_STARTUP) copyFileSync(ofGcc(file), join(folder, file))
  once(unwinder(), buildUnwinder)
  copyFileSync(join(unwinder(), UNWINDER), join(folder, 'libunwind.a'))
}

/** Rust asks for the addon's unwinder by the name of GCC's library, of which Debian has none for musl. */
const UNWINDER = 'libgcc_s.a'

const unwinder = () => cacheFolder('unwinder-musl', readFileSync(unwinderSource))

function buildUnwinder(folder) {
  const [archive, object] = [join(folder, UNWINDER), join(folder, 'unwind.o')]
  copyFileSync(ofGcc('libgcc_eh.a'), archive)
  run('musl-gcc', ['-O2', '-fPIC', '-c', unwinderSource, '-o', object])
  run('ar', ['r', archive, object])
}

function ofGcc(file) {
  return execFileSync('gcc', [`-print-file-name=${file}`], { encoding: 'utf8' }).trim()
}

/** Builds worker and addon of a platform as they are published; gives `{ worker, addon }`, their files. */
export function buildFor(platform) {
  const target = TARGETS[platform]
  target.setUp()
  const make = (product, name) => {
    const args = ['build', '--release', '--target', target.triple, '--package', name]
    const messages = target.cargo([...args, '--message-format', 'json-render-diagnostics'], {
      product,
      stdio: ['ignore', 'pipe', 2],
      maxBuffer: 1 << 28,
      // Lines of the source are for those who build it; they are two thirds of the file.
      env: { CARGO_PROFILE_RELEASE_STRIP: 'debuginfo' }
    })
    const file = productsOf(artifactsOf(messages))[product]
    if (!file) throw new Failure(`${platform}: cargo has made no ${product}`)
    return file
  }
  return { worker: make('worker', 'embed-worker'), addon: make('addon', 'napi-client') }
}

/** The shared libraries that an ELF file asks for, and the newest version of glibc among what it needs of it. */
export function needsOf(file) {
  const said = execFileSync('readelf', ['--wide', '--dynamic', '--version-info', file], { encoding: 'utf8' })
  const libraries = [...said.matchAll(/\(NEEDED\).*\[(.*)\]/g)].map(([, name]) => name)
  const versions = [...said.matchAll(/Name: GLIBC_([\d.]+)/g)].map(([, version]) => version)
  const newest = versions.sort((a, b) => a.localeCompare(b, 'en', { numeric: true })).at(-1)
  return { file: basename(file), libraries, glibc: newest }
}
