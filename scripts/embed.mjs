// Embeds texts the way every user does: Node -> addon -> worker -> model.
//
//   npm run --silent embed -- "a text" "another text"
//
// One JSON array of numbers a text on stdout; everything else on stderr.

import { existsSync } from 'node:fs'

import { addonPath, build, Failure, report, worker } from './build.mjs'

await report(async () => {
  const texts = process.argv.slice(2)
  if (texts.length === 0) {
    throw new Failure('usage: npm run embed -- "a text" ["another text" ...]')
  }
  if (!(existsSync(worker) && existsSync(addonPath()))) {
    console.error('building addon and worker; this takes a minute or two, once')
    build()
  }
  const { embed } = await import('../index.js')
  try {
    for (const vector of await embed(texts)) {
      process.stdout.write(`${JSON.stringify(Array.from(vector))}\n`)
    }
  } catch (error) {
    if (!error.code) throw error
    throw new Failure(`${error.code}: ${error.message}`)
  }
})
