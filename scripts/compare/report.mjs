// The table: a row for each figure, a column for each peer, and how many times better ours is.

/** Of the contenders of one peer: the best for each figure, with its setting. */
function column(peer, results) {
  const mine = results.filter((result) => result.peer === peer && result.figures)
  const best = (name) =>
    mine
      .filter(({ figures }) => figures[name])
      .map(({ figures, setting }) => ({ ...figures[name], setting: setting?.name }))
      .reduce((a, b) => (isBetter(b, a) ? b : a))
  const names = mine.length > 0 ? Object.keys(mine[0].figures) : []
  return { peer, figures: Object.fromEntries(names.map((name) => [name, best(name)])) }
}

const isBetter = (a, b) => (a.higherIsBetter || a.unit === '' ? a.value > b.value : a.value < b.value)

/** How many times better the first is. */
export const ratio = (ours, theirs) => (ours.higherIsBetter ? ours.value / theirs.value : theirs.value / ours.value)

/** The lines of one model's table. */
export function table(results) {
  const peers = [...new Set(results.map(({ peer }) => peer))]
  const columns = peers.map((peer) => column(peer, results)).filter(({ figures }) => Object.keys(figures).length > 0)
  if (columns.length === 0) return ['no contender was measured']
  const ours = columns.find(({ peer }) => peer === 'ours')
  const fullest = columns.reduce((a, b) => (Object.keys(b.figures).length > Object.keys(a.figures).length ? b : a))
  const names = Object.keys(fullest.figures)
  const rows = names.map((name) => [
    name,
    ...columns.flatMap(({ peer, figures }) => {
      const figure = figures[name]
      if (!figure) return peer === 'ours' ? [''] : ['', '']
      const value = `${number(figure)} ${figure.unit}`.trim()
      if (peer === 'ours') return [value]
      const than = ours?.figures[name] && figure.unit !== '' ? `${ratio(ours.figures[name], figure).toFixed(2)}x` : ''
      return [value, [than, figure.setting].filter(Boolean).join(' ')]
    })
  ])
  const header = ['', ...columns.flatMap(({ peer }) => (peer === 'ours' ? [peer] : [peer, 'ours is better by']))]
  return aligned([header, ...rows])
}

/** What stands below the table: everything that a reader has to know to believe it. */
export function notes(results, plan) {
  const lines = []
  for (const { name, figures, bulk, failure } of results) {
    if (failure) lines.push(`${name} has failed: ${failure}`)
    else if (bulk.texts < plan.bulk) {
      lines.push(`${name}: ${bulk.texts} of the ${plan.bulk} mixed texts, with the same mean length, for time's sake`)
    }
    if (figures && !('anonymous memory, in Node' in figures)) lines.push(`${name}: memory is not measured on this system`)
  }
  return lines
}

function number({ value, unit }) {
  if (unit === '') return value.toFixed(4)
  const digits = value < 10 ? 2 : value < 100 ? 1 : 0
  return value.toFixed(digits)
}

/** Columns as wide as their widest cell: the first to the left, all others to the right. */
export function aligned(rows) {
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)))
  return rows.map((row) => row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  ').trimEnd())
}
