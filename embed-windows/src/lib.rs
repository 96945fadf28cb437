//! What Windows is asked beyond the standard library, behind safe functions; elsewhere the crate is
//! empty.
//!
//! Both programs need it: the worker makes a `pipe` with a `descriptor` that admits the `user` alone,
//! and the client opens it and looks who made it; `access` does the same for files and folders;
//! `detach` starts a worker that outlives its client and `process` ends one that hangs; `memory` tells
//! what a process has of its own, and asks for pages of a file.
//! All `unsafe` that is for Windows stands in this crate.

#[cfg(windows)]
pub mod access;
#[cfg(windows)]
pub mod descriptor;
#[cfg(windows)]
pub mod detach;
#[cfg(windows)]
pub mod memory;
#[cfg(windows)]
pub mod pipe;
#[cfg(windows)]
pub mod process;
#[cfg(windows)]
mod sid;
#[cfg(windows)]
pub mod user;

/// Whether this runs under Wine, which does some things otherwise: each test that asks says which.
#[cfg(all(test, windows))]
fn is_wine() -> bool {
    std::env::var_os("WINEPREFIX").is_some()
}
