// Which folders the model at the other end may have read.

import { realpath, stat } from 'node:fs/promises'
import { isAbsolute, parse, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

import { RootsListChangedNotificationSchema } from '@modelcontextprotocol/sdk/types.js'

import { log } from './log.mjs'
import { isInside } from './paths.mjs'

/** Folders of the command line; else the client's roots; else the current directory. */
export class AllowedFolders {
  #named
  #server
  #roots

  constructor(named, server) {
    this.#named = named
    this.#server = server
    server.setNotificationHandler(RootsListChangedNotificationSchema, () => {
      this.#roots = undefined
    })
  }

  /** Their real paths. One that does not exist is left out. */
  async list() {
    const real = (folder) =>
      realpath(folder).catch((error) => {
        log(`${folder}: ${error.code}: left out of the allowed folders`)
        return []
      })
    return (await Promise.all((await this.#candidates()).map(real))).flat()
  }

  /** The real path of a folder that was asked for, or an error that says why not. */
  async resolve(folder) {
    const allowed = await this.list()
    if (folder === undefined) {
      if (allowed.length === 1) return allowed[0]
      throw new Error(`folder: name one, or a folder inside one, of ${allowed.join(', ')}`)
    }
    const path = isAbsolute(folder) || allowed.length !== 1 ? resolve(folder) : resolve(allowed[0], folder)
    const real = await realpath(path).catch((error) => {
      throw new Error(`folder ${path}: ${error.code === 'ENOENT' ? 'does not exist' : error.code}`)
    })
    // Links are resolved before the question is asked.
    if (!allowed.some((parent) => isInside(real, parent))) {
      throw new Error(`folder ${real}: is not inside ${allowed.join(' or ')}; start the server with it as an argument to allow it`)
    }
    if (!(await stat(real)).isDirectory()) throw new Error(`folder ${real}: is not a folder`)
    return real
  }

  async #candidates() {
    if (this.#named.length > 0) return this.#named.map((folder) => resolve(folder))
    const roots = await this.#rootsOfClient()
    if (roots.length > 0) return roots
    const here = process.cwd()
    // Some clients start their servers at the top of a disk, which nobody wants indexed.
    if (here === parse(here).root) {
      throw new Error('no folder is allowed: name folders as arguments of the server')
    }
    return [here]
  }

  async #rootsOfClient() {
    if (!this.#server.getClientCapabilities()?.roots) return []
    this.#roots ??= this.#server.listRoots().then(
      ({ roots }) => roots.filter(({ uri }) => uri.startsWith('file:')).map(({ uri }) => fileURLToPath(uri)),
      (error) => {
        log(`roots of the client: ${error.message}`)
        this.#roots = undefined
        return []
      }
    )
    return this.#roots
  }
}
