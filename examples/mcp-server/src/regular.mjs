// Reads a file as it is now, and nothing that only looks like one.

import { constants } from 'node:fs'
import { open } from 'node:fs/promises'

/** Why a file is left out; counted, and told. */
export class Skipped extends Error {
  /** @param {boolean} mayReturn whether it is most likely there, and only not to be had at this moment */
  constructor(reason, { mayReturn = false } = {}) {
    super(reason)
    this.mayReturn = mayReturn
  }
}

/**
 * All bytes of a file, `{ bytes, size, mtimeMs }`, all of the same moment. `check` is called when it is
 * open, before anything is read.
 *
 * @throws {Skipped} if it is a link, a pipe, a device, larger than `bytesMax`, or cannot be read
 */
export async function readRegular(file, bytesMax, check = async () => {}) {
  let handle
  try {
    // What was a file when its folder was read may be a link or a pipe now.
    handle = await open(file, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0))
    await check()
    const stat = await handle.stat()
    if (!stat.isFile()) throw new Skipped('no regular file')
    const { size, mtimeMs } = stat
    if (size > bytesMax) throw new Skipped(`larger than ${bytesMax / 1024} KiB`)
    return { bytes: await contents(handle, size), size, mtimeMs }
  } catch (error) {
    if (error instanceof Skipped) throw error
    const why = { ENOENT: 'gone meanwhile', ENOTDIR: 'gone meanwhile', ELOOP: 'symbolic link' }[error.code]
    throw why ? new Skipped(why) : new Skipped(`cannot be read (${error.code ?? error.message})`, { mayReturn: true })
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
  throw new Skipped('changed while it was read', { mayReturn: true })
}
