//! A client that sends what it is told, good or bad.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::KEY;
use crate::support::worker::PATIENCE;

/// Where a worker listens.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) address: String,
}

/// What it answers.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The parts of an error: status, code, field, sentence.
    pub(super) fn error(&self) -> (u16, String, Value, String) {
        let error = &self.json()["error"];
        let text = |field: &str| error[field].as_str().expect("text").to_owned();
        assert!(text("type").ends_with("_error"), "{self:?}");
        (self.status, text("code"), error["param"].clone(), text("message"))
    }

    /// The vectors of an answer, which must be in order.
    pub(super) fn vectors(&self) -> Vec<Vec<f32>> {
        assert_eq!(self.status, 200, "{}", self.body);
        let json = self.json();
        assert_eq!((&json["object"], &json["model"]), (&"list".into(), &"tiny".into()));
        let items = json["data"].as_array().expect("an array");
        let vectors = items.iter().enumerate().map(|(index, item)| {
            assert_eq!((&item["object"], &item["index"]), (&"embedding".into(), &index.into()));
            serde_json::from_value(item["embedding"].clone()).expect("numbers")
        });
        vectors.collect()
    }
}

impl Client {
    /// The worker that has written this line.
    pub(super) fn of_ready_line(line: &str) -> Self {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let url = line["ready"]["http"].as_str().unwrap_or_else(|| panic!("{line}"));
        let address = url.strip_prefix("http://").expect("not encrypted");
        Self { address: address.into() }
    }

    pub(super) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("the worker listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream
    }

    /// Sends a request for embeddings.
    pub(super) fn embed(&self, body: &Value) -> Answer {
        self.post(body.to_string().as_bytes())
    }

    pub(super) fn post(&self, body: &[u8]) -> Answer {
        let head = format!(
            "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let mut stream = self.connect();
        // One that is refused early may not be read to its end.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        answer(stream)
    }

    pub(super) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[&format!("Authorization: Bearer {KEY}")])
    }

    /// Sends a request without a body.
    pub(super) fn ask(&self, method: &str, path: &str, headers: &[&str]) -> Answer {
        let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|header| header.starts_with("Host:")) {
            text.push_str("Host: localhost\r\n");
        }
        for header in headers {
            text.push_str(header);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        self.say(text.as_bytes())
    }

    /// Sends anything.
    pub(super) fn say(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(bytes).expect("the worker reads");
        answer(stream)
    }
}

/// Everything that comes until the worker closes the connection.
pub(super) fn answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // Closed while something that we sent lay unread is as good.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
    let mut lines = head.lines();
    let first = lines.next().expect("a first line");
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let headers: HashMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let is_chunked = headers.get("transfer-encoding").is_some_and(|value| value == "chunked");
    let body = if is_chunked { joined(body) } else { body.to_owned() };
    Answer { status, headers, body }
}

/// The contents of a body in chunks, which must be whole.
fn joined(mut rest: &str) -> String {
    let mut body = String::new();
    loop {
        let (length, tail) = rest.split_once("\r\n").expect("a chunk's length");
        let length = usize::from_str_radix(length, 16).expect("a length");
        if length == 0 {
            return body;
        }
        body.push_str(&tail[..length]);
        rest = tail[length..].strip_prefix("\r\n").expect("a chunk's end");
    }
}
