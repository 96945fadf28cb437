//! A model ready to run, and how its work is shared out over threads.
//!
//! One text, or few tokens: all threads work on each product together. Many tokens in several texts:
//! each thread takes some texts through the whole model by itself, so that threads neither wait for
//! each other nor hand activations from one core's cache to another's. The bits are the same.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::error::ModelError;
use super::footprint::{Extent, Footprint, TILE_MAX};
use super::hyper::Hyperparameters;
use super::pass::Pass;
use super::scratch::Scratch;
use super::token_batch::TokenBatch;
use super::weights::{Block, Weights};
use crate::gguf::{GgufFile, ReadAhead};
use crate::kernels::{Buffer, Kernels, Matrix, Workspace};

/// Fewest tokens of a share, since each thread unpacks all weights for its own.
const SHARE_TOKENS: usize = 96;

/// A model ready to run, with its buffers.
#[derive(Debug)]
pub struct Encoder {
    hyper: Hyperparameters,
    weights: Weights,
    footprint: Footprint,
    ahead: ReadAhead,
    /// Bytes that buffers may take.
    memory: usize,
    kernels: Kernels,
    workspace: Workspace,
    scratch: Scratch,
    /// One for each thread, made when first used.
    shares: Vec<Mutex<Share>>,
    /// The rows of all shares.
    rows: Buffer,
}

/// What a thread needs that takes texts through the model by itself.
#[derive(Debug)]
struct Share {
    workspace: Workspace,
    scratch: Scratch,
    outcome: Result<(), ModelError>,
}

impl Encoder {
    /// Finds and checks the tensors of `file`.
    ///
    /// # Errors
    ///
    /// A tensor that is missing or wrong, by its name.
    pub fn new(
        file: &GgufFile,
        hyper: Hyperparameters,
        vocabulary: usize,
        kernels: Kernels,
        workspace: Workspace,
    ) -> Result<Self, ModelError> {
        let weights = Weights::find(file, &hyper, vocabulary, kernels)?;
        let footprint = Footprint::new(&hyper, &weights);
        let ahead = ReadAhead::new(weights.layers());
        Ok(Self {
            hyper,
            weights,
            footprint,
            ahead,
            memory: usize::MAX,
            kernels,
            workspace,
            scratch: Scratch::default(),
            shares: Vec::new(),
            rows: Buffer::default(),
        })
    }

    /// Sets how many bytes buffers may take: all that there are, until it is said.
    pub fn set_memory(&mut self, bytes: usize) {
        self.memory = bytes;
    }

    /// The model's sizes.
    pub fn hyper(&self) -> &Hyperparameters {
        &self.hyper
    }

    /// The kernels that it computes with.
    pub fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// The matrices that a forward pass multiplies with, in its order, with the kind of each; those
    /// that take the same rows at once are together.
    pub fn products(&self) -> impl Iterator<Item = (&'static str, Vec<Matrix<'_>>)> {
        self.weights.blocks.iter().flat_map(|block| Block::products(block, &self.hyper))
    }

    /// Threads that compute, the caller's included.
    pub fn threads(&self) -> usize {
        self.workspace.threads()
    }

    /// Bytes that were copied from the model's file.
    pub fn private_bytes(&self) -> usize {
        self.weights.private_bytes()
    }

    /// Bytes of buffers that a batch of this extent takes at the least, and at the most.
    pub fn batch_bytes(&self, extent: Extent) -> (usize, usize) {
        self.footprint.range(extent, self.threads())
    }

    /// Runs the model over `batch`: one pooled row a text, `[texts, dimensions]`, not normalised.
    ///
    /// The row of a text whose activations left the range of f32 is NaN; other texts are not
    /// touched by that.
    ///
    /// # Errors
    ///
    /// A weight that is not finite.
    ///
    /// # Panics
    ///
    /// If the batch does not fit the memory that buffers may take: see [`Self::batch_bytes`].
    pub fn forward(&mut self, batch: &TokenBatch) -> Result<&[f32], ModelError> {
        let texts: Vec<Range<usize>> = batch.ranges().collect();
        if let Some(shares) = share_out(&texts, self.workspace.threads())
            && self.make_room_for_shares(&texts, &shares)
        {
            return self.forward_shares(batch.ids(), &texts, &shares);
        }
        let tile = self.make_room(Extent::of(&texts));
        let Self { hyper, weights, ahead, kernels, workspace, scratch, .. } = self;
        let (kernels, ids, texts) = (*kernels, batch.ids(), texts.as_slice());
        Pass { hyper, weights, ahead, kernels, workspace, scratch, ids, texts, tile }.run()?;
        Ok(&self.scratch.rows[..texts.len() * self.hyper.dimensions])
    }

    /// The tile for a batch that all threads work on together.
    fn make_room(&mut self, extent: Extent) -> usize {
        // The buffers that all threads share and those of each are never held at once.
        for share in &mut self.shares {
            share.get_mut().unwrap_or_else(PoisonError::into_inner).scratch.release();
        }
        self.rows.release();
        let threads = self.workspace.threads();
        let (tile, bytes) = self
            .footprint
            .tile(extent, threads, self.memory)
            .expect("the packer keeps to what fits");
        self.release_unless(bytes);
        tile
    }

    /// Whether the shares of a batch fit.
    fn make_room_for_shares(&mut self, texts: &[Range<usize>], shares: &[Range<usize>]) -> bool {
        let extents = shares.iter().map(|share| Extent::of(&texts[share.clone()]));
        let bytes: usize = extents.map(|extent| self.footprint.bytes(extent, TILE_MAX, 1)).sum();
        let bytes = bytes + texts.len() * self.hyper.dimensions * size_of::<f32>();
        let fits = bytes <= self.memory;
        if fits {
            self.scratch.release();
            self.release_unless(bytes);
        }
        fits
    }

