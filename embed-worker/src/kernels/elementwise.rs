//! What happens to rows between the products: layer norm, quantizing, rotary positions.
//!
//! Rows are shared out over the pool where there are many; each row's result is its own.

use super::Kernels;
use super::memory::SharedOut;
use super::panel::{SLICE, slices};
use super::quantize::{Forms, QuantizedRows};
use super::simd::{LANES, Op, Simd, dispatch};
use super::workspace::Workspace;

/// Elements that one task takes at least: less is not worth telling another thread.
const TASK_ELEMENTS: usize = 16_384;

impl Kernels {
    /// Quantizes `x`, `[rows, cols]`, in the forms that some products want. Rows whose columns are no
    /// multiple of 32 can only meet weights that are not quantized, and are left alone.
    pub fn quantize(
        self,
        workspace: &mut Workspace,
        x: &[f32],
        cols: usize,
        forms: Forms,
        out: &mut QuantizedRows,
    ) {
        let rows = x.len() / cols;
        out.reset(rows, cols, forms);
        if forms.is_none() {
            return;
        }
        let chunk = task_rows(cols);
        let out = out.share(chunk);
        workspace.each(rows.div_ceil(chunk), |task| {
            let x = &x[task * chunk * cols..x.len().min((task + 1) * chunk * cols)];
            for slice in 0..slices(cols) {
                let columns = slice * SLICE..cols.min((slice + 1) * SLICE);
                out.fill(self.isa, (slice, task), x, cols, columns);
            }
        });
    }

    /// Layer norm of `x + delta` in place of `x`: `(y - mean) / sqrt(variance + epsilon) * weight +
    /// bias` over each row.
    ///
    /// # Shapes
    ///
    /// `x` and `delta` are `[tokens, hidden]`, `weight` and `bias` `[hidden]`.
    pub fn layer_norm(
        self,
        workspace: &mut Workspace,
        x: &mut [f32],
        delta: Option<&[f32]>,
        (weight, bias): (&[f32], &[f32]),
        epsilon: f32,
    ) {
        let hidden = weight.len();
        let rows = x.len() / hidden;
        let chunk = task_rows(hidden);
        let x = SharedOut::new(x, (rows, hidden, hidden), (chunk, hidden));
        workspace.each(rows.div_ceil(chunk), |task| {
            let Some(mut x) = x.take(task, 0) else { return };
            let x = x.all_mut();
            let delta = delta.map(|delta| &delta[task * chunk * hidden..][..x.len()]);
            dispatch(self.isa, LayerNorm { x, delta, weight, bias, epsilon });
        });
    }

    /// Rotates the first `2 * pairs` elements of each head of the queries and keys of some tokens:
    /// element `i` with element `i + pairs`, by the angle of pair `i` at the token's position.
    ///
    /// # Shapes
    ///
    /// `qkv` is `[tokens, 3 * hidden]` with heads of `head_dim` elements one after the other; `cos`
    /// and `sin` are `[tokens, pairs]`.
    pub fn rope(
        self,
        workspace: &mut Workspace,
        qkv: &mut [f32],
        (hidden, head_dim): (usize, usize),
        (cos, sin): (&[f32], &[f32]),
    ) {
        let tokens = qkv.len() / (3 * hidden);
        let pairs = cos.len() / tokens.max(1);
        let chunk = task_rows(3 * hidden);
        let qkv = SharedOut::new(qkv, (tokens, 3 * hidden, 3 * hidden), (chunk, 3 * hidden));
        workspace.each(tokens.div_ceil(chunk), |task| {
            let Some(mut qkv) = qkv.take(task, 0) else { return };
            for row in 0..qkv.rows() {
                let angles = (task * chunk + row) * pairs;
                let (cos, sin) = (&cos[angles..][..pairs], &sin[angles..][..pairs]);
                // Queries and keys stand side by side, head after head.
                let x = &mut qkv.row_mut(row)[..2 * hidden];
                dispatch(self.isa, Rope { x, head_dim, cos, sin });
            }
        });
    }
}

/// Rows of `cols` elements that make a task.
fn task_rows(cols: usize) -> usize {
    TASK_ELEMENTS.div_ceil(cols.max(1))
}

struct LayerNorm<'a> {
    x: &'a mut [f32],
    delta: Option<&'a [f32]>,
    weight: &'a [f32],
    bias: &'a [f32],
    epsilon: f32,
}

