// What is not tested under Wine, and why. README.md, "Platforms", says the same in short.

const APPENDS = 'Wine 8 appends to a file in two steps, so that a line may lie over that of another process'

/** By crate: a test's name, or a part of it, and the reason. */
const RUST = {
  'embed-worker': [['two_workers_share_a_file_that_is_put_aside_when_it_is_full', APPENDS]],
  'embed-client': [['paths_are_of_any_length_and_of_any_letters', 'Wine 8 does not tell where a file lies whose path is longer than 260 characters (error 234)']],
  'embed-log': [['two_processes_mix_no_lines_and_lose_none', APPENDS]]
}

/** By file: a test's name and the reason. */
const NODE = {
  'memory.spec.mjs': [
    ['the worker has less than 50 MB of its own', 'Wine 8 counts no private memory'],
    ['heap, external memory and array buffers stay flat', 'its 8,000 texts took more than the minute that a program may take, on a machine with other work: each message goes through the server of Wine 8'],
    ['1,000 texts leave Node below 100 MB', 'a Node that does nothing has 110 MB there: Wine 8 reads programs instead of mapping them']
  ],
  'embed.spec.mjs': [['it loads from another folder, by require and by import', 'Wine 8 makes no junctions']],
  'package.spec.mjs': [['all', 'there is no npm; the step `package` installs and uses the packages for Windows']],
  'workflows.spec.mjs': [['all', 'nothing of it depends on the system']],
  'compare.spec.mjs': [['all', 'nothing of it depends on the system']],
  'make-model.spec.mjs': [['all', 'nothing of it depends on the system']]
}

export const ofRust = (crate) => RUST[crate] ?? []
export const ofNode = (file) => NODE[file] ?? []
