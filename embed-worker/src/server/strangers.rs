//! Those who have connected where everybody can, and have not yet shown that they are of this user.
//!
//! They hold no lease and take no place of a client, so that another user can neither keep a worker
//! alive nor lock its clients out: there are so many at once, for so long, and the newest goes before
//! the oldest.

use std::collections::VecDeque;
use std::future::Future;
use std::io;

use embed_protocol::handshake::WorkerHandshake;
use embed_protocol::secret::{SECRET_BYTES, Secret, random};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::AbortHandle;

use crate::config::{HANDSHAKE_TIMEOUT, STRANGERS_MAX};

/// See the module's documentation. All are sent away with it.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    examined: VecDeque<AbortHandle>,
}

impl Strangers {
    /// Runs an examination beside the others; if there are too many, the oldest ends.
    pub(super) fn examine(&mut self, examination: impl Future<Output = ()> + Send + 'static) {
        self.examined.retain(|examined| !examined.is_finished());
        if self.examined.len() >= STRANGERS_MAX
            && let Some(oldest) = self.examined.pop_front()
        {
            oldest.abort();
        }
        self.examined.push_back(tokio::spawn(examination).abort_handle());
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        self.examined.iter().for_each(AbortHandle::abort);
    }
}

/// Lets the other side of `stream` prove that it knows `secret`, and proves the same to it.
///
/// # Errors
///
/// It does not, or not in time, or it has left.
pub(super) async fn recognize<S>(stream: &mut S, secret: &Secret) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let exchange = async {
        let mut nonce = [0; SECRET_BYTES];
        stream.read_exact(&mut nonce).await?;
        let handshake = WorkerHandshake::new(secret, random()?, nonce);
        stream.write_all(&handshake.challenge()).await?;
        stream.flush().await?;
        let mut proof = [0; SECRET_BYTES];
        stream.read_exact(&mut proof).await?;
        handshake.finish(&proof).map_err(io::Error::other)
    };
    tokio::time::timeout(HANDSHAKE_TIMEOUT, exchange).await?
}

#[cfg(test)]
mod tests {
    use super::*;
    use embed_protocol::handshake::ClientHandshake;
    use tokio::io::duplex;

    fn secret() -> Secret {
        Secret::from_bytes([5; SECRET_BYTES])
    }

    #[tokio::test]
    async fn who_knows_the_secret_is_recognized_and_the_stream_is_left_at_the_first_frame() {
        let (mut ours, mut theirs) = duplex(1024);
        let client = tokio::spawn(async move {
            let secret = secret();
            let handshake = ClientHandshake::new(&secret, [1; SECRET_BYTES]);
            theirs.write_all(&[1; SECRET_BYTES]).await.expect("room");
            let mut challenge = [0; 2 * SECRET_BYTES];
            theirs.read_exact(&mut challenge).await.expect("a challenge");
            let proof = handshake.finish(&challenge).expect("the worker is believed");
            theirs.write_all(&[&proof[..], b"frames"].concat()).await.expect("room");
            theirs
        });
        recognize(&mut ours, &secret()).await.expect("recognized");
        let _theirs = client.await.expect("no panic");
        let mut rest = [0; 6];
        ours.read_exact(&mut rest).await.expect("what follows");
        assert_eq!(&rest, b"frames");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_stops_half_way_or_lies_is_not() {
        for sent in [0, 1, SECRET_BYTES, 2 * SECRET_BYTES - 1] {
            let (mut ours, mut theirs) = duplex(1024);
            theirs.write_all(&vec![0; sent]).await.expect("room");
            let error = recognize(&mut ours, &secret()).await.expect_err("not in time");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{sent} bytes");
        }
        let (mut ours, mut theirs) = duplex(1024);
        theirs.write_all(&[0; 2 * SECRET_BYTES]).await.expect("room");
        let error = recognize(&mut ours, &secret()).await.expect_err("no proof");
        assert!(error.to_string().contains("does not know"), "{error}");
    }

    #[tokio::test]
    async fn the_newest_stranger_goes_before_the_oldest() {
        let mut strangers = Strangers::default();
        let (sender, mut ended) = tokio::sync::mpsc::unbounded_channel();
        for n in 0..=STRANGERS_MAX {
            let guard = sender.clone();
            strangers.examine(async move {
                let _farewell = Farewell(guard, n);
                std::future::pending().await
            });
            tokio::task::yield_now().await;
        }
        assert_eq!(ended.recv().await, Some(0), "the first, when one too many came");
        assert!(ended.try_recv().is_err(), "nobody else");
        drop(strangers);
        for _ in 0..STRANGERS_MAX {
            ended.recv().await.expect("all are sent away");
        }
    }

    /// Says that its task has ended.
    struct Farewell(tokio::sync::mpsc::UnboundedSender<usize>, usize);

    impl Drop for Farewell {
        fn drop(&mut self) {
            let _ = self.0.send(self.1);
        }
    }
}
