//! The Node binding of `embed-client`: one exported function, and nothing that embeds anything.
//!
//! It turns JavaScript values into a request and a result into JavaScript values; connections,
//! workers and retries are `embed-client`'s, which runs on a thread of its own.
//! Nothing here blocks the JavaScript thread, keeps Node alive without a pending promise, or throws:
//! every fault rejects the promise.
//!
//! `arguments` reads, `locate` finds model and worker, `promise` settles, `abort` and
//! `progress` do what their options say, `errors` makes JavaScript errors, `vector` makes vectors that
//! say whose they are, `degraded` marks those that are not the model's, `environment` knows when
//! nobody is left to have them.

mod abort;
mod arguments;
mod degraded;
mod environment;
mod errors;
mod locate;
mod progress;
mod promise;
mod vector;

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use embed_client::store::MissingModel;
use embed_client::{
    Client, ClientOptions, EmbedError, EmbedOptions, ErrorCode, Registry, background,
};
use embed_log::{Logging, Settings};
use napi::bindgen_prelude::*;
use napi_derive::napi;

use crate::abort::OnAbort;
use crate::arguments::{Input, Options, Text};
use crate::errors::{Checked, Outcome, batch_error, common_fault, embed_error};
use crate::locate::{Model, Paths};
use crate::progress::Progress;
use crate::promise::{Settlement, Value};
use crate::vector::Vectors;

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
    let paths = Paths::find(env, options.model.as_deref(), package)?;
    let client = Wanted::new(paths);
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
            let client = match client.get(embed_options.timeout).await {
                Ok(client) => client,
                Err(error) => return Answer::None(error),
            };
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
                Answer::None(error) => {
                    Err(Error::from_unknown_without_coercion(embed_error(&env, &error)?))
                }
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

/// A client, or what is to be done before there is one.
enum Wanted {
    Client(Client),
    /// Its options are read on the JavaScript thread, and its model is fetched on another.
    Fetched(MissingModel, Box<ClientOptions>),
}

impl Wanted {
    fn new(Paths { model, worker }: Paths) -> Self {
        match model {
            Model::Here(model) => Self::Client(REGISTRY.client(&model, &worker)),
            Model::Missing(model) => {
                Self::Fetched(model, Box::new(ClientOptions::new(Path::new("/"), &worker)))
            }
        }
    }

    async fn get(self, patience: Duration) -> std::result::Result<Client, EmbedError> {
        match self {
            Self::Client(client) => Ok(client),
            Self::Fetched(model, options) => {
                let model = model.pull(&options.worker, patience).await?;
                Ok(REGISTRY.client_with(ClientOptions { model, ..*options }))
            }
        }
    }
}

/// What came of a call: the mirror of [`Input`].
enum Answer {
    /// There is no model to ask.
    None(EmbedError),
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
        Ok(embedding) => Vectors::new(env).make(&embedding),
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
    let mut vectors = Vectors::new(env);
    for (text_idx, embedding) in (0..).zip(outcomes.into_iter().flatten()) {
        // Each vector is freed as soon as JavaScript has its own.
        array.set(text_idx, vectors.make(&embedding)?)?;
    }
    Ok(array.to_unknown())
}
