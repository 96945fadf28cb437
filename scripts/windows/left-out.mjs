// What is not tested under Wine, and why. README.md, "Platforms", says the same in short.

/** By crate: a test's name, or a part of it, and the reason. */
const RUST = {
  'embed-log': [['two_processes_mix_no_lines_and_lose_none', 'Wine 8 appends to a file in two steps, so that a line may lie over that of another process']]
}

/** By file: a test's name and the reason. */
const NODE = {
  'memory.spec.mjs': [['the worker has less than 50 MB of its own', 'Wine 8 counts no private memory']],
  'package.spec.mjs': [['all', 'there is no npm; the step `package` installs and uses the packages for Windows']],
  'workflows.spec.mjs': [['all', 'nothing of it depends on the system']],
  'compare.spec.mjs': [['all', 'nothing of it depends on the system']],
  'make-model.spec.mjs': [['all', 'nothing of it depends on the system']]
}

export const ofRust = (crate) => RUST[crate] ?? []
export const ofNode = (file) => NODE[file] ?? []
