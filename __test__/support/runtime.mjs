// A runtime directory of its own for every spec file, and programs that end within their time.
//
// No test waits for a length of time: it waits for what it wants to see, and gives up after a while.

import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after } from 'node:test'
import { fileURLToPath, pathToFileURL } from 'node:url'

import { worker } from '../../scripts/build.mjs'
import { signal, workers } from '../../scripts/processes.mjs'

export { workers }

export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))))

/** The package, for an import in a program of a test. */
export const packageUrl = pathToFileURL(join(root, 'index.js')).href

/** Nothing here takes longer, even on a slow machine with other work. */
export const PATIENCE_MS = 60_000

/** Seconds that a worker stays without clients; short, since tests wait for its end. */
const IDLE_TIMEOUT = '1'

/**
 * Points this process, and all that it starts, to a runtime directory of their own and a cache
 * beside it. After the last test of the file its workers are asked to end, and must leave nothing
 * behind.
 */
export function useRuntime() {
  const dir = mkdtempSync(join(tmpdir(), 'embed-'))
  const cache = mkdtempSync(join(tmpdir(), 'embed-cache-'))
  process.env.EMBED_RUNTIME_DIR = dir
  process.env.EMBED_CACHE_DIR = cache
  process.env.EMBED_IDLE_TIMEOUT = IDLE_TIMEOUT
  after(async () => {
    stopWorkers(dir)
    await nothingLeft(dir)
    rmSync(dir, { recursive: true, force: true })
  })
  // When the workers of other directories have gone, too, who might still write there.
  process.once('exit', () => rmSync(cache, { recursive: true, force: true }))
  return dir
}

/** Asks the workers of a runtime directory to end. Windows' SIGTERM would end them without asking. */
function stopWorkers(dir) {
  if (process.platform !== 'win32') return workers(dir).forEach((pid) => signal(pid, 'SIGTERM'))
  if (workers(dir).length > 0) spawnSync(worker, ['stop', '--all'], { env: { ...process.env, EMBED_RUNTIME_DIR: dir } })
}

/** Another runtime directory beside a file's own, in which no worker runs yet and nothing may be left. */
export function freshRuntime(runtime, name) {
  const dir = `${runtime}-${name}`
  after(async () => {
    await nothingLeft(dir)
    rmSync(dir, { recursive: true, force: true })
  })
  return dir
}

/** Waits until no worker runs and no file is left in a runtime directory. */
export async function nothingLeft(dir) {
  const left = () => [...workers(dir), ...(existsSync(dir) ? readdirSync(dir) : [])]
  await until(() => left().length === 0, () => `left in ${dir}: ${left().join(', ')}`)
}

/** Looks again and again until `condition` holds. */
export async function until(condition, describe = () => 'the condition does not hold') {
  const giveUp = Date.now() + PATIENCE_MS
  while (!(await condition())) {
    if (Date.now() > giveUp) assert.fail(`after ${PATIENCE_MS} ms: ${describe()}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/**
 * Runs `source` as an ES module in a Node of its own, with `embed` imported, and gives its end:
 * `{ code, signal, stdout, stderr }`. `options.onSpawn(child)` sees it alive; stdin stays open.
 */
export function node(source, { args = [], env = {}, cwd = root, onSpawn, imports = true } = {}) {
  const header = imports ? `import { embed } from ${JSON.stringify(packageUrl)}\n` : ''
  const child = spawn(process.execPath, [...args, '--input-type=module', '--eval', header + source], {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
    windowsHide: true
  })
  return ending(child, onSpawn)
}

/** The same for a file, with `args` for Node before it and `after` for the program behind it. */
export function nodeFile(file, { cwd = root, args = [], after = [] } = {}) {
  return ending(spawn(process.execPath, [...args, file, ...after], { cwd, stdio: ['pipe', 'pipe', 'pipe'], windowsHide: true }))
}

function ending(child, onSpawn) {
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr']) {
    child[name].setEncoding('utf8').on('data', (text) => (output[name] += text))
  }
  // A program that was killed does not read its stdin.
  child.stdin.on('error', () => {})
  onSpawn?.(child, output)
  return new Promise((resolve, reject) => {
    const watchdog = setTimeout(() => child.kill('SIGKILL'), PATIENCE_MS)
    child.on('error', reject)
    child.on('close', (code, signal) => {
      clearTimeout(watchdog)
      resolve({ code, signal, ...output })
    })
  })
}

/** Fails with everything a program said unless it ended well. */
export function assertGood(end) {
  assert.deepEqual({ code: end.code, signal: end.signal }, { code: 0, signal: null }, `${end.stdout}\n${end.stderr}`)
}

/** Two vectors are the same, bit for bit. */
export function assertSame(actual, expected, message) {
  const bits = (vector) => new Uint32Array(vector.buffer, vector.byteOffset, vector.length)
  assert.deepEqual(bits(actual), bits(expected), message)
}

export const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0)
export const norm = (a) => Math.sqrt(dot(a, a))
export const cosine = (a, b) => dot(a, b) / (norm(a) * norm(b))
