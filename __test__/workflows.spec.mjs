// What GitHub's workflows promise, as far as their text tells; `node scripts/lint-workflows.mjs` reads them as GitHub does.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

import { PLATFORMS } from '../scripts/pack.mjs'
import { root } from './support/runtime.mjs'

const folder = join(root, '.github', 'workflows')
const read = (name) => readFileSync(join(folder, name), 'utf8')
const release = read('release.yml')

/** Names of platforms after `platform:`, in a part of a workflow. */
const platformsIn = (text) => new Set([...text.matchAll(/platform: ([\w-]+)/g)].map(([, name]) => name))

/** A job's lines. */
function job(name) {
  const [, text] = new RegExp(`^  ${name}:\\n((?:    .*\\n|\\n|  #.*\\n)*)`, 'm').exec(release)
  return text
}

const all = new Set(Object.keys(PLATFORMS))

test('every action is named by its commit', () => {
  for (const name of readdirSync(folder)) {
    const uses = [...read(name).matchAll(/uses: (.*)/g)].map(([, action]) => action)
    for (const action of uses) assert.match(action, /^(\.\/|[\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$)/, name)
  }
})

test('a workflow may do nothing but read, and only the job that publishes may say who it is', () => {
  for (const name of readdirSync(folder)) assert.match(read(name), /^permissions:\n  contents: read\n(?!  )/m, name)
  assert.equal(release.match(/id-token: write/g).length, 1)
  assert.match(job('publish'), /id-token: write/)
})

test('every platform is built, installed where it belongs, and published before the package that names it', () => {
  assert.deepEqual(new Set([...platformsIn(job('native')), 'linux-x64-musl']), all)
  assert.match(job('musl'), /scripts\/pack\.mjs linux-x64-musl/)
  assert.deepEqual(new Set([...platformsIn(job('install')), ...platformsIn(job('install-in-image'))]), all)
  const [, published] = /platforms=\((.*)\)/.exec(job('publish'))
  assert.deepEqual(new Set(published.split(' ')), all)
  assert.match(job('publish'), /names=\("\$\{platforms\[@\]\/#\/client-\}" client\)/)
  assert.match(job('publish'), /needs: \[test, install, install-in-image\]/)
})
