//! The Node binding of `embed-client`: one exported function, and nothing that embeds anything.
//!
//! It turns JavaScript values into a request and a result into JavaScript values; connections,
//! workers and retries are `embed-client`'s, which runs on a thread of its own.
//! Nothing here blocks the JavaScript thread, keeps Node alive without a pending promise, or throws:
//! every fault rejects the promise.
//!
//! `arguments` reads, `locate` finds model and worker, `promise` settles, `abort` and
//! `progress` do what their options say, `errors` makes JavaScript errors, `degraded` marks vectors
//! that are not the model's, `environment` knows when nobody is left to have them.

mod abort;
mod arguments;
mod degraded;
mod environment;
mod errors;
mod locate;
mod progress;
mod promise;

use std::sync::LazyLock;

use embed_client::{EmbedError, EmbedOptions, Embedding, ErrorCode, Registry, background};
use embed_log::{Logging, Settings};
use napi::bindgen_prelude::*;
use napi_derive::napi;

use crate::abort::OnAbort;
use crate::arguments::{Input, Options, Text};
use crate::errors::{Checked, Outcome, batch_error, common_fault, embed_error};
use crate::progress::Progress;
use crate::promise::{Settlement, Value};

/// The clients of this process, shared by all its environments (main thread, `worker_threads`).
static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::default);

/// Logs of this process, if somebody has asked for them: a library is silent by itself. They go to
/// standard error or a file and never to standard output, which may be an MCP server's.
static LOGGING: LazyLock<Option<Logging>> = LazyLock::new(|| {
    let settings = Settings::from_env();
    settings.are_wanted().then(|| settings.start("embed-client"))
});

/// `embed(text | texts, options?)`: see `index.d.ts`; `on_abort` comes from `index.js`, and `package` is
/// the folder in which that lies.
#[napi]
pub fn embed<'env>(
    env: &'env Env,
    texts: Unknown<'env>,
    options: Unknown<'env>,
    on_abort: OnAbort<'env>,
    package: String,
) -> Result<Unknown<'env>> {
    match begin(env, texts, options, on_abort, &package) {
        Ok(promise) => Ok(promise),
        Err(rejection) => {
            let reason = rejection.into_value(env)?;
            Ok(PromiseRaw::<Unknown>::reject(env, reason)?.to_unknown())
        }
    }
}

/// Checks everything, then hands the texts to the background thread.
fn begin<'env>(
    env: &'env Env,
    texts: Unknown<'env>,
    options: Unknown<'env>,
    on_abort: OnAbort<'env>,
    package: &str,
) -> Checked<Unknown<'env>> {
    LazyLock::force(&LOGGING);
    let options = Options::read(env, options)?;
    let input = Input::read(env, texts)?;
    if let Some(signal) = &options.signal
        && let Some(reason) = signal.reason_if_aborted()?
    {
        return Err(errors::abort_error(env, reason)?.into());
    }
    let paths = locate::Paths::find(env, options.model.as_deref(), package)?;
    let client = REGISTRY.client(&paths.model, &paths.worker);
    let embed_options = options.for_input(&input);
    let runtime = background::handle().map_err(|error| {
        EmbedError::with_source(ErrorCode::Internal, "background thread: cannot be started", error)
    })?;
    let end = environment::end(env)?;
    let (settlement, promise) = Settlement::new(env)?;
    let pending = settlement.clone().or_internal_error();
    let progress = Progress::new(env, options.on_progress, input.n_texts(), &settlement)?;
    let task = runtime.spawn(async move {
        let answer = async {
            match input {
                Input::One(Ok(text)) => Answer::One(client.embed(&text, &embed_options).await),
                Input::One(Err(error)) => Answer::One(Err(error)),
                Input::Many(texts) => {
                    Answer::Many(many(&client, texts, &embed_options, progress.as_ref()).await)
                }
            }
        };
        let Some(answer) = end.run_until_cancelled(answer).await else { return };
        pending.settle(move |env| {
            if let Some(progress) = progress {
                progress.finish(&env);
            }
            match answer {
                Answer::One(outcome) => one(&env, outcome),
                Answer::Many(outcomes) => all(&env, outcomes),
            }
        });
    });
    let Some(signal) = options.signal else { return Ok(promise) };
    let task = task.abort_handle();
    signal.attach(on_abort, promise, settlement.clone(), task.clone()).or_else(|error| {
        settlement.reject(error);
        task.abort();
        Ok(promise)
    })
}

/// What came of a call: the mirror of [`Input`].
enum Answer {
    One(Outcome),
    Many(Vec<Outcome>),
}

/// All texts of one call, telling `progress` of each.
async fn many(
    client: &embed_client::Client,
    texts: Vec<Text>,
    options: &EmbedOptions,
    progress: Option<&Progress>,
) -> Vec<Outcome> {
    client
        .embed_many(texts, options, |n_done| {
            if let Some(progress) = progress {
                progress.report(n_done);
            }
        })
        .await
}

/// What the promise of a single text becomes.
fn one(env: &Env, outcome: Outcome) -> Result<Value> {
    match outcome {
        Ok(embedding) => vector(env, &embedding),
        Err(error) => Err(Error::from_unknown_without_coercion(embed_error(env, &error)?)),
    }
}

/// What the promise of an array becomes: all vectors, or one error that holds what there is.
fn all(env: &Env, outcomes: Vec<Outcome>) -> Result<Value> {
    if let Some(fault) = common_fault(&outcomes) {
        return Err(Error::from_unknown_without_coercion(embed_error(env, fault)?));
    }
    if outcomes.iter().any(|outcome| outcome.is_err()) {
        return Err(Error::from_unknown_without_coercion(batch_error(env, outcomes)?));
    }
    let mut array = Array::from_vec(env, Vec::<Value>::new())?;
    for (text_idx, embedding) in (0..).zip(outcomes.into_iter().flatten()) {
        // Each vector is freed as soon as JavaScript has its own.
        array.set(text_idx, vector(env, &embedding)?)?;
    }
    Ok(array.to_unknown())
}

/// A `Float32Array` over an `ArrayBuffer` of its own, which may be transferred or changed.
pub(crate) fn vector(env: &Env, embedding: &Embedding) -> Result<Value> {
    let value: Value = Float32ArraySlice::copy_from(env, &embedding.vector)?.to_unknown();
    if let Some(why) = &embedding.degraded {
        degraded::mark(env, &mut value.coerce_to_object()?, why)?;
    }
    Ok(value)
}
