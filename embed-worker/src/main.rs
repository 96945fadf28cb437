//! The command line of the worker.
fn main() {}
