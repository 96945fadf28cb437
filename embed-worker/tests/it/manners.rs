//! How the command line behaves among other programs: odd input, readers that have had enough, disks that
//! are full.

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

use embed_protocol::TEXT_BYTES_MAX;
use serde_json::Value;

use crate::support::worker::{Home, tiny_model};

fn worker(home: &Home, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_embed-worker"));
    for (name, _) in std::env::vars_os() {
        let name_bytes = name.as_encoded_bytes();
        if name_bytes.starts_with(b"EMBED_") || name_bytes.starts_with(b"HF_") {
            command.env_remove(name);
        }
    }
    command
        .args(args)
        .env("EMBED_MODEL", tiny_model())
        .env("EMBED_THREADS", "1")
        .env("EMBED_RUNTIME_DIR", home.path())
        .env("EMBED_CACHE_DIR", home.cache())
        .env("HF_HOME", home.cache())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What comes of a command that reads `input`.
fn fed(home: &Home, args: &[&str], input: Vec<u8>) -> Output {
    let mut child = worker(home, args).spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("piped");
    let writer = std::thread::spawn(move || {
        // It may not be read to its end.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("no panic");
    output
}

fn lines(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
}

#[test]
fn lines_of_every_kind_are_answered_in_order_and_those_that_are_no_texts_as_errors() {
    let home = Home::new();
    let longest = vec![b'x'; TEXT_BYTES_MAX + 1];
    let input = [&b"a\r\n\ncaf\xe9\n"[..], &longest, b"\nthe last"].concat();
    let output = fed(&home, &["embed"], input);
    assert_eq!(output.status.code(), Some(1));
    let lines = lines(&output);
    let kinds: Vec<_> = lines
        .iter()
        .map(|line| line["error"]["code"].as_str().unwrap_or("vector").to_owned())
        .collect();
    let wanted = ["vector", "vector", "EMBED_BAD_ARGUMENT", "EMBED_TEXT_TOO_LONG", "vector"];
    assert_eq!(kinds, wanted);
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line["index"], index);
    }
    let alone = fed(&home, &["embed", "a"], Vec::new());
    assert_eq!(self::lines(&alone)[0]["vector"], lines[0]["vector"]);
    let nothing = fed(&home, &["embed"], Vec::new());
    assert_eq!(
        (nothing.status.code(), &*nothing.stdout, &*nothing.stderr),
        (Some(0), &b""[..], &b""[..])
    );
}

#[cfg(unix)]
#[test]
fn a_file_of_texts_may_be_a_pipe() {
    let home = Home::new();
    let output = fed(&home, &["embed", "--file", "/dev/stdin"], b"one\ntwo\n".to_vec());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(lines(&output).len(), 2);
}

#[test]
fn who_writes_a_text_and_waits_gets_its_vector() {
    let home = Home::new();
    let mut child = worker(&home, &["embed"]).spawn().expect("the program starts");
    let (mut stdin, stdout) = (child.stdin.take().expect("piped"), child.stdout.take());
    let mut answers = std::io::BufReader::new(stdout.expect("piped"));
    for index in 0..3 {
        writeln!(stdin, "text {index}").expect("it reads");
        let mut line = String::new();
        std::io::BufRead::read_line(&mut answers, &mut line).expect("it answers");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(line["index"], index);
    }
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let home = Home::new();
    // More than a pipe holds.
    let folder = tempfile::tempdir().expect("a folder");
    let texts = folder.path().join("texts.txt");
    std::fs::write(&texts, "some text\n".repeat(2000)).expect("ours");
    let texts = texts.to_str().expect("text");
    let model = tiny_model();
    let model = model.to_str().expect("text");
    for args in [
        &["embed", "--file", texts][..],
        &["models"],
        &["models", "--json"],
        &["info", model],
        &["info", "--json", model],
        &["verify", model],
        &["ps"],
        &["completions", "bash"],
        &["man"],
        &["--help"],
        &["help", "embed"],
    ] {
        // It stops in the middle of a vector, or at once.
        for bytes in [100, 0] {
            let (mut reader, writer) = std::io::pipe().expect("a pipe");
            let mut command = worker(&home, args);
            if bytes == 0 {
                drop(reader);
                command.stdout(writer);
                assert_quiet(args, &command.output().expect("the program starts"));
                continue;
            }
            command.stdout(writer);
            let child = command.spawn().expect("the program starts");
            // It holds the other end of the pipe as well.
            drop(command);
            let _ = reader.read(&mut vec![0; bytes]);
            drop(reader);
            assert_quiet(args, &child.wait_with_output().expect("it ends"));
        }
    }
}

fn assert_quiet(args: &[&str], output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {:?} {said}", output.status);
    assert_eq!(said, "", "{args:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_full_is_an_error() {
    let home = Home::new();
    for args in [&["embed", "a"][..], &["models"], &["models", "--json"], &["man"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
        let output = worker(&home, args).stdout(full).output().expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.starts_with("error: ") && said.contains("No space left"), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn errors_are_red_on_no_pipe() {
    let home = Home::new();
    let output = fed(&home, &["info", "no-such.gguf"], Vec::new());
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.starts_with(b"error: "), "{output:?}");
    assert!(!output.stderr.contains(&0x1b));
    // What clap says by itself.
    let output = fed(&home, &["embed", "--dimension", "3", "x"], Vec::new());
    assert_eq!(output.status.code(), Some(2));
    assert!(!output.stderr.contains(&0x1b));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--dimensions"), "it has a guess");
}