    /// Gives back all that is held, unless so many bytes may be taken beside it.
    fn release_unless(&mut self, bytes: usize) {
        let shares = self.shares.iter_mut().map(|share| {
            let share = share.get_mut().unwrap_or_else(PoisonError::into_inner);
            share.scratch.held_bytes() + share.workspace.held_bytes()
        });
        let held = shares.sum::<usize>()
            + self.scratch.held_bytes()
            + self.workspace.held_bytes()
            + self.rows.bytes();
        if held.saturating_add(bytes) > self.memory {
            self.shares.clear();
            self.scratch = Scratch::default();
            self.workspace.release();
            self.rows.release();
        }
    }

    /// The same, a share of the texts on each thread.
    fn forward_shares(
        &mut self,
        ids: &[u32],
        texts: &[Range<usize>],
        shares: &[Range<usize>],
    ) -> Result<&[f32], ModelError> {
        self.shares.resize_with(shares.len(), || Mutex::new(Share::new()));
        let Self { hyper, weights, ahead, kernels, workspace, shares: states, rows, .. } = self;
        let (hyper, weights, kernels, states) = (&*hyper, &*weights, *kernels, &*states);
        let ahead = &*ahead;
        workspace.each(shares.len(), |index| {
            let mut share = states[index].lock().unwrap_or_else(PoisonError::into_inner);
            let Share { workspace, scratch, outcome } = &mut *share;
            let texts = &texts[shares[index].clone()];
            let (Some(first), Some(last)) = (texts.first(), texts.last()) else { return };
            let (start, ids) = (first.start, &ids[first.start..last.end]);
            let texts: Vec<Range<usize>> =
                texts.iter().map(|text| text.start - start..text.end - start).collect();
            let (texts, tile) = (texts.as_slice(), TILE_MAX);
            let mut pass =
                Pass { hyper, weights, ahead, kernels, workspace, scratch, ids, texts, tile };
            *outcome = pass.run();
        });
        let dimensions = hyper.dimensions;
        rows.grow(texts.len() * dimensions);
        for (share, range) in self.shares.iter_mut().zip(shares) {
            let share = share.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut share.outcome, Ok(()))?;
            let rows = &mut rows[range.start * dimensions..range.end * dimensions];
            rows.copy_from_slice(&share.scratch.rows[..rows.len()]);
        }
        Ok(&self.rows[..texts.len() * dimensions])
    }
}

impl Share {
    fn new() -> Self {
        Self { workspace: Workspace::new(1), scratch: Scratch::default(), outcome: Ok(()) }
    }
}

/// Shares of `texts` of about the same number of tokens, one for each thread; `None` if there is too
/// little for each, or a text too long to be matched by the others.
fn share_out(texts: &[Range<usize>], threads: usize) -> Option<Vec<Range<usize>>> {
    let tokens = texts.last().map_or(0, |text| text.end);
    let fair = tokens.div_ceil(threads);
    if threads == 1 || fair < SHARE_TOKENS {
        return None;
    }
    let mut shares: Vec<Range<usize>> = Vec::with_capacity(threads);
    let mut first = 0;
    for share in 1..=threads {
        // Up to the text whose end is nearest to what is due.
        let due = tokens * share / threads;
        let mut end = first;
        while end < texts.len() && texts[end].start.abs_diff(due) > texts[end].end.abs_diff(due) {
            end += 1;
        }
        let end = if share == threads { texts.len() } else { end };
        shares.push(first..end);
        first = end;
    }
    let of = |share: &Range<usize>| -> usize { texts[share.clone()].iter().map(Range::len).sum() };
    let longest = shares.iter().map(of).max().unwrap_or(0);
    // Waiting for the longest share must cost less than working together would.
    let even = longest <= fair + fair / 4 && !shares.iter().any(Range::is_empty);
    even.then_some(shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lens: &[usize]) -> Vec<Range<usize>> {
        let mut start = 0;
        let ends = lens.iter().map(|len| {
            start += len;
            start - len..start
        });
        ends.collect()
    }

    #[test]
    fn shares_are_of_about_the_same_size_and_cover_all_texts() {
        let shares = |lens: &[usize], threads| share_out(&texts(lens), threads).expect("even");
        assert_eq!(shares(&[64; 8], 2), [0..4, 4..8]);
        assert_eq!(shares(&[10; 100], 3), [0..33, 33..67, 67..100]);
        assert_eq!(shares(&[200, 10, 10, 180], 2), [0..1, 1..4]);
        let mixed = [7, 90, 3, 41, 120, 64, 64, 80, 99, 12, 200, 31, 70, 8];
        for threads in 2..9 {
            if let Some(shares) = share_out(&texts(&mixed), threads) {
                assert_eq!(shares.len(), threads);
                let all: Vec<usize> = shares.into_iter().flatten().collect();
                assert_eq!(all, (0..mixed.len()).collect::<Vec<_>>());
            }
        }
        assert!(share_out(&texts(&mixed), 2).is_some());
    }

    #[test]
    fn what_cannot_be_shared_out_evenly_stays_together() {
        assert_eq!(share_out(&[], 4), None);
        assert_eq!(share_out(&texts(&[500]), 2), None);
        assert_eq!(share_out(&texts(&[400, 100]), 2), None);
        assert_eq!(share_out(&texts(&[20; 4]), 2), None, "too few tokens");
        assert_eq!(share_out(&texts(&[64; 8]), 1), None);
    }
}
