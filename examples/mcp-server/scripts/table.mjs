// Tables on stdout.

/** Rows of strings in columns; the first one to the left, the others to the right. */
export function aligned(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
  return rows
    .map((row) => row.map((cell, column) => (column === 0 ? cell.padEnd(widths[column]) : cell.padStart(widths[column]))).join('  ').trimEnd())
    .join('\n')
}

export const megabytes = (bytes) => (bytes === null ? 'not known' : `${(bytes / 1e6).toFixed(1)} MB`)
