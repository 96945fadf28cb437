//! Attention within one text: `softmax(q · k^T * scale) · v`, every token with every other.
//!
//! A task is one head and some queries. It lays the head's keys out by element and its values by
//! token, so that both products run over whole registers, and keeps no more scores than its few
//! queries have. Sums run over elements, then over tokens, in their order.

use super::Kernels;
use super::math::exp;
use super::memory::{Cell, SharedOut};
use super::simd::{LANES, Op, Simd, dispatch};
use super::workspace::Workspace;

/// Queries whose sums fit the registers of AVX2 beside the rest.
const QUERIES: usize = 6;

/// Queries of one task: many enough that laying out keys and values is a small part of it.
const TASK_QUERIES: usize = 16 * QUERIES;

/// Buffers of one thread.
#[derive(Debug, Default)]
pub(super) struct AttentionScratch {
    /// Keys by block of 16 tokens and element: `[tokens / 16, head_dim]`.
    keys: Vec<[f32; LANES]>,
    /// Values by block of 16 elements and token: `[head_dim / 16, tokens]`.
    values: Vec<[f32; LANES]>,
    /// Scores of some queries: `[tokens / 16, QUERIES]`.
    scores: Vec<[[f32; LANES]; QUERIES]>,
}

impl AttentionScratch {
    /// Bytes for a text of `tokens` tokens and heads `head_dim` wide.
    pub(super) fn bytes(tokens: usize, head_dim: usize) -> usize {
        let (tokens, head_dim) = (tokens.next_multiple_of(LANES), head_dim.next_multiple_of(LANES));
        (2 * tokens * head_dim + tokens * QUERIES) * size_of::<f32>()
    }
}

impl Kernels {
    /// Attention of one text, bidirectional.
    ///
    /// # Shapes
    ///
    /// `qkv` is `[tokens, 3 * heads * head_dim]`: queries, keys and values side by side, heads one
    /// after the other in each. `out` is `[tokens, heads * head_dim]`. Scores are scaled by
    /// `1 / sqrt(head_dim)`.
    pub fn attention(
        self,
        workspace: &mut Workspace,
        qkv: &[f32],
        heads: usize,
        head_dim: usize,
        out: &mut [f32],
    ) {
        let hidden = heads * head_dim;
        let tokens = out.len() / hidden;
        let text = Text { qkv, hidden, head_dim, tokens };
        let out = SharedOut::new(out, (tokens, hidden, hidden), (TASK_QUERIES, head_dim));
        let tasks = heads * tokens.div_ceil(TASK_QUERIES);
        let failed: Vec<()> = workspace.run(tasks, |task, scratch| {
            let (chunk, head) = (task / heads, task % heads);
            if let Some(out) = out.take(chunk, head) {
                let scratch = &mut scratch.attention;
                dispatch(self.isa, Head { text: &text, chunk, head, scratch, out });
            }
            Ok(())
        });
        debug_assert!(failed.is_empty());
    }
}

/// Queries, keys and values of one text.
struct Text<'a> {
    qkv: &'a [f32],
    hidden: usize,
    head_dim: usize,
    tokens: usize,
}

impl Text<'_> {
    /// One head's query (`part` 0), key (1) or value (2) of a token, `[head_dim]`.
    #[inline(always)]
    fn row(&self, token: usize, part: usize, head: usize) -> &[f32] {
        &self.qkv[(3 * token + part) * self.hidden + head * self.head_dim..][..self.head_dim]
    }
}

/// One task: some queries of one head.
struct Head<'a, 'b> {
    text: &'a Text<'a>,
    chunk: usize,
    head: usize,
    scratch: &'a mut AttentionScratch,
    out: Cell<'b, f32>,
}

impl Op for Head<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        lay_out(self.text, self.head, self.scratch);
        let first = self.chunk * TASK_QUERIES;
        let mut query = 0;
        while query < self.out.rows() {
            let count = QUERIES.min(self.out.rows() - query);
            // The last query is repeated where there are fewer than the registers take; what the
            // repetitions give is not written.
            let mut queries = [&[] as &[f32]; QUERIES];
            for (index, row) in queries.iter_mut().enumerate() {
                *row = self.text.row(first + query + index.min(count - 1), 0, self.head);
            }
            score(simd, &queries, self.scratch);
            let inverses = softmax(simd, self.scratch, self.text);
            let AttentionScratch { values, scores, .. } = &*self.scratch;
            for (block, values) in values.chunks_exact(self.text.tokens).enumerate() {
                let sums = weigh(simd, values, scores);
                for index in 0..count {
                    let value = simd.mul(sums[index], simd.splat(inverses[index]));
                    simd.store_at(value, self.out.row_mut(query + index), block);
                }
            }
            query += count;
        }
    }
}

