// What .gitignore files say, as git reads them: the deepest file that has something to say decides.

import { stat } from 'node:fs/promises'
import { dirname, join, relative, sep } from 'node:path'

import ignore from 'ignore'

import { log } from './log.mjs'
import { readRegular } from './regular.mjs'

/** Bytes of a file of rules: some ten thousand of them. */
const RULES_BYTES_MAX = 1024 * 1024

/** Whether `A` and `a` are one name: what git takes for granted where file systems are so. */
const ignorecase = process.platform === 'win32' || process.platform === 'darwin'

export class Ignored {
  #rules

  constructor(rules) {
    this.#rules = rules
  }

  /** The rules that reach `root` from above: of the repository that it lies in, if it lies in one. */
  static async above(root) {
    const repository = await repositoryOf(root)
    if (repository === undefined) return new Ignored([])
    let ignored = new Ignored([])
    const exclude = await rulesOf(join(repository, '.git', 'info', 'exclude'))
    if (exclude) ignored = ignored.#with(prefixOf(repository, root), exclude)
    for (const folder of between(repository, root)) {
      const rules = await rulesOf(join(folder, '.gitignore'))
      if (rules) ignored = ignored.#with(prefixOf(folder, root), rules)
    }
    // Who names a folder that is ignored wants it all the same.
    return ignored.has('', true) ? new Ignored([]) : ignored
  }

  /** The rules inside `folder`, which lies at `path` from the root. */
  async inside(folder, path) {
    const rules = await rulesOf(join(folder, '.gitignore'))
    return rules ? this.#with({ cut: path === '' ? 0 : path.length + 1, add: '' }, rules) : this
  }

  /** Whether the file or folder at `path` from the root is ignored. */
  has(path, isFolder) {
    for (const { at: { cut, add }, rules } of this.#rules) {
      const from = add + path.slice(cut)
      if (from === '') continue
      const { ignored, unignored } = rules.test(isFolder && !from.endsWith('/') ? `${from}/` : from)
      if (ignored || unignored) return ignored
    }
    return false
  }

  #with(at, rules) {
    return new Ignored([{ at, rules }, ...this.#rules])
  }
}

/** How a path from `root` becomes one from `folder` above it. */
function prefixOf(folder, root) {
  const way = relative(folder, root).split(sep).join('/')
  return { cut: 0, add: way === '' ? '' : `${way}/` }
}

/** `top` and the folders on the way to `bottom`, without it: its own rules are read with it. */
function between(top, bottom) {
  const folders = []
  for (let folder = bottom; folder !== top; ) {
    folder = dirname(folder)
    folders.unshift(folder)
  }
  return folders
}

async function repositoryOf(folder) {
  for (;;) {
    if (await stat(join(folder, '.git')).catch(() => null)) return folder
    const parent = dirname(folder)
    if (parent === folder) return undefined
    folder = parent
  }
}

/** The rules in a file; none, if it is not one that git would read: a link, a pipe, one without end. */
async function rulesOf(file) {
  const text = await readRegular(file, RULES_BYTES_MAX).then(({ bytes }) => bytes.toString('utf8'), (skipped) => {
    if (skipped.message !== 'gone meanwhile') log(`${file}: ${skipped.message}: not heeded`)
    return ''
  })
  return text.trim() === '' ? undefined : ignore({ ignorecase }).add(text)
}
