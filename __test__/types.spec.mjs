// index.d.ts says what the addon does.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

import { embed } from '../index.js'
import { root, useRuntime } from './support/runtime.mjs'

useRuntime()

const declarations = readFileSync(join(root, 'index.d.ts'), 'utf8')
const code = declarations.replaceAll(/\/\*\*.*?\*\//gs, '')

test('it declares exactly the options that the addon accepts', async () => {
  const [, body] = /interface EmbedOptions \{(.*?)\n\}/s.exec(code)
  const declared = [...body.matchAll(/readonly (\w+)\?:/g)].map(([, name]) => name)
  const error = await embed('text', { noSuchOption: 1 }).catch((error) => error)
  const accepted = /there are (.*)$/.exec(error.message)[1].split(', ')
  assert.deepEqual(declared.sort(), accepted.sort())
})

test('it declares exactly the error codes of the protocol', () => {
  const source = readFileSync(join(root, 'embed-protocol', 'src', 'error_code.rs'), 'utf8')
  const known = [...source.matchAll(/serde\(rename = "(\w+)"\)/g)].map(([, name]) => name).sort()
  const [, body] = /type EmbedErrorCode =(.*?)\n\n/s.exec(code)
  assert.ok(known.length > 5)
  assert.deepEqual([...body.matchAll(/'(\w+)'/g)].map(([, name]) => name).sort(), known)
  const described = [...declarations.matchAll(/^ \* \| `(EMBED_\w+)` \|/gm)].map(([, name]) => name)
  assert.deepEqual(described.sort(), known)
})

test('every option and type is described', () => {
  for (const [, name] of code.matchAll(/(?:readonly|interface|type|function) (\w+)/g)) {
    const place = new RegExp(`(\\*/\\n(export )?\\s*(readonly|interface|type|function) ${name}\\b)|(readonly (code|index|error)\\b)`)
    assert.match(declarations, place, name)
  }
})

test('what package.json offers is there', async () => {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const cargo = readFileSync(join(root, 'Cargo.toml'), 'utf8')
  assert.equal(manifest.version, /\[workspace\.package\]\nversion = "(.*?)"/.exec(cargo)[1], 'one version everywhere')
  assert.equal(manifest.dependencies, undefined, 'Node and Rust are enough')
  assert.equal(manifest.devDependencies, undefined, 'Node and Rust are enough')
  for (const file of [manifest.main, manifest.types, manifest.exports['.'].types, manifest.exports['.'].default]) {
    assert.ok(readFileSync(join(root, file), 'utf8').length > 0)
  }
})
