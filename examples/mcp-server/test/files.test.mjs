// What is read of a folder, with git itself as the judge of what is ignored.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'

import { FILE_BYTES_MAX, LINE_CHARS_MEAN_MAX, read, walk } from '../src/files.mjs'
import { Skipped } from '../src/regular.mjs'
import { folder } from './support.mjs'

async function listed(root) {
  const found = { files: [], skipped: {} }
  for await (const { path, skipped } of walk(root)) {
    if (skipped) found.skipped[path] = skipped.message
    else found.files.push(path)
  }
  found.files.sort()
  return found
}

test('.gitignore files mean what git says they mean', async () => {
  const root = folder({
    '.gitignore': '*.log\n!keep.log\n/build/\ndocs/*.html\n**/cache\nspace name/\n#comment\n\\#hash\n',
    'a.js': '1', 'a.log': '1', 'keep.log': '1', 'build/out.js': '1', 'sub/build/out.js': '1',
    'docs/a.html': '1', 'docs/deep/b.html': '1', 'x/cache/c.txt': '1', 'x/y/cache': '1', 'space name/f': '1', '#hash': '1',
    'sub/.gitignore': 'secret.txt\n!*.log\n/only-here\n', 'sub/secret.txt': '1', 'sub/b.log': '1', 'sub/only-here/f': '1', 'sub/deep/only-here/f': '1',
    'sub/deep/.gitignore': '*\n!.gitignore\n!kept.txt\n', 'sub/deep/kept.txt': '1', 'sub/deep/lost.txt': '1'
  })
  const git = (...args) => execFileSync('git', ['-c', 'core.excludesFile=', ...args], { cwd: root, encoding: 'utf8' })
  git('init', '--quiet')
  const judge = (cwd) => git('-C', cwd, 'ls-files', '-z', '--others', '--exclude-standard').split('\0').filter(Boolean).sort()
  assert.deepEqual((await listed(root)).files, judge(root))
  // From inside the repository, rules from above count as well.
  for (const part of ['sub', join('sub', 'deep')]) {
    assert.deepEqual((await listed(join(root, part))).files, judge(join(root, part)), part)
  }
  // Who names an ignored folder wants it.
  assert.deepEqual((await listed(join(root, 'build'))).files, ['out.js'])
})

test('names are other names in other letters, where git says so', async () => {
  const root = folder({ '.gitignore': 'Build/\n*.LOG\n', 'build/a.js': '1', 'a.log': '1', 'b.txt': '1' })
  const git = (...args) => execFileSync('git', args, { cwd: root, encoding: 'utf8' })
  git('init', '--quiet')
  const judge = git('-c', 'core.excludesFile=', 'ls-files', '-z', '--others', '--exclude-standard').split('\0').filter(Boolean).sort()
  assert.deepEqual((await listed(root)).files, judge)
})

test('rules that are no file of rules are not heeded, and nobody waits for them', { skip: process.platform === 'win32' && 'it has none of these' }, async () => {
  for (const make of [
    (path) => execFileSync('mkfifo', [path]),
    (path) => symlinkSync('/dev/zero', path),
    (path) => mkdirSync(path),
    (path) => writeFileSync(path, '*\n'.repeat(1024 * 1024))
  ]) {
    const root = folder({ 'a.txt': '1', 'sub/b.txt': '1' })
    make(join(root, 'sub', '.gitignore'))
    const { files } = await listed(root)
    assert.deepEqual(files.filter((path) => path.endsWith('.txt')), ['a.txt', 'sub/b.txt'])
  }
})

test('names may be anything that a system allows', { skip: process.platform === 'win32' && 'it allows less' }, async () => {
  const odd = ['two\nlines.txt', 'tab\t.txt', '..txt', '-rf', '*', '[a]', 'a\\b', '\u202e.txt', ' ', '\u{1f600}.txt']
  const root = folder(Object.fromEntries(odd.map((name) => [name, '1'])))
  assert.deepEqual((await listed(root)).files, odd.toSorted())
  for (const name of odd) assert.equal((await read(root, name)).text, '1', name)
})

