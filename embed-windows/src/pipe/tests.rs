//! Pipes between tasks of this process, and what Windows says of them.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;
use crate::descriptor::{Ownership, to_text};

/// How long anything may take before a test calls it hung.
const PATIENCE: Duration = Duration::from_secs(30);

/// A pipe that no other test knows.
fn address(name: &str) -> PathBuf {
    PathBuf::from(format!(r"\\.\pipe\embed-windows-test-{}-{name}", std::process::id()))
}

/// Both ends of a connection.
async fn pair(name: &str) -> (Stream, Stream) {
    let address = address(name);
    let listener = Listener::bind(&address).expect("nobody has it");
    let (server, client) = tokio::join!(listener.accept(), Stream::connect(&address));
    (server.expect("somebody comes"), client.expect("it is there"))
}

#[tokio::test]
async fn what_one_end_writes_the_other_reads() {
    let (mut server, mut client) = pair("bytes").await;
    // More than the system keeps, so that both have to wait for each other.
    let sent: Vec<u8> = (0..4 * BUFFER_BYTES).map(|i| i as u8).collect();
    let mut received = vec![0; sent.len()];
    let (wrote, read) = tokio::join!(client.write_all(&sent), server.read_exact(&mut received));
    wrote.expect("is read");
    read.expect("is written");
    assert!(received == sent);
    server.write_all(b"answer").await.expect("fits");
    let mut answer = [0; 6];
    client.read_exact(&mut answer).await.expect("is written");
    assert_eq!(&answer, b"answer");
}

#[tokio::test]
async fn what_was_written_before_the_end_is_read_and_then_the_end() {
    let (mut server, mut client) = pair("end").await;
    server.write_all(b"last words").await.expect("fits");
    drop(server);
    let mut heard = Vec::new();
    timeout(PATIENCE, client.read_to_end(&mut heard)).await.expect("ends").expect("no error");
    assert_eq!(heard, b"last words");
}

/// Wine 8 does not wait in a flush.
#[tokio::test]
async fn a_shutdown_waits_until_the_peer_has_read_and_a_flush_does_not() {
    let (mut server, mut client) = pair("shutdown").await;
    server.write_all(b"unread").await.expect("fits");
    timeout(PATIENCE, server.flush()).await.expect("waits for nobody").expect("no error");
    let early = timeout(Duration::from_millis(100), server.shutdown()).await;
    assert!(crate::is_wine() || early.is_err(), "the peer has read nothing: {early:?}");
    let mut heard = [0; 6];
    client.read_exact(&mut heard).await.expect("is there");
    timeout(PATIENCE, server.shutdown()).await.expect("it has read").expect("no error");
}

#[tokio::test]
async fn a_peer_that_reads_late_is_not_waited_for_by_whoever_has_had_enough_and_loses_nothing() {
    let (mut server, mut client) = pair("late").await;
    server.write_all(b"unread").await.expect("fits");
    let early = timeout(Duration::from_millis(100), server.shutdown()).await;
    assert!(crate::is_wine() || early.is_err(), "the peer has read nothing: {early:?}");
    drop(server);
    let mut heard = Vec::new();
    timeout(PATIENCE, client.read_to_end(&mut heard)).await.expect("ends").expect("no error");
    assert_eq!(heard, b"unread");
}

#[tokio::test]
async fn who_is_dropped_in_the_middle_of_a_write_is_gone_although_the_peer_does_not_read() {
    let (mut server, mut client) = pair("unread").await;
    let piece = vec![7; BUFFER_BYTES as usize / 2];
    // Until one is on its way for which the system has no room: behind that the next one waits.
    while let Ok(written) = timeout(Duration::from_millis(100), server.write(&piece)).await {
        written.expect("the peer is there");
    }
    drop(server);
    let hears = async { while client.write_all(b"anybody there?").await.is_ok() {} };
    timeout(PATIENCE, hears).await.expect("nobody is, and nobody reads");
}

#[tokio::test]
async fn many_clients_at_once_are_served_one_after_the_other() {
    const CLIENTS: u8 = 20;
    let address = address("many");
    let listener = Listener::bind(&address).expect("nobody has it");
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let address = address.clone();
            tokio::spawn(async move {
                let mut stream = Stream::connect(&address).await.expect("it is there");
                stream.write_all(&[number]).await.expect("is read");
                stream
            })
        })
        .collect();
    let mut heard = Vec::new();
    for _ in 0..CLIENTS {
        let mut stream =
            timeout(PATIENCE, listener.accept()).await.expect("in time").expect("comes");
        heard.push(stream.read_u8().await.expect("is written"));
    }
    heard.sort_unstable();
    assert_eq!(heard, (0..CLIENTS).collect::<Vec<_>>());
    for client in clients {
        client.await.expect("no panic");
    }
}

