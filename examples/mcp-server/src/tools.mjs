// The three tools, as a model sees them.

import { relative, sep } from 'node:path'

import { z } from 'zod'

import { log } from './log.mjs'

/** How long `index` waits for its end unless told otherwise: most clients give a call 60 s. */
const WAIT_S_DEFAULT = 30
const WAIT_S_MAX = 3600

/** Progress is told no more often, in milliseconds. */
const PROGRESS_MS = 200

const RESULTS_DEFAULT = 8
const RESULTS_MAX = 50

/** Longer questions are texts. */
const QUESTION_CHARS_MAX = 2000

const folderInput = z.string().min(1).optional()

/** How a job is told. */
const jobOutput = z.object({
  folder: z.string(),
  state: z.enum(['waiting', 'running', 'done', 'cancelled', 'failed']),
  files: z.number().describe('files found'),
  done: z.number().describe('files gone through'),
  embedded: z.number().describe('files that were new or changed'),
  unchanged: z.number(),
  failed: z.number().describe('files without vectors for now'),
  forgotten: z.number().describe('files that are gone'),
  passages: z.number().describe('passages embedded'),
  skipped: z.record(z.string(), z.number()).describe('files left out, by reason'),
  errors: z.array(z.string())
})

export function registerTools(server, services, allowed) {
  server.registerTool('index', {
    title: 'Index a folder',
    description: `Makes a folder searchable by meaning, or brings its index up to date: only changed files cost anything. \
Respects .gitignore. Waits up to waitSeconds for the end, then goes on in the background: see "status".`,
    inputSchema: {
      folder: folderInput.describe('the folder; may be left out if only one is allowed'),
      waitSeconds: z.number().min(0).max(WAIT_S_MAX).default(WAIT_S_DEFAULT).describe('0: answer at once'),
      cancel: z.boolean().default(false).describe('stop the job of this folder instead')
    },
    outputSchema: jobOutput.shape,
    annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: true, openWorldHint: false }
  }, async ({ folder, waitSeconds, cancel }, extra) => {
    const path = await allowed.resolve(folder)
    if (cancel) return answerOfJob(await cancelled(services, path))
    const { job, isNew } = services.index(path)
    tellWhenOver(server, job, isNew)
    const stop = job.watch(progressTo(extra))
    // Whoever started it may stop it; whoever joined only stops waiting.
    const onAbort = () => isNew && job.cancel()
    extra.signal.addEventListener('abort', onAbort)
    try {
      await Promise.race([job.over, elapsed(waitSeconds * 1000, extra.signal)])
    } finally {
      stop()
      extra.signal.removeEventListener('abort', onAbort)
    }
    return answerOfJob(job)
  })

  server.registerTool('search', {
    title: 'Search by meaning',
    description: `Finds the passages of indexed files that come nearest in meaning to a question, in other words than theirs. \
Gives file, lines, score (cosine, 1 is the same) and text.`,
    inputSchema: {
      query: z.string().trim().min(1).max(QUESTION_CHARS_MAX).describe('a question or description, in plain words'),
      folder: folderInput.describe('search only here; default: all that is indexed and allowed'),
      limit: z.number().int().min(1).max(RESULTS_MAX).default(RESULTS_DEFAULT)
    },
    outputSchema: {
      results: z.array(z.object({
        file: z.string(),
        firstLine: z.number(),
        lastLine: z.number(),
        score: z.number(),
        changed: z.boolean().describe('the file has changed since it was indexed: lines may have moved'),
        text: z.string()
      })),
      incomplete: z.boolean().describe('folders are being indexed')
    },
    annotations: { readOnlyHint: true, openWorldHint: false }
  }, async ({ query, folder, limit }, { signal }) => {
    const folders = folder === undefined ? await allowed.list() : [await allowed.resolve(folder)]
    const found = await services.search(folders, query, limit, signal)
    const results = found.map(({ file, firstLine, lastLine, score, changed, text }) => {
      return { file, firstLine, lastLine, score: Math.round(score * 1e4) / 1e4, changed, text }
    })
    const incomplete = services.isIndexing(folders)
    const lines = found.map((passage, i) => `${placeOf(passage)}  score ${results[i].score}${passage.changed ? '  (changed since)' : ''}\n${passage.text}`)
    if (incomplete) lines.push('Some folders are still being indexed: there may be better passages.')
    return { content: [text(lines.join('\n\n') || 'nothing found')], structuredContent: { results, incomplete } }
  })

  server.registerTool('status', {
    title: 'State of index and model',
    description: 'What is indexed, what is being indexed, with which model, and what went wrong.',
    inputSchema: {},
    outputSchema: {
      provider: z.string().optional(),
      model: z.object({ name: z.string(), dimensions: z.number(), contextTokens: z.number(), tag: z.string() }).optional(),
      store: z.string().optional().describe('file of the index'),
      allowed: z.array(z.string()).describe('folders that may be indexed'),
      folders: z.array(z.object({ path: z.string(), files: z.number(), passages: z.number(), indexed: z.string().nullable() })),
      jobs: z.array(jobOutput),
      memory: z.object({ rss: z.number(), heapUsed: z.number(), external: z.number() }).describe('of this server, in bytes'),
      error: z.string().optional().describe('why there is no model or index')
    },
    annotations: { readOnlyHint: true, openWorldHint: false }
  }, async () => {
    const folders = await allowed.list()
    const { jobs, folders: indexed, ...rest } = await services.status(folders)
    const structuredContent = {
      ...rest,
      allowed: folders,
      folders: indexed.map(({ path, files, passages, indexedMs }) => {
        return { path, files, passages, indexed: indexedMs === null ? null : new Date(indexedMs).toISOString() }
      }),
      jobs: jobs.map(describeJob)
    }
    return { content: [text(JSON.stringify(structuredContent, null, 2))], structuredContent }
  })
}

