// Installs node-llama-cpp in this folder, and nowhere else.
//
// Only the build for this system's processor: the library's other optional packages are builds for GPUs
// of some hundred megabytes.

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const folder = dirname(fileURLToPath(import.meta.url))
const version = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')).dependencies['node-llama-cpp']

const { platform, arch } = process
const system = { linux: 'linux', darwin: 'mac', win32: 'win' }[platform]
const build = `@node-llama-cpp/${system}-${arch}${platform === 'darwin' && arch === 'arm64' ? '-metal' : ''}@${version}`
const args = ['install', '--no-save', '--no-package-lock', '--ignore-scripts', '--omit=optional', '--no-audit', '--no-fund', build]
const windows = platform === 'win32'
const { status } = spawnSync(windows ? 'npm.cmd' : 'npm', args, { cwd: folder, stdio: 'inherit', shell: windows })
process.exitCode = status ?? 1
