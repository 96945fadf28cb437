//! A model ready to run, and how its work is shared out over threads.
//!
//! One text, or few tokens: all threads work on each product together. Many tokens in several texts:
//! each thread takes some texts through the whole model by itself, so that threads neither wait for
//! each other nor hand activations from one core's cache to another's. The bits are the same.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::error::ModelError;
use super::hyper::Hyperparameters;
use super::pass::Pass;
use super::scratch::{Scratch, TILE_TOKENS};
use super::token_batch::TokenBatch;
use super::weights::{Block, Weights};
use crate::gguf::GgufFile;
use crate::kernels::{Kernels, Matrix, Workspace};

/// Fewest tokens of a share, since each thread unpacks all weights for its own.
const SHARE_TOKENS: usize = 96;

/// A model ready to run, with its buffers.
#[derive(Debug)]
pub struct Encoder {
    hyper: Hyperparameters,
    weights: Weights,
    kernels: Kernels,
    workspace: Workspace,
    scratch: Scratch,
    /// One for each thread, made when first used.
    shares: Vec<Mutex<Share>>,
    rows: Vec<f32>,
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
        let (scratch, shares, rows) = (Scratch::default(), Vec::new(), Vec::new());
        Ok(Self { hyper, weights, kernels, workspace, scratch, shares, rows })
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

    /// Bytes of buffers that a batch of `tokens` tokens in one text needs.
    pub fn batch_bytes(&self, tokens: usize) -> usize {
        Scratch::bytes(&self.hyper, tokens)
            + self.workspace.threads()
                * Workspace::thread_bytes(
                    self.hyper.inner.max(self.hyper.heads.query_width()),
                    tokens.min(TILE_TOKENS),
                    tokens,
                    self.hyper.heads.width,
                )
    }

    /// Runs the model over `batch`: one pooled row a text, `[texts, dimensions]`, not normalised.
    ///
    /// The row of a text whose activations left the range of f32 is NaN; other texts are not
    /// touched by that.
    ///
    /// # Errors
    ///
    /// A weight that is not finite.
    pub fn forward(&mut self, batch: &TokenBatch) -> Result<&[f32], ModelError> {
        let texts: Vec<Range<usize>> = batch.ranges().collect();
        if let Some(shares) = share_out(&texts, self.workspace.threads()) {
            return self.forward_shares(batch.ids(), &texts, &shares);
        }
        for share in &mut self.shares {
            share.get_mut().unwrap_or_else(PoisonError::into_inner).scratch.release();
        }
        let Self { hyper, weights, kernels, workspace, scratch, .. } = self;
        let (ids, texts) = (batch.ids(), texts.as_slice());
        Pass { hyper, weights, kernels: *kernels, workspace, scratch, ids, texts }.run()?;
        Ok(&self.scratch.rows)
    }

    /// The same, a share of the texts on each thread.
    fn forward_shares(
        &mut self,
        ids: &[u32],
        texts: &[Range<usize>],
        shares: &[Range<usize>],
    ) -> Result<&[f32], ModelError> {
        // The buffers that all threads share and those of each are never held at once.
        self.scratch.release();
        self.shares.resize_with(shares.len(), || Mutex::new(Share::new()));
        let Self { hyper, weights, kernels, workspace, shares: states, rows, .. } = self;
        let (hyper, weights, kernels, states) = (&*hyper, &*weights, *kernels, &*states);
        workspace.each(shares.len(), |index| {
            let mut share = states[index].lock().unwrap_or_else(PoisonError::into_inner);
            let Share { workspace, scratch, outcome } = &mut *share;
            let texts = &texts[shares[index].clone()];
            let (Some(first), Some(last)) = (texts.first(), texts.last()) else { return };
            let (start, ids) = (first.start, &ids[first.start..last.end]);
            let texts: Vec<Range<usize>> =
                texts.iter().map(|text| text.start - start..text.end - start).collect();
            let texts = texts.as_slice();
            *outcome = Pass { hyper, weights, kernels, workspace, scratch, ids, texts }.run();
        });
        rows.clear();
        for share in &mut self.shares {
            let share = share.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut share.outcome, Ok(()))?;
            rows.extend_from_slice(&share.scratch.rows);
        }
        Ok(&self.rows)
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
