//! A tokio runtime on a thread of its own, for callers that have none.
//!
//! One for the whole process: in Node every environment (the main thread, each of `worker_threads`)
//! shares it, and with it the connections. The thread sleeps in the system while nothing happens, and
//! ends with the process.

use std::io;
use std::sync::{Mutex, PoisonError};

use tokio::runtime::{Builder, Handle};

static HANDLE: Mutex<Option<Handle>> = Mutex::new(None);

/// The background runtime, started now if this is the first call.
///
/// # Errors
///
/// Those of starting a thread and of the system's event queue. The next call tries again.
pub fn handle() -> io::Result<Handle> {
    let mut handle = HANDLE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*handle {
        return Ok(handle.clone());
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let started = runtime.handle().clone();
    std::thread::Builder::new()
        .name("embed-client".into())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    *handle = Some(started.clone());
    Ok(started)
}

#[cfg(test)]
mod tests {
    #[test]
    fn there_is_one_runtime_and_it_runs() {
        let first = super::handle().expect("starts");
        let second = super::handle().expect("is there");
        let id = |handle: tokio::runtime::Handle| handle.id();
        assert_eq!(id(first.clone()), id(second));
        let (sender, receiver) = std::sync::mpsc::channel();
        first.spawn(async move { sender.send(7) });
        assert_eq!(receiver.recv(), Ok(7));
    }
}
