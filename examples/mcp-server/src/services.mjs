// What the tools stand on: one embedder, its index, and the jobs that fill it, one after the other.

import { stat } from 'node:fs/promises'
import { join, relative, sep } from 'node:path'

import { Job } from './job.mjs'
import { log } from './log.mjs'
import { isInside } from './paths.mjs'
import { provider } from './providers/provider.mjs'
import { Store } from './store.mjs'

/** Passages of one file among the results: more of them would hide other files. */
const PASSAGES_PER_FILE = 2

/** Neighbours that are looked at for each result, since some are left out. */
const NEIGHBOURS_PER_RESULT = 8

export class Services {
  #opened
  #jobs = new Map()
  #lastJob = Promise.resolve()

  /** Opens everything before it is needed; what is wrong is told by the first tool that needs it. */
  warmUp() {
    this.#open().then(
      ({ model }) => log(`warm: ${model.name}, ${model.dimensions} dimensions`),
      (error) => log(`not warm: ${error.message}`)
    )
  }

  /** Starts indexing `folder`, a real path, or joins who does it already. */
  index(folder) {
    const running = this.#jobs.get(folder)
    if (running && !running.isOver) return { job: running, isNew: false }
    const job = new Job(folder)
    this.#jobs.set(folder, job)
    job.over = this.#lastJob = this.#lastJob.then(() => job.run(() => this.#openAnew()))
    return { job, isNew: true }
  }

  /** The last job of a folder, if there was one. */
  job(folder) {
    return this.#jobs.get(folder)
  }

  /** Passages nearest to `question`, best first, of what is indexed in `folders` (real paths). */
  async search(folders, question, limit, signal) {
    const opened = this.#open()
    const { provider, store } = await opened
    const places = placesOf(store.places(), folders)
    if (places.length === 0) throw new Error(`nothing is indexed in ${folders.join(', ')}; call the tool "index" first`)
    const [vector] = await this.#orReopen(provider.embed([question], { task: 'query', signal }))
    if (vector instanceof Error) throw vector
    // The index was closed while the question was embedded, and the next one is another model's.
    if (this.#opened !== opened) throw new Error('the model was replaced by another one; try again')
    const found = places.flatMap(({ id, path, inside }) => {
      // Those in another part of the folder fall out afterwards.
      const n = inside === '' ? limit * NEIGHBOURS_PER_RESULT : Infinity
      const near = store.nearest(id, vector, n).filter((passage) => passage.path.startsWith(inside))
      return near.map((passage) => ({ ...passage, folder: path, file: join(path, passage.path) }))
    })
    const best = choose(found.sort((a, b) => b.score - a.score), limit)
    return Promise.all(best.map(async (passage) => ({ ...passage, changed: await hasChanged(passage) })))
  }

  /** Whether anything in `folders` is being indexed. */
  isIndexing(folders) {
    return [...this.#jobs.values()].some((job) => !job.isOver && isInAny(job.folder, folders))
  }

  /** What there is, for the tool of that name; `folders` are real paths. */
  async status(folders) {
    const memory = process.memoryUsage()
    const jobs = [...this.#jobs.values()].filter(({ folder }) => isInAny(folder, folders))
    const common = { jobs, memory: { rss: memory.rss, heapUsed: memory.heapUsed, external: memory.external } }
    try {
      const { provider, model, store } = await this.#open()
      const indexed = store.folders().filter(({ path }) => isInAny(path, folders))
      return { ...common, provider: provider.name, model, store: store.file, folders: indexed }
    } catch (error) {
      return { ...common, error: error.message, folders: [] }
    }
  }

  /** Stops the jobs and closes what is open. */
  async close() {
    for (const job of this.#jobs.values()) job.cancel()
    await this.#lastJob
    const opened = await this.#opened?.catch(() => undefined)
    opened?.store.close()
    await opened?.provider.close()
  }

  /** Embedder and index; what has failed is tried again by the next who asks. */
  #open() {
    this.#opened ??= open().catch((error) => {
      this.#opened = undefined
      throw error
    })
    return this.#opened
  }

  /** The same, after a look whether the model is still the one whose vectors are in the index. */
  async #openAnew() {
    const opened = await this.#open()
    const { tag } = await opened.provider.open()
    if (tag !== opened.model.tag) await this.#reopen(opened)
    return this.#open()
  }

  async #orReopen(answer) {
    try {
      return await answer
    } catch (error) {
      if (error.code === 'MODEL_CHANGED') this.#lastJob = this.#lastJob.then(() => this.#openAnew()).catch(() => {})
      throw error
    }
  }

  async #reopen(opened) {
    log('the model is another one: its index is another one, too')
    this.#opened = undefined
    opened.store.close()
    await opened.provider.close()
  }
}

const isInAny = (path, folders) => folders.some((folder) => isInside(path, folder))

async function open() {
  const chosen = await provider()
  const model = await chosen.open()
  return { provider: chosen, model, store: await Store.open(model) }
}

/**
 * Which indexed folders hold what is in `wanted`: whole, or the part `inside` of one that is larger.
 */
function placesOf(indexed, wanted) {
  const places = new Map()
  for (const { id, path } of indexed) {
    for (const folder of wanted) {
      if (isInside(path, folder)) {
        places.set(id, { id, path, inside: '' })
      } else if (isInside(folder, path) && !places.has(id)) {
        places.set(id, { id, path, inside: `${relative(path, folder).split(sep).join('/')}/` })
      }
    }
  }
  return [...places.values()]
}

/** The best passages without those that say nothing new: of the same lines, or of a file that has enough. */
function choose(sorted, limit) {
  const best = []
  for (const passage of sorted) {
    if (best.length === limit) break
    const same = best.filter(({ file }) => file === passage.file)
    const overlaps = ({ firstLine, lastLine }) => passage.firstLine <= lastLine && firstLine <= passage.lastLine
    if (same.length < PASSAGES_PER_FILE && !same.some(overlaps)) best.push(passage)
  }
  return best
}

/** Whether a file is no longer what was indexed, so that lines may have moved. */
async function hasChanged({ file, size, mtimeMs }) {
  const now = await stat(file).catch(() => undefined)
  return now?.size !== size || now.mtimeMs !== mtimeMs
}
