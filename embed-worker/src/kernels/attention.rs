//! Attention within one text: `softmax(q · k^T * scale) · v`, every token with every other.
//!
//! A task is one head and some queries. It lays the head's keys out by element and its values by
//! token, so that both products run over whole registers, and keeps no more scores than its few
//! queries have. Two registers of keys or values go over six queries at once: the load units would
//! else be as busy as the multipliers. Sums run over elements, then over tokens, in their order.

use super::Kernels;
use super::math::exp;
use super::memory::{Cell, SharedOut};
use super::simd::{LANES, Op, Simd, dispatch};
use super::workspace::Workspace;

/// Queries that go over the keys and values together: twice as many sums fit AVX-512's registers.
const QUERIES: usize = 6;

/// Queries of one task: many enough that laying out keys and values is a small part of it.
const TASK_QUERIES: usize = 16 * QUERIES;

/// Elements that are turned from rows to columns at once.
const EIGHT: usize = 8;

/// Buffers of one thread.
#[derive(Debug, Default)]
pub(super) struct AttentionScratch {
    /// Keys by block of 16 tokens and element: `[tokens / 16, head_dim]`, an even number of blocks.
    keys: Vec<[f32; LANES]>,
    /// Values by block of 16 elements and token: `[head_dim / 16, tokens]`.
    values: Vec<[f32; LANES]>,
    /// Scores of some queries: `[tokens / 16, QUERIES]`, an even number of blocks.
    scores: Vec<[[f32; LANES]; QUERIES]>,
}

impl AttentionScratch {
    /// Bytes for a text of `tokens` tokens and heads `head_dim` wide.
    pub(super) fn bytes(tokens: usize, head_dim: usize) -> usize {
        let tokens = tokens.next_multiple_of(2 * LANES);
        let head_dim = head_dim.next_multiple_of(LANES);
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
        lay_out(simd, self.text, self.head, self.scratch);
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
            let tokens = self.text.tokens;
            for (pair, values) in values.chunks(2 * tokens).enumerate() {
                let (first, second) = values.split_at(tokens);
                // Where there is one register of elements left, it is weighed twice.
                let both = [first, if second.is_empty() { first } else { second }];
                let sums = weigh(simd, both, scores);
                for index in 0..count {
                    let row = self.out.row_mut(query + index);
                    let inverse = simd.splat(inverses[index]);
                    simd.store_at(simd.mul(sums[0][index], inverse), row, 2 * pair);
                    if !second.is_empty() {
                        simd.store_at(simd.mul(sums[1][index], inverse), row, 2 * pair + 1);
                    }
                }
            }
            query += count;
        }
    }
}

