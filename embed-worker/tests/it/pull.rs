//! `pull` and `models` as they are used on a command line. What a network does to a download is tested
//! where it is fetched; here it is a small hub that behaves.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::support::worker::{Home, PATIENCE, Worker, tiny_model};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const SHA256_OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A hub on which every repository has one file, the tiny model; and a folder of its client's.
struct Hub {
    address: String,
    downloads: Arc<AtomicUsize>,
    folder: tempfile::TempDir,
}

impl Hub {
    /// `slow`: the first download stops in the middle and never goes on.
    fn start(slow: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let model = Arc::new(std::fs::read(tiny_model()).expect("committed"));
        let downloads = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&downloads);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (model, count) = (Arc::clone(&model), Arc::clone(&count));
                std::thread::spawn(move || answer(stream, &model, &count, slow));
            }
        });
        Self { address, downloads, folder: tempfile::tempdir().expect("a folder") }
    }

    /// A command whose caches are in the folder, and whose environment is otherwise bare.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_embed-worker"));
        for (name, _) in std::env::vars_os() {
            let bytes = name.as_encoded_bytes().to_ascii_uppercase();
            if bytes.starts_with(b"EMBED_")
                || bytes.starts_with(b"HF_")
                || bytes.ends_with(b"_PROXY")
            {
                command.env_remove(name);
            }
        }
        command
            .args(args)
            .env("HF_HOME", self.folder.path().join("hf"))
            .env("HF_ENDPOINT", &self.address)
            .env("EMBED_CACHE_DIR", self.folder.path().join("cache"))
            .env("EMBED_RUNTIME_DIR", self.folder.path().join("run"))
            .env("EMBED_THREADS", "1");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().expect("the program starts")
    }

    fn fetched(&self) -> usize {
        self.downloads.load(Ordering::SeqCst)
    }
}

fn answer(mut stream: TcpStream, model: &[u8], count: &AtomicUsize, slow: bool) {
    use sha2::{Digest as _, Sha256};

    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let sha256: String = Sha256::digest(model).iter().map(|byte| format!("{byte:02x}")).collect();
    let all = model.len();
    let range = head
        .lines()
        .find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(String::from));
    let from: usize =
        range.and_then(|range| range.trim_end_matches('-').parse().ok()).unwrap_or_default();
    let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nConnection: close\r\nETag: \"{sha256}\"\r\nX-Linked-Size: {all}\r\n\
         X-Repo-Commit: {COMMIT}\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{all}\r\n\r\n",
        all - from,
        all - 1
    );
    if head.starts_with("HEAD") {
        return;
    }
    if count.fetch_add(1, Ordering::SeqCst) == 0 && slow {
        let _ = stream.write_all(&model[..all / 2]);
        let _ = stream.read_to_end(&mut Vec::new());
        return;
    }
    let _ = stream.write_all(&model[from..]);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_path_is_all_that_is_printed_and_a_second_time_nothing_is_fetched() {
    let hub = Hub::start(false);
    for _ in 0..2 {
        let output = hub.run(&["pull", "a/b:c/tiny.gguf"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let parts = ["hf", "hub", "models--a--b", "snapshots", COMMIT, "c", "tiny.gguf"];
        let path = parts.iter().fold(hub.folder.path().to_owned(), |path, part| path.join(part));
        assert_eq!(text(&output.stdout), format!("{}\n", path.display()));
        assert_eq!(text(&output.stderr), "", "no terminal, no bar");
        assert_eq!(
            std::fs::read(path).expect("a file"),
            std::fs::read(tiny_model()).expect("committed")
        );
    }
    assert_eq!(hub.fetched(), 1);
    let output = hub.run(&["pull", "--json", "a/b:c/tiny.gguf"]);
    let line: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&line["model"], &line["fetched"]), (&"a/b:c/tiny.gguf".into(), &false.into()));
    assert_eq!(line["bytes"], std::fs::metadata(tiny_model()).expect("committed").len());
}

#[test]
fn a_name_is_a_model_for_every_command_once_it_is_here() {
    let hub = Hub::start(false);
    let args = ["embed", "--model", "nomic-embed-text-v1.5", "a text"];
    let output = hub.run(&args);
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("`embed-worker pull nomic-embed-text-v1.5`"), "{error}");
    assert_eq!(hub.fetched(), 0, "nobody has asked for a download");
    let mut allowed = hub.command(&args);
    let output = allowed.env("EMBED_AUTO_PULL", "1").output().expect("the program starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let first = text(&output.stdout);
    let by_path = hub.run(&["embed", "--model", tiny_model().to_str().expect("text"), "a text"]);
    assert_eq!(first, text(&by_path.stdout));
    assert_eq!(text(&hub.run(&args).stdout), first);
    assert_eq!(hub.fetched(), 1);
    let info = text(&hub.run(&["info", "--json", "nomic-embed-text-v1.5"]).stdout);
    assert!(info.contains("nomic-embed-text-v1.5.Q8_0.gguf"), "{info}");

    let home = Home::new();
    let mut serve = home.serve(Path::new("nomic-embed-text-v1.5"));
    serve.env("HF_HOME", hub.folder.path().join("hf")).args(["--http", "0", "--no-auth"]);
    let worker = Worker::spawn(&mut serve);
    let line = worker.line().expect("a line");
    assert!(line.starts_with(r#"{"ready""#), "{line}");

    let listed = text(&hub.run(&["models", "--json"]).stdout);
    let here: Vec<Value> = listed
        .lines()
        .map(|line| serde_json::from_str(line).expect("one object a line"))
        .filter(|line: &Value| !line["path"].is_null())
        .collect();
    assert_eq!(here.len(), 1);
    assert_eq!(here[0]["name"], "nomic-embed-text-v1.5");
    assert!(
        text(&hub.run(&["models"]).stdout).contains("nomic-embed-text-v1.5  (on this machine)")
    );
}

#[test]
fn the_model_that_ships_need_not_be_fetched() {
    let hub = Hub::start(false);
    let output = hub.run(&["pull", "all-minilm-l6-v2", "--json"]);
    let line: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&line["model"], &line["fetched"]), (&"all-MiniLM-L6-v2".into(), &false.into()));
    let path = line["path"].as_str().expect("a path");
    assert!(hub.run(&["info", path]).status.success(), "{path}");
    let output = hub.run(&["pull", "all-minilm-l6-v2", "--sha256", SHA256_OF_NOTHING]);
    assert!(text(&output.stderr).contains("install that again"), "{}", text(&output.stderr));
    assert_eq!(hub.fetched(), 0);
}

