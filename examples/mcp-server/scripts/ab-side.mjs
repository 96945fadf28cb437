// One side of the comparison, in a process of its own: embeds what its parent sends.

import { provider } from '../src/providers/provider.mjs'

const begin = performance.now()
const chosen = await provider()
const model = await chosen.open()
const openMs = performance.now() - begin

process.once('message', async ({ documents, questions }) => {
  const begin = performance.now()
  const vectors = await chosen.embed(documents, { task: 'document' })
  const documentsMs = performance.now() - begin
  const asked = []
  const questionsMs = []
  for (const question of questions) {
    const begin = performance.now()
    asked.push(...(await chosen.embed([question], { task: 'query' })))
    questionsMs.push(performance.now() - begin)
  }
  const { rss, heapUsed, external } = process.memoryUsage()
  process.send({ name: chosen.name, model, openMs, documentsMs, questionsMs, vectors, asked, memory: { rss, heapUsed, external } })
  // The parent looks at the memory of both processes before it lets this one go.
  process.once('message', async () => {
    await chosen.close()
    process.exit()
  })
})
