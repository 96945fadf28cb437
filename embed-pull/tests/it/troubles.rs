//! Every trouble that a network makes ends in the right file or a clear error, never in a bad file under
//! the final name.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;

use embed_pull::PullError;

use crate::server::{Request, empty, head, stall, whole};
use crate::support::{Notes, World, contents, sha256};

/// A world whose network does something else than to send the file for as long as `trouble` is true.
fn world(
    trouble: impl Fn(usize, &Request, &mut TcpStream, &[u8]) -> bool + Send + Sync + 'static,
) -> World {
    let contents = contents();
    let sent = Arc::clone(&contents);
    World::new(
        &contents,
        Box::new(move |n, request, stream| {
            if !trouble(n, request, stream, &sent) {
                whole(request, stream, &sent, &[]);
            }
        }),
    )
}

fn assert_arrives(world: &World) {
    let pulled = world.pull().expect("the trouble passes");
    assert!(pulled.fetched);
    assert_eq!(fs::read(&pulled.path).expect("a file"), *contents());
    let names = fs::read_dir(world.blobs()).expect("a folder").count();
    assert_eq!(names, 1, "nothing unfinished");
}

fn assert_fails(world: &World) -> PullError {
    let error = world.pull().expect_err("the trouble stays");
    world.assert_nothing_is_stored();
    error
}

/// Head and so many bytes of the rest of the file.
fn part(request: &Request, stream: &mut TcpStream, contents: &[u8], bytes: usize) {
    let from = request.from().unwrap_or(0);
    let range = format!("Content-Range: bytes {from}-{}/{}", contents.len() - 1, contents.len());
    let length = format!("Content-Length: {}", contents.len() - from);
    let status = if from == 0 { "200 OK" } else { "206 Partial Content" };
    head(stream, status, &[length, range]);
    let _ = stream.write_all(&contents[from..][..bytes]);
}

#[test]
fn a_connection_that_is_cut_is_gone_on_with() {
    let world = world(|n, request, stream, contents| {
        if n < 2 {
            part(request, stream, contents, 500_000);
        }
        n < 2
    });
    assert_arrives(&world);
    let asked: Vec<_> = world.network.asked("GET").iter().map(Request::from).collect();
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[0], None);
    assert!(asked[1] > Some(0) && asked[2] > asked[1], "each goes on from where it was: {asked:?}");
}

#[test]
fn a_connection_that_stalls_is_given_up_and_gone_on_with() {
    let world = world(|n, request, stream, contents| {
        if n == 0 {
            part(request, stream, contents, 1_000_000);
            stall(stream);
        }
        n == 0
    });
    assert_arrives(&world);
    let asked = world.network.asked("GET");
    assert_eq!(asked.last().and_then(Request::from), Some(1_000_000));
}

#[test]
fn one_that_is_cut_again_and_again_is_given_up_and_its_bytes_are_kept() {
    let world = world(|n, request, stream, contents| {
        if n < 4 {
            part(request, stream, contents, 10_000);
        }
        n < 4
    });
    let error = assert_fails(&world);
    assert!(matches!(error, PullError::GaveUp { tries: 4, .. }), "{error:?}");
    let sentence = error.to_string();
    assert!(
        sentence.contains("goes on from there") && !sentence.contains("signature"),
        "{sentence}"
    );
    let unfinished = world.blobs().join(sha256(&contents()) + ".incomplete");
    let kept = fs::metadata(&unfinished).expect("kept").len();
    assert!(kept > 0);
    assert_arrives(&world);
    let last = world.network.asked("GET").last().and_then(Request::from);
    assert_eq!(last, Some(kept as usize));
}

#[test]
fn one_that_makes_progress_each_time_is_not_given_up() {
    let world = world(|n, request, stream, contents| {
        // Three times the limit of tries, if they were counted whatever they bring.
        let from = request.from().unwrap_or(0);
        let is_near_the_end = contents.len() - from <= 1 << 20;
        if !is_near_the_end {
            part(request, stream, contents, 1 << 20);
        }
        assert!(n < 12);
        !is_near_the_end
    });
    assert_arrives(&world);
}

#[test]
fn a_length_that_is_a_lie_is_found_out() {
    for wrong in [1_000, 10 << 20] {
        let world = world(move |_, _, stream, contents| {
            head(stream, "200 OK", &[format!("Content-Length: {wrong}")]);
            let _ = stream.write_all(&contents[..1_000]);
            true
        });
        let error = assert_fails(&world);
        assert!(matches!(error, PullError::Contradiction { .. }), "{error:?}");
        assert!(error.to_string().contains("the hub says"), "{error}");
    }
}

#[test]
fn more_bytes_than_there_are_to_be_are_found_out() {
    let world = world(|_, _, stream, contents| {
        // Without a length, until the connection ends.
        head(stream, "200 OK", &[]);
        let _ = stream.write_all(contents);
        let _ = stream.write_all(b"and more");
        true
    });
    let error = assert_fails(&world);
    assert!(error.to_string().contains("sends more than"), "{error}");
}

