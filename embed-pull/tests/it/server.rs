//! A server that answers each request as a test says, and remembers what was asked.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request as it came; the names of headers are in lower case.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
}

impl Request {
    /// The first byte that is asked for.
    pub(crate) fn from(&self) -> Option<usize> {
        self.headers.get("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What becomes of one request: writes an answer, or part of one, and hangs up.
pub(crate) type Answer = Box<dyn Fn(&Request, &mut TcpStream) + Send + Sync>;

/// A running server. Its threads end with the process.
pub(crate) struct Server {
    pub(crate) address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub(crate) fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&requests));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                std::thread::spawn(move || serve(stream, &answer, &log));
            }
        });
        Self { address, requests }
    }

    /// What was asked by a method, in order.
    pub(crate) fn asked(&self, method: &str) -> Vec<Request> {
        let requests = self.requests.lock().expect("no test panics here");
        requests.iter().filter(|request| request.method == method).cloned().collect()
    }
}

/// One request a connection.
fn serve(mut stream: TcpStream, answer: &Answer, log: &Mutex<Vec<Request>>) {
    let mut lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
    let Some(Ok(first)) = lines.next() else { return };
    let mut words = first.split(' ').map(String::from);
    let (method, path) = (words.next().expect("a method"), words.next().expect("a path"));
    let headers = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_lowercase(), value.trim().to_owned()))
        })
        .collect();
    let request = Request { method, path, headers };
    log.lock().expect("no test panics here").push(request.clone());
    answer(&request, &mut stream);
    let _ = stream.shutdown(Shutdown::Both);
}

/// Writes an answer's head; `headers` are whole lines.
pub(crate) fn head(stream: &mut TcpStream, status: &str, headers: &[String]) {
    let mut text = format!("HTTP/1.1 {status}\r\nConnection: close\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    // The client may have gone, which is its own affair.
    let _ = stream.write_all(text.as_bytes());
}

/// An answer without a body.
pub(crate) fn empty(stream: &mut TcpStream, status: &str, headers: &[&str]) {
    let mut headers: Vec<_> = headers.iter().map(|header| (*header).to_owned()).collect();
    headers.push("Content-Length: 0".into());
    head(stream, status, &headers);
}

/// `contents` from where they are asked for, as a good server sends them.
pub(crate) fn whole(request: &Request, stream: &mut TcpStream, contents: &[u8], headers: &[&str]) {
    let mut lines: Vec<_> = headers.iter().map(|header| (*header).to_owned()).collect();
    let from = request.from().unwrap_or(0);
    if from > 0 && from >= contents.len() {
        return empty(stream, "416 Range Not Satisfiable", &[]);
    }
    lines.push(format!("Content-Length: {}", contents.len() - from));
    if from == 0 {
        head(stream, "200 OK", &lines);
    } else {
        lines.push(format!(
            "Content-Range: bytes {from}-{}/{}",
            contents.len() - 1,
            contents.len()
        ));
        head(stream, "206 Partial Content", &lines);
    }
    let _ = stream.write_all(&contents[from..]);
}

/// Says nothing until the client has hung up.
pub(crate) fn stall(stream: &mut TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}
