// Which files of a folder are worth reading, and what is in them.

import { createHash } from 'node:crypto'
import { opendir, realpath } from 'node:fs/promises'
import { join } from 'node:path'

import { Ignored } from './ignored.mjs'
import { isInside } from './paths.mjs'
import { readRegular, Skipped } from './regular.mjs'

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

/** A folder that cannot be read: nothing is known of what lies in it. */
export class Unread extends Skipped {
  constructor(error) {
    super(`cannot be read (${error.code ?? error.message})`, { mayReturn: true })
  }
}

/**
 * The files of `root`, a real path, as `{ path }` with `/` between folders, or `{ path, skipped }` with a
 * `Skipped`, an `Unread` for a folder.
 * Symbolic links are not followed: they would lead in circles, or out of the folder.
 *
 * @throws {Error} if the root itself cannot be read
 */
export async function* walk(root, signal) {
  yield* walkFolder(root, '', await Ignored.above(root), 0, signal)
}

async function* walkFolder(root, path, outer, depth, signal) {
  const leftOut = (path, reason) => ({ path, skipped: new Skipped(reason) })
  if (depth > DEPTH_MAX) return yield leftOut(path, 'folders too deep')
  const ignored = await outer.inside(join(root, path), path)
  const folders = []
  try {
    for await (const entry of await opendir(join(root, path))) {
      signal?.throwIfAborted()
      const inner = path === '' ? entry.name : `${path}/${entry.name}`
      // Bytes that are no UTF-8 have become this character, and the name leads nowhere.
      if (entry.name.includes('\ufffd')) {
        yield leftOut(inner, 'name not in UTF-8')
      } else if (entry.isSymbolicLink()) {
        if (!ignored.has(inner, false)) yield leftOut(inner, 'symbolic link')
      } else if (entry.isDirectory()) {
        if (!FOLDERS_LEFT_OUT.has(entry.name) && !ignored.has(inner, true)) folders.push(inner)
      } else if (entry.isFile() && !ignored.has(inner, false)) {
        if (LOCK_FILES.has(entry.name)) yield leftOut(inner, 'lock file')
        else if (SECRETS.test(entry.name)) yield leftOut(inner, 'may hold secrets')
        else yield { path: inner }
      }
    }
  } catch (error) {
    signal?.throwIfAborted()
    if (typeof error.code !== 'string') throw error
    if (path === '') throw new Error(`folder ${root}: cannot be read (${error.code})`, { cause: error })
    // It may have gone since its name was read.
    if (error.code !== 'ENOENT') yield { path, skipped: new Unread(error) }
    return
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
  const { bytes, size, mtimeMs } = await readRegular(file, FILE_BYTES_MAX, async () => {
    if (!isInside(await realpath(file), root)) throw new Skipped('symbolic link')
  })
  return { text: textOf(bytes), hash: createHash('sha256').update(bytes).digest('hex'), size, mtimeMs }
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
