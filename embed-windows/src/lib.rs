//! What Windows is asked beyond the standard library, behind safe functions; elsewhere the crate is
//! empty.
//!
//! Both programs need it: the worker makes a `pipe` with a `descriptor` that admits the `user` alone,
//! and the client opens it and looks who made it; `process` ends one that hangs, and `memory` tells
//! what a process has of its own.
//! All `unsafe` that is for Windows stands in this crate.

#[cfg(windows)]
pub mod descriptor;
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
