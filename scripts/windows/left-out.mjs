// What is not tested under Wine, and why. README.md, "Platforms", says the same in short.

/** By crate: a test's name, or a part of it, and the reason. */
const RUST = {
  'embed-worker': [
    ['a_console_in_which_ctrl_c_is_typed_is_obeyed_as_well', 'Wine 8 gives a program another output than the console that it is started in, and it hears nothing of that'],
    ['a_console_that_is_closed_is_obeyed_as_well', 'the same']
  ],
  'embed-client': [['paths_are_of_any_length_and_of_any_letters', 'Wine 8 does not tell where a file lies whose path is longer than 260 characters (error 234)']],
  'embed-log': [['two_processes_mix_no_lines_and_lose_none', 'Wine 8 appends to a file in two steps, so that a line may lie over that of another process']]
}

/** By file: a test's name and the reason. */
const NODE = {
  'memory.spec.mjs': [
    ['the worker has less than 50 MB of its own', 'Wine 8 counts no private memory'],
    ['heap, external memory and array buffers stay flat', 'its 8,000 texts took more than the minute that a program may take, on a machine with other work: each message goes through the server of Wine 8'],
    ['1,000 texts leave Node below 100 MB', 'a Node that does nothing has 110 MB there: Wine 8 reads programs instead of mapping them']
  ],
  'embed.spec.mjs': [['it loads from another folder, by require and by import', 'Wine 8 makes no junctions']],
  'store.spec.mjs': [['with EMBED_AUTO_PULL it is fetched once, and found from then on', 'Wine 8 says that it has made a symbolic link, and has not']],
  'package.spec.mjs': [['all', 'there is no npm; the step `package` installs and uses the packages for Windows']],
  'workflows.spec.mjs': [['all', 'nothing of it depends on the system']],
  'compare.spec.mjs': [['all', 'nothing of it depends on the system']],
  'make-model.spec.mjs': [['all', 'nothing of it depends on the system']]
}

export const ofRust = (crate) => RUST[crate] ?? []
export const ofNode = (file) => NODE[file] ?? []
