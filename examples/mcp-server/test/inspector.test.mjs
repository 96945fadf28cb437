// The inspector's command line, as somebody would use it who looks at a server for the first time.
// `npx @modelcontextprotocol/inspector --cli` runs this very program.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { test } from 'node:test'

import { corpus, environment, server } from './support.mjs'

const { resolve } = createRequire(import.meta.url)
const inspector = join(dirname(resolve('@modelcontextprotocol/inspector-cli/package.json')), 'build', 'cli.js')

/** What `mcp-inspector --cli node server.mjs CORPUS ARGS` prints. */
function inspect(env, ...args) {
  const end = spawnSync(process.execPath, [inspector, '--cli', process.execPath, server, corpus, ...args], { env, encoding: 'utf8' })
  assert.equal(end.status, 0, end.stderr)
  return JSON.parse(end.stdout)
}

test('the inspector lists the tools, indexes and searches', () => {
  const env = environment()
  const { tools } = inspect(env, '--method', 'tools/list')
  assert.deepEqual(tools.map(({ name }) => name), ['index', 'search', 'status'])
  for (const { description, inputSchema } of tools) {
    assert.ok(description.length > 40)
    assert.equal(inputSchema.type, 'object')
  }

  const tool = (name, ...args) => ['--method', 'tools/call', '--tool-name', name, ...args.flatMap((arg) => ['--tool-arg', arg])]
  const indexed = inspect(env, ...tool('index'))
  assert.equal(indexed.structuredContent.state, 'done')
  assert.ok(indexed.structuredContent.embedded >= 40)

  // A server of its own: the index was kept.
  const found = inspect(env, ...tool('search', 'query=bake a loaf', 'limit=1'))
  assert.equal(found.structuredContent.results[0].file, join(corpus, 'recipes', 'sourdough.md'))
  assert.match(found.content[0].text, /^recipes\/sourdough\.md:1-\d+ {2}score 0\.\d+\n# Bread/)
})