test('a name that is no UTF-8 is told', { skip: process.platform !== 'linux' && 'others have no such names' }, async () => {
  const root = folder({ 'a.txt': '1' })
  writeFileSync(Buffer.concat([Buffer.from(`${root}/caf`), Buffer.from([0xe9])]), '1')
  mkdirSync(Buffer.concat([Buffer.from(`${root}/f`), Buffer.from([0xff])]))
  const { files, skipped } = await listed(root)
  assert.deepEqual(files, ['a.txt'])
  assert.deepEqual(Object.values(skipped), ['name not in UTF-8', 'name not in UTF-8'])
})

test('a folder that cannot be read is told, the root is an error', { skip: (process.platform === 'win32' || process.getuid() === 0) && 'this user reads everything' }, async () => {
  const root = folder({ 'a.txt': '1', 'closed/b.txt': '1' })
  chmodSync(join(root, 'closed'), 0)
  assert.deepEqual(await listed(root), { files: ['a.txt'], skipped: { closed: 'cannot be read (EACCES)' } })
  chmodSync(root, 0)
  await assert.rejects(listed(root), /cannot be read \(EACCES\)/)
  chmodSync(root, 0o700)
  chmodSync(join(root, 'closed'), 0o700)
})

test('what is nobody’s work, a link, or a secret is left out, and said so', async () => {
  const root = folder({
    'a.txt': '1', 'node_modules/m/i.js': '1', '.git/config': '1', 'package-lock.json': '{}',
    '.env': 'KEY=1', '.env.local': 'KEY=1', 'tls/server.key': '1', 'environment.txt': '1'
  })
  const outside = folder({ 'secret.txt': 'outside' })
  symlinkSync(outside, join(root, 'link'), 'junction')
  symlinkSync(root, join(root, 'circle'), 'junction')
  assert.deepEqual(await listed(root), {
    files: ['a.txt', 'environment.txt'],
    skipped: {
      '.env': 'may hold secrets', '.env.local': 'may hold secrets', 'tls/server.key': 'may hold secrets',
      'package-lock.json': 'lock file', link: 'symbolic link', circle: 'symbolic link'
    }
  })
})

test('a file that turns into a link meanwhile is not read', { skip: process.platform === 'win32' && 'links need rights there' }, async () => {
  const outside = folder({ 'secret.txt': 'outside', 'sub/secret.txt': 'outside' })
  const root = folder()
  symlinkSync(join(outside, 'secret.txt'), join(root, 'a.txt'))
  symlinkSync(join(outside, 'sub'), join(root, 'sub'))
  for (const path of ['a.txt', 'sub/secret.txt']) {
    await assert.rejects(read(root, path), (error) => error instanceof Skipped && error.message === 'symbolic link', path)
  }
  execFileSync('mkfifo', [join(root, 'pipe')])
  await assert.rejects(read(root, 'pipe'), /no regular file/)
})

test('what is no text of people is left out with its reason', async () => {
  const line = 'x'.repeat(LINE_CHARS_MEAN_MAX)
  const root = folder({
    'binary': Buffer.from([65, 0, 66]),
    'latin1.txt': Buffer.from([0x63, 0x61, 0x66, 0xe9]),
    'largest.txt': 'line\n'.repeat(FILE_BYTES_MAX / 5 + 1).slice(0, FILE_BYTES_MAX),
    'too-large.txt': 'line\n'.repeat(FILE_BYTES_MAX / 5 + 1).slice(0, FILE_BYTES_MAX + 1),
    'short-line.js': line.repeat(20),
    'minified.js': `${line.repeat(20)}x`,
    'paragraphs.txt': `${line}\n`.repeat(21),
    'empty': ''
  })
  mkdirSync(join(root, 'folder'))
  const why = async (path) => read(root, path).then(() => 'read', ({ message }) => message)
  const expected = {
    'binary': 'binary', 'latin1.txt': 'not UTF-8', 'largest.txt': 'read', 'too-large.txt': 'larger than 1024 KiB',
    'short-line.js': 'read', 'minified.js': 'minified', 'paragraphs.txt': 'read', 'empty': 'read', 'gone': 'gone meanwhile',
    'folder': 'no regular file'
  }
  for (const [path, reason] of Object.entries(expected)) assert.equal(await why(path), reason, path)
})
