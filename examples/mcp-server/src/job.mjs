// Brings the index of one folder up to date: only what has changed is embedded.

import { stat } from 'node:fs/promises'

import { read, Unread, walk } from './files.mjs'
import { passageChars, passages } from './passages.mjs'
import { Skipped } from './regular.mjs'
import { withVectors } from './vectors.mjs'

/** Passages that are embedded together: some of the worker's batches, and little memory. */
const GROUP_PASSAGES = 128

/** More files are not one project; each costs a path in memory. */
export const FILES_MAX = 100_000

/** How many errors of single files are told. */
const ERRORS_TOLD = 5

/** One run over a folder. What it has done so far is in its fields. */
export class Job {
  state = 'waiting'
  total = 0
  done = 0
  counts = { embedded: 0, unchanged: 0, failed: 0, forgotten: 0, passages: 0 }
  /** By reason: how many files were left out. */
  skipped = {}
  errors = []
  #abort = new AbortController()
  #watchers = new Set()

  constructor(folder) {
    this.folder = folder
  }

  get isOver() {
    return this.state !== 'waiting' && this.state !== 'running'
  }

  cancel() {
    this.#abort.abort()
  }

  /** Calls `watcher` after every change; returns a function that ends it. */
  watch(watcher) {
    this.#watchers.add(watcher)
    return () => this.#watchers.delete(watcher)
  }

  /** Runs to its end, which is never an exception: see `state` and `errors`. */
  async run(open) {
    const { signal } = this.#abort
    try {
      signal.throwIfAborted()
      this.state = 'running'
      await this.#run(await open(), signal)
      this.state = 'done'
    } catch (error) {
      this.state = signal.aborted ? 'cancelled' : 'failed'
      if (!signal.aborted) this.errors.unshift(error.message)
    }
    this.#changed()
  }

  async #run({ provider, store, model }, signal) {
    for await (const _ of walk(this.folder, signal)) {
      if (++this.total > FILES_MAX) throw new Error(`${this.folder}: more than ${FILES_MAX} files; index a folder in it`)
    }
    this.#changed()
    const folder = store.folder(this.folder)
    const charsMax = passageChars(model.contextTokens)
    const seen = new Set()
    const unread = []
    let group = []
    let groupPassages = 0
    const flush = async () => {
      await this.#embed(group, { provider, store, folder }, signal)
      group = []
      groupPassages = 0
    }
    for await (const { path, skipped } of walk(this.folder, signal)) {
      const file = skipped ?? (await this.#read(path))
      if (!(file instanceof Skipped)) {
        seen.add(path)
        const known = store.fileOf(folder, path)
        if (known?.hash === file.hash) {
          store.touch(known, file)
          this.counts.unchanged++
          this.#finish(1)
        } else {
          const { text, ...entry } = file
          const cut = passages(text, charsMax)
          group.push({ path, ...entry, passages: cut.map((passage) => ({ path, ...passage })) })
          groupPassages += cut.length
          if (groupPassages >= GROUP_PASSAGES) await flush()
        }
      } else {
        this.skipped[file.message] = (this.skipped[file.message] ?? 0) + 1
        // It keeps what it had.
        if (file instanceof Unread) unread.push(`${path}/`)
        else if (file.mayReturn) seen.add(path)
        this.#finish(1)
      }
    }
    await flush()
    // A disk that was taken away has not lost its files.
    await stat(this.folder).catch((error) => {
      throw new Error(`folder ${this.folder}: has gone meanwhile (${error.code}); what is known of it is kept`)
    })
    const isGone = (path) => !seen.has(path) && !unread.some((folder) => path.startsWith(folder))
    const gone = store.paths(folder).filter(isGone)
    store.forget(folder, gone)
    this.counts.forgotten = gone.length
    store.folderDone(folder, Date.now())
  }

  async #read(path) {
    try {
      return await read(this.folder, path)
    } catch (error) {
      if (!(error instanceof Skipped)) throw error
      return error
    }
  }

  async #embed(files, { provider, store, folder }, signal) {
    const found = await withVectors(files.flatMap(({ passages }) => passages), provider, signal)
    signal.throwIfAborted()
    const ofFile = groupByPath(found)
    const whole = []
    for (const file of files) {
      const passages = ofFile.get(file.path) ?? []
      const error = passages.find(({ error }) => error)?.error
      if (error) {
        // It keeps what it had, and is tried again next time.
        this.counts.failed++
        if (this.errors.length < ERRORS_TOLD) this.errors.push(`${file.path}: ${error.message}`)
      } else {
        whole.push({ ...file, passages })
        this.counts.embedded++
        this.counts.passages += passages.length
      }
    }
    store.replace(folder, whole)
    this.#finish(files.length)
  }

  #finish(n) {
    this.done += n
    // Files may have come since they were counted.
    this.total = Math.max(this.total, this.done)
    this.#changed()
  }

  #changed() {
    for (const watcher of this.#watchers) watcher(this)
  }
}

/** `Map.groupBy` is not in Node 20. */
function groupByPath(passages) {
  const groups = new Map()
  for (const passage of passages) {
    if (!groups.has(passage.path)) groups.set(passage.path, [])
    groups.get(passage.path).push(passage)
  }
  return groups
}