#[test]
fn a_process_that_is_killed_leaves_what_the_next_goes_on_with() {
    let hub = Hub::start(true);
    let mut child = hub
        .command(&["pull", "a/b:tiny.gguf"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let blobs = hub.folder.path().join("hf/hub/models--a--b/blobs");
    let half = std::fs::metadata(tiny_model()).expect("committed").len() / 2;
    let unfinished =
        || -> Option<PathBuf> { Some(std::fs::read_dir(&blobs).ok()?.next()?.ok()?.path()) };
    let give_up = std::time::Instant::now() + PATIENCE;
    while unfinished().and_then(|path| path.metadata().ok()).is_none_or(|file| file.len() < half) {
        assert!(std::time::Instant::now() < give_up, "half of it never came");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    child.kill().expect("is ours");
    child.wait().expect("is ours");
    let name = unfinished().expect("kept");
    assert!(name.extension().is_some_and(|extension| extension == "incomplete"), "{name:?}");
    let output = hub.run(&["pull", "a/b:tiny.gguf"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let path = text(&output.stdout);
    let bytes = std::fs::read(path.trim()).expect("a file");
    assert_eq!(bytes, std::fs::read(tiny_model()).expect("committed"));
}

#[test]
fn errors_are_one_sentence_with_the_cure() {
    let hub = Hub::start(false);
    for (args, code, wanted) in [
        (&["pull", "a/b:../c.gguf"][..], 1, "wanted owner/name:file.gguf"),
        (&["pull", "nomic-embed"], 1, "wanted a known name"),
        (&["pull"], 2, "Usage"),
        (&["pull", "a/b:c.gguf", "--sha256", "12"], 2, "64 hexadecimal digits"),
        (&["pull", "a/b:c.gguf", "--sha256", SHA256_OF_NOTHING], 1, "the caller says"),
        (&["embed", "--model", "no-such-model", "x"], 1, "`embed-worker models` lists names"),
    ] {
        let output = hub.run(args);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert!(error.contains(wanted), "{args:?}: {error}");
        assert!(!error.contains('\u{1b}'), "no colours in a pipe");
        assert_eq!(text(&output.stdout), "");
        if code == 1 {
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
    assert_eq!(hub.fetched(), 0);
}

#[test]
fn a_damaged_file_of_the_cache_is_found_by_whoever_serves_it() {
    let hub = Hub::start(false);
    let path = text(&hub.run(&["pull", "a/b:tiny.gguf"]).stdout);
    let path = Path::new(path.trim()).canonicalize().expect("a file");
    let mut bytes = std::fs::read(&path).expect("a file");
    // In the middle of a weight, where nothing but the digest tells.
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("ours");
    let output = hub.run(&["verify", path.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stdout).contains("its name in the Hugging Face cache"),
        "{}",
        text(&output.stdout)
    );
    let output = hub.run(&["pull", "a/b:tiny.gguf"]);
    assert!(
        text(&output.stderr).contains("is damaged, and fetched again"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(hub.run(&["verify", path.to_str().expect("text")]).status.code(), Some(0));
}

#[test]
fn shells_and_man_are_told_of_every_command() {
    let hub = Hub::start(false);
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = text(&hub.run(&["completions", shell]).stdout);
        for word in ["pull", "--http", "serve", "models"] {
            assert!(script.contains(word.trim_start_matches('-')), "{shell}: {word}");
        }
    }
    let page = text(&hub.run(&["man"]).stdout);
    assert!(page.starts_with(".ie") || page.contains(".TH"), "{page}");
    let dir = hub.folder.path().join("man");
    assert!(hub.run(&["man", "--dir", dir.to_str().expect("text")]).status.success());
    for name in ["embed-worker.1", "embed-worker-pull.1", "embed-worker-serve.1"] {
        assert!(dir.join(name).is_file(), "{name}");
    }
    for command in [
        "serve",
        "embed",
        "pull",
        "models",
        "info",
        "verify",
        "ps",
        "stats",
        "stop",
        "completions",
        "man",
        "bench",
    ] {
        let help = text(&hub.run(&[command, "--help"]).stdout);
        assert!(help.contains("Examples:"), "{command}");
    }
    assert!(text(&hub.run(&["--help"]).stdout).contains("Exit codes:"));
}
