// The packages for Windows, installed into an empty project and used there by Windows' node.exe.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { Failure } from '../build.mjs'
import { install, PROGRAM } from '../install.mjs'
import { packMain, packPlatform } from '../pack.mjs'
import { addon, worker } from './artifacts.mjs'
import { node } from './node.mjs'
import { windowsPath } from './toolchain.mjs'

/** A project's folder as users have them: with a space, and letters that are not ASCII. */
const PROJECT = 'Projekt für Grüße 世界'

export function testPackage() {
  const folder = mkdtempSync(join(tmpdir(), 'embed-package-'))
  try {
    const tarballs = [packMain(folder), packPlatform('win32-x64', { addon, worker }, folder)]
    const project = install(join(folder, PROJECT), tarballs, { os: 'win32', cpu: 'x64' })
    const env = { EMBED_RUNTIME_DIR: windowsPath(join(folder, 'Laufzeit ünd mehr')), EMBED_CACHE_DIR: windowsPath(join(folder, 'cache')), EMBED_IDLE_TIMEOUT: '1' }
    const vector = JSON.parse(node(['--eval', PROGRAM], { cwd: project, env, quiet: true }))
    if (vector.length !== 384) throw new Failure(`windows: the package gave ${vector.length} numbers instead of a vector of 384`)
    console.error('windows: the packages for win32-x64 embed in an empty project')
  } finally {
    rmSync(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 })
  }
}
