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

module.exports.embed = load().embed
