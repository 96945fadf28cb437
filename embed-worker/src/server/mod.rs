//! The socket side: connections in, jobs out, answers back.
//!
//! A connection is a lease: the worker lives as long as there is one, and a little longer. This
//! module knows frames and sockets; it knows nothing of models.

mod answers;
mod assembly;
mod connection;
mod descriptors;
mod figures;
mod histogram;
pub mod http;
mod lease;
mod listener;
mod private_memory;
pub mod prometheus;
mod requests;
mod strangers;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use embed_protocol::{StatsSnapshot, WorkerHello};
use tokio::sync::watch;

use crate::batch::Batcher;
use crate::config::{ACCEPT_PAUSE, BATCH_TOKENS, CONNECTIONS_MAX, CONSOLE_TIMEOUT, DRAIN_TIMEOUT};
use listener::Stream;
use strangers::{Strangers, recognize};

pub use connection::serve_connection;
pub use descriptors::want_descriptors;
pub use lease::Leases;
pub use listener::{BindError, Claim, Claimed, Listener, sweep};

/// How often a stopping worker looks whether all is computed: it has nothing else to do then.
const DRAIN_POLL: Duration = Duration::from_millis(2);

/// How long peers may take to read their last answers from a worker that leaves. Its endpoint is free
/// by then, so nobody waits for it.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a worker that was told to stop may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leave {
    /// For what it has begun.
    drain: Duration,
    /// For its peers to read their last answers.
    flush: Duration,
}

impl Leave {
    /// Nothing presses.
    pub const IN_PEACE: Self = Self { drain: DRAIN_TIMEOUT, flush: FLUSH_TIMEOUT };

    /// The system ends the process after [`CONSOLE_TIMEOUT`]. A second of it is left for the batch that
    /// is still in work then, which the process waits for, and for its end.
    pub const IN_HASTE: Self =
        Self { drain: Duration::from_secs(3), flush: Duration::from_secs(1) };

    /// All of it.
    const fn total(self) -> Duration {
        self.drain.saturating_add(self.flush)
    }
}

const _: () = assert!(Leave::IN_HASTE.total().as_secs() < CONSOLE_TIMEOUT.as_secs());

/// How far a worker is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// It takes requests.
    Serving,
    /// It does what it has begun.
    Stopping,
    /// It has done that: connections say what is still to be said, and end.
    Leaving,
}

/// What all connections share.
#[derive(Debug)]
pub struct Service {
    /// How the worker introduces itself.
    pub hello: WorkerHello,
    /// Where jobs go.
    pub batcher: Batcher,
    /// Who is connected.
    pub leases: Leases,
    /// Bytes of texts whose last part has not arrived.
    pub unfinished: assembly::Budget,
    /// Bytes of answers that no peer has read yet.
    unread: Arc<AtomicUsize>,
    /// What became of the requests.
    pub figures: figures::Figures,
    started: Instant,
    phase: watch::Sender<Phase>,
}

impl Service {
    /// A service that answers with `batcher`.
    pub fn new(hello: WorkerHello, batcher: Batcher) -> Arc<Self> {
        let unfinished = assembly::Budget::of(batcher.traffic().unfinished_bytes);
        Arc::new(Self {
            hello,
            batcher,
            unfinished,
            leases: Leases::default(),
            unread: Arc::default(),
            figures: figures::Figures::default(),
            started: Instant::now(),
            phase: watch::Sender::new(Phase::Serving),
        })
    }

    /// Asks the worker to finish what it has and exit.
    pub fn stop(&self) {
        self.batcher.close();
        self.advance(Phase::Stopping);
    }

    fn advance(&self, next: Phase) {
        self.phase.send_if_modified(|phase| {
            let is_later = *phase < next;
            *phase = next.max(*phase);
            is_later
        });
    }

    async fn reaches(&self, wanted: Phase) {
        // The sender lives as long as `self`; an error cannot come.
        let _ = self.phase.subscribe().wait_for(|phase| *phase >= wanted).await;
    }

    /// Waits until connections are to end.
    async fn leaving(&self) {
        self.reaches(Phase::Leaving).await;
    }

    /// Waits until the worker takes no more requests.
    async fn stopping(&self) {
        self.reaches(Phase::Stopping).await;
    }

    /// Whether the worker takes requests.
    fn is_serving(&self) -> bool {
        *self.phase.borrow() == Phase::Serving
    }

