//! Rust errors as the JavaScript errors that callers catch.
//!
//! Every one is a real `Error` with a sentence as `message` and a stable `code`; a wrong argument is a
//! `TypeError`, an aborted call an `AbortError`, as Node's own functions have it.

use embed_client::{EmbedError, Embedding, ErrorCode};
use napi::bindgen_prelude::*;
use napi::{Env, JsError, JsTypeError};

use crate::vector::Vectors;

/// `code` of an array call of which some texts failed.
const BATCH_CODE: &str = "EMBED_BATCH";

/// What came of one text.
pub(crate) type Outcome = std::result::Result<Embedding, EmbedError>;

/// A value, or why the call is rejected.
pub(crate) type Checked<T> = std::result::Result<T, Rejection>;

/// Why a call is rejected before anything is sent.
pub(crate) enum Rejection {
    /// An error of ours.
    Ours(EmbedError),
    /// An exception of the caller's own code (a getter), or a failure of Node-API.
    Theirs(Error),
    /// A JavaScript value, made already.
    Value(Unknown<'static>),
}

impl Rejection {
    /// A wrong argument or option.
    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::Ours(EmbedError::new(ErrorCode::BadArgument, message))
    }

    /// What the promise is rejected with.
    pub(crate) fn into_value(self, env: &Env) -> Result<Unknown<'static>> {
        match self {
            Self::Ours(error) => embed_error(env, &error),
            Self::Theirs(error) => Ok(JsError::from(error).into_unknown(*env)),
            Self::Value(value) => Ok(value),
        }
    }
}

impl From<EmbedError> for Rejection {
    fn from(error: EmbedError) -> Self {
        Self::Ours(error)
    }
}

impl From<Unknown<'static>> for Rejection {
    fn from(value: Unknown<'static>) -> Self {
        Self::Value(value)
    }
}

impl From<Error> for Rejection {
    fn from(error: Error) -> Self {
        Self::Theirs(error)
    }
}

/// `error` in JavaScript.
pub(crate) fn embed_error(env: &Env, error: &EmbedError) -> Result<Unknown<'static>> {
    let js = Error::new(error.code().as_str(), error.message());
    Ok(match error.code() {
        ErrorCode::BadArgument => JsTypeError::from(js).into_unknown(*env),
        _ => JsError::from(js).into_unknown(*env),
    })
}

/// The error of a call whose signal was aborted: Node's `AbortError`, with the signal's reason.
pub(crate) fn abort_error(env: &Env, reason: Unknown) -> Result<Unknown<'static>> {
    let js = Error::new("ABORT_ERR", "The operation was aborted");
    let error = JsError::from(js).into_unknown(*env);
    let mut object = error.coerce_to_object()?;
    object.set_named_property("name", "AbortError")?;
    object.set_named_property("cause", reason)?;
    Ok(error)
}

/// The error of an array call if no text has a vector and all have met the same fault, which was not
/// their own length: then it says more than a list would.
pub(crate) fn common_fault(outcomes: &[Outcome]) -> Option<&EmbedError> {
    let fault = outcomes.first()?.as_ref().err()?;
    let is_same =
        |outcome: &Outcome| outcome.as_ref().is_err_and(|error| error.code() == fault.code());
    (fault.code() != ErrorCode::TextTooLong && outcomes.iter().all(is_same)).then_some(fault)
}

/// The error of an array call of which some texts failed: nothing that was computed is lost.
pub(crate) fn batch_error(env: &Env, outcomes: Vec<Outcome>) -> Result<Unknown<'static>> {
    let n_texts = outcomes.len();
    let mut entries = Array::from_vec(env, Vec::<Unknown>::new())?;
    let mut values = Array::from_vec(env, Vec::<Unknown>::new())?;
    let mut vectors = Vectors::new(env);
    let mut first = None;
    for (text_idx, outcome) in (0_u32..).zip(outcomes) {
        let value = match outcome {
            Ok(embedding) => vectors.make(&embedding)?,
            Err(error) => {
                let value = embed_error(env, &error)?;
                let mut entry = Object::new(env)?;
                entry.set_named_property("index", text_idx)?;
                entry.set_named_property("error", value)?;
                entries.insert(entry)?;
                first.get_or_insert((text_idx, error));
                value
            }
        };
        values.insert(value)?;
    }
    let n_failed = entries.len();
    let first = first.map_or_else(String::new, |(text_idx, error)| {
        format!("; the first is text {text_idx}: {}", error.message())
    });
    let message = format!("{n_failed} of {n_texts} texts have no vector{first}");
    let error = JsError::from(Error::new(BATCH_CODE, message)).into_unknown(*env);
    let mut object = error.coerce_to_object()?;
    object.set_named_property("errors", entries)?;
    object.set_named_property("results", values)?;
    Ok(error)
}
