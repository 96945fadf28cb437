// Search by meaning: which paragraphs of some files come nearest to a question?
//
//   node examples/search.mjs "how is memory counted?" README.md ARCHITECTURE.md
//
// In a project of yours, import '@embed/client' instead.

import { readFileSync } from 'node:fs'

import { embed } from '../index.js'

const [question, ...files] = process.argv.slice(2)
if (files.length === 0) {
  console.error('usage: node examples/search.mjs QUESTION FILE...')
  process.exit(2)
}

const paragraphs = files.flatMap((file) => {
  let line = 1
  return readFileSync(file, 'utf8')
    .split(/\n{2,}/)
    .map((text) => {
      const paragraph = { where: `${file}:${line}`, text: text.trim() }
      line += text.split('\n').length + 1
      return paragraph
    })
    .filter(({ text }) => text !== '')
})

// Vectors have unit length, so that a dot product is a cosine.
const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0)

// A string goes before all arrays; a paragraph beyond the model's context counts by its beginning.
const [wanted, vectors] = await Promise.all([
  embed(question),
  embed(paragraphs.map(({ text }) => text), { truncate: true })
])
const ranked = paragraphs
  .map(({ where, text }, i) => ({ where, text, score: dot(wanted, vectors[i]) }))
  .sort((a, b) => b.score - a.score)
for (const { where, text, score } of ranked.slice(0, 5)) {
  console.log(`${score.toFixed(3)}  ${where}  ${text.replace(/\s+/g, ' ').slice(0, 100)}`)
}
