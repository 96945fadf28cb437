// Installs tarballs of scripts/pack.mjs into an empty project, as a user would.

import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Makes the project's `folder` and installs `tarballs` there with npm; gives the folder. `system` is `{ os, cpu }`
 * if it is not this one's. Packages of other platforms, which nobody has published, are not asked for.
 */
export function install(folder, tarballs, system = {}) {
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'package.json'), '{ "name": "project", "private": true }\n')
  const other = Object.entries(system).map(([key, value]) => `--${key}=${value}`)
  // What is named on the command line is held against this system all the same.
  if (other.length > 0) other.push('--force')
  execFileSync('npm', ['install', '--offline', '--no-audit', '--no-fund', ...other, ...tarballs], {
    cwd: folder,
    // npm is a script, which Windows does not run as a program.
    shell: process.platform === 'win32',
    stdio: ['ignore', 2, 2]
  })
  return folder
}