#[tokio::test]
async fn who_comes_and_goes_is_not_in_the_way_of_the_next() {
    let address = address("fickle");
    let listener = Listener::bind(&address).expect("nobody has it");
    drop(Stream::connect(&address).await.expect("it is there"));
    let (arrived, client) = tokio::join!(
        async {
            loop {
                let mut stream = listener.accept().await.expect("somebody comes");
                // The first may be seen as one that has left again.
                if let Ok(byte) = stream.read_u8().await {
                    return byte;
                }
            }
        },
        async {
            let mut stream = Stream::connect(&address).await.expect("it is there");
            stream.write_all(&[7]).await.expect("is read");
            stream
        }
    );
    assert_eq!(arrived, 7);
    drop(client);
}

#[tokio::test]
async fn where_nobody_listens_is_no_pipe() {
    let error = Stream::connect(&address("nobody")).await.expect_err("there is none");
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

/// The parts of a descriptor's text: `O:…D:…S:…`.
fn parts(text: &str) -> (&str, &str, &str) {
    let (owner, rest) = text.strip_prefix("O:").expect(text).split_once("D:").expect(text);
    let (list, labels) = rest.split_once("S:").expect(text);
    (owner, list, labels)
}

/// Fails unless nobody but `user` is admitted by a list, with all rights and nothing inherited.
fn assert_admits_only(user: &User, list: &str) {
    let entry = list.strip_prefix("P(A;;").expect(list).strip_suffix(')').expect(list);
    let (rights, who) = entry.split_once(";;;").expect(entry);
    assert!(["GA", "FA", "0x1f01ff"].contains(&rights), "all rights: {list}");
    assert_eq!(who, user.sid(), "nobody else: {list}");
}

/// Fails unless a list is one label of `user`'s level, below which nobody may read or write.
fn assert_is_label(user: &User, list: &str) {
    let (_, entry) = list.split_once('(').expect(list);
    let fields: Vec<_> = entry.strip_suffix(')').expect(list).split(';').collect();
    let [kind, _, rights, _, _, level] = fields[..] else { panic!("not one entry: {list}") };
    // Wine 8 has no names for these, and takes the rights for others of the same numbers.
    let wine = crate::is_wine() && kind.is_empty() && rights == "CCDC";
    assert!(wine || kind == "ML" && ["NRNW", "NWNR", "0x3"].contains(&rights), "{list}");
    let names = [("LW", 0x1000), ("ME", 0x2000), ("HI", 0x3000), ("SI", 0x4000)];
    let named = names.contains(&(level, user.integrity()));
    assert!(named || level == format!("S-1-16-{}", user.integrity()), "{list}");
}

#[tokio::test]
async fn a_pipe_admits_its_user_and_nobody_else() {
    let user = User::current().expect("has one");
    let wanted = owner_only(&user);
    let (owner, list, labels) = parts(&wanted);
    assert_eq!(owner, user.sid(), "the user, not a group of theirs");
    assert_eq!(list, format!("P(A;;GA;;;{owner})"), "protected, one entry, the user's");
    assert_eq!(labels, format!("(ML;;NRNW;;;S-1-16-{})", user.integrity()));

    // Windows has understood every part of it.
    let understood = to_text(&Descriptor::parse(&wanted).expect("is one")).expect("has a text");
    let (owner, list, labels) = parts(&understood);
    assert_eq!(owner, user.sid());
    assert_admits_only(&user, list);
    assert_is_label(&user, labels);

    // And so is each instance, seen from either end.
    let address = address("descriptor");
    let listener = Listener::bind(&address).expect("nobody has it");
    for _ in 0..2 {
        let (server, client) = tokio::join!(listener.accept(), Stream::connect(&address));
        for stream in [server.expect("somebody comes"), client.expect("it is there")] {
            let found = Ownership::of(stream.as_handle()).expect("may be asked");
            assert_eq!(found.owner, user.sid());
            assert_eq!(found.integrity, user.integrity(), "{found:?}");
            assert!(found.is_of(&user));
            let (_, list, labels) = parts(&found.text);
            assert_admits_only(&user, list);
            assert_is_label(&user, labels);
        }
    }
}

#[test]
fn a_pipe_of_another_user_or_of_a_lower_level_is_not_trusted() {
    let user = User::current().expect("has one");
    let own = Ownership {
        owner: user.sid().to_owned(),
        integrity: user.integrity(),
        text: String::new(),
    };
    assert!(own.is_of(&user));
    assert!(Ownership { integrity: user.integrity() + 1, ..own.clone() }.is_of(&user));
    assert!(!Ownership { integrity: user.integrity() - 1, ..own.clone() }.is_of(&user));
    assert!(!Ownership { owner: format!("{}0", own.owner), ..own }.is_of(&user));
}
