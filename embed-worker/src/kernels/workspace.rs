//! Threads and their scratch: what every parallel operation runs in.

use std::sync::{Mutex, PoisonError};

use super::NonFiniteWeight;
use super::attention::AttentionScratch;
use super::buffer::Buffer;
use super::panel::{Panels, SLICE};
use super::tile::Sums;
use crate::threads::Pool;

/// A pool of threads with a scratch for each.
#[derive(Debug)]
pub struct Workspace {
    pool: Pool,
    scratch: Vec<Mutex<ThreadScratch>>,
}

/// What one thread needs, kept from one task to the next.
#[derive(Debug, Default)]
pub(super) struct ThreadScratch {
    pub(super) panels: Panels,
    /// A product's sums, `[tokens]`.
    pub(super) sums: Buffer<Sums>,
    /// Columns of a product that are quantized next, `[tokens, 256]`.
    pub(super) columns: Buffer,
    pub(super) attention: AttentionScratch,
}

impl ThreadScratch {
    fn held_bytes(&self) -> usize {
        let Self { panels, sums, columns, attention } = self;
        panels.held_bytes() + sums.bytes() + columns.bytes() + attention.held_bytes()
    }
}

impl Workspace {
    /// A workspace of `threads` threads, the caller's included.
    pub fn new(threads: usize) -> Self {
        let pool = Pool::new(threads);
        let scratch = std::iter::repeat_with(Mutex::default).take(pool.threads()).collect();
        Self { pool, scratch }
    }

    /// Bytes of scratch that one thread comes to for products of up to `tile` tokens, with matrices that
    /// are not quantized of up to `plain_cols` columns, and for attention over up to `tokens` tokens of
    /// heads `width` wide, of which it lays out up to `own` by itself.
    pub fn thread_bytes(
        plain_cols: usize,
        tile: usize,
        (own, tokens, width): (usize, usize, usize),
    ) -> usize {
        let product = tile * (size_of::<Sums>() + SLICE * size_of::<f32>());
        Panels::bytes(plain_cols) + product + AttentionScratch::bytes(own, tokens, width)
    }

    /// Bytes of scratch that all threads hold.
    pub fn held_bytes(&mut self) -> usize {
        self.each_scratch().map(|scratch| scratch.held_bytes()).sum()
    }

    /// Gives the threads' scratch back.
    pub fn release(&mut self) {
        self.each_scratch().for_each(|scratch| *scratch = ThreadScratch::default());
    }

    fn each_scratch(&mut self) -> impl Iterator<Item = &mut ThreadScratch> {
        self.scratch.iter_mut().map(|scratch| {
            // What a panic left behind is scratch.
            scratch.get_mut().unwrap_or_else(PoisonError::into_inner)
        })
    }

    /// Threads that compute.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Runs `task` for each number below `tasks`.
    pub fn each(&mut self, tasks: usize, task: impl Fn(usize) + Sync) {
        self.pool.run(tasks, &|index, _| task(index));
    }

    /// Runs `task` for each number below `tasks` with the scratch of the thread it runs on, and
    /// collects what failed.
    pub(super) fn run<E: Send>(
        &mut self,
        tasks: usize,
        task: impl Fn(usize, &mut ThreadScratch) -> Result<(), E> + Sync,
    ) -> Vec<E> {
        let failed = Mutex::new(Vec::new());
        let scratch = &self.scratch;
        self.pool.run(tasks, &|index, thread| {
            // Never contended: a thread index is in use once at a time. A scratch that a panic left
            // behind holds nothing that the next task reads.
            let mut scratch = scratch[thread].lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = task(index, &mut scratch) {
                failed.lock().unwrap_or_else(PoisonError::into_inner).push(error);
            }
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error of the first row, so that the same file always gives the same message.
pub(super) fn first_error(
    errors: Vec<(usize, NonFiniteWeight)>,
) -> Result<(), (usize, NonFiniteWeight)> {
    let first = errors.into_iter().min_by_key(|(index, error)| (*index, error.row, error.element));
    first.map_or(Ok(()), Err)
}
