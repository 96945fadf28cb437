'use strict'

const { join } = require('node:path')

/** Loads the addon for this system: from this folder, where a clone builds it, or from the package for it. */
function load() {
  const { platform, arch } = process
  const system = `${platform}-${arch}`
  // Which libc a Linux has is known only to its loader: the wrong addon does not load.
  const targets = platform === 'linux' ? [`${system}-gnu`, `${system}-musl`] : [system]
  const packages = targets.map((target) => `@embed/client-${target}`)
  const files = targets.map((target) => join(__dirname, `embed-client.${target}.node`))
  let found
  for (const name of [...files, ...packages.map((name) => `${name}/embed-client.node`)]) {
    let file
    try {
      file = require.resolve(name)
    } catch {
      continue
    }
    try {
      return require(file)
    } catch (error) {
      found = { file, cause: error }
    }
  }
  const message = found
    ? `@embed/client: ${found.file}: cannot be loaded (${found.cause.message}); ` +
      'install the package again on this system, or run `npm run build` in a clone of it'
    : `@embed/client: the package ${packages.join(' or ')} is not there, nor is ${files.join(' or ')}; ` +
      'run `npm install` again on this system and without `--omit=optional`, or, in a clone, `npm run build`'
  throw Object.assign(new Error(message, { cause: found?.cause }), { code: 'EMBED_ADDON_MISSING' })
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
  return addon.embed(texts, options, onAbort, __dirname)
}
