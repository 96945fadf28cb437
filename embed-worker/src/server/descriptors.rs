//! How many files and sockets the worker may hold open.

#[cfg(unix)]
use crate::config::DESCRIPTORS_WANTED;

/// Asks the system for as many open files as the connections may need; without them, it takes fewer.
#[cfg(unix)]
pub fn want_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < DESCRIPTORS_WANTED) {
        limit.current = Some(limit.maximum.unwrap_or(u64::MAX).min(DESCRIPTORS_WANTED));
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "no more open files can be had");
        }
    }
}

/// Windows has no such limit.
#[cfg(not(unix))]
pub fn want_descriptors() {}
