//! Every limit of the worker that is not the protocol's: plain numbers, each with its reason.

use std::time::Duration;

/// Bytes of a worker's own memory, unless told otherwise: less than a browser's tab, whatever the model.
pub const MEMORY_BUDGET: usize = 50_000_000;

/// Most megabytes that a budget may have: more than any machine has.
pub const MEMORY_BUDGET_MB_MAX: u32 = 1 << 24;

/// Bytes of the program without a model's tables, buffers and texts: its data, the stacks of its
/// threads, the runtime, figures and logs. Measured: 0.6 MB at rest, 1 MB at work.
pub const PROGRAM_BYTES: usize = 1_500_000;

/// Fewest bytes that are kept for texts that wait.
pub const TRAFFIC_BYTES_MIN: usize = 2_000_000;

/// Texts that may wait at once, over all connections.
pub const QUEUE_JOBS_MAX: usize = 16_384;

/// Bytes of text that may wait at once, over all connections; a sixth of the worker's memory.
pub const QUEUE_TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How many of `jobs` that may wait may be bulk work: the rest is for who waits for an answer.
pub const fn bulk_jobs_of(jobs: usize) -> usize {
    jobs - jobs / 8
}

/// How many of `bytes` that may wait may be bulk work's.
pub const fn bulk_text_bytes_of(bytes: usize) -> usize {
    bytes - bytes / 4
}

/// Bytes of texts whose last part has not arrived, over all connections.
pub const UNFINISHED_TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Connections at once: more than a user has programs, and 256 pairs of buffers are some 32 MB at
/// the very worst.
pub const CONNECTIONS_MAX: usize = 256;

/// Files and sockets that the worker wants to be able to hold open: one for each connection, some of
/// strangers, and its own. Systems give a program 256 (macOS) or 1,024.
pub const DESCRIPTORS_WANTED: u64 = 512;

/// Tokens of one batch of bulk work.
///
/// Products reach their speed at some hundred tokens; more would only make an interactive text wait
/// longer for the next batch.
pub const BATCH_TOKENS: usize = 512;

/// Fewest tokens to which a batch of bulk work is cut: below them weights are unpacked for little, and
/// the whole takes much longer.
pub const BATCH_TOKENS_MIN: usize = 64;

/// How long a batch of bulk work may take when nobody has asked for an interactive text lately: as
/// long as the first who does may have to wait.
pub const BATCH_TIME_ALONE: Duration = Duration::from_millis(100);

/// How long it may take while somebody does.
pub const BATCH_TIME_SHARED: Duration = Duration::from_millis(20);

/// How long after an interactive text the next one is expected.
pub const SHARED_MEMORY: Duration = Duration::from_secs(5);

/// Connections at once that have not yet proven to be of this user, where the system does not tell.
/// A client of this user needs a millisecond for it; so many others must come in that time to be in
/// its way.
pub const STRANGERS_MAX: usize = 64;

/// How long a new connection may take for its proof, and again for its hello.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a frame may take from its first byte to its last. A client writes it in one piece; one
/// that has stopped in the middle for so long will not go on, and holds a place that others may want.
/// Between frames a client may be silent as long as it likes.
pub const FRAME_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of answers that may wait to be read, over all connections; a third of the worker's memory.
/// More wait only for peers that do not read, of whom the one that brings it over loses its
/// connection.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of answers that may wait for each peer whatever waits for others, so that those who do not
/// read cost only themselves. 256 connections of so much are as much again as all may have.
pub const ANSWER_BYTES_EACH: usize = 64 * 1024;

/// How long a worker stays after its last client has gone, unless told otherwise.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a worker that was told to stop goes on with what it has begun.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long Windows waits for a program whose console closes, or whose user's session or machine ends,
/// before it ends it itself, unless told otherwise; it tells no program how much is left
/// (<https://github.com/microsoft/terminal/blob/main/doc/ConsoleCtrlEvent.md>).
pub const CONSOLE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the last answers to a peer that broke the protocol may take to leave.
pub const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Pause after `accept` failed, for example for want of file descriptors.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections over HTTP at once: more than a pool of clients keeps open, and a buffer or two each.
pub const HTTP_CONNECTIONS_MAX: usize = 128;

/// How long a client over HTTP may take for the head of a request, the idle time before it included. A
/// proxy forgets its idle connections after 60 seconds; a worker that forgot them sooner would cut
/// requests that are just on their way.
pub const HTTP_HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// How long the body of a request may take from the first byte to the last.
pub const HTTP_BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How much of a body is read and forgotten after it was refused, and for how long: enough for a client
/// that has sent all of a large request before it looks at the answer.
pub const HTTP_REFUSED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// See [`HTTP_REFUSED_BYTES_MAX`].
pub const HTTP_REFUSED_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client may read nothing of an answer that waits for it.
pub const HTTP_WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the answer to one request may take: as long as the clients of OpenAI wait.
pub const HTTP_ANSWER_TIMEOUT: Duration = Duration::from_secs(600);

/// Bytes of a request's head: keys and cookies of proxies fit well.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a request's body: 2,048 texts of two thousand letters, or four of the longest.
pub const HTTP_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of bodies that may be in memory at once, over all connections; who comes later waits.
pub const HTTP_BODIES_BYTES_MAX: usize = 2 * HTTP_BODY_BYTES_MAX;

/// Texts of one request, as OpenAI has it.
pub const HTTP_INPUTS_MAX: usize = 2048;

/// Bytes of vectors that wait to be sent over HTTP at once, over all connections; a third of the worker's
/// memory. One request may ask for as much.
pub const HTTP_VECTORS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Fewest characters of a key that somebody chooses: what can be guessed in an afternoon is none.
pub const HTTP_KEY_CHARACTERS_MIN: usize = 16;
