//! The worker among programs that come, go and are killed.

use super::serve;
use crate::support::peer::Peer;
use crate::support::program::{Program, act, until};
use crate::support::worker::Home;

#[tokio::test]
async fn a_client_that_is_killed_counts_as_gone() {
    if act().await {
        return;
    }
    let (home, mut worker) = serve("0.2");
    let held = Peer::open(&home).await;
    let test = "process_management::programs::a_client_that_is_killed_counts_as_gone";
    let mut programs = [Program::start(test, &home), Program::start(test, &home)];
    for program in &mut programs {
        assert_eq!(program.worker(), worker.pid());
    }
    drop(held);
    let [first, last] = programs;
    first.kill();
    super::a_moment().await;
    assert!(worker.is_running(), "one is left");
    last.kill();
    worker.leaves(&home);
}

#[tokio::test]
async fn twenty_programs_at_once_share_one_worker_which_leaves_after_the_last() {
    if act().await {
        return;
    }
    let home = Home::new();
    let test = "process_management::programs::\
                twenty_programs_at_once_share_one_worker_which_leaves_after_the_last";
    let mut programs: Vec<_> = (0..20).map(|_| Program::start(test, &home)).collect();
    let worker = programs[0].worker();
    for program in &mut programs {
        assert_eq!(program.worker(), worker);
    }
    // Those that came too late have been told so and are gone.
    until("one worker is left", || home.workers() == [worker]);
    for (n, program) in programs.into_iter().enumerate() {
        if n % 3 == 0 { program.kill() } else { program.leave() }
    }
    until("the worker is gone", || home.workers().is_empty());
    assert_eq!(home.entries(), Vec::<String>::new(), "left behind");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn five_hundred_texts_cost_less_than_fifty_megabytes() {
    use crate::support::own_process::memory;
    use crate::support::worker::{Worker, real_model};

    let home = Home::new();
    let mut command = home.serve(&real_model());
    // As many threads as a user would have: each has memory of its own.
    let worker = Worker::ready(command.env_remove("EMBED_THREADS"));
    let mut peer = Peer::open(&home).await;
    let longest = "a text as long as the model takes ".repeat(60);
    for id in 0..500 {
        let params = embed_protocol::EmbedParams { truncate: true, ..Default::default() };
        let text = if id % 250 == 0 { &longest } else { "short" };
        peer.embed_with(id, text, params).await;
    }
    for _ in 0..500 {
        peer.vector().await;
    }
    let private = memory(&worker.pid().to_string(), "smaps_rollup", "Anonymous:");
    assert!(private < 50_000_000, "{private} bytes");
    let told = peer.stats().await.private_bytes.expect("Linux tells");
    assert!(told < 50_000_000 && told > 100_000, "{told} bytes");
}