impl Op for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { x, delta, weight, bias, epsilon } = self;
        let hidden = weight.len();
        let (vectors, rest) = (hidden / LANES, hidden % LANES);
        for (index, row) in x.chunks_exact_mut(hidden).enumerate() {
            let mut sums = simd.splat(0.0);
            for vector in 0..vectors + usize::from(rest > 0) {
                let mut value = simd.load_at(row, vector, 0.0);
                if let Some(delta) = delta {
                    let delta = &delta[index * hidden..][..hidden];
                    value = simd.add(value, simd.load_at(delta, vector, 0.0));
                    simd.store_at(value, row, vector);
                }
                sums = simd.add(sums, value);
            }
            let mean = simd.sum(sums) / hidden as f32;
            // Differences before squares: a variance from squares loses its digits where the mean
            // is large. Lanes beyond the end hold the mean and differ by nothing.
            let mut squares = simd.splat(0.0);
            for vector in 0..vectors + usize::from(rest > 0) {
                let value = simd.load_at(row, vector, mean);
                let distance = simd.sub(value, simd.splat(mean));
                squares = simd.fma(distance, distance, squares);
            }
            let variance = simd.sum(squares) / hidden as f32;
            let scale = simd.splat(1.0 / (variance + epsilon).sqrt());
            for vector in 0..vectors + usize::from(rest > 0) {
                let value = simd.load_at(row, vector, mean);
                let value = simd.mul(simd.sub(value, simd.splat(mean)), scale);
                let weight = simd.load_at(weight, vector, 0.0);
                let value = simd.fma(value, weight, simd.load_at(bias, vector, 0.0));
                simd.store_at(value, row, vector);
            }
        }
    }
}

struct Rope<'a> {
    x: &'a mut [f32],
    head_dim: usize,
    cos: &'a [f32],
    sin: &'a [f32],
}

impl Op for Rope<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let pairs = self.cos.len();
        for head in self.x.chunks_exact_mut(self.head_dim) {
            let (first, second) = head[..2 * pairs].split_at_mut(pairs);
            for vector in 0..pairs.div_ceil(LANES) {
                let (a, b) = (simd.load_at(first, vector, 0.0), simd.load_at(second, vector, 0.0));
                let cos = simd.load_at(self.cos, vector, 0.0);
                let sin = simd.load_at(self.sin, vector, 0.0);
                let minus_b_sin = simd.sub(simd.splat(0.0), simd.mul(b, sin));
                simd.store_at(simd.fma(a, cos, minus_b_sin), first, vector);
                simd.store_at(simd.fma(a, sin, simd.mul(b, cos)), second, vector);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Isa;

    #[test]
    fn layer_norm_has_the_mean_and_variance_it_promises() {
        for isa in Isa::all_supported() {
            let (kernels, mut workspace) = (Kernels::new(isa), Workspace::new(2));
            for hidden in [1_usize, 5, 16, 17, 384] {
                let mut x: Vec<f32> = (0..hidden).map(|i| 1000.0 + (i * 7 % 13) as f32).collect();
                let (delta, weight) = (vec![2.0; hidden], vec![3.0; hidden]);
                let norm = (weight.as_slice(), vec![0.5; hidden]);
                kernels.layer_norm(&mut workspace, &mut x, Some(&delta), (norm.0, &norm.1), 1e-12);
                let mean: f32 = x.iter().sum::<f32>() / hidden as f32;
                assert!((mean - 0.5).abs() < 1e-3, "{isa}, {hidden}: mean {mean}");
                if hidden > 1 {
                    let squares = x.iter().map(|x| (x - mean).powi(2)).sum::<f32>();
                    let variance = squares / hidden as f32;
                    assert!((variance - 9.0).abs() < 1e-2, "{isa}, {hidden}: variance {variance}");
                }
            }
        }
    }

    #[test]
    fn rope_rotates_pairs_and_leaves_the_rest() {
        for isa in Isa::all_supported() {
            let (kernels, mut workspace) = (Kernels::new(isa), Workspace::new(1));
            // One token: query, key and value of one head of five; two pairs, of which one is
            // turned by a right angle and the other not.
            let head = [1.0, 2.0, 0.0, 0.0, 9.0];
            let mut x = [head, head, head].concat();
            kernels.rope(&mut workspace, &mut x, (5, 5), (&[0.0, 1.0], &[1.0, 0.0]));
            let turned = [0.0, 2.0, 1.0, 0.0, 9.0];
            assert_eq!(x, [turned, turned, head].concat(), "{isa}");
        }
    }
}
