//! The clients of one process, one for each model: two callers of the same model share a connection.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::client::Client;
use crate::options::{ClientOptions, absolute, runtime_dir};

/// Clients kept without a connection. Those whose model was not found or whose worker left are cheap
/// to make again; without a bound, a caller with a new wrong path each time would fill the memory.
const IDLE_CLIENTS_MAX: usize = 64;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Registry {
    clients: Mutex<HashMap<Key, Client>>,
}

/// What makes a client another one. The rest of its options is read from the environment when it is
/// made, since that takes longer than finding it here.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    model: PathBuf,
    worker: PathBuf,
    runtime_dir: PathBuf,
}

impl Registry {
    /// The client of `model` with the worker at `worker`, a new one if there is none; see
    /// [`ClientOptions::new`].
    pub fn client(&self, model: &Path, worker: &Path) -> Client {
        let key =
            Key { model: absolute(model), worker: absolute(worker), runtime_dir: runtime_dir() };
        self.find(key, || ClientOptions::new(model, worker))
    }

    /// The same for options that were read earlier.
    pub fn client_with(&self, options: ClientOptions) -> Client {
        let ClientOptions { model, worker, runtime_dir, .. } = options.clone();
        self.find(Key { model, worker, runtime_dir }, || options)
    }

    fn find(&self, key: Key, options: impl FnOnce() -> ClientOptions) -> Client {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return client.clone();
        }
        if clients.len() >= IDLE_CLIENTS_MAX {
            clients.retain(|_, client| client.is_connected());
        }
        let client = Client::new(options());
        clients.insert(key, client.clone());
        client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgotten_models_do_not_fill_the_memory() {
        let registry = Registry::default();
        for n in 0..1000 {
            registry.client(Path::new(&format!("/no/model-{n}")), Path::new("/no/worker"));
        }
        let n_clients = registry.clients.lock().expect("not poisoned").len();
        assert!(n_clients <= IDLE_CLIENTS_MAX, "{n_clients}");
    }
}
