//! PROTOCOL.md shows real bytes; these are the same bytes, made by the code.

use bytes::BytesMut;
use embed_protocol::{ClientHello, EmbedParams, MessageCodec, Request, Response, Timings, vector};
use tokio_util::codec::Encoder;

/// Each line of hexadecimal digits that follows `marker` in PROTOCOL.md, joined.
fn documented(marker: &str) -> String {
    let document = include_str!("../../PROTOCOL.md");
    let (_, after) = document.split_once(marker).expect("the marker stands in PROTOCOL.md");
    let block = after.split("```").nth(1).expect("a code block follows the marker");
    block
        .lines()
        .filter(|line| !line.trim().is_empty() && *line != "text")
        .map(|line| line.split_once('|').map_or(line, |(bytes, _)| bytes))
        .flat_map(|bytes| bytes.chars().filter(char::is_ascii_hexdigit))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn request(message: &Request) -> String {
    let mut buffer = BytesMut::new();
    MessageCodec::<Response, Request>::default().encode(message, &mut buffer).expect("fits");
    hex(&buffer)
}

fn response(message: &Response) -> String {
    let mut buffer = BytesMut::new();
    MessageCodec::<Request, Response>::default().encode(message, &mut buffer).expect("fits");
    hex(&buffer)
}

#[test]
fn ipc_protocol_document_shows_the_hello_that_is_sent() {
    let hello = ClientHello { protocol: 1, version: "0.1.0".into(), pid: 4242, observer: false };
    assert_eq!(documented("<!-- bytes: hello -->"), request(&Request::Hello(hello)));
}

#[test]
fn ipc_protocol_document_shows_the_embed_that_is_sent() {
    let params = EmbedParams { deadline_ms: Some(30_000), ..EmbedParams::default() };
    let embed = Request::Embed { id: 7, text: "hi".into(), more: false, params };
    assert_eq!(documented("<!-- bytes: embed -->"), request(&embed));
}

#[test]
fn ipc_protocol_document_shows_the_vector_that_is_sent() {
    let vector = Response::Vector {
        id: 7,
        vector: vector::to_bytes(&[0.6, -0.8]),
        tokens: 3,
        truncated: false,
        timings: Timings { queue_us: 12, tokenize_us: 3, compute_us: 900 },
    };
    assert_eq!(documented("<!-- bytes: vector -->"), response(&vector));
}

#[test]
fn ipc_protocol_document_shows_the_handshake_that_is_spoken() {
    use embed_protocol::handshake::{ClientHandshake, WorkerHandshake};
    use embed_protocol::secret::{KeyFile, Secret};

    let counting = |from: u8| std::array::from_fn(|n| from + n as u8);
    let secret = Secret::from_bytes(counting(0x00));
    let key = KeyFile { port: 49_152, pid: 4242, secret: secret.clone() };
    assert_eq!(documented("<!-- bytes: key -->"), hex(&key.to_bytes()));
    let (client_nonce, worker_nonce) = (counting(0x20), counting(0x40));
    let worker = WorkerHandshake::new(&secret, worker_nonce, client_nonce);
    let challenge = worker.challenge();
    let proof = ClientHandshake::new(&secret, client_nonce).finish(&challenge);
    let proof = proof.expect("the worker knows the secret");
    let spoken = [&client_nonce[..], &challenge, &proof].concat();
    assert_eq!(documented("<!-- bytes: handshake -->"), hex(&spoken));
    assert_eq!(worker.finish(&proof), Ok(()));
}
