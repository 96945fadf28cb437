//! A small fixed pool: one job at a time, its tasks shared out and claimed one by one.
//!
//! A forward pass is some hundred short jobs in a row, each waiting for the one before it.
//! Between them a thread spins for a moment, because waking a parked one costs more than a job of a
//! short text; after that it parks, so that an idle pool costs nothing.
//! Each thread has a range of tasks, and takes from others' when it has done its own: so threads touch
//! each other's counters little, and one slow core (a noisy neighbour) does not hold up the rest.
#![expect(unsafe_code, reason = "lends a borrowed closure to threads that outlive the borrow")]

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};

/// How often a thread looks for the next job before it parks: some 20 µs on today's cores.
const SPINS: u32 = 4_000;

/// What a job does: task index, thread index.
type Job<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// A fixed number of threads, the caller's included.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    threads: Vec<Thread>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Odd while a job is open to be joined; each job takes two steps.
    epoch: Apart<AtomicUsize>,
    /// For each thread, the next task of its range; who has done all of its own takes from others'.
    next: Vec<Apart<AtomicUsize>>,
    /// Workers that joined the open job and have not left it.
    inside: Apart<AtomicUsize>,
    tasks: AtomicUsize,
    stop: AtomicBool,
    job: Mutex<Option<Erased>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// On a cache line of its own (processors fetch two at a time), so that who waits for one value does
/// not slow down who changes another.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

impl<T> std::ops::Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A job whose borrow the compiler no longer follows; see [`Pool::run`].
#[derive(Clone, Copy)]
struct Erased(Job<'static>);

impl std::fmt::Debug for Erased {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Erased")
    }
}

impl Pool {
    /// A pool of `threads` threads: the caller's, and `threads - 1` of its own.
    pub fn new(threads: usize) -> Self {
        let next = std::iter::repeat_with(Apart::default).take(threads.max(1)).collect();
        let shared = Arc::new(Shared { next, ..Shared::default() });
        let workers: Vec<_> = (1..threads.max(1))
            .filter_map(|thread| {
                let shared = Arc::clone(&shared);
                // Where the system gives no more threads, the pool is smaller; nobody depends on
                // its size.
                std::thread::Builder::new()
                    .name(format!("compute-{thread}"))
                    .spawn(move || worker(&shared, thread))
                    .ok()
            })
            .collect();
        let threads = workers.iter().map(|worker| worker.thread().clone()).collect();
        Self { shared, workers, threads }
    }

