//! Where model files are on this machine, and what they are called.
//!
//! Client and worker must mean the same file by the same name, so both ask here: [`known`] is the table
//! of well-known models, [`name`] reads what somebody calls a model, [`store`] knows where its file
//! lies, in the cache that Hugging Face's own programs use, and [`blob`] what the file is called there.
//! The crate looks at the file system and at nothing else; what is fetched, `embed-worker pull` fetches.

pub mod blob;
pub mod known;
pub mod name;
pub mod store;

pub use blob::blob_of;
pub use known::{KNOWN_MODELS, KnownModel, known_model};
pub use name::{HubFile, ModelName, NameError, SHIPPED_MODEL_FILE, SHIPPED_MODEL_NAME};
pub use store::{Store, cache_dir, is_commit, token};
