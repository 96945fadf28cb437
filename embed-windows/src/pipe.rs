//! Named pipes that admit the user alone, and tell who made them.
//!
//! ```text
//! Listener::bind -> accept -> Stream   (descriptor of the user, first of its name, no other machine)
//!            Stream::connect           (the server may learn who we are, and not act as us)
//! ```
//!
//! tokio's pipes are used as they are, but for three things. A flush asks nothing: what was written is
//! on its way, and Windows' flush would wait until the peer has read it. A shutdown waits for just
//! that, beside the runtime, so that the last words before the end of the process are not lost. And
//! what is on its way when a connection is dropped goes no further.
#![expect(
    unsafe_code,
    reason = "tokio takes a security descriptor by its address only, and takes no write back"
)]

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::windows::named_pipe::{
    ClientOptions, NamedPipeClient, NamedPipeServer, ServerOptions,
};
use tokio::sync::{Mutex, oneshot};
use windows_sys::Win32::Foundation::{
    ERROR_BROKEN_PIPE, ERROR_NO_DATA, ERROR_PIPE_BUSY, ERROR_PIPE_NOT_CONNECTED,
};
use windows_sys::Win32::Storage::FileSystem::SECURITY_IDENTIFICATION;
use windows_sys::Win32::System::IO::CancelIoEx;

use crate::descriptor::{Descriptor, owner_only};
use crate::user::User;

/// Bytes that the system keeps of a pipe in each direction: the largest frame. What fits is written at
/// once, and is there for the peer even after this process has ended.
const BUFFER_BYTES: u32 = 68 * 1024;

/// How often a pipe is tried again whose instances are all taken. The server makes the next one as soon
/// as it runs.
const BUSY_PAUSE: Duration = Duration::from_millis(1);

/// Peers that are waited for at once. Whoever does not read costs a small thread; beyond so many their
/// connections just end, and they read what the system has kept.
const DRAINS_MAX: usize = 64;

/// Stack of the thread that waits until the peer has read everything.
const DRAIN_STACK_BYTES: usize = 64 * 1024;

/// A pipe's name, with an instance at which the next client arrives.
#[derive(Debug)]
pub struct Listener {
    address: PathBuf,
    /// Text of the descriptor of every instance.
    descriptor: String,
    next: Mutex<NamedPipeServer>,
}

impl Listener {
    /// Makes the pipe called `address`, `\\.\pipe\NAME`; must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// Somebody has a pipe of that name, or the system or its policy does not allow one.
    pub fn bind(address: &Path) -> io::Result<Self> {
        let descriptor = owner_only(&User::current()?);
        let first = instance(address, &descriptor, true)?;
        Ok(Self { address: address.to_owned(), descriptor, next: Mutex::new(first) })
    }

    /// The next client. The instance for the one after it is made before this returns, so that the name
    /// is at no time anybody's.
    ///
    /// # Errors
    ///
    /// The system cannot make another instance now.
    pub async fn accept(&self) -> io::Result<Stream> {
        let mut next = self.next.lock().await;
        loop {
            let arrived = next.connect().await;
            let connected = match arrived {
                Ok(()) => true,
                // Came and went.
                Err(error) if error.raw_os_error() == Some(ERROR_NO_DATA.cast_signed()) => false,
                Err(error) => {
                    *next = instance(&self.address, &self.descriptor, false)?;
                    return Err(error);
                }
            };
            // If this fails, who has connected is found connected at the next call.
            let following = instance(&self.address, &self.descriptor, false)?;
            let taken = std::mem::replace(&mut *next, following);
            if connected {
                return Ok(Stream::new(End::Server(taken)));
            }
        }
    }
}

/// An instance of the pipe.
fn instance(address: &Path, descriptor: &str, is_first: bool) -> io::Result<NamedPipeServer> {
    let descriptor = Descriptor::parse(descriptor)?;
    let mut attributes = descriptor.attributes();
    let mut options = ServerOptions::new();
    options
        .first_pipe_instance(is_first)
        .reject_remote_clients(true)
        .in_buffer_size(BUFFER_BYTES)
        .out_buffer_size(BUFFER_BYTES);
    let attributes = (&raw mut attributes).cast();
    // SAFETY: it points at such a structure, and that at a descriptor; both live through the call.
    unsafe { options.create_with_security_attributes_raw(address, attributes) }
}

#[derive(Debug)]
enum End {
    Server(NamedPipeServer),
    Client(NamedPipeClient),
}

/// One end of a connection.
#[derive(Debug)]
pub struct Stream {
    end: End,
    farewell: Farewell,
}

