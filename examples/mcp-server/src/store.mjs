// Passages of files and their vectors, in one SQLite file for each model.
//
// Vectors of two models are never compared, because they are never in one file: its name has the
// model's tag. `vec0` is sqlite-vec's table: it finds the nearest vectors by going over all of a folder.

import { chmodSync, mkdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'

import { sqlite } from './sqlite.mjs'

/** Counts up when tables or the way of cutting files change: then another file is begun. */
const LAYOUT = 1

/** How long a write waits for another server's, in milliseconds. Theirs are one group of files each. */
const BUSY_MS = 10_000

/** Pause between two tries to begin an index that another server is beginning. */
const AGAIN_MS = 50

/** Pages kept in memory, in KiB. More would not hold the vectors of a large folder either: the system does. */
const CACHE_KIB = 2048

/** sqlite-vec answers no more neighbours than this in one question. */
const NEIGHBOURS_MAX = 4096

/** `EMBED_MCP_DIR`, else a folder where this user's caches are. */
export function storeFolder(env = process.env) {
  if (env.EMBED_MCP_DIR) return env.EMBED_MCP_DIR
  const caches =
    process.platform === 'win32' ? (env.LOCALAPPDATA ?? join(homedir(), 'AppData', 'Local'))
    : process.platform === 'darwin' ? join(homedir(), 'Library', 'Caches')
    : env.XDG_CACHE_HOME || join(homedir(), '.cache')
  return join(caches, 'embed-mcp-server')
}

export class Store {
  #database
  #statements = new Map()

  /** Opens the index of vectors of `model`, or begins one. */
  static async open(model, folder = storeFolder()) {
    try {
      // It has the text of what was indexed, which is nobody else's.
      mkdirSync(folder, { recursive: true, mode: 0o700 })
    } catch (error) {
      throw new Error(`folder ${folder}: cannot be made (${error.code}); set EMBED_MCP_DIR to one that you may write to`, { cause: error })
    }
    const file = join(folder, `${model.tag}-${LAYOUT}.db`)
    const openDatabase = await sqlite()
    try {
      const database = openDatabase(file)
      chmodSync(file, 0o600)
      await prepare(database, model)
      return new Store(database, file)
    } catch (error) {
      throw new Error(`index ${file}: ${error.message}; if it is damaged, delete it and index again`, { cause: error })
    }
  }

  constructor(database, file) {
    this.#database = database
    this.file = file
  }

  close() {
    this.#database.close()
  }

  /** Every folder: `{ id, path }`. */
  places() {
    return this.#all('select id, path from folders')
  }

  /** Every folder, with what is in it: `{ id, path, indexedMs, files, passages }`. */
  folders() {
    return this.#all(`
      select id, path, indexed_ms as indexedMs,
        (select count(*) from files where folder = folders.id) as files,
        (select count(*) from passages join files on files.id = file where folder = folders.id) as passages
      from folders order by path`)
  }

  /** The id of a folder, which is entered if it is new. */
  folder(path) {
    this.#change('insert into folders (path) values (?) on conflict do nothing', path)
    return this.#get('select id from folders where path = ?', path).id
  }

  /** A folder was gone through to its end. */
  folderDone(folder, indexedMs) {
    this.#change('update folders set indexed_ms = ? where id = ?', indexedMs, folder)
  }

  /** `{ id, hash, size, mtimeMs }` of a file, or undefined. */
  fileOf(folder, path) {
    return this.#get('select id, hash, size, mtime_ms as mtimeMs from files where folder = ? and path = ?', folder, path)
  }

  /** The paths of a folder's files. */
  paths(folder) {
    return this.#all('select path from files where folder = ?', folder).map(({ path }) => path)
  }

  /** Replaces files by what they are now: all of them, or none. */
  replace(folder, files) {
    this.#transaction(() => {
      for (const { path, hash, size, mtimeMs, passages } of files) {
        this.#remove(folder, path)
        const entry = 'insert into files (folder, path, hash, size, mtime_ms) values (?, ?, ?, ?, ?) returning id'
        const file = this.#get(entry, folder, path, hash, size, mtimeMs).id
        for (const { firstLine, lastLine, text, vector } of passages) {
          const row = 'insert into passages (file, first_line, last_line, text) values (?, ?, ?, ?) returning id'
          const { id } = this.#get(row, file, firstLine, lastLine, text)
          // vec0 wants integers, and a JavaScript number is none to SQLite.
          this.#run('insert into vectors (passage, folder, vector) values (?, ?, ?)', BigInt(id), BigInt(folder), bytes(vector))
        }
      }
    })
  }

  /** Notes what time a file has whose contents are the same as before. */
  touch({ id, mtimeMs: before }, { mtimeMs }) {
    if (mtimeMs !== before) this.#change('update files set mtime_ms = ? where id = ?', mtimeMs, id)
  }

  /** Forgets files. */
  forget(folder, paths) {
    this.#transaction(() => paths.forEach((path) => this.#remove(folder, path)))
  }

  /** The passages of a folder that are nearest to `vector`, with the cosine as `score`. */
  nearest(folder, vector, n) {
    return this.#all(
      `select files.path, files.size, files.mtime_ms as mtimeMs, first_line as firstLine, last_line as lastLine,
          text, 1 - distance as score
        from (select passage, distance from vectors where vector match ? and k = ? and folder = ?)
        join passages on passages.id = passage join files on files.id = file
        order by distance`,
      bytes(vector), BigInt(Math.min(n, NEIGHBOURS_MAX)), BigInt(folder))
  }

  #remove(folder, path) {
    const file = this.fileOf(folder, path)
    if (!file) return
    for (const { id } of this.#all('select id from passages where file = ?', file.id)) {
      this.#run('delete from vectors where passage = ?', BigInt(id))
    }
    this.#run('delete from passages where file = ?', file.id)
    this.#run('delete from files where id = ?', file.id)
  }

  #transaction(body) {
    try {
      this.#database.exec('begin immediate')
      body()
      this.#database.exec('commit')
    } catch (error) {
      try {
        this.#database.exec('rollback')
      } catch {
        // SQLite has done so itself, as it does when the disk is full.
      }
      throw this.#told(error)
    }
  }

  /** An error with its file and its cure. */
  #told(error) {
    const cure = /full|I\/O|readonly/i.test(error.message) ? '; make room, or look after the disk, and index again' : ''
    return new Error(`index ${this.file}: ${error.message}${cure}`, { cause: error })
  }

  #statement(sql) {
    if (!this.#statements.has(sql)) this.#statements.set(sql, this.#database.prepare(sql))
    return this.#statements.get(sql)
  }

  #all(sql, ...values) {
    return this.#statement(sql).all(...values)
  }

  #get(sql, ...values) {
    return this.#statement(sql).get(...values)
  }

  #run(sql, ...values) {
    this.#statement(sql).run(...values)
  }

  /** One statement that changes something. */
  #change(sql, ...values) {
    try {
      this.#run(sql, ...values)
    } catch (error) {
      throw this.#told(error)
    }
  }
}

const bytes = (vector) => new Uint8Array(vector.buffer, vector.byteOffset, vector.byteLength)

/**
 * Makes the tables of a new index. Of two servers that begin one at the same moment SQLite turns one
 * away without waiting, since it cannot know which of them gives in: that one tries again.
 */
async function prepare(database, model) {
  for (const end = Date.now() + BUSY_MS; ; await setTimeout(AGAIN_MS)) {
    try {
      return makeTables(database, model)
    } catch (error) {
      if (!/locked|busy/i.test(error.message) || Date.now() > end) throw error
    }
  }
}

function makeTables(database, model) {
  database.exec(`
    pragma busy_timeout = ${BUSY_MS};
    pragma journal_mode = wal;
    pragma synchronous = normal;
    pragma cache_size = -${CACHE_KIB};
    create table if not exists folders (id integer primary key, path text not null unique, indexed_ms integer) strict;
    create table if not exists files (
      id integer primary key, folder integer not null references folders, path text not null,
      hash text not null, size integer not null, mtime_ms real not null, unique (folder, path)
    ) strict;
    create table if not exists passages (
      id integer primary key, file integer not null references files,
      first_line integer not null, last_line integer not null, text text not null
    ) strict;
    create index if not exists passages_of_file on passages (file);
    create virtual table if not exists vectors using vec0 (
      passage integer primary key, folder integer partition key,
      vector float[${model.dimensions}] distance_metric = cosine
    );`)
}
