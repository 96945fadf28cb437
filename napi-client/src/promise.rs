//! A promise that another thread settles, once, whatever happens to the environment meanwhile.
//!
//! napi's deferred is the part that knows how to reach a JavaScript thread: it keeps Node alive until
//! it is settled, and is forgotten when its environment is torn down. This module adds that the first
//! of several parties settles it, and that somebody always does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use embed_client::{EmbedError, ErrorCode};
use napi::bindgen_prelude::*;
use napi::{Env, JsDeferred};

use crate::errors::embed_error;

/// A JavaScript value made in the callback that settles a promise; the handle scope of that callback,
/// which ends after napi has used the value, is not expressible as a lifetime.
pub(crate) type Value = Unknown<'static>;

/// Makes the value, or the error, of a promise on its JavaScript thread.
type Resolver = Box<dyn FnOnce(Env) -> Result<Value> + Send>;

/// The right to settle a promise; all clones share it.
#[derive(Clone)]
pub(crate) struct Settlement(Arc<Mutex<Option<JsDeferred<Value, Resolver>>>>);

impl Settlement {
    /// A pending promise and the right to settle it.
    pub(crate) fn new(env: &Env) -> Result<(Self, Unknown<'_>)> {
        let (deferred, promise) = env.create_deferred()?;
        Ok((Self(Arc::new(Mutex::new(Some(deferred)))), promise.to_unknown()))
    }

    /// Settles with what `resolver` makes; `false` if somebody was first.
    pub(crate) fn settle(
        &self,
        resolver: impl FnOnce(Env) -> Result<Value> + Send + 'static,
    ) -> bool {
        self.take().map(|deferred| deferred.resolve(Box::new(resolver))).is_some()
    }

    /// Rejects with `error`; `false` if somebody was first.
    pub(crate) fn reject(&self, error: Error) -> bool {
        self.take().map(|deferred| deferred.reject(error)).is_some()
    }

    /// Whether somebody has settled it; JavaScript may hear of that a little later.
    pub(crate) fn is_settled(&self) -> bool {
        self.lock().is_none()
    }

    /// The same right, for a task that must not forget it: dropped, it rejects.
    pub(crate) fn or_internal_error(self) -> Pending {
        Pending(self)
    }

    fn take(&self) -> Option<JsDeferred<Value, Resolver>> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<JsDeferred<Value, Resolver>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Settlement::or_internal_error`].
pub(crate) struct Pending(Settlement);

impl Pending {
    pub(crate) fn settle(self, resolver: impl FnOnce(Env) -> Result<Value> + Send + 'static) {
        self.0.settle(resolver);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.settle(|env| {
            let error =
                EmbedError::new(ErrorCode::Internal, "the request was given up by a defect");
            Err(Error::from_unknown_without_coercion(embed_error(&env, &error)?))
        });
    }
}
