// Whether a path stays where it should.

import { isAbsolute, relative, sep } from 'node:path'

/** Whether `path` is `parent` or lies in it; both are real paths. */
export function isInside(path, parent) {
  const way = relative(parent, path)
  return way === '' || !(way === '..' || way.startsWith(`..${sep}`) || isAbsolute(way))
}
