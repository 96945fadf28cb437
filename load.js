'use strict'

// Finds the addon for this system: in this folder, where a clone builds it, or in the package for it.

const { closeSync, openSync, readSync } = require('node:fs')
const { join } = require('node:path')

/** The systems for which there are packages; scripts/pack.mjs makes them. */
const PLATFORMS = [
  'linux-x64-gnu',
  'linux-x64-musl',
  'linux-arm64-gnu',
  'darwin-x64',
  'darwin-arm64',
  'win32-x64',
  'win32-arm64'
]

const packageName = (platform) => `@embed/client-${platform}`

/** The addon's exports; throws `EMBED_ADDON_MISSING` if there is none that can be loaded. */
function load() {
  const { platform, arch } = process
  const system = platform === 'linux' ? `${platform}-${arch}-${libcOf('/proc/self/exe')}` : `${platform}-${arch}`
  const file = join(__dirname, `embed-client.${system}.node`)
  const addon = resolved(file) ?? resolved(`${packageName(system)}/embed-client.node`)
  if (!addon) throw missing(absence(system, file))
  try {
    return require(addon)
  } catch (error) {
    const cure = 'install the package again on this system, or run `npm run build` in a clone of it'
    throw missing(`${addon}: cannot be loaded (${error.message}); ${cure}`, error)
  }
}

/** The path of what `require` would load; nothing if there is no such file. */
function resolved(request) {
  try {
    return require.resolve(request)
  } catch {
    return undefined
  }
}

/** What is not there, what is there instead, and what to do. */
function absence(system, file) {
  if (!PLATFORMS.includes(system)) {
    return `there is no package for ${system}, only for ${PLATFORMS.join(', ')}; in a clone, \`npm run build\` builds it where Rust does`
  }
  const others = PLATFORMS.filter((other) => resolved(`${packageName(other)}/package.json`)).map(packageName)
  const instead = others.length > 0 ? `, only ${others.join(', ')}, which is for another system` : ''
  return (
    `the package ${packageName(system)} is not there${instead}, nor is ${file}; ` +
    'run `npm install` again on this system and without `--omit=optional`, or, in a clone, `npm run build`'
  )
}

function missing(what, cause) {
  return Object.assign(new Error(`@embed/client: ${what}`, { cause }), { code: 'EMBED_ADDON_MISSING' })
}

/** `musl` or `gnu`: which libc a program of Linux runs with. */
function libcOf(program) {
  const loader = loaderOf(program)
  if (loader !== undefined) return loader.includes('musl') ? 'musl' : 'gnu'
  // A program that its loader was called with names none; a report takes milliseconds, but always knows.
  return process.report.getReport().header.glibcVersionRuntime ? 'gnu' : 'musl'
}

/** Of the ELF format, as far as it is needed: where its numbers stand, and their values. */
const ELF = {
  headerBytes: 64,
  magic: 0x7f454c46,
  classAt: 4,
  class64: 2,
  tableAt: 32,
  entrySizeAt: 54,
  entriesAt: 56,
  typeInterpreter: 3,
  offsetAt: 8,
  sizeAt: 32
}

/** A table of more entries, or a path of more bytes, is none. */
const ENTRIES_MAX = 64
const PATH_BYTES_MAX = 4096

/** The loader that a program asks for, which belongs to its libc; nothing if it asks for none or is no program. */
function loaderOf(program) {
  let descriptor
  try {
    descriptor = openSync(program, 'r')
    const read = (position, length) => {
      const bytes = Buffer.alloc(length)
      return bytes.subarray(0, readSync(descriptor, bytes, 0, length, position))
    }
    const header = read(0, ELF.headerBytes)
    if (header.readUInt32BE(0) !== ELF.magic || header[ELF.classAt] !== ELF.class64) return undefined
    const [table, size] = [Number(header.readBigUInt64LE(ELF.tableAt)), header.readUInt16LE(ELF.entrySizeAt)]
    const entries = Math.min(header.readUInt16LE(ELF.entriesAt), ENTRIES_MAX)
    for (let i = 0; i < entries; i++) {
      const entry = read(table + i * size, size)
      if (entry.readUInt32LE(0) !== ELF.typeInterpreter) continue
      const length = Math.min(Number(entry.readBigUInt64LE(ELF.sizeAt)), PATH_BYTES_MAX)
      return read(Number(entry.readBigUInt64LE(ELF.offsetAt)), length).toString('latin1').split('\0')[0] || undefined
    }
    return undefined
  } catch {
    // Not there, not ours to read, or cut off.
    return undefined
  } finally {
    if (descriptor !== undefined) closeSync(descriptor)
  }
}

module.exports = { load, loaderOf, PLATFORMS }