    /// Waits until every text that was taken has its answer.
    async fn idle(&self) {
        while !self.batcher.is_idle() {
            tokio::time::sleep(DRAIN_POLL).await;
        }
    }

    /// What there is to tell about this worker.
    pub fn stats(&self) -> StatsSnapshot {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let counters = self.batcher.counters();
        let (connections_opened, connections_refused) = self.figures.connections();
        let errors: Vec<_> = self.figures.errors().collect();
        StatsSnapshot {
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            connections: number(self.leases.count()),
            clients: number(self.leases.clients()),
            connections_opened,
            connections_refused,
            protocol_errors: self.figures.protocol_errors(),
            queued: number(self.batcher.queued()),
            queue: self.batcher.depth(),
            vectors: self.figures.vectors(),
            errors: errors.iter().map(|(_, count)| count).sum(),
            errors_by_code: errors.into_iter().map(|(code, n)| (code.to_string(), n)).collect(),
            tokens: counters.tokens(),
            recent_tokens: counters.recent_tokens(),
            batches: counters.batches(),
            batch_tokens_max: number(BATCH_TOKENS),
            compute_us: counters.compute_us(),
            latency: self.figures.latency(),
            threads: number(self.batcher.threads()),
            private_bytes: private_memory::private_bytes(),
        }
    }
}

/// Accepts connections until `signal` comes, the worker is told to stop, or nobody has been
/// connected for `idle_timeout`; then lets go of the endpoint and finishes what was begun. The signal
/// says how long that may take.
pub async fn serve(
    service: &Arc<Service>,
    listener: Listener,
    idle_timeout: Duration,
    signal: impl Future<Output = Leave>,
) {
    let mut leave = Leave::IN_PEACE;
    tokio::select! {
        () = accept_all(service, &listener) => {}
        () = service.leases.nobody_for(idle_timeout) => tracing::info!("nobody is connected"),
        by_signal = signal => {
            tracing::info!("told to stop by a signal");
            leave = by_signal;
        }
        () = service.stopping() => tracing::info!("told to stop by a client"),
    }
    // First the endpoint: from here on, whoever comes starts a successor.
    drop(listener);
    service.stop();
    if tokio::time::timeout(leave.drain, service.idle()).await.is_err() {
        tracing::warn!(texts = service.batcher.queued(), "stopping before all texts were computed");
        service.batcher.abandon();
    }
    // Each connection now takes no more requests, sends the answers that it has or is still owed by
    // the batch in work, and ends.
    service.advance(Phase::Leaving);
    if tokio::time::timeout(leave.flush, service.leases.nobody()).await.is_err() {
        let connections = service.leases.count();
        tracing::warn!(connections, "stopping before all answers were read");
    }
}

/// Accepts for ever.
async fn accept_all(service: &Arc<Service>, listener: &Listener) {
    let mut strangers = Strangers::default();
    loop {
        let arrival = match listener.accept().await {
            Ok(Some(arrival)) => arrival,
            // Another user, or somebody who has left again.
            Ok(None) => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let mut stream = arrival.stream;
        let Some(secret) = arrival.secret else {
            admit(service, stream);
            continue;
        };
        let service = Arc::clone(service);
        strangers.examine(async move {
            match recognize(&mut stream, &secret).await {
                Ok(()) => admit(&service, stream),
                Err(error) => tracing::debug!(%error, "sent a stranger away"),
            }
        });
    }
}

/// Serves a connection of this user, if there is room for it.
fn admit(service: &Arc<Service>, stream: Stream) {
    let Some(lease) = service.leases.take(CONNECTIONS_MAX) else {
        service.figures.refused();
        tokio::spawn(connection::refuse(stream));
        return;
    };
    let service = Arc::clone(service);
    tokio::spawn(async move {
        serve_connection(stream, &service).await;
        drop(lease);
    });
}

/// Where a worker listens, for its ready line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The endpoint's address.
    pub endpoint: PathBuf,
    /// How it is reached: `local` or `tcp`.
    pub transport: &'static str,
    /// The worker's process.
    pub pid: u32,
}

impl Ready {
    /// This process with `listener`.
    pub fn here(listener: &Listener) -> Self {
        Self {
            endpoint: listener.endpoint().address().to_owned(),
            transport: listener.transport(),
            pid: std::process::id(),
        }
    }
}
