//! `embed-worker serve`: the worker itself.
//!
//! Tells whoever started it how that went, in one line of JSON on standard output, and writes nothing
//! there afterwards.

use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use embed_protocol::endpoint::runtime_dir;
use embed_protocol::{
    Endpoint, ErrorCode, ModelIdentity, PROTOCOL_VERSION, Transport, WorkerCard, WorkerHello,
};
use serde::Serialize;
use tokio::sync::Notify;

use super::serve_http::{HttpArgs, Plan};
use super::{ComputeArgs, complain_error, failed, model_path};
use crate::batch::{Batcher, Check, Failure, sentence};
use crate::config::IDLE_TIMEOUT;
use crate::engine::{Budget, MEGABYTE};
use crate::engine::{Engine, EngineError};
use crate::gguf::{FileIdentity, GgufFile};
use crate::integrity::{Unsound, Watch};
use crate::server::{Claim, Claimed, Leave, Ready, Service, serve, sweep, want_descriptors};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embed-worker serve --model nomic-embed-text-v1.5 --idle-timeout 600
  embed-worker serve --http 8080
  embed-worker serve --http 8080 --model bge-m3 --served-model-name text-embedding-3-small
  curl http://127.0.0.1:8080/v1/embeddings -H 'Content-Type: application/json' \\
    -H \"Authorization: Bearer $(cat ~/.cache/embed-client/http.key)\" -d '{\"input\": \"one text\"}'

Node programs start a worker by themselves. Standard output has one line of JSON, when the worker
is ready or has failed.")]
pub(super) struct ServeArgs {
    /// The model: a GGUF file, or a name as `pull` takes it [default: the one that ships with the package]
    #[arg(long, env = "EMBED_MODEL", value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Where to listen: a socket's path, or a pipe's name [default: this user's endpoint for the model]
    #[arg(long, value_name = "ADDRESS")]
    endpoint: Option<PathBuf>,
    /// Seconds to stay after the last client has gone
    #[arg(long, env = "EMBED_IDLE_TIMEOUT", value_name = "SECONDS", default_value_t = IDLE_TIMEOUT.as_secs_f64(), value_parser = seconds)]
    idle_timeout: f64,
    /// `local`: a socket or pipe; `tcp`: a port on 127.0.0.1; `auto`: the first unless it cannot be made
    #[arg(long, env = "EMBED_TRANSPORT", value_name = "KIND", default_value = "auto")]
    transport: Transport,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// Longest time that makes sense anywhere here: a year.
const SECONDS_MAX: f64 = 365.0 * 24.0 * 3600.0;

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=SECONDS_MAX).contains(&seconds) => Ok(seconds),
        _ => Err(format!("is `{text}`, must be a number of seconds from 0 to {SECONDS_MAX}")),
    }
}

/// The one line on standard output.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    Ready {
        endpoint: &'a str,
        transport: &'a str,
        pid: u32,
        /// Where it listens over HTTP, if it does.
        #[serde(skip_serializing_if = "Option::is_none")]
        http: Option<&'a str>,
    },
    Exists {
        endpoint: &'a str,
    },
    Error {
        code: ErrorCode,
        message: &'a str,
    },
}

pub(super) fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    match start(args) {
        Ok(code) => Ok(code),
        Err(failure) => {
            say(&Line::Error { code: failure.code, message: &failure.message })?;
            Err(failed(&failure))
        }
    }
}

