// Builds addon and worker and puts them where index.js and the addon look for them.
//
//   node scripts/build.mjs                cargo decides what has to be compiled
//   node scripts/build.mjs --if-missing   nothing, if both files are there
//
// Cargo's progress goes to stderr; stdout stays empty.

import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, renameSync, rmSync, statSync, utimesSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** The worker, where the addon looks for it. */
export const worker = join(root, 'bin', process.platform === 'win32' ? 'embed-worker.exe' : 'embed-worker')

/** The addon, where index.js looks for it. */
export function addonPath() {
  const { platform, arch } = process
  const libc = platform !== 'linux' ? '' : process.report.getReport().header.glibcVersionRuntime ? '-gnu' : '-musl'
  return join(root, `embed-client.${platform}-${arch}${libc}.node`)
}

/** A failure that its message explains: no stack trace is wanted. */
export class Failure extends Error {
  exitCode = 1
}

/** Runs a program in the package's folder with stdout on stderr; fails unless it succeeds. */
export function run(program, args, options = {}) {
  const result = spawnSync(program, args, { cwd: root, stdio: ['ignore', 2, 2], ...options })
  if (result.error?.code === 'ENOENT') {
    throw new Failure(`${program}: not found; install the Rust toolchain from https://rustup.rs`)
  }
  if (result.error) throw result.error
  if (result.status !== 0) {
    throw new Failure(`${program} ${args.join(' ')}: ${result.signal ?? `exit code ${result.status}`}`)
  }
  return result.stdout
}

/** What cargo says that it has made, of its messages in JSON. */
export function artifactsOf(messages) {
  return messages
    .toString()
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))
    .filter((message) => message.reason === 'compiler-artifact')
}

/** The files of worker and addon among what cargo has made. */
export function productsOf(artifacts) {
  const program = artifacts.find(({ target, profile }) => target.name === 'embed-worker' && target.kind.includes('bin') && !profile.test)
  const library = artifacts.find(({ target }) => target.kind.includes('cdylib'))
  const isLibrary = (file) => /\.(so|dylib|dll)$/.test(file)
  return { worker: program?.executable, addon: library?.filenames.find(isLibrary) }
}

/** Compiles what has changed and puts the two files in place. Well under a second if nothing has. */
export function build() {
  const args = ['build', '--release', '--package', 'embed-worker', '--package', 'napi-client']
  const messages = run('cargo', [...args, '--message-format', 'json-render-diagnostics'], {
    stdio: ['ignore', 'pipe', 2],
    maxBuffer: 1 << 28
  })
  // Cargo says where it put them: CARGO_TARGET_DIR, --target and configuration are its affair.
  const products = productsOf(artifactsOf(messages))
  place(products.worker, worker)
  place(products.addon, addonPath())
}

/** Windows' own: what stops a process in tests, where no signal does. */
export function buildTestTools() {
  if (process.platform !== 'win32') return
  run('cargo', ['build', '--package', 'embed-windows', '--example', 'suspend', '--target-dir', join(root, 'target')])
  place(join(root, 'target', 'debug', 'examples', 'suspend.exe'), join(root, 'bin', 'suspend.exe'))
}

/** Copies in one step as seen from outside: a process that runs or loads the old file keeps it. */
function place(source, destination) {
  const { size, mtime, mtimeMs } = statSync(source)
  const old = statSync(destination, { throwIfNoEntry: false })
  if (old?.size === size && Math.abs(old.mtimeMs - mtimeMs) < 1) return
  mkdirSync(dirname(destination), { recursive: true })
  const temporary = join(dirname(destination), `.${basename(destination)}.${process.pid}`)
  try {
    copyFileSync(source, temporary)
    utimesSync(temporary, mtime, mtime)
    renameSync(temporary, destination)
  } catch (error) {
    rmSync(temporary, { force: true })
    if (!['EPERM', 'EBUSY', 'EACCES'].includes(error.code)) throw error
    throw new Failure(`${destination}: cannot be replaced (${error.code}); end the processes that use it`)
  }
  console.error(`built ${destination}`)
}

/** Runs `main` and turns a Failure into a message and an exit code. */
export async function report(main) {
  try {
    await main()
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    console.error(error.message)
    process.exitCode = error.exitCode
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await report(() => {
    const isThere = existsSync(worker) && existsSync(addonPath())
    if (!(process.argv.includes('--if-missing') && isThere)) build()
  })
}
