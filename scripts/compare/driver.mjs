// A contender's own Node process: loads one peer's adapter and does what the parent asks over IPC.
//
//   node driver.mjs ADAPTER                      one request after the other: ready, open, time, vectors, pids
//   node driver.mjs ADAPTER MODEL OPTIONS TEXT   loads, embeds one text, says so on stdout, and waits
//
// An adapter has open(model, options), embed(texts) -> vectors, close() and pids().

import { pathToFileURL } from 'node:url'

const [adapterFile, model, options, text] = process.argv.slice(2)
const adapter = await import(pathToFileURL(adapterFile).href)

// Ctrl-C reaches every process of a terminal; the parent decides, and then disconnects.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => {})

/** An untimed beginning: pages that were idle come back, processors and code become fast again. */
const WARM_MS = 300

const operations = {
  ready: () => true,
  open: ({ model, options }) => adapter.open(model, options),
  pids: () => adapter.pids(),
  vectors: ({ texts }) => adapter.embed(texts),
  time
}

/** Milliseconds of each call until the time is over, of one at least. */
async function time({ warm, calls, warmCalls, limitMs }) {
  const warmEnough = performance.now() + WARM_MS
  for (let call = 0; call < warmCalls || performance.now() < warmEnough; call++) await adapter.embed(warm)
  const times = []
  const giveUp = performance.now() + limitMs
  for (const texts of calls) {
    const start = performance.now()
    const vectors = await adapter.embed(texts)
    const end = performance.now()
    if (vectors.length !== texts.length) throw new Error(`${vectors.length} vectors for ${texts.length} texts`)
    times.push(end - start)
    if (end > giveUp) break
  }
  return times
}

if (model === undefined) {
  process.on('message', async ({ id, operation, argument }) => {
    try {
      process.send({ id, result: await operations[operation](argument) })
    } catch (error) {
      process.send({ id, error: error.message ?? String(error) })
    }
  })
  process.once('disconnect', async () => {
    await adapter.close().catch(() => {})
    process.exit()
  })
} else {
  await adapter.open(model, JSON.parse(options))
  await adapter.embed([text])
  process.stdout.write('first\n')
  process.stdout.write(`${JSON.stringify(adapter.pids())}\n`)
  process.stdin.resume().once('end', () => process.exit())
}
