// The worker is killed again and again while the server indexes and answers.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'

import { assertOnlyJsonRpc, connect, corpus, environment, folder, write } from './support.mjs'

/** Between two kills, in milliseconds: some workers have just started, some have worked for a while. */
const KILL_EVERY_MS = [100, 400, 200, 200, 700]

const KILLS_MIN = 5

/** The processes of the workers of a runtime directory, from the cards that lie beside their locks. */
function workers(dir) {
  return readdirSync(dir).filter((name) => name.endsWith('.json')).flatMap((name) => {
    try {
      return [JSON.parse(readFileSync(join(dir, name), 'utf8')).pid]
    } catch {
      return []
    }
  })
}

function kill(pid) {
  try {
    process.kill(pid, 'SIGKILL')
    return true
  } catch {
    return false
  }
}

test('kills of the worker cost time and nothing else', async (t) => {
  const env = environment()
  const calm = await connect(t, { args: [corpus], env })
  await calm.call('index')
  const question = { query: 'shortest path in a graph' }
  const { results: expected } = await calm.call('search', question)
  const { folders: [{ passages }] } = await calm.call('status')
  await calm.client.close()

  const dir = folder()
  for (let n = 0; n < 6; n++) {
    for (const path of readdirSync(corpus, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())) {
      const from = join(path.parentPath ?? path.path, path.name)
      write(dir, { [`${n}/${from.slice(corpus.length + 1)}`]: readFileSync(from) })
    }
  }
  const session = await connect(t, { args: [corpus, dir], env })
  let storming = true
  let kills = 0
  const storm = (async () => {
    for (let n = 0; storming; n++) {
      await pause(KILL_EVERY_MS[n % KILL_EVERY_MS.length])
      kills += workers(env.EMBED_RUNTIME_DIR).filter(kill).length
    }
  })()
  const indexing = session.call('index', { folder: dir, waitSeconds: 600 }, { timeout: 110_000 })
  const answers = { right: 0, refused: 0 }
  const asking = (async () => {
    while (storming) {
      const { isError, content, structuredContent } = await session.client.callTool({ name: 'search', arguments: { ...question, folder: corpus } })
      if (isError) {
        answers.refused++
        assert.match(content[0].text, /worker/)
      } else {
        answers.right++
        assert.deepEqual(structuredContent.results, expected)
      }
      await pause(20)
    }
  })()
  const job = await indexing
  while (kills < KILLS_MIN) await pause(50)
  storming = false
  await Promise.all([storm, asking])

  t.diagnostic(`${kills} kills, ${answers.right} answers, ${answers.refused} refused`)
  assert.deepEqual([job.state, job.failed, job.errors], ['done', 0, []])
  assert.equal(job.passages, 6 * passages)
  assert.ok(answers.right > answers.refused, JSON.stringify(answers))
  assert.deepEqual((await session.call('search', { ...question, folder: corpus })).results, expected, 'the storm has passed')
  await session.client.close()
  assert.deepEqual(session.transport.end, { code: 0, signal: null })
  assertOnlyJsonRpc(session.transport)
})
