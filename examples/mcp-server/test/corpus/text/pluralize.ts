const rules = new Intl.PluralRules('en')

/** "1 file", "3 files": the word in the form that its number wants. */
export function counted(n: number, one: string, many = `${one}s`): string {
  return `${n.toLocaleString('en')} ${rules.select(n) === 'one' ? one : many}`
}
