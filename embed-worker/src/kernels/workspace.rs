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
    pub(super) sums: Vec<Sums>,
    /// Columns of a product that are quantized next, `[tokens, 256]`.
    pub(super) columns: Buffer,
    pub(super) attention: AttentionScratch,
}

impl Workspace {
    /// A workspace of `threads` threads, the caller's included.
    pub fn new(threads: usize) -> Self {
        let pool = Pool::new(threads);
        let scratch = std::iter::repeat_with(Mutex::default).take(pool.threads()).collect();
        Self { pool, scratch }
    }

    /// Bytes of scratch that one thread comes to for products of up to `cols` columns with `tile`
    /// tokens and attention over `tokens` tokens of heads `head_dim` wide.
    pub fn thread_bytes(cols: usize, tile: usize, tokens: usize, head_dim: usize) -> usize {
        let product = tile * (size_of::<Sums>() + SLICE * size_of::<f32>());
        Panels::bytes(cols) + product + AttentionScratch::bytes(tokens, head_dim)
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
