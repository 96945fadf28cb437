//! One connection to a worker, speaking the protocol or anything else.

use std::path::Path;
use std::time::Duration;

use embed_protocol::handshake::ClientHandshake;
use embed_protocol::secret::{SECRET_BYTES, random};
use embed_protocol::{
    ClientHello, EmbedParams, ErrorCode, MessageCodec, PROTOCOL_VERSION, Request, Response,
    StatsSnapshot, WorkerHello, vector,
};
#[cfg(windows)]
use embed_windows::pipe::Stream;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream as Stream;
use tokio_util::codec::Framed;
use tokio_util::either::Either;

use super::worker::{Home, PATIENCE};

/// What is written at once by who waits for the worker to take no more: a pipe takes any number of bytes
/// at once, and hands them over later.
const PIECE_BYTES: usize = 4096;

/// The other end of a worker's connection.
pub(crate) struct Peer {
    frames: Framed<Either<Stream, TcpStream>, MessageCodec<Response, Request>>,
}

impl Peer {
    /// Connects as the worker wants it, proves to know its secret if it has left one, and says nothing.
    pub(crate) async fn connect(home: &Home) -> std::io::Result<Self> {
        let key = home.key();
        let mut stream = match &key {
            Some(key) if key.port != 0 => {
                Either::Right(TcpStream::connect(("127.0.0.1", key.port)).await?)
            }
            _ => Either::Left(connect_locally(home.endpoint().address()).await?),
        };
        if let Some(key) = key {
            let nonce = random()?;
            stream.write_all(&nonce).await?;
            let mut challenge = [0; 2 * SECRET_BYTES];
            stream.read_exact(&mut challenge).await?;
            let proof = ClientHandshake::new(&key.secret, nonce).finish(&challenge);
            stream.write_all(&proof.map_err(std::io::Error::other)?).await?;
        }
        Ok(Self { frames: Framed::new(stream, MessageCodec::default()) })
    }

    /// Connects and exchanges hellos.
    pub(crate) async fn open(home: &Home) -> Self {
        Self::introduced(home).await.0
    }

    /// Connects and exchanges hellos; gives the worker's as well.
    pub(crate) async fn introduced(home: &Home) -> (Self, WorkerHello) {
        Self::meet(home).await.expect("a worker listens")
    }

    /// Like [`Self::introduced`], if a worker listens and is not just leaving.
    pub(crate) async fn meet(home: &Home) -> Option<(Self, WorkerHello)> {
        let mut peer = Self::connect(home).await.ok()?;
        peer.frames.send(&hello(PROTOCOL_VERSION)).await.ok()?;
        match peer.next().await? {
            Response::Hello(worker) => Some((peer, worker)),
            other => panic!("{other:?} instead of a hello"),
        }
    }

    pub(crate) async fn send(&mut self, request: &Request) {
        self.frames.send(request).await.expect("the worker reads");
    }

