export interface Line { description: string; quantity: number; unitCents: number; vatPercent: number }

export interface Totals { netCents: number; vatCents: number; grossCents: number }

/** Sums an invoice; tax is rounded for each rate and not for each line, as the tax office wants it. */
export function totals(lines: readonly Line[]): Totals {
  const byRate = new Map<number, number>()
  for (const { quantity, unitCents, vatPercent } of lines) {
    byRate.set(vatPercent, (byRate.get(vatPercent) ?? 0) + quantity * unitCents)
  }
  let netCents = 0
  let vatCents = 0
  for (const [rate, net] of byRate) {
    netCents += net
    vatCents += Math.round((net * rate) / 100)
  }
  return { netCents, vatCents, grossCents: netCents + vatCents }
}
