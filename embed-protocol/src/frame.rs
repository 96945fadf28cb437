//! Frames: four bytes of little-endian length, then that many bytes of MessagePack.
//!
//! The cutting is `tokio-util`'s [`LengthDelimitedCodec`]; this module sets the limits and the
//! message types. It does no I/O: a [`MessageCodec`] turns a buffer into messages and back, and is
//! tested and fuzzed as such.

use std::marker::PhantomData;

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec};

use crate::FRAME_BYTES_MAX;

/// What can be wrong with a frame. After any of these the stream has lost its rhythm and the
/// connection must be closed.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer announced, or we were about to send, more than a frame may hold.
    #[error("frame: longer than the {FRAME_BYTES_MAX} bytes that one may have")]
    TooLong,
    /// The payload is not a message.
    #[error("frame of {bytes} bytes: not a message")]
    NotAMessage {
        /// Length of the payload.
        bytes: usize,
        /// What the decoder found.
        source: rmp_serde::decode::Error,
    },
    /// The payload holds more than one message.
    #[error("frame of {bytes} bytes: {extra} bytes after its message")]
    TrailingBytes {
        /// Length of the payload.
        bytes: usize,
        /// Bytes beyond the message.
        extra: usize,
    },
    /// A message could not be written.
    #[error("message: cannot be written as MessagePack")]
    Unwritable(#[from] rmp_serde::encode::Error),
    /// The connection broke, or ended inside a frame.
    #[error("connection: {0}")]
    Io(#[from] std::io::Error),
}

/// Reads messages of type `In` and writes messages of type `Out`.
///
/// A client uses `MessageCodec<Response, Request>`, a worker `MessageCodec<Request, Response>`.
#[derive(Debug)]
pub struct MessageCodec<In, Out> {
    frames: LengthDelimitedCodec,
    is_mid_frame: bool,
    types: PhantomData<fn(Out) -> In>,
}

impl<In, Out> Default for MessageCodec<In, Out> {
    fn default() -> Self {
        let frames = LengthDelimitedCodec::builder()
            .little_endian()
            .length_field_type::<u32>()
            .max_frame_length(FRAME_BYTES_MAX)
            .new_codec();
        Self { frames, is_mid_frame: false, types: PhantomData }
    }
}

impl<In, Out> MessageCodec<In, Out> {
    /// Whether a frame has begun to arrive and its end is still missing. Between frames a peer may be
    /// silent as long as it likes; inside one it may not.
    pub fn is_mid_frame(&self) -> bool {
        self.is_mid_frame
    }
}

impl<In: DeserializeOwned, Out> Decoder for MessageCodec<In, Out> {
    type Item = In;
    type Error = FrameError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<In>, FrameError> {
        let before = buffer.len();
        let Some(payload) = self.frames.decode(buffer).map_err(too_long_or_io)? else {
            // The length is taken out of the buffer before the payload is there.
            self.is_mid_frame |= before > 0;
            return Ok(None);
        };
        self.is_mid_frame = false;
        let mut reader = rmp_serde::Deserializer::new(&payload[..]);
        let message = serde::Deserialize::deserialize(&mut reader)
            .map_err(|source| FrameError::NotAMessage { bytes: payload.len(), source })?;
        let extra = reader.get_ref().len();
        if extra > 0 {
            return Err(FrameError::TrailingBytes { bytes: payload.len(), extra });
        }
        Ok(Some(message))
    }
}

impl<In, Out: Serialize> Encoder<&Out> for MessageCodec<In, Out> {
    type Error = FrameError;

    fn encode(&mut self, message: &Out, buffer: &mut BytesMut) -> Result<(), FrameError> {
        let payload = rmp_serde::to_vec_named(message)?;
        self.frames.encode(Bytes::from(payload), buffer).map_err(too_long_or_io)
    }
}

/// The inner codec reports a frame over the limit as an I/O error of kind `InvalidData` (reading) or
/// `InvalidInput` (writing); both are ours to name.
fn too_long_or_io(error: std::io::Error) -> FrameError {
    match error.kind() {
        std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput => FrameError::TooLong,
        _ => FrameError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClientHello, EmbedParams, ErrorCode, Request, Response, StatsSnapshot, Timings};
    use proptest::prelude::*;

    type ClientSide = MessageCodec<Response, Request>;
    type WorkerSide = MessageCodec<Request, Response>;

    fn written(request: &Request) -> BytesMut {
        let mut buffer = BytesMut::new();
        ClientSide::default().encode(request, &mut buffer).expect("fits a frame");
        buffer
    }

    fn hello(observer: bool) -> ClientHello {
        ClientHello { protocol: 1, version: "0.1.0".into(), pid: 7, observer }
    }

    fn embed(text: &str) -> Request {
        let params =
            EmbedParams { dimensions: Some(7), deadline_ms: Some(30_000), ..Default::default() };
        Request::Embed { id: u64::MAX, text: text.into(), more: false, params }
    }

    #[test]
    fn ipc_protocol_requests_come_back_as_they_were_sent() {
        let requests = [
            Request::Hello(hello(false)),
            Request::Hello(hello(true)),
            embed("Grüße, 世界 \0"),
            Request::Part { id: 1, text: String::new(), more: true },
            Request::Cancel { id: 2 },
            Request::Ping { id: 3 },
            Request::Stats { id: 4 },
            Request::Shutdown { id: 5 },
        ];
        let mut stream = BytesMut::new();
        for request in &requests {
            stream.extend_from_slice(&written(request));
        }
        let mut codec = WorkerSide::default();
        for request in requests {
            assert_eq!(codec.decode(&mut stream).expect("well-formed"), Some(request));
        }
        assert_eq!(codec.decode(&mut stream).expect("well-formed"), None);
    }

    #[test]
    fn ipc_protocol_responses_come_back_as_they_were_sent() {
        let vector = Response::Vector {
            id: 9,
            vector: crate::vector::to_bytes(&[1.0; 384]),
            tokens: 12,
            truncated: true,
            timings: Timings { queue_us: 1, tokenize_us: 2, compute_us: 3 },
        };
        let error = Response::Error { id: None, code: ErrorCode::Protocol, message: "why".into() };
        let stats = Response::Stats { id: 3, stats: stats(7) };
        for response in [vector, error, stats, Response::Pong { id: 1 }] {
            let mut buffer = BytesMut::new();
            WorkerSide::default().encode(&response, &mut buffer).expect("fits a frame");
            let back = ClientSide::default().decode(&mut buffer).expect("well-formed");
            assert_eq!(back, Some(response));
        }
    }

    /// Figures as large as they can be, if `count` is: every code has been met.
    fn stats(count: u64) -> StatsSnapshot {
        let codes = ErrorCode::ALL.map(|code| (code.as_str().to_owned(), count));
        StatsSnapshot {
            errors_by_code: codes.into(),
            private_bytes: Some(count),
            ..Default::default()
        }
    }

    #[test]
    fn ipc_protocol_the_largest_figures_fit_a_frame() {
        let stats = Response::Stats { id: u64::MAX, stats: stats(u64::MAX) };
        let mut buffer = BytesMut::new();
        WorkerSide::default().encode(&stats, &mut buffer).expect("fits a frame");
        assert!(buffer.len() < FRAME_BYTES_MAX / 10, "{} bytes", buffer.len());
    }

    #[test]
    fn ipc_protocol_the_inside_of_a_frame_is_told_from_the_time_between_frames() {
        let frame = written(&embed("text"));
        let mut codec = WorkerSide::default();
        for _ in 0..2 {
            let mut buffer = BytesMut::new();
            assert!(codec.decode(&mut buffer).expect("nothing is no error").is_none());
            assert!(!codec.is_mid_frame(), "nothing has come");
            for byte in &frame[..frame.len() - 1] {
                buffer.extend_from_slice(&[*byte]);
                assert!(codec.decode(&mut buffer).expect("not whole").is_none());
                assert!(codec.is_mid_frame());
            }
            buffer.extend_from_slice(&frame[frame.len() - 1..]);
            assert!(codec.decode(&mut buffer).expect("whole").is_some());
            assert!(!codec.is_mid_frame());
        }
    }

    #[test]
    fn ipc_protocol_a_message_may_arrive_byte_by_byte() {
        let bytes = written(&embed("slow"));
        let mut codec = WorkerSide::default();
        let mut buffer = BytesMut::new();
        let (last, head) = bytes.split_last().expect("not empty");
        for byte in head {
            buffer.extend_from_slice(&[*byte]);
            assert_eq!(codec.decode(&mut buffer).expect("only incomplete"), None);
        }
        buffer.extend_from_slice(&[*last]);
        assert_eq!(codec.decode(&mut buffer).expect("well-formed"), Some(embed("slow")));
    }

    #[test]
    fn ipc_protocol_the_largest_part_and_vector_fit_a_frame() {
        let part = embed(&"x".repeat(crate::TEXT_PART_BYTES_MAX));
        assert!(written(&part).len() <= FRAME_BYTES_MAX + 4);
        let vector = Response::Vector {
            id: u64::MAX,
            vector: vec![0; crate::DIMENSIONS_MAX * 4],
            tokens: u32::MAX,
            truncated: true,
            timings: Timings { queue_us: u32::MAX, tokenize_us: u32::MAX, compute_us: u32::MAX },
        };
        WorkerSide::default().encode(&vector, &mut BytesMut::new()).expect("fits a frame");
    }

    #[test]
    fn ipc_protocol_a_frame_over_the_limit_is_refused_both_ways() {
        let long = embed(&"x".repeat(FRAME_BYTES_MAX));
        let sent = ClientSide::default().encode(&long, &mut BytesMut::new());
        assert!(matches!(sent, Err(FrameError::TooLong)), "{sent:?}");

        // Only the length has arrived, and that is enough to refuse: nothing is allocated for it.
        let mut header = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
        let read = WorkerSide::default().decode(&mut header);
        assert!(matches!(read, Err(FrameError::TooLong)), "{read:?}");
        let at_limit = u32::try_from(FRAME_BYTES_MAX).expect("small").to_le_bytes();
        let read = WorkerSide::default().decode(&mut BytesMut::from(&at_limit[..]));
        assert!(matches!(read, Ok(None)), "{read:?}");
    }

    #[test]
    fn ipc_protocol_trailing_bytes_in_a_frame_are_refused() {
        let mut bytes = written(&Request::Ping { id: 1 });
        let longer = u32::try_from(bytes.len() - 4 + 2).expect("small");
        bytes[..4].copy_from_slice(&longer.to_le_bytes());
        bytes.extend_from_slice(&[0xc0, 0xc0]);
        let read = WorkerSide::default().decode(&mut bytes);
        assert!(matches!(read, Err(FrameError::TrailingBytes { extra: 2, .. })), "{read:?}");
    }

    #[test]
    fn ipc_protocol_unknown_fields_are_ignored() {
        #[derive(Serialize)]
        #[serde(rename_all = "snake_case")]
        enum Newer {
            Ping { id: u64, since_version_9: &'static str },
        }
        let mut buffer = BytesMut::new();
        MessageCodec::<(), Newer>::default()
            .encode(&Newer::Ping { id: 3, since_version_9: "x" }, &mut buffer)
            .expect("fits");
        let read = WorkerSide::default().decode(&mut buffer).expect("well-formed");
        assert_eq!(read, Some(Request::Ping { id: 3 }));
    }

    proptest! {
        #[test]
        fn ipc_protocol_garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            let mut codec = WorkerSide::default();
            while let Ok(Some(_)) = codec.decode(&mut buffer) {}
        }

        #[test]
        fn ipc_protocol_garbage_inside_a_frame_never_panics(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut buffer = BytesMut::new();
            buffer.extend_from_slice(&u32::try_from(payload.len()).expect("small").to_le_bytes());
            buffer.extend_from_slice(&payload);
            let _ = WorkerSide::default().decode(&mut buffer);
        }

        #[test]
        fn ipc_protocol_any_text_survives(text in any::<String>(), id in any::<u64>()) {
            let request = Request::Part { id, text, more: false };
            let mut bytes = written(&request);
            prop_assert_eq!(WorkerSide::default().decode(&mut bytes).expect("well-formed"), Some(request));
        }
    }
}
