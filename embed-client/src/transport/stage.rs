//! Listening in a worker's place, for tests of what a client does.

use std::io;

use embed_protocol::Endpoint;
#[cfg(windows)]
use embed_protocol::secret::Secret;
use tokio::io::{AsyncRead, AsyncWrite};

/// A socket or pipe where clients look for a worker.
pub(crate) struct Stage {
    #[cfg(unix)]
    listener: tokio::net::UnixListener,
    #[cfg(windows)]
    listener: embed_windows::pipe::Listener,
    #[cfg(windows)]
    secret: Secret,
}

impl Stage {
    /// Listens at `endpoint`, and leaves there what a worker would.
    pub(crate) fn at(endpoint: &Endpoint) -> Self {
        #[cfg(unix)]
        {
            let listener = tokio::net::UnixListener::bind(endpoint.address()).expect("binds");
            Self { listener }
        }
        #[cfg(windows)]
        {
            use embed_protocol::private_file::replace;
            use embed_protocol::secret::KeyFile;

            let listener = embed_windows::pipe::Listener::bind(endpoint.address()).expect("binds");
            let secret = Secret::random().expect("the system gives");
            let key = KeyFile { port: 0, pid: std::process::id(), secret: secret.clone() };
            let path = endpoint.pipe_path();
            replace(&path, &path.with_extension("new"), &key.to_bytes()).expect("ours");
            Self { listener, secret }
        }
    }

    /// The next client, which has been let in.
    pub(crate) async fn accept(
        &self,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static> {
        #[cfg(unix)]
        {
            Ok(self.listener.accept().await?.0)
        }
        #[cfg(windows)]
        {
            loop {
                let mut stream = self.listener.accept().await?;
                // Who leaves in the middle of it is not heard of.
                if self.let_in(&mut stream).await.is_ok() {
                    return Ok(stream);
                }
            }
        }
    }

    #[cfg(windows)]
    async fn let_in(&self, stream: &mut embed_windows::pipe::Stream) -> io::Result<()> {
        use embed_protocol::handshake::WorkerHandshake;
        use embed_protocol::secret::{SECRET_BYTES, random};
        use tokio::io::{AsyncReadExt, AsyncWriteExt};

        let mut nonce = [0; SECRET_BYTES];
        stream.read_exact(&mut nonce).await?;
        let handshake = WorkerHandshake::new(&self.secret, random()?, nonce);
        stream.write_all(&handshake.challenge()).await?;
        let mut proof = [0; SECRET_BYTES];
        stream.read_exact(&mut proof).await?;
        handshake.finish(&proof).map_err(io::Error::other)
    }
}
