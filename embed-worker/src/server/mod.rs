//! The socket side: connections in, jobs out, answers back.
//!
//! A connection is a lease: the worker lives as long as there is one, and a little longer. This
//! module knows frames and sockets; it knows nothing of models.

mod assembly;
mod connection;
mod lease;
mod listener;
mod private_memory;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use embed_protocol::{Endpoint, StatsSnapshot, WorkerHello};
use tokio::sync::watch;

use crate::batch::Batcher;
use crate::config::{ACCEPT_PAUSE, CONNECTIONS_MAX, DRAIN_TIMEOUT};

pub use connection::serve_connection;
pub use lease::Leases;
pub use listener::{BindError, Claim, Claimed, Listener};

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
    started: Instant,
    stop: watch::Sender<bool>,
}

impl Service {
    /// A service that answers with `batcher`.
    pub fn new(hello: WorkerHello, batcher: Batcher) -> Arc<Self> {
        Arc::new(Self {
            hello,
            batcher,
            leases: Leases::default(),
            unfinished: assembly::Budget::default(),
            started: Instant::now(),
            stop: watch::Sender::new(false),
        })
    }

    /// Asks the worker to finish what it has and exit.
    pub fn stop(&self) {
        self.batcher.close();
        self.stop.send_replace(true);
    }

    /// What there is to tell about this worker.
    pub fn stats(&self) -> StatsSnapshot {
        let counters = self.batcher.counters();
        StatsSnapshot {
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            connections: u32::try_from(self.leases.count()).unwrap_or(u32::MAX),
            queued: u32::try_from(self.batcher.queued()).unwrap_or(u32::MAX),
            vectors: counters.vectors(),
            errors: counters.errors(),
            tokens: counters.tokens(),
            batches: counters.batches(),
            compute_us: counters.compute_us(),
            private_bytes: private_memory::private_bytes(),
        }
    }
}

/// Accepts connections until `signal` comes, the worker is told to stop, or nobody has been
/// connected for `idle_timeout`; then lets go of the endpoint and finishes what was begun.
pub async fn serve(
    service: &Arc<Service>,
    listener: Listener,
    idle_timeout: Duration,
    signal: impl Future<Output = ()>,
) {
    let mut stop = service.stop.subscribe();
    tokio::select! {
        () = accept_all(service, &listener) => {}
        () = service.leases.nobody_for(idle_timeout) => tracing::info!("nobody is connected"),
        () = signal => tracing::info!("told to stop by a signal"),
        // The sender lives in the service; an error cannot come.
        _ = stop.wait_for(|stop| *stop) => tracing::info!("told to stop by a client"),
    }
    // First the endpoint: from here on, whoever comes starts a successor.
    drop(listener);
    service.stop();
    if tokio::time::timeout(DRAIN_TIMEOUT, service.leases.drained(&service.batcher)).await.is_err()
    {
        tracing::warn!(texts = service.batcher.queued(), "stopping before all texts were answered");
    }
}

/// Accepts for ever.
async fn accept_all(service: &Arc<Service>, listener: &Listener) {
    loop {
        let stream = match listener.accept().await {
            Ok(Some(stream)) => stream,
            // Another user, or somebody who has left again.
            Ok(None) => continue,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(lease) = service.leases.take(CONNECTIONS_MAX) else {
            tokio::spawn(connection::refuse(stream));
            continue;
        };
        let service = Arc::clone(service);
        tokio::spawn(async move {
            serve_connection(stream, &service).await;
            drop(lease);
        });
    }
}

/// Where a worker listens, for its ready line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The endpoint's address.
    pub endpoint: PathBuf,
    /// The worker's process.
    pub pid: u32,
}

impl Ready {
    /// This process at `endpoint`.
    pub fn here(endpoint: &Endpoint) -> Self {
        Self { endpoint: endpoint.address().to_owned(), pid: std::process::id() }
    }
}
