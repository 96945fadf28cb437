//! The `onProgress` option.
//!
//! The background thread counts; the JavaScript thread hears of it when it has time, and then only of
//! the latest count. The last call, the only one with all texts done, is made just before the promise
//! settles, and none comes after: an aborted call makes no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use napi::Env;
use napi::bindgen_prelude::*;
use napi::threadsafe_function::{
    ThreadsafeFunction, ThreadsafeFunctionCallMode, UnknownReturnValue,
};

use crate::promise::Settlement;

/// The caller's function: `(done, total)`.
pub(crate) type OnProgress<'env> = Function<'env, FnArgs<(u32, u32)>, UnknownReturnValue>;

/// Wakes the JavaScript thread; unreferenced, since the promise keeps Node alive.
type Wake = ThreadsafeFunction<(), (), (), Status, false, true>;

/// Tells a caller how far its call is.
pub(crate) struct Progress {
    shared: Arc<Shared>,
    callback: FunctionRef<FnArgs<(u32, u32)>, UnknownReturnValue>,
    wake: Wake,
}

struct Shared {
    n_done: AtomicUsize,
    n_texts: usize,
    is_scheduled: AtomicBool,
}

impl Shared {
    fn counts(&self) -> FnArgs<(u32, u32)> {
        // JavaScript arrays are no longer than u32, so neither is saturated.
        let as_u32 = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (as_u32(self.n_done.load(Ordering::Relaxed)), as_u32(self.n_texts)).into()
    }
}

impl Progress {
    /// Prepares to call `callback`, if there is one and there are texts to count.
    pub(crate) fn new(
        env: &Env,
        callback: Option<OnProgress>,
        n_texts: usize,
        settlement: &Settlement,
    ) -> Result<Option<Self>> {
        let Some(callback) = callback.filter(|_| n_texts > 0) else { return Ok(None) };
        let shared = Arc::new(Shared {
            n_done: AtomicUsize::new(0),
            n_texts,
            is_scheduled: AtomicBool::new(false),
        });
        let reference = callback.create_ref()?;
        let heard = Arc::clone(&shared);
        let settlement = settlement.clone();
        let listener =
            env.create_function_from_closure::<(), (), _>("onProgress", move |context| {
                heard.is_scheduled.store(false, Ordering::Relaxed);
                if !settlement.is_settled() {
                    reference.borrow_back(context.env)?.call(heard.counts())?;
                }
                Ok(())
            })?;
        let wake = listener.build_threadsafe_function().weak::<true>().build()?;
        Ok(Some(Self { shared, callback: callback.create_ref()?, wake }))
    }

    /// So many texts have their result. Called on the background thread.
    pub(crate) fn report(&self, n_done: usize) {
        if n_done == self.shared.n_texts {
            return; // The last call is for `finish`.
        }
        self.shared.n_done.store(n_done, Ordering::Relaxed);
        if !self.shared.is_scheduled.swap(true, Ordering::Relaxed) {
            // Refused only by an environment that is closing.
            self.wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }

    /// The last call. What the callback throws becomes an uncaught exception, as from any listener.
    pub(crate) fn finish(self, env: &Env) {
        self.shared.n_done.store(self.shared.n_texts, Ordering::Relaxed);
        let called =
            self.callback.borrow_back(env).and_then(|function| function.call(self.shared.counts()));
        if let Err(error) = called {
            env.fatal_exception(error);
        }
    }
}
