//! A port on 127.0.0.1, which every program of the machine can reach.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
pub(super) use tokio::net::{TcpListener as Listener, TcpStream as Stream};

/// How long a connection is silent before the system asks whether the peer is still there. On one
/// machine both ends are known to the same system; but a forwarded port may lose its other half.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);

/// Pause between two such questions; after some eight to ten without an answer the connection ends.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// Bytes that the system keeps of a connection in each direction, as much as of a Unix socket. Left
/// alone, TCP's buffers grow to megabytes, and a peer that reads nothing would hold them.
const BUFFER_BYTES: usize = 208 * 1024;

/// Listens on a port that the system chooses.
pub(super) fn listen() -> io::Result<(Listener, u16)> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    Ok((Listener::from_std(listener)?, port))
}

/// The next connection, whoever it is.
pub(super) async fn accept(listener: &Listener) -> io::Result<Stream> {
    let (stream, _) = listener.accept().await?;
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_INTERVAL);
    let socket = SockRef::from(&stream);
    // None is needed for the answers to be right; a peer that has gone again fails them all.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keepalive);
    let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    Ok(stream)
}
