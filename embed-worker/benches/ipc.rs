//! What it costs to ask a worker anything: round trips of `Ping` over the local socket or pipe, and the
//! time that a waiting worker takes of a processor.
//!
//! ```sh
//! cargo bench -p embed-worker --bench ipc
//! ```

use std::time::{Duration, Instant};

use embed_protocol::{Request, Response};

#[expect(dead_code, reason = "the tests need more of it")]
#[path = "../tests/it/support/mod.rs"]
mod support;

use support::peer::Peer;
use support::worker::{Home, Worker, tiny_model};

/// Round trips that are not counted, then those that are.
const WARM: u64 = 1_000;
const PINGS: u64 = 20_000;

/// How long the worker is looked at while nobody asks it anything.
const IDLE: Duration = Duration::from_secs(10);

#[expect(clippy::print_stdout, reason = "it is what a benchmark is for")]
fn main() {
    let home = Home::new();
    let worker = Worker::ready(&mut home.serve(&tiny_model()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let mut times = runtime.expect("a runtime").block_on(async {
        let mut peer = Peer::open(&home).await;
        for id in 0..WARM {
            ping(&mut peer, id).await;
        }
        let mut times = Vec::new();
        for id in 0..PINGS {
            times.push(ping(&mut peer, id).await);
        }
        if let Some(before) = processor_ms(worker.pid()) {
            tokio::time::sleep(IDLE).await;
            let spent = processor_ms(worker.pid()).unwrap_or(before) - before;
            let share = 100.0 * spent as f64 / IDLE.as_millis() as f64;
            println!("a waiting worker: {share:.2} % of one processor, over {IDLE:?}");
        }
        times
    });
    times.sort();
    let at = |part: f64| times[(part * (times.len() - 1) as f64) as usize].as_secs_f64() * 1e6;
    let [median, p99, most] = [at(0.5), at(0.99), at(1.0)];
    println!(
        "{PINGS} pings: median {median:.0} µs, 99 % within {p99:.0} µs, all within {most:.0} µs"
    );
}

/// Asks once, and waits for the answer.
async fn ping(peer: &mut Peer, id: u64) -> Duration {
    let asked = Instant::now();
    peer.send(&Request::Ping { id }).await;
    let answer = peer.next().await;
    let took = asked.elapsed();
    assert!(matches!(answer, Some(Response::Pong { id: of }) if of == id), "{answer:?}");
    took
}

/// Milliseconds that a process has computed for, in steps of ten.
#[cfg(target_os = "linux")]
fn processor_ms(pid: u32) -> Option<u64> {
    /// Of `/proc/PID/stat`, on every Linux that Rust runs on.
    const MS_PER_TICK: u64 = 10;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<u64>().ok();
    Some((ticks(11)? + ticks(12)?) * MS_PER_TICK)
}

/// Not told here.
#[cfg(not(target_os = "linux"))]
fn processor_ms(_pid: u32) -> Option<u64> {
    None
}
