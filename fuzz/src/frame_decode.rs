//! Bytes of a peer: whatever comes, in whatever pieces, is messages or an error.

use std::fmt::Debug;

use bytes::BytesMut;
use embed_protocol::{FRAME_BYTES_MAX, FrameError, MessageCodec, Request, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::codec::{Decoder, Encoder};

/// Reads the bytes as a worker and as a client would. The first byte says in what pieces they come.
pub fn run(data: &[u8]) {
    let Some((piece, stream)) = data.split_first() else { return };
    read::<Request>(stream, (*piece).into());
    read::<Response>(stream, (*piece).into());
}

fn read<M: DeserializeOwned + Serialize + Debug + PartialEq>(stream: &[u8], piece: usize) {
    let whole = messages::<M>(stream, stream.len());
    let pieces = messages::<M>(stream, piece);
    assert_eq!(whole, pieces, "pieces of {piece} bytes read differently");
}

/// Every message of the stream, and whether an error ended them; it comes in pieces of `piece` bytes.
fn messages<M: DeserializeOwned + Serialize + Debug + PartialEq>(
    stream: &[u8],
    piece: usize,
) -> (Vec<M>, bool) {
    let mut codec = MessageCodec::<M, M>::default();
    let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
    for piece in stream.chunks(piece.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(message)) => {
                    survives(&message);
                    found.push(message);
                }
                Ok(None) => break,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    return (found, true);
                }
            }
            assert!(buffer.capacity() <= 4 * (FRAME_BYTES_MAX + stream.len()), "grows");
        }
    }
    (found, false)
}

/// What was read can be written, and reads back as itself.
fn survives<M: DeserializeOwned + Serialize + Debug + PartialEq>(message: &M) {
    let mut codec = MessageCodec::<M, M>::default();
    let mut buffer = BytesMut::new();
    match codec.encode(message, &mut buffer) {
        Ok(()) => {}
        // A message may come in a form that is shorter than ours, without the names of its fields.
        Err(FrameError::TooLong) => return,
        Err(error) => panic!("{message:?} cannot be written: {error}"),
    }
    let back = codec.decode(&mut buffer).expect("written by ourselves");
    assert_eq!(back.as_ref(), Some(message));
}