#[test]
fn a_body_without_a_length_is_taken() {
    let world = world(|_, _, stream, contents| {
        head(stream, "200 OK", &["Transfer-Encoding: chunked".into()]);
        for chunk in contents.chunks(100_000) {
            let _ = write!(stream, "{:x}\r\n", chunk.len());
            let _ = stream.write_all(chunk);
            let _ = stream.write_all(b"\r\n");
        }
        let _ = stream.write_all(b"0\r\n\r\n");
        true
    });
    assert_arrives(&world);
}

#[test]
fn other_bytes_than_promised_are_never_stored() {
    let world = world(|_, request, stream, contents| {
        let mut wrong = contents.to_vec();
        wrong[2_000_000] ^= 1;
        whole(request, stream, &wrong, &[]);
        true
    });
    let error = assert_fails(&world);
    assert!(matches!(error, PullError::Digest { .. }), "{error:?}");
    assert_eq!(
        fs::read_dir(world.blobs()).expect("a folder").count(),
        0,
        "of no use to a later try"
    );
}

#[test]
fn a_page_instead_of_the_file_is_never_stored() {
    let page = Arc::new(b"<html>Please sign in</html>".to_vec());
    let sent = Arc::clone(&page);
    // A hub that is fooled as well: length and digest are right, and it is no model all the same.
    let world = World::new(
        &page,
        Box::new(move |_, request, stream| {
            whole(request, stream, &sent, &[]);
        }),
    );
    let error = assert_fails(&world);
    assert!(matches!(error, PullError::NoModel { .. }), "{error:?}");
}

#[test]
fn what_another_try_has_left_is_not_believed() {
    for left in [b"GGUF and then something else".to_vec(), vec![7; 4 << 20]] {
        let world = world(|_, _, _, _| false);
        fs::create_dir_all(world.blobs()).expect("ours");
        let unfinished = world.blobs().join(sha256(&contents()) + ".incomplete");
        fs::write(&unfinished, &left).expect("ours");
        assert_arrives(&world);
    }
}

#[test]
fn a_server_that_knows_no_parts_sends_all_of_it() {
    let world = world(|n, request, stream, contents| {
        if n == 0 {
            part(request, stream, contents, 1_500_000);
        } else {
            let all = Request { headers: std::collections::HashMap::new(), ..request.clone() };
            whole(&all, stream, contents, &[]);
        }
        true
    });
    assert_arrives(&world);
}

#[test]
fn another_part_than_asked_for_is_not_put_together() {
    let world = world(|n, request, stream, contents| {
        if n == 0 {
            part(request, stream, contents, 1_500_000);
        } else {
            let total = contents.len();
            let range = format!("Content-Range: bytes 7-{}/{total}", total - 1);
            head(stream, "206 Partial Content", &[range, format!("Content-Length: {}", total - 7)]);
            let _ = stream.write_all(&contents[7..]);
        }
        true
    });
    let error = assert_fails(&world);
    assert!(error.to_string().contains("and sends that from 7 on"), "{error}");
}

#[test]
fn a_busy_server_is_asked_again_when_it_says() {
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let world = world(move |n, _, stream, _| {
            if n < 2 {
                empty(stream, status, &["Retry-After: 0"]);
            }
            n < 2
        });
        let notes = Notes::default();
        assert!(world.pull_watched(&notes).expect("it has time in the end").fetched);
        assert!(notes.has(&format!("waits 0ns: answers with HTTP {}", &status[..3])), "{notes:?}");
    }
}

#[test]
fn a_server_that_stays_busy_is_given_up() {
    let busy = world(|_, _, stream, _| {
        empty(stream, "503 Service Unavailable", &[]);
        true
    });
    let error = assert_fails(&busy);
    assert!(error.to_string().contains("answers with HTTP 503, 4 times"), "{error}");
    let long = world(|_, _, stream, _| {
        empty(stream, "429 Too Many Requests", &["Retry-After: 3600"]);
        true
    });
    let error = assert_fails(&long);
    assert!(error.to_string().contains("asked again in 3600 s"), "{error}");
    assert_eq!(long.network.asked("GET").len(), 1, "it is left alone");
}

#[test]
fn a_refusal_and_a_ring_of_redirects_are_told() {
    let forbidden = world(|_, _, stream, _| {
        empty(stream, "403 Forbidden", &[]);
        true
    });
    assert!(assert_fails(&forbidden).to_string().contains("HTTP 403"));
    let ring = world(|_, _, stream, _| {
        empty(stream, "302 Found", &["Location: /bytes"]);
        true
    });
    assert!(assert_fails(&ring).to_string().contains("redirect"));
}

#[test]
fn a_connection_that_ends_before_an_answer_is_tried_again() {
    // Not a byte, then half a head.
    let world = world(|n, _, stream, _| {
        if n == 1 {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Le");
        }
        n < 2
    });
    assert_arrives(&world);
}
