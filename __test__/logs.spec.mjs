// Logs of Node and of the worker: none unless asked for, never on stdout, never a word of a text.

import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

import { assertGood, freshRuntime, node, useRuntime } from './support/runtime.mjs'

const runtime = useRuntime()

const dir = mkdtempSync(join(tmpdir(), 'embed-logs-'))
// When the worker has gone that writes there.
process.once('exit', () => rmSync(dir, { recursive: true, force: true }))

/** Stands in the texts, and in nothing else. */
const SECRET = 'Xanadu'

const source = `
  await embed('${SECRET} one')
  await embed(['${SECRET} two', '${SECRET} three'])
  await embed('${SECRET} '.repeat(5000)).catch((error) => {
    if (error.code !== 'EMBED_TEXT_TOO_LONG') throw error
  })
`

/** The names of requests in lines that hold `word`. */
function requests(lines, word) {
  const names = lines.filter((line) => line.includes(word)).map((line) => / request=(\S+)/.exec(line)?.[1])
  return new Set(names.filter(Boolean))
}

test('nobody who has not asked for logs gets any', async () => {
  const end = await node(source, { env: { EMBED_LOG: '', EMBED_LOG_FILE: '' } })
  assertGood(end)
  assert.deepEqual({ stdout: end.stdout, stderr: end.stderr }, { stdout: '', stderr: '' })
})

test('EMBED_LOG alone logs to stderr', async () => {
  let pid
  const end = await node(source, { env: { EMBED_LOG: 'debug' }, onSpawn: (child) => (pid = child.pid) })
  assertGood(end)
  assert.equal(end.stdout, '')
  const lines = end.stderr.trimEnd().split('\n')
  for (const line of lines) assert.ok(line.includes(` embed-client[${pid}] `), line)
  assert.equal(requests(lines, ' answered ').size, 3, end.stderr)
  assert.equal(requests(lines, ' failed ').size, 1, end.stderr)
  assert.ok(!end.stderr.includes(SECRET), end.stderr)
})

test('with EMBED_LOG_FILE both processes log to one file and give a request one name', async () => {
  // Relative: the worker runs in another directory.
  // A runtime directory of its own, so that the worker is one that has this environment.
  const env = { EMBED_LOG: 'trace', EMBED_LOG_FILE: 'embed.log', EMBED_RUNTIME_DIR: freshRuntime(runtime, 'logs') }
  const end = await node(source, { env, cwd: dir })
  assertGood(end)
  assert.deepEqual({ stdout: end.stdout, stderr: end.stderr }, { stdout: '', stderr: '' })
  const text = readFileSync(join(dir, 'embed.log'), 'utf8')
  const lines = text.trimEnd().split('\n')
  const of = (program) => lines.filter((line) => line.includes(` ${program}[`))
  assert.equal(of('embed-client').length + of('embed-worker').length, lines.length, text)
  for (const [word, n] of [[' answered ', 3], [' failed ', 1]]) {
    const client = requests(of('embed-client'), word)
    assert.equal(client.size, n, text)
    assert.deepEqual(requests(of('embed-worker'), word), client, text)
  }
  assert.ok(!text.includes(SECRET), text)
})
