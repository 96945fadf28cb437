//! Vectors that are not the model's: marked, and one warning a spell.

use embed_client::Degraded;
use napi::bindgen_prelude::*;

use crate::arguments::{global, property};

/// `code` of the warning.
const WARNING_CODE: &str = "EMBED_DEGRADED";

/// `name` of the warning.
const WARNING_TYPE: &str = "EmbedDegradedWarning";

/// Sets `vector.degraded` to true; warns, by `process.emitWarning`, if it is the first of its spell.
pub(crate) fn mark(env: &Env, vector: &mut Object, degraded: &Degraded) -> Result<()> {
    vector.set_named_property("degraded", true)?;
    if !degraded.is_first {
        return Ok(());
    }
    let message = format!(
        "embed() answers with hash embeddings, which must not be mixed with the model's vectors, because no worker can be had: {}",
        degraded.why.message()
    );
    let mut options = Object::new(env)?;
    options.set_named_property("type", WARNING_TYPE)?;
    options.set_named_property("code", WARNING_CODE)?;
    let process: Object = global(env, "process")?;
    let emit_warning: Function<FnArgs<(String, Object)>, Unknown> =
        property(env, process, "emitWarning")?;
    // Who made `emitWarning` throw does not want warnings; the vector is marked anyway.
    let _ = emit_warning.bind(process)?.call((message, options).into());
    Ok(())
}
