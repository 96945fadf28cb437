// Which files of a folder are worth reading, and what is in them.

import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { open, opendir, realpath } from 'node:fs/promises'
import { join } from 'node:path'

import { Ignored } from './ignored.mjs'
import { isInside } from './paths.mjs'

/** Larger files are data, or were made by programs. */
export const FILE_BYTES_MAX = 1024 * 1024

/** A file whose lines are longer than this on average was not written by anybody. */
export const LINE_CHARS_MEAN_MAX = 300

/** How many folders may lie in one another; deeper ones are a mistake of some program. */
const DEPTH_MAX = 64

/** Folders that are never entered: not the user's own work. */
const FOLDERS_LEFT_OUT = new Set(['.git', '.hg', '.svn', 'node_modules'])

/** Files that programs write for themselves. */
const LOCK_FILES = new Set(['package-lock.json', 'npm-shrinkwrap.json', 'yarn.lock', 'pnpm-lock.yaml', 'Cargo.lock', 'poetry.lock', 'uv.lock', 'composer.lock', 'Gemfile.lock', 'go.sum'])

/** Names of files that hold secrets: their text is not to be copied, and not to be shown to a model. */
const SECRETS = /^(\.env(\..*)?|\.netrc|\.npmrc|\.pypirc|\.pgpass|id_(rsa|dsa|ecdsa|ed25519)|.*\.(pem|key|p12|pfx|jks|keystore))$/i

/** Why a file is left out; counted, and told. */
export class Skipped extends Error {}

/**
 * The files of `root`, a real path, as `{ path }` with `/` between folders, or `{ path, skipped: why }`.
 * Symbolic links are not followed: they would lead in circles, or out of the folder.
 */
export async function* walk(root, signal) {
  yield* walkFolder(root, '', await Ignored.above(root), 0, signal)
}

async function* walkFolder(root, path, outer, depth, signal) {
  if (depth > DEPTH_MAX) return yield { path, skipped: 'folders too deep' }
  const ignored = await outer.inside(join(root, path), path)
  let entries
  try {
    entries = await opendir(join(root, path))
  } catch (error) {
    // It may have gone since its name was read.
    if (error.code !== 'ENOENT') yield { path, skipped: `cannot be read (${error.code})` }
    return
  }
  const folders = []
  for await (const entry of entries) {
    signal?.throwIfAborted()
    const inner = path === '' ? entry.name : `${path}/${entry.name}`
    if (entry.isSymbolicLink()) {
      if (!ignored.has(inner, false)) yield { path: inner, skipped: 'symbolic link' }
    } else if (entry.isDirectory()) {
      if (!FOLDERS_LEFT_OUT.has(entry.name) && !ignored.has(inner, true)) folders.push(inner)
    } else if (entry.isFile() && !ignored.has(inner, false)) {
      const skipped = LOCK_FILES.has(entry.name) ? 'lock file' : SECRETS.test(entry.name) ? 'may hold secrets' : undefined
      yield { path: inner, ...(skipped && { skipped }) }
    }
  }
  for (const folder of folders) yield* walkFolder(root, folder, ignored, depth + 1, signal)
}

/**
 * What is in a file: `{ text, hash, size, mtimeMs }`, all of the same moment.
 *
 * @throws {Skipped} if it is not worth having
 */
export async function read(root, path) {
  const file = join(root, path)
  let handle
  try {
    // What was a file when its folder was read may be a link or a pipe now.
    handle = await open(file, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0))
    if (!isInside(await realpath(file), root)) throw new Skipped('symbolic link')
    const stat = await handle.stat()
    if (!stat.isFile()) throw new Skipped('no regular file')
    const { size, mtimeMs } = stat
    if (size > FILE_BYTES_MAX) throw new Skipped(`larger than ${FILE_BYTES_MAX / 1024} KiB`)
    const bytes = await contents(handle, size)
    return { text: textOf(bytes), hash: createHash('sha256').update(bytes).digest('hex'), size, mtimeMs }
  } catch (error) {
    if (error instanceof Skipped) throw error
    const why = { ENOENT: 'gone meanwhile', ENOTDIR: 'gone meanwhile', ELOOP: 'symbolic link' }[error.code]
    throw new Skipped(why ?? `cannot be read (${error.code ?? error.message})`)
  } finally {
    await handle?.close()
  }
}

/** All bytes of an open file that had `size` a moment ago. */
async function contents(handle, size) {
  // The byte too many is for one that grows: whoever writes to it has not finished.
  const buffer = Buffer.allocUnsafe(size + 1)
  let length = 0
  while (length < buffer.length) {
    const { bytesRead } = await handle.read(buffer, length, buffer.length - length, length)
    if (bytesRead === 0) return buffer.subarray(0, length)
    length += bytesRead
  }
  throw new Skipped('changed while it was read')
}

function textOf(bytes) {
  if (bytes.includes(0)) throw new Skipped('binary')
  let text
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new Skipped('not UTF-8')
  }
  let lines = 1
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) lines++
  // A page of prose may be one line a paragraph: a short file is never minified.
  if (text.length > 20 * LINE_CHARS_MEAN_MAX && text.length / lines > LINE_CHARS_MEAN_MAX) throw new Skipped('minified')
  return text
}
