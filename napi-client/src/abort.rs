//! The `signal` option.

use napi::bindgen_prelude::*;
use napi::{Env, Unknown};
use tokio::task::AbortHandle;

use crate::arguments::{global, property};
use crate::errors::{Checked, abort_error};
use crate::promise::Settlement;

/// A function that listens.
type Listener<'env> = Function<'env, (), ()>;

/// `addEventListener(type, listener)`.
type AddEventListener<'env> = Function<'env, FnArgs<(&'env str, Listener<'env>)>, Unknown<'env>>;

/// `removeEventListener.bind(signal, type, listener)`.
type Bind<'env> = Function<'env, FnArgs<(Object<'env>, &'env str, Listener<'env>)>, Unknown<'env>>;

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

    /// Rejects `promise` and ends `task` when the signal is aborted, and returns the promise that
    /// leaves nothing behind on the signal: `promise.finally(removeEventListener)`.
    pub(crate) fn attach(
        self,
        env: &'env Env,
        promise: Unknown<'env>,
        settlement: Settlement,
        task: AbortHandle,
    ) -> Checked<Unknown<'env>> {
        let listener =
            env.create_function_from_closure::<(), (), _>("onAbort", move |context| {
                task.abort();
                let event: Object = context.first_arg()?;
                let signal: Object = property(context.env, event, "target")?;
                let reason: Unknown = property(context.env, signal, "reason")?;
                let error = abort_error(context.env, reason)?;
                settlement.reject(Error::from_unknown_without_coercion(error));
                Ok(())
            })?;
        let add: AddEventListener = property(env, self.object, "addEventListener")?;
        add.bind(self.object)?.call(("abort", listener).into())?;

        // Made of JavaScript functions only, so that no reference from here keeps anything alive.
        let remove: Object = property(env, self.object, "removeEventListener")?;
        let bind: Bind = property(env, remove, "bind")?;
        let bind = bind.bind(remove)?;
        let remove_listener = bind.call((self.object, "abort", listener).into())?;
        let promise = promise.coerce_to_object()?;
        let finally: Function<Unknown, Unknown> = property(env, promise, "finally")?;
        Ok(finally.bind(promise)?.call(remove_listener)?)
    }
}
