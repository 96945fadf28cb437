'use strict'

const { load } = require('./load.js')

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
