//! The client's part of the handshake: see [`embed_protocol::handshake`].

use std::io;
use std::time::Duration;

use embed_protocol::handshake::ClientHandshake;
use embed_protocol::secret::{KeyFile, SECRET_BYTES, random};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Unreachable;

/// Lets the other side prove that it is the worker that left `key`, then proves the same to it.
/// Until then it has heard nothing but a random number.
pub(super) async fn exchange<S>(
    stream: &mut S,
    key: &KeyFile,
    patience: Duration,
) -> Result<(), Unreachable>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let proofs = async {
        let nonce = random()?;
        stream.write_all(&nonce).await?;
        stream.flush().await?;
        let mut challenge = [0; 2 * SECRET_BYTES];
        stream.read_exact(&mut challenge).await?;
        let proof = ClientHandshake::new(&key.secret, nonce).finish(&challenge);
        stream.write_all(&proof.map_err(io::Error::other)?).await?;
        stream.flush().await
    };
    match tokio::time::timeout(patience, proofs).await {
        Ok(Ok(())) => Ok(()),
        // It is leaving, or is not the worker: the lock decides who is next.
        Ok(Err(error)) => {
            tracing::debug!(%error, "whoever accepts is not the worker");
            Err(Unreachable::NobodyListens)
        }
        Err(_) => Err(Unreachable::Silent { pid: key.pid }),
    }
}
