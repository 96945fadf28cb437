// SQLite with the vector extension, on every Node from 20 on.
//
// Node has SQLite of its own from 22.13 on. Before, a package stands in that has the same interface and
// brings its binaries in its tarball: nothing is compiled, nothing is downloaded when it is installed.

import { getLoadablePath } from 'sqlite-vec'

/** Opens a database file; it can use `vec0` tables and has the interface of Node's `DatabaseSync`. */
export async function openDatabase(file) {
  const { DatabaseSync } = await library()
  const database = new DatabaseSync(file, { allowExtension: true })
  database.enableLoadExtension(true)
  database.loadExtension(getLoadablePath())
  database.enableLoadExtension(false)
  return database
}

async function library() {
  // An import of `node:sqlite` prints a warning on some versions; on stderr, where it does no harm.
  return (await import('node:sqlite').catch(() => null)) ?? (await import('@photostructure/sqlite'))
}