/// Lays out the head's keys and values; what pads the last block is zero.
#[inline(always)]
fn lay_out(text: &Text<'_>, head: usize, scratch: &mut AttentionScratch) {
    let (tokens, head_dim) = (text.tokens, text.head_dim);
    let (token_blocks, element_blocks) = (tokens.div_ceil(LANES), head_dim.div_ceil(LANES));
    scratch.keys.clear();
    scratch.keys.resize(token_blocks * head_dim, [0.0; LANES]);
    scratch.values.clear();
    scratch.values.resize(element_blocks * tokens, [0.0; LANES]);
    scratch.scores.resize(token_blocks, [[0.0; LANES]; QUERIES]);
    for token in 0..tokens {
        let block = &mut scratch.keys[token / LANES * head_dim..][..head_dim];
        for (lanes, key) in block.iter_mut().zip(text.row(token, 1, head)) {
            lanes[token % LANES] = *key;
        }
        let value = text.row(token, 2, head);
        for (block, value) in value.chunks(LANES).enumerate() {
            scratch.values[block * tokens + token][..value.len()].copy_from_slice(value);
        }
    }
}

/// Products of the queries with every key.
#[inline(always)]
fn score<S: Simd>(simd: S, queries: &[&[f32]; QUERIES], scratch: &mut AttentionScratch) {
    let AttentionScratch { keys, scores, .. } = scratch;
    let head_dim = queries[0].len();
    let mut rows = *queries;
    for row in &mut rows {
        *row = &row[..head_dim];
    }
    for (scores, keys) in scores.iter_mut().zip(keys.chunks_exact(head_dim)) {
        let mut sums = [simd.splat(0.0); QUERIES];
        for element in 0..head_dim {
            let key = simd.load(&keys[element]);
            for query in 0..QUERIES {
                sums[query] = simd.fma(simd.splat(rows[query][element]), key, sums[query]);
            }
        }
        for query in 0..QUERIES {
            simd.store(sums[query], &mut scores[query]);
        }
    }
}

/// Replaces scores by `exp(scale * (score - largest))` and gives the inverse of each query's sum.
#[inline(always)]
fn softmax<S: Simd>(simd: S, scratch: &mut AttentionScratch, text: &Text<'_>) -> [f32; QUERIES] {
    let scale = 1.0 / (text.head_dim as f32).sqrt();
    let scores = &mut scratch.scores;
    let padding = text.tokens.next_multiple_of(LANES) - text.tokens;
    let mut inverses = [0.0; QUERIES];
    for query in 0..QUERIES {
        // Lanes beyond the last token take no part: they repeat a score, and then count nothing.
        if let Some(last) = scores.last_mut() {
            let first = last[query][0];
            last[query][LANES - padding..].fill(first);
        }
        let mut largest = simd.splat(f32::NEG_INFINITY);
        for scores in scores.iter() {
            largest = simd.max(simd.load(&scores[query]), largest);
        }
        let largest = simd.splat(simd.max_lane(largest));
        let mut sums = simd.splat(0.0);
        let blocks = scores.len();
        for (block, scores) in scores.iter_mut().enumerate() {
            let distance = simd.sub(simd.load(&scores[query]), largest);
            let e = exp(simd, simd.mul(distance, simd.splat(scale)));
            simd.store(e, &mut scores[query]);
            if block + 1 == blocks {
                scores[query][LANES - padding..].fill(0.0);
            }
            sums = simd.add(sums, simd.load(&scores[query]));
        }
        inverses[query] = 1.0 / simd.sum(sums);
    }
    inverses
}

/// 16 elements of what the queries attend to: values weighed by scores.
#[inline(always)]
fn weigh<S: Simd>(
    simd: S,
    values: &[[f32; LANES]],
    scores: &[[[f32; LANES]; QUERIES]],
) -> [S::F32; QUERIES] {
    let mut sums = [simd.splat(0.0); QUERIES];
    for (values, scores) in values.chunks(LANES).zip(scores) {
        for (lane, value) in values.iter().enumerate() {
            let value = simd.load(value);
            for query in 0..QUERIES {
                sums[query] = simd.fma(simd.splat(scores[query][lane]), value, sums[query]);
            }
        }
    }
    sums
}
