// SQLite with the vector extension, on every Node from 20 on.
//
// Node has SQLite of its own from 22.13 on. Before, a package stands in that has the same interface and
// brings its binaries in its tarball: nothing is compiled, nothing is downloaded when it is installed.

import { getLoadablePath } from 'sqlite-vec'

/**
 * Gives a function that opens a database file, which can use `vec0` tables then and has the interface of
 * Node's `DatabaseSync`.
 */
export async function sqlite() {
  const { DatabaseSync } = await library()
  const extension = getLoadablePath()
  return (file) => {
    const database = new DatabaseSync(file, { allowExtension: true })
    database.enableLoadExtension(true)
    database.loadExtension(extension)
    database.enableLoadExtension(false)
    return database
  }
}

async function library() {
  // An import of `node:sqlite` prints a warning on some versions; on stderr, where it does no harm.
  return (await import('node:sqlite').catch(() => null)) ?? (await import('@photostructure/sqlite'))
}
