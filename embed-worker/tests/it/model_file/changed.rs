//! Replaced, rewritten, cut, deleted and restored; while nobody wants anything, and in mid-batch.

use super::{Model, Rig, gives, is_left_to_a_successor, under_load};
use crate::support::peer::Peer;

/// Lets the worker go, which must not have been killed; gives its log.
fn log_of(worker: crate::support::worker::Worker) -> String {
    let (status, stderr) = worker.end();
    assert!(status.success(), "{status}: {stderr}");
    stderr
}

/// Changes the model while texts are embedded with it. Each is answered rightly or left to a successor,
/// some of them in any case, and that answers from `left`; gives how many were answered.
async fn is_changed_in_mid_batch(change: impl FnOnce(&Rig), left: fn(&Rig) -> &Model) -> usize {
    let rig = Rig::new();
    let worker = rig.serve();
    let mut peer = Peer::open(&rig.home).await;
    let (answered, unanswered) = under_load(&rig, &mut peer, change).await;
    assert!(unanswered > 0 && answered + unanswered == 400, "{answered}, {unanswered}");
    log_of(worker);
    rig.successor_gives(left(&rig)).await;
    answered
}

#[tokio::test]
async fn a_file_that_is_rewritten_in_place_is_answered_from_by_a_successor() {
    let rig = Rig::new();
    let worker = rig.serve();
    let mut peer = Peer::open(&rig.home).await;
    gives(&mut peer, &rig.first).await;
    rig.rewrite(&rig.second.bytes);
    let message = is_left_to_a_successor(&mut peer).await;
    assert!(message.contains("model.gguf") && message.contains("changed in place"), "{message}");
    let log = log_of(worker);
    assert!(log.contains("WARN") && log.contains("changed in place"), "{log}");
    rig.successor_gives(&rig.second).await;
}

#[tokio::test]
async fn a_file_that_is_rewritten_in_mid_batch_gives_no_wrong_vector() {
    for _ in 0..3 {
        let change = |rig: &Rig| rig.rewrite(&rig.second.bytes);
        let answered = is_changed_in_mid_batch(change, |rig| &rig.second).await;
        assert!(answered >= 40, "{answered}");
    }
}

/// A file that was restored is still another: somebody may have computed from what it was meanwhile.
#[tokio::test]
async fn a_file_that_is_rewritten_and_restored_at_once_gives_no_wrong_vector() {
    for _ in 0..3 {
        let change = |rig: &Rig| {
            rig.rewrite(&rig.second.bytes);
            rig.rewrite(&rig.first.bytes);
        };
        is_changed_in_mid_batch(change, |rig| &rig.first).await;
    }
}

/// Where a mapped file cannot be written over, another is put in its place so.
#[tokio::test]
async fn a_file_that_is_moved_aside_for_another_is_answered_from_by_a_successor() {
    let rig = Rig::new();
    let mut worker = rig.serve();
    let mut peer = Peer::open(&rig.home).await;
    gives(&mut peer, &rig.first).await;
    std::fs::rename(rig.model(), rig.folder.path().join("moved")).expect("mapped, but not held");
    gives(&mut peer, &rig.first).await;
    assert!(worker.is_running(), "who moves a model does not mean that its users shall fail");
    std::fs::copy(rig.folder.path().join("second"), rig.model()).expect("the name is free");
    let message = is_left_to_a_successor(&mut peer).await;
    assert!(message.contains("was replaced by another"), "{message}");
    log_of(worker);
    std::fs::remove_file(rig.folder.path().join("moved")).expect("nobody has it any more");
    rig.successor_gives(&rig.second).await;
}

#[tokio::test]
async fn a_file_that_is_moved_aside_for_another_in_mid_batch_gives_no_wrong_vector() {
    let change = |rig: &Rig| {
        std::fs::rename(rig.model(), rig.folder.path().join("moved")).expect("not held");
        std::fs::rename(rig.folder.path().join("second"), rig.model()).expect("ours");
    };
    is_changed_in_mid_batch(change, |rig| &rig.second).await;
}

/// What kills a worker elsewhere is impossible here.
#[cfg(windows)]
#[tokio::test]
async fn a_mapped_file_is_neither_cut_nor_written_over() {
    let rig = Rig::new();
    let worker = rig.serve();
    let mut peer = Peer::open(&rig.home).await;
    gives(&mut peer, &rig.first).await;
    let file = std::fs::File::options().write(true).open(rig.model()).expect("ours");
    file.set_len(4096).expect_err("it is mapped");
    drop(file);
    std::fs::rename(rig.folder.path().join("second"), rig.model()).expect_err("it is mapped");
    gives(&mut peer, &rig.first).await;
    drop(peer);
    drop(worker);
}