    /// Threads that run tasks, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `job(task, thread)` for every task below `tasks`, and returns when all have ended.
    ///
    /// `thread` is below [`Self::threads`] and differs between tasks that run at the same time.
    ///
    /// # Panics
    ///
    /// If a task panics, after all others have ended; tasks not yet begun are then skipped.
    pub fn run(&mut self, tasks: usize, job: Job<'_>) {
        if self.workers.is_empty() || tasks <= 1 {
            (0..tasks).for_each(|task| job(task, 0));
            return;
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. A worker takes the job only after raising `inside`
        // while the epoch is odd, and this function does not return (or unwind: the caller's own
        // tasks are caught) before the epoch is even again and `inside` is zero, so that no worker
        // can use `job` after its borrow has ended. `&mut self` keeps a second job out.
        let erased = Erased(unsafe { std::mem::transmute::<Job<'_>, Job<'static>>(job) });
        *lock(&shared.job) = Some(erased);
        shared.tasks.store(tasks, Ordering::Relaxed);
        for (thread, next) in shared.next.iter().enumerate() {
            next.store(shared.range(tasks, thread).start, Ordering::Relaxed);
        }
        shared.epoch.fetch_add(1, Ordering::SeqCst);
        for thread in self.threads.iter().take(tasks - 1) {
            thread.unpark();
        }
        shared.work(erased, 0);
        shared.epoch.fetch_add(1, Ordering::SeqCst);
        let mut spins = 0_u32;
        while shared.inside.load(Ordering::SeqCst) != 0 {
            spins = spins.saturating_add(1);
            // A worker that lost its core in the middle of a task may take a time slice to return.
            if spins < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        *lock(&shared.job) = None;
        let panic = lock(&shared.panic).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches what its tasks throw; it has nothing to report.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// The tasks that thread `thread` does first: each time the same part of a job, so that what it
    /// wrote last is still in its core's cache.
    fn range(&self, tasks: usize, thread: usize) -> Range<usize> {
        let threads = self.next.len();
        tasks * thread / threads..tasks * (thread + 1) / threads
    }

    /// Claims and runs tasks until none is left: its own range's, then what others have not begun.
    fn work(&self, job: Erased, thread: usize) {
        let (tasks, threads) = (self.tasks.load(Ordering::Relaxed), self.next.len());
        for of in (thread..threads).chain(0..thread) {
            let end = self.range(tasks, of).end;
            loop {
                // Looked at before it is changed: a range that has ended stays in all caches.
                let next = &self.next[of];
                if next.load(Ordering::Relaxed) >= end {
                    break;
                }
                let task = next.fetch_add(1, Ordering::Relaxed);
                if task >= end {
                    break;
                }
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (job.0)(task, thread))) {
                    // The first panic is the one that is told; the rest is not worth doing.
                    lock(&self.panic).get_or_insert(panic);
                    for next in &self.next {
                        next.store(usize::MAX / 2, Ordering::Relaxed);
                    }
                }
            }
        }
    }

    /// Joins the open job if there is one; says whether there was.
    fn join(&self, thread: usize) -> bool {
        self.inside.fetch_add(1, Ordering::SeqCst);
        // Read after raising `inside`: if the job is still open now, its owner will wait for us.
        let open = self.epoch.load(Ordering::SeqCst) % 2 == 1;
        if open {
            let job = *lock(&self.job);
            if let Some(job) = job {
                self.work(job, thread);
            }
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
        open
    }
}

/// What a thread of the pool does all its life.
fn worker(shared: &Shared, thread: usize) {
    let mut seen = 0;
    loop {
        let mut spins = 0;
        loop {
            if shared.stop.load(Ordering::SeqCst) {
                return;
            }
            let epoch = shared.epoch.load(Ordering::SeqCst);
            if epoch != seen && epoch % 2 == 1 {
                seen = epoch;
                break;
            }
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
            } else {
                // `unpark` before `park` makes `park` return at once, so that no job is missed.
                std::thread::park();
                spins = 0;
            }
        }
        shared.join(thread);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is ever left half done under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Threads that a machine's kernels want: its physical cores.
///
/// Two hyper-threads of one core share the very units that the dots need.
pub fn physical_cores() -> usize {
    let logical = std::thread::available_parallelism().map_or(1, usize::from);
    physical_of(logical).clamp(1, logical)
}

/// Counts the cores of the processors that this process may use, as Linux tells them.
#[cfg(target_os = "linux")]
fn physical_of(logical: usize) -> usize {
    let mut cores = std::collections::HashSet::new();
    for cpu in 0..logical {
        let topology = format!("/sys/devices/system/cpu/cpu{cpu}/topology");
        let read = |file: &str| std::fs::read_to_string(format!("{topology}/{file}")).ok();
        match (read("physical_package_id"), read("core_id")) {
            (Some(package), Some(core)) => cores.insert((package, core)),
            _ => return logical,
        };
    }
    cores.len()
}

/// Elsewhere every processor counts as a core.
#[cfg(not(target_os = "linux"))]
fn physical_of(logical: usize) -> usize {
    logical
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(pool: &mut Pool, tasks: usize) -> Vec<usize> {
        let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
        let threads = pool.threads();
        pool.run(tasks, &|task, thread| {
            assert!(thread < threads);
            counts[task].fetch_add(1, Ordering::Relaxed);
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_task_runs_once_on_any_number_of_threads() {
        for threads in [1, 2, 3, 8] {
            let mut pool = Pool::new(threads);
            for tasks in [0, 1, 2, 7, 100, 1000] {
                assert_eq!(counted(&mut pool, tasks), vec![1; tasks], "{threads} threads");
            }
        }
    }

    #[test]
    fn many_short_jobs_in_a_row_lose_none() {
        let mut pool = Pool::new(4);
        for round in 0..20_000 {
            let sum = AtomicUsize::new(0);
            pool.run(3, &|task, _| {
                sum.fetch_add(task + round, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 3 + 3 * round);
        }
    }

    #[test]
    fn tasks_of_one_job_never_share_a_thread_index() {
        let mut pool = Pool::new(3);
        let busy: Vec<AtomicBool> = (0..3).map(|_| AtomicBool::new(false)).collect();
        pool.run(3_000, &|_, thread| {
            assert!(!busy[thread].swap(true, Ordering::SeqCst), "index {thread} is in use");
            std::hint::spin_loop();
            busy[thread].store(false, Ordering::SeqCst);
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let mut pool = Pool::new(3);
        for _ in 0..50 {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                pool.run(100, &|task, _| assert!(task != 42, "task 42"));
            }));
            let panic = caught.expect_err("task 42 panics");
            assert_eq!(panic.downcast_ref::<&str>(), Some(&"task 42"));
            assert_eq!(counted(&mut pool, 10), vec![1; 10]);
        }
    }

    #[test]
    fn a_machine_has_at_least_one_core() {
        assert!(physical_cores() >= 1);
    }
}