    /// Sends bytes that need not be a frame.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let stream = self.frames.get_mut();
        stream.write_all(bytes).await.expect("the worker reads");
        stream.flush().await.expect("the worker reads");
    }

    /// Sends as much of `bytes` as the worker takes; gives how much that was.
    pub(crate) async fn write_until_stuck(&mut self, bytes: &[u8]) -> usize {
        let stream = self.frames.get_mut();
        let mut sent = 0;
        while sent < bytes.len() {
            let piece = &bytes[sent..bytes.len().min(sent + PIECE_BYTES)];
            let write = stream.write(piece);
            match tokio::time::timeout(Duration::from_secs(1), write).await {
                Ok(written) => sent += written.expect("the worker reads"),
                Err(_) => break,
            }
        }
        sent
    }

    /// Asks for the vector of a short text.
    pub(crate) async fn embed(&mut self, id: u64, text: &str) {
        self.embed_with(id, text, EmbedParams::default()).await;
    }

    /// The same of a worker that may have closed the connection; says whether it has not.
    pub(crate) async fn embed_while_open(&mut self, id: u64, text: &str) -> bool {
        let params = EmbedParams::default();
        let request = Request::Embed { id, text: text.into(), more: false, params };
        self.frames.send(&request).await.is_ok()
    }

    pub(crate) async fn embed_with(&mut self, id: u64, text: &str, params: EmbedParams) {
        self.send(&Request::Embed { id, text: text.into(), more: false, params }).await;
    }

    /// Fails unless all that is still said is that the worker leaves.
    pub(crate) async fn is_taken_leave_of(&mut self) {
        let last = self.next().await;
        assert!(is_farewell(last.as_ref()), "{last:?}");
        assert_eq!(self.next().await, None);
    }

    /// The next message; `None` when the worker has closed the connection.
    pub(crate) async fn next(&mut self) -> Option<Response> {
        let next = tokio::time::timeout(PATIENCE, self.frames.next()).await;
        match next.expect("an answer, or the end of the connection") {
            Some(Ok(response)) => Some(response),
            // Closed while something that we sent lay unread.
            Some(Err(embed_protocol::FrameError::Io(_))) | None => None,
            Some(Err(error)) => panic!("the worker sent no message: {error}"),
        }
    }

    /// The id and vector of the next answer, which must have one.
    pub(crate) async fn vector(&mut self) -> (u64, Vec<f32>) {
        match self.next().await {
            Some(Response::Vector { id, vector, .. }) => {
                (id, vector::from_bytes(&vector).expect("whole elements"))
            }
            other => panic!("{other:?} instead of a vector"),
        }
    }

    /// The id, code and sentence of the next answer, which must be an error.
    pub(crate) async fn error(&mut self) -> (Option<u64>, ErrorCode, String) {
        match self.next().await {
            Some(Response::Error { id, code, message }) => (id, code, message),
            other => panic!("{other:?} instead of an error"),
        }
    }

    /// What the worker tells of itself; no other answer may be owed.
    pub(crate) async fn stats(&mut self) -> StatsSnapshot {
        self.send(&Request::Stats { id: 0 }).await;
        match self.next().await {
            Some(Response::Stats { stats, .. }) => stats,
            other => panic!("{other:?} instead of figures"),
        }
    }

    /// Whether the worker answers a text here with a good vector; no other answer may be owed.
    pub(crate) async fn is_served(&mut self) {
        self.embed(u64::MAX, "still there?").await;
        let (id, vector) = self.vector().await;
        assert_eq!(id, u64::MAX);
        assert_unit(&vector);
    }
}

#[cfg(unix)]
async fn connect_locally(address: &Path) -> std::io::Result<Stream> {
    Stream::connect(address).await
}

/// A pipe that is dropped is closed when the system has given back what was still being read, and somebody
/// must hear of that: a thread of its own, since a test that waits for the worker's end does not.
#[cfg(windows)]
async fn connect_locally(address: &Path) -> std::io::Result<Stream> {
    use std::sync::OnceLock;
    use tokio::runtime::{Builder, Handle};

    static LISTENING: OnceLock<Handle> = OnceLock::new();
    let handle = LISTENING.get_or_init(|| {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let handle = runtime.handle().clone();
        std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        handle
    });
    let address = address.to_owned();
    handle.spawn(async move { Stream::connect(&address).await }).await.expect("no panic")
}

/// What a client of this protocol version says first.
pub(crate) fn hello(protocol: u16) -> Request {
    let version = env!("CARGO_PKG_VERSION").into();
    Request::Hello(ClientHello { protocol, version, pid: std::process::id(), observer: false })
}

/// Fails unless `vector` is of unit length.
pub(crate) fn assert_unit(vector: &[f32]) {
    let square: f64 = vector.iter().map(|value| f64::from(*value).powi(2)).sum();
    assert!((square.sqrt() - 1.0).abs() < 1e-5, "length {}", square.sqrt());
}

/// Whether it is the last that a worker says on a connection.
pub(crate) fn is_farewell(response: Option<&Response>) -> bool {
    matches!(response, Some(Response::Error { id: None, code: ErrorCode::ShuttingDown, .. }))
}
