//! The endpoint over HTTP, for clients that speak OpenAI's interface.
//!
//! The same queue and the same engine as behind the socket: a request becomes jobs, their answers one
//! JSON object. What is different is who may be there: any program of the machine, and a web page that a
//! browser has been talked into asking. So every request wants a key, and on 127.0.0.1 a `Host` that is
//! this machine's; see `guard`.
//!
//! ```text
//! connection -> places -> guard -> routes -> body -> request -> embeddings -> answer
//! ```

mod answer;
mod body;
mod embeddings;
mod error;
mod guard;
mod key;
mod places;
mod request;
mod routes;

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;

use super::Service;
use crate::config::{
    ACCEPT_PAUSE, CONNECTIONS_MAX, HTTP_BODIES_BYTES_MAX, HTTP_CONNECTIONS_MAX,
    HTTP_HEAD_BYTES_MAX, HTTP_HEAD_TIMEOUT, HTTP_VECTORS_BYTES_MAX, HTTP_WRITE_TIMEOUT,
};

pub use guard::Guard;
pub use key::{ApiKey, KeyError};
use places::{Place, Places};

/// Headers of a request; clients send a dozen.
const HEADERS_MAX: usize = 64;

/// What an endpoint over HTTP is to be.
#[derive(Debug)]
pub struct Options {
    /// Who may ask.
    pub guard: Guard,
    /// Names by which requests may call the model; the first is the one that answers have.
    pub models: Vec<String>,
    /// The path of the model, for the figures.
    pub model_path: String,
}

/// What all connections over HTTP share.
#[derive(Debug)]
pub struct HttpService {
    service: Arc<Service>,
    options: Options,
    places: Arc<Places>,
    /// Bytes of bodies that may still come.
    bodies: Semaphore,
    /// Bytes of vectors that may still wait.
    vectors: Semaphore,
    /// Since 1970, for who asks when a model was made.
    started: u64,
}

impl HttpService {
    /// An endpoint that answers with `service`.
    pub fn new(service: Arc<Service>, options: Options) -> Arc<Self> {
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Arc::new(Self {
            service,
            options,
            places: Places::new(HTTP_CONNECTIONS_MAX),
            bodies: Semaphore::new(HTTP_BODIES_BYTES_MAX),
            vectors: Semaphore::new(HTTP_VECTORS_BYTES_MAX),
            started: since_1970.unwrap_or_default().as_secs(),
        })
    }
}

/// Listens at `address`.
///
/// # Errors
///
/// The system's.
pub async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until the worker stops. What was begun then is finished by `super::serve`, which waits for the
/// connections' leases.
pub async fn serve(service: Arc<Service>, listener: TcpListener, options: Options) {
    // A worker that listens for whoever may come is wanted until it is told otherwise.
    let _client = service.leases.client();
    let shared = HttpService::new(service, options);
    tokio::select! {
        () = accept_all(&shared, &listener) => {}
        () = shared.service.stopping() => {}
    }
}

/// Accepts for ever. While one waits for a place, others wait in the system's queue.
async fn accept_all(shared: &Arc<HttpService>, listener: &TcpListener) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection over HTTP");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = shared.places.take().await else { return };
        let Some(lease) = shared.service.leases.take(CONNECTIONS_MAX) else {
            shared.service.figures.refused();
            continue;
        };
        // Answers are written whole; waiting for more of them helps nobody.
        let _ = stream.set_nodelay(true);
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            serve_at(&shared, stream, &place).await;
            drop((lease, place));
        });
    }
}

/// Serves one connection until it ends, or the worker leaves: then after the request that it has.
pub async fn serve_connection(shared: &Arc<HttpService>, stream: impl AsyncRead + AsyncWrite) {
    if let Some(place) = shared.places.take().await {
        serve_at(shared, stream, &place).await;
    }
}

async fn serve_at(shared: &Arc<HttpService>, stream: impl AsyncRead + AsyncWrite, place: &Place) {
    let caller = shared.service.figures.connected();
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(HTTP_WRITE_TIMEOUT));
    let service = service_fn(|request| routes::answer(shared, caller, place, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP_HEAD_TIMEOUT)
        .max_buf_size(HTTP_HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        // Nothing is owed to a stranger; others get what they wait for.
        () = place.is_wanted() => {
            if !place.is_known() {
                tracing::debug!(caller, "a stranger over HTTP makes room");
                return;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = shared.service.stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(caller, %error, "a connection over HTTP ends");
    }
}