/// How far a shutdown is.
#[derive(Debug)]
enum Farewell {
    /// Nobody has asked for one.
    Unasked,
    /// The peer still reads.
    Waiting(oneshot::Receiver<io::Result<()>>),
    /// The peer has read everything, or has gone.
    Done,
}

impl Stream {
    fn new(end: End) -> Self {
        Self { end, farewell: Farewell::Unasked }
    }

    /// Connects to the pipe called `address`; waits as long as all its instances are taken. Must be
    /// called within a tokio runtime. Who made the pipe, the handle tells: see
    /// [`Ownership`](crate::descriptor::Ownership).
    ///
    /// # Errors
    ///
    /// There is none ([`io::ErrorKind::NotFound`]), or it does not admit this user
    /// ([`io::ErrorKind::PermissionDenied`]).
    pub async fn connect(address: &Path) -> io::Result<Self> {
        let mut options = ClientOptions::new();
        options.security_qos_flags(SECURITY_IDENTIFICATION);
        loop {
            match options.open(address) {
                Ok(client) => return Ok(Self::new(End::Client(client))),
                Err(error) if error.raw_os_error() == Some(ERROR_PIPE_BUSY.cast_signed()) => {
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsHandle for Stream {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        match &self.end {
            End::Server(server) => server.as_handle(),
            End::Client(client) => client.as_handle(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = match &mut self.end {
            End::Server(server) => Pin::new(server).poll_read(context, buffer),
            End::Client(client) => Pin::new(client).poll_read(context, buffer),
        };
        Poll::Ready(ready!(read).or_else(end_of_pipe))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.end {
            End::Server(server) => Pin::new(server).poll_write(context, bytes),
            End::Client(client) => Pin::new(client).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Farewell::Unasked = self.farewell {
            self.farewell = Farewell::Waiting(drain(self.as_handle())?);
        }
        let Farewell::Waiting(drained) = &mut self.farewell else { return Poll::Ready(Ok(())) };
        let outcome = ready!(Pin::new(drained).poll(context));
        self.farewell = Farewell::Done;
        // A peer that has gone reads nothing more.
        Poll::Ready(outcome.unwrap_or(Ok(())).or_else(end_of_pipe))
    }
}

/// A pipe takes more than it has room for, and tokio keeps it open until the peer has read that. From one
/// that never reads, neither would ever be free of the other; as with a socket, it has the bytes that
/// there was room for, and then the end.
impl Drop for Stream {
    fn drop(&mut self) {
        if let Farewell::Done = self.farewell {
            return;
        }
        // SAFETY: the handle is open; without an operation's address all of them are meant. It fails if
        // there are none.
        unsafe { CancelIoEx(self.as_handle().as_raw_handle(), std::ptr::null()) };
    }
}

/// The other end has closed the pipe, or cut it: what a socket says by an end of its bytes.
fn end_of_pipe(error: io::Error) -> io::Result<()> {
    let is_end = [ERROR_BROKEN_PIPE, ERROR_NO_DATA, ERROR_PIPE_NOT_CONNECTED]
        .iter()
        .any(|code| error.raw_os_error() == Some(code.cast_signed()));
    if is_end { Ok(()) } else { Err(error) }
}

/// Threads that wait for peers now.
static DRAINING: AtomicUsize = AtomicUsize::new(0);

/// Waits in a thread of its own until the peer has read everything, or the connection is dropped: how
/// long, is up to the two. It must not be one of the runtime's threads, which would have to be
/// waited for at the end.
fn drain(pipe: BorrowedHandle<'_>) -> io::Result<oneshot::Receiver<io::Result<()>>> {
    let pipe = File::from(pipe.try_clone_to_owned()?);
    let one = Draining::new()?;
    let (sender, drained) = oneshot::channel();
    let wait = move || {
        let _ = sender.send(pipe.sync_all());
        drop(one);
    };
    let thread = std::thread::Builder::new().name("embed-pipe-drain".into());
    thread.stack_size(DRAIN_STACK_BYTES).spawn(wait)?;
    Ok(drained)
}

/// One of [`DRAINING`].
struct Draining;

impl Draining {
    fn new() -> io::Result<Self> {
        let one = Self;
        if DRAINING.fetch_add(1, Ordering::Relaxed) >= DRAINS_MAX {
            return Err(io::Error::other("too many peers do not read"));
        }
        Ok(one)
    }
}

impl Drop for Draining {
    fn drop(&mut self) {
        DRAINING.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