#[cfg(unix)]
mod unix {
    use embed_protocol::ErrorCode;

    use super::*;
    use crate::support::worker::Worker;

    /// A multiple of the page of every system: 4, 16 or 64 KiB.
    const PAGES: u64 = 512 * 1024;

    /// Where a file may be cut: at a page's edge, beyond which touching kills; and within a page,
    /// whose rest then reads as zeros.
    const CUTS: [u64; 2] = [PAGES, PAGES + 1234];

    #[tokio::test]
    async fn a_file_in_its_place_is_answered_from_by_a_successor() {
        let rig = Rig::new();
        let worker = rig.serve();
        let mut peer = Peer::open(&rig.home).await;
        gives(&mut peer, &rig.first).await;
        rig.replace("second");
        let message = is_left_to_a_successor(&mut peer).await;
        assert!(message.contains("was replaced by another"), "{message}");
        let log = log_of(worker);
        assert!(log.contains("was replaced by another"), "{log}");
        rig.successor_gives(&rig.second).await;
    }

    #[tokio::test]
    async fn a_file_in_its_place_in_mid_batch_gives_no_wrong_vector() {
        is_changed_in_mid_batch(|rig| rig.replace("second"), |rig| &rig.second).await;
    }

    #[tokio::test]
    async fn a_file_that_is_cut_while_nobody_wants_anything_costs_no_worker_its_life() {
        for cut in CUTS {
            let rig = Rig::new();
            let worker = rig.serve();
            let mut peer = Peer::open(&rig.home).await;
            gives(&mut peer, &rig.first).await;
            rig.cut(cut);
            let message = is_left_to_a_successor(&mut peer).await;
            assert!(message.contains(&format!("has {cut} bytes, had ")), "{message}");
            log_of(worker);
            is_refused(&rig);
            rig.rewrite(&rig.first.bytes);
            rig.successor_gives(&rig.first).await;
        }
    }

    #[tokio::test]
    async fn a_file_that_is_cut_in_mid_batch_gives_no_wrong_vector() {
        for cut in [CUTS, CUTS].concat() {
            let rig = Rig::new();
            let worker = rig.serve();
            let mut peer = Peer::open(&rig.home).await;
            let (answered, left) = under_load(&rig, &mut peer, |rig| rig.cut(cut)).await;
            assert!((40..400).contains(&answered), "{answered}, {left}");
            let ended = worker.how_it_ended();
            let bus_error = rustix::process::Signal::BUS.as_raw();
            assert!(ended == Ok(0) || ended == Err(bus_error), "{ended:?}");
            is_refused(&rig);
            rig.rewrite(&rig.first.bytes);
            rig.successor_gives(&rig.first).await;
        }
    }

    /// Between the cut and the mending the worker sees zeros; the size is the same again when it
    /// asks, and the times are not.
    #[tokio::test]
    async fn a_file_that_is_cut_and_restored_at_once_gives_no_wrong_vector() {
        for cut in CUTS {
            let rig = Rig::new();
            let worker = rig.serve();
            let mut peer = Peer::open(&rig.home).await;
            let (answered, _) = under_load(&rig, &mut peer, |rig| {
                rig.cut(cut);
                rig.rewrite(&rig.first.bytes);
            })
            .await;
            assert!(answered < 400, "{answered}");
            worker.how_it_ended().map_or_else(drop, |code| assert_eq!(code, 0));
            rig.successor_gives(&rig.first).await;
        }
    }

    /// Fails unless a worker that starts now says what is wrong with the file.
    fn is_refused(rig: &Rig) {
        let worker = Worker::spawn(&mut rig.home.serve(&rig.model()));
        let line = worker.line().expect("a line on standard output");
        assert!(line.contains(ErrorCode::ModelInvalid.as_str()), "{line}");
        assert!(line.contains("file ends at"), "{line}");
        assert_eq!(worker.how_it_ended(), Ok(1));
    }

    #[tokio::test]
    async fn a_file_that_is_deleted_or_moved_away_is_answered_from_as_long_as_somebody_wants() {
        let rig = Rig::new();
        let mut worker = rig.serve();
        let mut peer = Peer::open(&rig.home).await;
        std::fs::rename(rig.model(), rig.folder.path().join("moved")).expect("ours");
        gives(&mut peer, &rig.first).await;
        std::fs::remove_file(rig.folder.path().join("moved")).expect("ours");
        gives(&mut peer, &rig.first).await;
        assert!(worker.is_running());
        // Until another takes its place.
        std::fs::copy(rig.folder.path().join("second"), rig.model()).expect("ours");
        is_left_to_a_successor(&mut peer).await;
        log_of(worker);
        rig.successor_gives(&rig.second).await;
    }
}
