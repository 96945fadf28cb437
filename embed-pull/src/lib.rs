//! Fetches model files into a [`Store`](embed_store::Store): from the hub by `owner/name:file`, or from any address.
//!
//! Whatever the network does, a file gets its name only when it is whole: bytes go to a file called
//! `….incomplete`, from where a later try goes on; then length, SHA-256 and contents are checked, and one
//! rename makes it a model. One process at a time fetches a file; others wait for it.
//!
//! ```text
//! pull -> remote    what the hub says of the file: length, SHA-256, commit
//!      -> body      its bytes, over as many connections as it takes
//!      -> client    requests: patience, certificates
//!      -> proxy     what the environment says of proxies
//!      -> place     locks, renames, links
//! ```

mod body;
mod client;
mod error;
mod place;
mod proxy;
mod pull;
mod remote;

pub use client::Patience;
pub use error::PullError;
pub use proxy::{Proxies, ProxyError};
pub use pull::{Check, FIRST_BYTES, Pulled, Puller, Watcher};
