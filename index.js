'use strict'

const { existsSync } = require('node:fs')
const { join } = require('node:path')

/** Loads the addon that was built for this system: one file beside this one. */
function load() {
  const { platform, arch } = process
  const system = `${platform}-${arch}`
  // Which libc a Linux has is known only to its loader: the wrong addon does not load.
  const targets = platform === 'linux' ? [`${system}-gnu`, `${system}-musl`] : [system]
  const files = targets.map((target) => join(__dirname, `embed-client.${target}.node`))
  let cause
  for (const file of files.filter(existsSync)) {
    try {
      return require(file)
    } catch (error) {
      cause = error
    }
  }
  const found = cause ? `cannot be loaded (${cause.message})` : 'there is no such file'
  const message = `@embed/client: ${files.join(' or ')}: ${found}; ` +
    'run `npm run build` in the package (it needs the Rust toolchain, https://rustup.rs)'
  throw Object.assign(new Error(message, { cause }), { code: 'EMBED_ADDON_MISSING' })
}

const addon = load()

/** By signal: what its calls do when it is aborted. */
const abortsOf = new WeakMap()

/**
 * Calls `abort(reason)` when `signal` is aborted; returns a function that forgets it. However many
 * calls wait for one signal, it has one listener: beyond ten, Node warns of a leak.
 */
function onAbort(signal, abort) {
  let aborts = abortsOf.get(signal)
  if (!aborts) {
    aborts = new Set()
    aborts.listener = () => aborts.forEach((abort) => abort(signal.reason))
    signal.addEventListener('abort', aborts.listener)
    abortsOf.set(signal, aborts)
  }
  aborts.add(abort)
  return () => {
    aborts.delete(abort)
    if (aborts.size > 0) return
    abortsOf.delete(signal)
    signal.removeEventListener('abort', aborts.listener)
  }
}

/** Described in index.d.ts. */
module.exports.embed = function embed(texts, options) {
  return addon.embed(texts, options, onAbort)
}
