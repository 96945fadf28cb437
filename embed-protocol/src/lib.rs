//! The wire between a client and `embed-worker`, and nothing else.
//!
//! Two programs must agree on these bytes, so both compile this crate: [`message`] says what
//! travels, [`task`] what a text is embedded for and [`stats`] the figures, [`frame`] how it is cut into frames, [`vector`] how a
//! vector looks inside one, [`error_code`] what may go wrong, [`endpoint`] where the two meet,
//! [`card`] what a worker leaves there for those who cannot ask it, [`secret`] and [`handshake`] how
//! both prove to be of one user where the system does not tell, and [`log_name`] what both call a
//! request in their logs. [`private_file`] says what makes such files the user's alone, and [`process`]
//! ends a worker that hangs.
//! PROTOCOL.md describes the same in prose, with real bytes.
//!
//! The crate opens no socket, starts nothing and holds no `unsafe`.

pub mod card;
pub mod endpoint;
pub mod error_code;
pub mod frame;
pub mod handshake;
pub mod log_name;
pub mod message;
pub mod private_file;
pub mod process;
pub mod secret;
pub mod stats;
pub mod task;
pub mod vector;

pub use card::WorkerCard;
pub use endpoint::{Endpoint, ModelIdentity, Transport};
pub use error_code::ErrorCode;
pub use frame::{FrameError, MessageCodec};
pub use log_name::ConnectionName;
pub use message::{
    ClientHello, EmbedParams, ModelInfo, Priority, Request, Response, Timings, WorkerHello,
};
pub use stats::StatsSnapshot;
pub use task::Task;

/// Version of everything in this crate that travels.
///
/// It is part of the endpoint name, so that programs of different versions do not meet, and of both
/// hellos, so that they find out if they do.
pub const PROTOCOL_VERSION: u16 = 1;

/// Most bytes in the payload of one frame, the four length bytes not counted.
///
/// Small enough that a connection's buffers stay far below 1 MB, large enough for a vector of
/// 16,000 dimensions.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of text in one frame; what is left of [`FRAME_BYTES_MAX`] is for the fields around it.
pub const TEXT_PART_BYTES_MAX: usize = 60 * 1024;

/// Most bytes in one text, over all its parts.
///
/// A model's context is at most some ten thousand tokens; a text of a megabyte is far beyond every
/// context and would only be counted to be refused.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// Most dimensions of a vector: what one frame holds, with room for the fields around it.
pub const DIMENSIONS_MAX: usize = 16_000;

/// Most requests that one connection may have without an answer.
///
/// A client that reaches it waits before it sends more; a worker that sees more answers
/// [`ErrorCode::Overloaded`].
pub const IN_FLIGHT_MAX: usize = 4096;
