//! The `signal` option.

use napi::bindgen_prelude::*;
use napi::{Env, Unknown};
use tokio::task::AbortHandle;

use crate::arguments::{global, property};
use crate::errors::abort_error;
use crate::promise::Settlement;

/// Rejects a call, with the signal's reason.
type Abort<'env> = Function<'env, Unknown<'env>, ()>;

/// `onAbort(signal, abort)` of `index.js`: gives the function that forgets `abort`.
pub(crate) type OnAbort<'env> =
    Function<'env, FnArgs<(Object<'env>, Abort<'env>)>, Function<'env, (), Unknown<'env>>>;

/// An `AbortSignal` that a caller gave.
pub(crate) struct Signal<'env> {
    env: &'env Env,
    object: Object<'env>,
}

impl<'env> Signal<'env> {
    /// `value` as a signal, if it is one.
    pub(crate) fn from_value(env: &'env Env, value: Unknown<'env>) -> Result<Option<Self>> {
        let class: Function<(), Unknown> = global(env, "AbortSignal")?;
        if value.instanceof(class)? {
            Ok(Some(Self { env, object: value.coerce_to_object()? }))
        } else {
            Ok(None)
        }
    }

    /// The reason, if it was aborted already.
    pub(crate) fn reason_if_aborted(&self) -> Result<Option<Unknown<'env>>> {
        let is_aborted: bool = property(self.env, self.object, "aborted")?;
        is_aborted.then(|| property(self.env, self.object, "reason")).transpose()
    }

    /// Settles `promise` and ends `task` when the signal is aborted, and returns the promise that
    /// leaves nothing behind on the signal: `promise.finally(forget)`.
    pub(crate) fn attach(
        self,
        on_abort: OnAbort<'env>,
        promise: Unknown<'env>,
        settlement: Settlement,
        task: AbortHandle,
    ) -> Result<Unknown<'env>> {
        let abort = self.env.create_function_from_closure::<Unknown, (), _>("abort", {
            move |context| {
                let error = context
                    .first_arg()
                    .and_then(|reason| abort_error(context.env, reason))
                    .map_or_else(|error| error, Error::from_unknown_without_coercion);
                // First, because the task's end on its own thread settles, too: as a defect.
                settlement.reject(error);
                task.abort();
                Ok(())
            }
        })?;
        // JavaScript functions only, so that no reference from here keeps anything alive.
        let forget = on_abort.call((self.object, abort).into())?;
        let promise = promise.coerce_to_object()?;
        let finally: Function<Function<(), Unknown>, Unknown> =
            property(self.env, promise, "finally")?;
        finally.bind(promise)?.call(forget)
    }
}
