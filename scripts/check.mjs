// What has to pass before a change is merged: formatting, lints, documentation, every test.

import { join } from 'node:path'

import { report, root, run } from './build.mjs'

await report(() => {
  run('cargo', ['fmt', '--all', '--check'])
  run('cargo', ['clippy', '--workspace', '--all-targets', '--', '-D', 'warnings'])
  run('cargo', ['doc', '--workspace', '--no-deps', '--document-private-items'], {
    env: { ...process.env, RUSTDOCFLAGS: '-D warnings' }
  })
  run(process.execPath, [join(root, 'scripts', 'test.mjs')], { stdio: 'inherit' })
})