const text = (text) => ({ type: 'text', text })

/** `folder/file:10-20` as people and programs click on it. */
function placeOf({ folder, file, firstLine, lastLine }) {
  const path = relative(folder, file).split(sep).join('/')
  // A name may have line ends, which would look like a passage of its own.
  const shown = path.replace(/[\p{Cc}\u2028\u2029]/gu, (c) => JSON.stringify(c).slice(1, -1))
  return `${shown}:${firstLine}-${lastLine}`
}

function describeJob({ folder, state, total, done, counts, skipped, errors }) {
  return { folder, state, files: total, done, ...counts, skipped, errors }
}

function answerOfJob(job) {
  const { state, total, done, counts, skipped, errors } = job
  const left = Object.entries(skipped).map(([reason, n]) => `${n} ${reason}`).join(', ')
  const lines = [
    `${job.folder}: ${state}, ${done} of ${total} files`,
    `${counts.embedded} embedded (${counts.passages} passages), ${counts.unchanged} unchanged, ${counts.forgotten} gone, ${counts.failed} failed`,
    ...(left ? [`left out: ${left}`] : []),
    ...errors,
    ...(job.isOver ? [] : ['It goes on in the background; "search" finds what is done, "status" tells how far it is.'])
  ]
  return { content: [text(lines.join('\n'))], structuredContent: describeJob(job), ...(state === 'failed' && { isError: true }) }
}

async function cancelled(services, path) {
  const job = services.job(path)
  if (!job || job.isOver) throw new Error(`${path}: is not being indexed`)
  job.cancel()
  await job.over
  return job
}

/** Sends progress of a job to the client that asked for it. */
function progressTo({ _meta, sendNotification }) {
  const token = _meta?.progressToken
  if (token === undefined) return () => {}
  let last = 0
  let told = 0
  return ({ done, total, counts, isOver }) => {
    const now = Date.now()
    // It must grow from one to the next.
    if (done <= told || (now - last < PROGRESS_MS && !isOver && done < total)) return
    last = now
    told = done
    const message = `${counts.embedded} files embedded, ${counts.unchanged} unchanged`
    const params = { progressToken: token, progress: done, total, message }
    // A client that has gone meanwhile wants no progress.
    sendNotification({ method: 'notifications/progress', params }).catch(() => {})
  }
}

/** Who does not wait for the end still hears of it. */
function tellWhenOver(server, job, isNew) {
  if (!isNew) return
  job.over.then(() => {
    const { folder, state, counts, errors } = job
    const data = `${folder}: ${state}, ${counts.embedded} files embedded, ${counts.unchanged} unchanged${errors.map((error) => `; ${error}`).join('')}`
    log(data)
    return server.server.sendLoggingMessage({ level: state === 'failed' ? 'error' : 'info', logger: 'index', data })
  }).catch(() => {})
}

/** Resolves after `ms`, or when `signal` is aborted; does not keep Node alive. */
function elapsed(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms)
    timer.unref()
    signal.addEventListener('abort', () => {
      clearTimeout(timer)
      resolve()
    }, { once: true })
  })
}