fn start(args: &ServeArgs) -> Result<ExitCode, Failure> {
    let unavailable =
        |error: &dyn std::error::Error| Failure::new(ErrorCode::WorkerUnavailable, sentence(error));
    let model = model_path::resolve(args.model.as_ref())
        .map_err(|error| Failure::new(ErrorCode::ModelNotFound, format!("{error:#}")))?;
    let plan = Plan::of(&args.http)
        .map_err(|error| Failure::new(ErrorCode::BadArgument, format!("{error:#}")))?;
    let endpoint = match &args.endpoint {
        Some(address) => Endpoint::at(address),
        None => {
            let identity = ModelIdentity::of_file(&model).map_err(|error| {
                Failure::new(
                    ErrorCode::ModelNotFound,
                    format!("file `{}`: {error}", model.display()),
                )
            })?;
            Endpoint::for_model(&identity, env!("CARGO_PKG_VERSION"))
        }
    };
    want_descriptors();
    // The lock before the model: of many workers that are started at once, all but one leave here.
    let take = |endpoint: &Endpoint| {
        Claim::take(endpoint, args.transport).map_err(|error| unavailable(&error))
    };
    let (endpoint, claimed) = match take(&endpoint)? {
        // Whoever asks for HTTP asks for a worker that listens there, whatever else runs.
        Claimed::Theirs if plan.is_some() && args.endpoint.is_none() => {
            let name = format!("http-{}", std::process::id());
            let own = Endpoint::in_dir(&runtime_dir(), &name);
            let claimed = take(&own)?;
            (own, claimed)
        }
        claimed => (endpoint, claimed),
    };
    let claim = match claimed {
        Claimed::Ours(claim) => claim,
        Claimed::Theirs if plan.is_some() => {
            let message = format!(
                "endpoint `{endpoint}`: another worker listens there; leave --endpoint out"
            );
            return Err(Failure::new(ErrorCode::WorkerUnavailable, message));
        }
        Claimed::Theirs => {
            let line = Line::Exists { endpoint: &endpoint.to_string() };
            say(&line).map_err(|error| {
                Failure::new(ErrorCode::WorkerUnavailable, format!("{error:#}"))
            })?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    // Before anything that may take long: of one who hangs it must be known who it is.
    leave_card(&endpoint, &model);
    let (engine, watch, unsound) =
        open(&model, args).map_err(|failure| of_file(&model, failure))?;
    let Budget { bytes, text_tokens_max, batch_tokens_max, .. } = *engine.budget();
    tracing::info!(
        model = %model.display(),
        kernels = engine.kernels(),
        budget_mb = bytes / MEGABYTE,
        text_tokens_max,
        batch_tokens_max,
        "model opened"
    );
    let hello = hello(&engine);
    let batcher = Batcher::start(engine, check(&watch)).map_err(|error| unavailable(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| unavailable(&error))?;
    runtime.block_on(async {
        let listener = claim.listen().map_err(|error| unavailable(&error))?;
        let http = match &plan {
            Some(plan) => Some((plan, plan.listen().await?)),
            None => None,
        };
        let ready = Ready::here(&listener);
        let dir = endpoint.dir().to_owned();
        let service = Service::new(hello, batcher);
        // Before anybody knows that this worker is ready, and could ask it to stop.
        let signal = stop_signal();
        let stop = async {
            tokio::select! {
                leave = signal => leave,
                () = unsound.notified() => Leave::IN_PEACE,
            }
        };
        let Ready { endpoint, transport, pid } = ready;
        let address = http.as_ref().map(|(_, bound)| bound.url());
        let endpoint = endpoint.to_string_lossy();
        say(&Line::Ready { endpoint: &endpoint, transport, pid, http: address.as_deref() })
            .map_err(|error| Failure::new(ErrorCode::WorkerUnavailable, format!("{error:#}")))?;
        let is_http = http.is_some();
        if let Some((plan, bound)) = http {
            tokio::spawn(plan.serve(bound, &service, args.model.as_deref(), &model));
        }
        // Only now: whoever waits for the line does not wait for this.
        watch.verify_in_background();
        tokio::task::spawn_blocking(move || sweep(&dir));
        let idle_timeout = Duration::from_secs_f64(args.idle_timeout);
        serve(&service, listener, idle_timeout, stop).await;
        if let Some(Unsound::Digest(mismatch)) = watch.unsound() {
            let failure = Failure::new(ErrorCode::ModelInvalid, mismatch.to_string());
            complain_error(&format!("{:#}", failed(&failure)));
            return Ok(ExitCode::FAILURE);
        }
        // Over a socket, the next client starts a successor. Over HTTP, whoever keeps this worker alive
        // must be told to.
        if let Some(unsound) = watch.unsound().filter(|_| is_http) {
            complain_error(&format!("{unsound}; start the worker again"));
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// How often a file is opened that changes while it is; then it is taken as it is, and the watch over
/// it will tell.
const OPENED_MAX: u32 = 3;

/// How long it may take until it is not opened once more. A file that goes on being written is refused
/// after three seconds each time, and whoever started this worker waits ten for its first line.
const OPEN_PATIENCE: Duration = Duration::from_secs(3);

/// The engine, the watch over its file, and what is signalled when that finds the file unsound.
type Opened = (Engine, Arc<Watch>, Arc<Notify>);

/// Opens the model. What is wrong with a file that somebody changes meanwhile may be right a moment
/// later, and the other way round.
fn open(model: &Path, args: &ServeArgs) -> Result<Opened, Failure> {
    let (mut times, began) = (0, Instant::now());
    loop {
        let before = FileIdentity::of_path(model).ok();
        let opened = open_once(model, args);
        times += 1;
        let is_last = times == OPENED_MAX || began.elapsed() >= OPEN_PATIENCE;
        if is_last || FileIdentity::of_path(model).ok() == before {
            return opened;
        }
        tracing::info!("the model file has changed while it was opened");
    }
}

/// `failure`, with the file's name if it does not tell it.
fn of_file(model: &Path, failure: Failure) -> Failure {
    let path = model.display().to_string();
    if failure.message.contains(&path) {
        return failure;
    }
    Failure::new(failure.code, format!("model `{path}`: {}", failure.message))
}

fn open_once(model: &Path, args: &ServeArgs) -> Result<Opened, Failure> {
    let file = GgufFile::open(model).map_err(|error| Failure::from(&EngineError::from(error)))?;
    let unsound = Arc::new(Notify::new());
    let alarm = {
        let unsound = Arc::clone(&unsound);
        move |reason: &Unsound| {
            tracing::warn!(%reason, "stopping");
            unsound.notify_one();
        }
    };
    let Some(source) = file.source() else { unreachable!("it was opened by its name") };
    let watch = Watch::new(Arc::clone(source), alarm);
    watch.recall().map_err(|mismatch| refusal(&mismatch.into()))?;
    let name = model.file_stem().unwrap_or_default().to_string_lossy();
    let engine = Engine::from_gguf(&file, &name, &args.compute.options())
        .map_err(|error| Failure::from(&error))?;
    Ok((engine, Arc::new(watch), unsound))
}

/// What the compute thread asks before and after each batch.
fn check(watch: &Arc<Watch>) -> Check {
    let watch = Arc::clone(watch);
    Box::new(move || watch.check().map_err(|unsound| refusal(&unsound)))
}

/// What a text is told whose model is unsound. Of a file that has changed a successor will know more.
fn refusal(unsound: &Unsound) -> Failure {
    match unsound {
        Unsound::Changed(changed) => Failure::new(
            ErrorCode::ShuttingDown,
            format!("{changed}; the worker is about to exit, and its successor will answer"),
        ),
        Unsound::Digest(mismatch) => Failure::new(ErrorCode::ModelInvalid, mismatch.to_string()),
    }
}

fn hello(engine: &Engine) -> WorkerHello {
    WorkerHello {
        protocol: PROTOCOL_VERSION,
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        kernels: engine.kernels(),
        // Each connection has its own.
        connection: 0,
        model: engine.info().into(),
    }
}

/// Says who serves here. A worker without a card serves as well; it only cannot be found by others.
fn leave_card(endpoint: &Endpoint, model: &Path) {
    let model = model.canonicalize().unwrap_or_else(|_| model.to_owned());
    let card = WorkerCard::here(endpoint, &model, env!("CARGO_PKG_VERSION"));
    if let Err(error) = card.write(endpoint) {
        let path = endpoint.card_path();
        tracing::warn!(%error, path = %path.display(), "cannot write this worker's card");
    }
}

/// Writes the one line.
fn say(line: &Line<'_>) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    serde_json::to_writer(&mut stdout, line).context("standard output: cannot be written")?;
    stdout.write_all(b"\n").context("standard output: cannot be written")?;
    stdout.flush().context("standard output: cannot be written")
}

/// The system's ways to ask a program to stop, which are heard from this call on; a terminal that closes
/// asks too. Must be called within a tokio runtime.
#[cfg(unix)]
fn stop_signal() -> impl Future<Output = Leave> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()]
        .map(|kind| signal(kind).ok());
    let [terminate, interrupt, hangup] = signals.map(|signal| async {
        match signal {
            Some(mut signal) => {
                signal.recv().await;
            }
            None => std::future::pending().await,
        }
    });
    async {
        tokio::select! {
            () = terminate => {}
            () = interrupt => {}
            () = hangup => {}
        }
        Leave::IN_PEACE
    }
}

/// The system's ways to ask a program to stop, which are heard from this call on: Ctrl-C, Ctrl-Break, a
/// console that closes, and the end of the session or the machine. After the last three the system waits
/// some seconds for the end of the process and then makes it. Must be called within a tokio runtime.
#[cfg(windows)]
fn stop_signal() -> impl Future<Output = Leave> {
    use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_logoff, ctrl_shutdown};
    let events = (ctrl_c(), ctrl_break(), ctrl_close(), ctrl_logoff(), ctrl_shutdown());
    async {
        let (Ok(mut c), Ok(mut brk), Ok(mut close), Ok(mut logoff), Ok(mut shutdown)) = events
        else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = c.recv() => Leave::IN_PEACE,
            _ = brk.recv() => Leave::IN_PEACE,
            _ = close.recv() => Leave::IN_HASTE,
            _ = logoff.recv() => Leave::IN_HASTE,
            _ = shutdown.recv() => Leave::IN_HASTE,
        }
    }
}
