// What is not tested under Wine, and why. README.md, "Platforms", says the same in short.

/** By crate: a test's name, or a part of it, and the reason. */
const RUST = {}

/** By file: a test's name and the reason. */
const NODE = {}

export const ofRust = (crate) => RUST[crate] ?? []
export const ofNode = (file) => NODE[file] ?? []