/// Lays out the head's keys and values; keys beyond the last token are zero.
#[inline(always)]
fn lay_out<S: Simd>(simd: S, text: &Text<'_>, head: usize, scratch: &mut AttentionScratch) {
    let (tokens, head_dim) = (text.tokens, text.head_dim);
    let (token_blocks, element_blocks) = (tokens.div_ceil(LANES), head_dim.div_ceil(LANES));
    let pairs = token_blocks.next_multiple_of(2);
    scratch.keys.resize(pairs * head_dim, [0.0; LANES]);
    scratch.values.resize(element_blocks * tokens, [0.0; LANES]);
    scratch.scores.resize(pairs, [[0.0; LANES]; QUERIES]);
    for (block, keys) in scratch.keys.chunks_exact_mut(head_dim).enumerate() {
        let first = block * LANES;
        for (chunk, columns) in keys.chunks_mut(EIGHT).enumerate() {
            let mut rows = [[0.0; EIGHT]; LANES];
            for row in 0..LANES.min(tokens.saturating_sub(first)) {
                let key = &text.row(first + row, 1, head)[chunk * EIGHT..];
                match key.first_chunk() {
                    Some(key) => rows[row] = *key,
                    None => rows[row][..key.len()].copy_from_slice(key),
                }
            }
            match columns.first_chunk_mut() {
                Some(columns) => simd.interleave_floats(&rows, columns),
                None => {
                    let mut eight = [[0.0; LANES]; EIGHT];
                    simd.interleave_floats(&rows, &mut eight);
                    columns.copy_from_slice(&eight[..columns.len()]);
                }
            }
        }
    }
    for token in 0..tokens {
        let value = text.row(token, 2, head);
        for block in 0..element_blocks {
            let lanes = simd.load_at(value, block, 0.0);
            simd.store(lanes, &mut scratch.values[block * tokens + token]);
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
    let pairs = scores.as_chunks_mut::<2>().0.iter_mut().zip(keys.chunks_exact(2 * head_dim));
    for (scores, keys) in pairs {
        let (first, second) = keys.split_at(head_dim);
        let second = &second[..first.len()];
        let mut sums = [[simd.splat(0.0); QUERIES]; 2];
        for element in 0..first.len() {
            let keys = [simd.load(&first[element]), simd.load(&second[element])];
            for query in 0..QUERIES {
                let value = simd.splat(rows[query][element]);
                sums[0][query] = simd.fma(value, keys[0], sums[0][query]);
                sums[1][query] = simd.fma(value, keys[1], sums[1][query]);
            }
        }
        for query in 0..QUERIES {
            simd.store(sums[0][query], &mut scores[0][query]);
            simd.store(sums[1][query], &mut scores[1][query]);
        }
    }
}

/// Replaces scores by `exp(scale * (score - largest))` and gives the inverse of each query's sum.
#[inline(always)]
fn softmax<S: Simd>(simd: S, scratch: &mut AttentionScratch, text: &Text<'_>) -> [f32; QUERIES] {
    let scale = simd.splat(1.0 / (text.head_dim as f32).sqrt());
    let blocks = text.tokens.div_ceil(LANES);
    let scores = &mut scratch.scores[..blocks];
    let used = text.tokens - (blocks - 1) * LANES;
    let mut inverses = [0.0; QUERIES];
    for query in 0..QUERIES {
        // Lanes beyond the last token take no part: they repeat a score, and then count nothing.
        let last = &mut scores[blocks - 1][query];
        let first = last[0];
        last[used..].fill(first);
        let mut largest = simd.splat(f32::NEG_INFINITY);
        for block in 0..blocks {
            largest = simd.max(simd.load(&scores[block][query]), largest);
        }
        let largest = simd.splat(simd.max_lane(largest));
        let mut sums = simd.splat(0.0);
        for block in 0..blocks {
            let scores = &mut scores[block][query];
            let e = exp(simd, simd.mul(simd.sub(simd.load(scores), largest), scale));
            simd.store(e, scores);
            if block + 1 == blocks {
                scores[used..].fill(0.0);
            }
            sums = simd.add(sums, simd.load(scores));
        }
        inverses[query] = 1.0 / simd.sum(sums);
    }
    inverses
}

/// Two times 16 elements of what the queries attend to: values weighed by scores.
#[inline(always)]
fn weigh<S: Simd>(
    simd: S,
    values: [&[[f32; LANES]]; 2],
    scores: &[[[f32; LANES]; QUERIES]],
) -> [[S::F32; QUERIES]; 2] {
    let mut sums = [[simd.splat(0.0); QUERIES]; 2];
    let tokens = values[0].len();
    let second = &values[1][..tokens];
    for (block, scores) in scores[..tokens.div_ceil(LANES)].iter().enumerate() {
        let first_token = block * LANES;
        for lane in 0..LANES.min(tokens - first_token) {
            let token = first_token + lane;
            let values = [simd.load(&values[0][token]), simd.load(&second[token])];
            for query in 0..QUERIES {
                let score = simd.splat(scores[query][lane]);
                sums[0][query] = simd.fma(score, values[0], sums[0][query]);
                sums[1][query] = simd.fma(score, values[1], sums[1][query]);
            }
        }
    }
    sums
}
