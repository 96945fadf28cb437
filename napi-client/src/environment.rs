//! The end of an environment: of Node, or of one thread of `worker_threads`.
//!
//! Its promises are gone then. What they waited for must not be computed while others wait.

use napi::Env;
use napi::bindgen_prelude::*;
use tokio_util::sync::CancellationToken;

/// Cancelled when `env` ends.
pub(crate) fn end(env: &Env) -> Result<CancellationToken> {
    if let Some(end) = env.get_instance_data::<CancellationToken>()? {
        return Ok(end.clone());
    }
    let end = CancellationToken::new();
    env.set_instance_data(end.clone(), (), |ended| ended.value.cancel())?;
    Ok(end)
}
