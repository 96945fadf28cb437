//! What happens to rows between the products: sums, norms, quantizing, rotary positions.
//!
//! Rows are shared out over the pool where there are many; each row's result is its own.

use super::Kernels;
use super::attention::Heads;
use super::math::exp;
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

    /// `x + delta` in place of `x`, both `[elements]`.
    ///
    /// # Panics
    ///
    /// If there are more or fewer elements in `delta`.
    pub fn add(self, workspace: &mut Workspace, x: &mut [f32], delta: &[f32]) {
        let elements = x.len();
        assert!(delta.len() == elements, "as many as are added");
        let x = SharedOut::new(x, (elements, 1, 1), (TASK_ELEMENTS, 1));
        workspace.each(elements.div_ceil(TASK_ELEMENTS), |task| {
            let Some(mut x) = x.take(task, 0) else { return };
            let x = x.all_mut();
            let delta = &delta[task * TASK_ELEMENTS..][..x.len()];
            dispatch(self.isa, Add { x, delta });
        });
    }

    /// The norm of `x + delta` in place of `x`.
    ///
    /// # Shapes
    ///
    /// `x` and `delta` are `[tokens, hidden]`, the norm's weights `[hidden]`.
    pub fn norm(
        self,
        workspace: &mut Workspace,
        x: &mut [f32],
        delta: Option<&[f32]>,
        norm: &Norm<'_>,
    ) {
        let hidden = norm.weight.len();
        let rows = x.len() / hidden;
        let chunk = task_rows(hidden);
        let x = SharedOut::new(x, (rows, hidden, hidden), (chunk, hidden));
        workspace.each(rows.div_ceil(chunk), |task| {
            let Some(mut x) = x.take(task, 0) else { return };
            let x = x.all_mut();
            let delta = delta.map(|delta| &delta[task * chunk * hidden..][..x.len()]);
            dispatch(self.isa, NormRows { x, delta, norm });
        });
    }

    /// Norms the queries of some tokens by the first of `norms`, and the keys by the second: each head by
    /// itself, or as many heads together as the norm has weights for.
    ///
    /// # Shapes
    ///
    /// `qkv` is `[tokens, row_width]` of `heads`, the norms' weights are `[n * width]`.
    pub fn norm_keys(
        self,
        workspace: &mut Workspace,
        qkv: &mut [f32],
        heads: Heads,
        norms: [&Norm<'_>; 2],
    ) {
        each_row(workspace, qkv, heads.row_width(), |_, row| {
            let (queries, rest) = row.split_at_mut(heads.query_width());
            for (x, norm) in [queries, &mut rest[..heads.key_width()]].into_iter().zip(norms) {
                dispatch(self.isa, NormRows { x, delta: None, norm });
            }
        });
    }

    /// Replaces each row of `x`, `[rows, cols]`, by its softmax.
    pub fn softmax(self, workspace: &mut Workspace, x: &mut [f32], cols: usize) {
        each_row(workspace, x, cols, |_, row| dispatch(self.isa, Softmax { row }));
    }

    /// Rotates the first `2 * pairs` elements of each head of the queries and keys of some tokens:
    /// element `i` with element `i + pairs`, by the angle of pair `i` at the token's position.
    ///
    /// # Shapes
    ///
    /// `qkv` is `[tokens, row_width]` of `heads`; the cosines and sines of `table` are `[tokens, pairs]`.
    pub fn rope(
        self,
        workspace: &mut Workspace,
        qkv: &mut [f32],
        heads: Heads,
        table: (&[f32], &[f32]),
    ) {
        each_turned(workspace, qkv, heads, table, |x, (cos, sin)| {
            dispatch(self.isa, Rope { x, head_dim: heads.width, cos, sin });
        });
    }

    /// The same with element `2 * i` and its neighbour instead of `i` and `i + pairs`.
    ///
    /// In plain Rust, whose bits are the same everywhere: it is a thousandth of a pass.
    pub fn rope_neighbours(
        self,
        workspace: &mut Workspace,
        qkv: &mut [f32],
        heads: Heads,
        table: (&[f32], &[f32]),
    ) {
        each_turned(workspace, qkv, heads, table, |x, (cos, sin)| {
            for head in x.chunks_exact_mut(heads.width) {
                let neighbours = head[..2 * cos.len()].as_chunks_mut::<2>().0;
                for (neighbours, (cos, sin)) in neighbours.iter_mut().zip(cos.iter().zip(sin)) {
                    let [a, b] = *neighbours;
                    *neighbours = [a * cos - b * sin, a * sin + b * cos];
                }
            }
        });
    }
}

/// Does `work` to the queries and keys of each token, which stand side by side, head after head, with
/// the cosines and sines of its position.
fn each_turned(
    workspace: &mut Workspace,
    qkv: &mut [f32],
    heads: Heads,
    (cos, sin): (&[f32], &[f32]),
    work: impl Fn(&mut [f32], (&[f32], &[f32])) + Sync,
) {
    let tokens = qkv.len() / heads.row_width();
    let pairs = cos.len() / tokens.max(1);
    each_row(workspace, qkv, heads.row_width(), |token, row| {
        let angles = token * pairs..(token + 1) * pairs;
        let turned = &mut row[..heads.query_width() + heads.key_width()];
        work(turned, (&cos[angles.clone()], &sin[angles]));
    });
}

/// Does `work` to each row of `rows`, `[rows, width]`, with its number.
fn each_row(
    workspace: &mut Workspace,
    rows: &mut [f32],
    width: usize,
    work: impl Fn(usize, &mut [f32]) + Sync,
) {
    let count = rows.len() / width;
    let chunk = task_rows(width);
    let rows = SharedOut::new(rows, (count, width, width), (chunk, width));
    workspace.each(count.div_ceil(chunk), |task| {
        let Some(mut rows) = rows.take(task, 0) else { return };
        for row in 0..rows.rows() {
            work(task * chunk + row, rows.row_mut(row));
        }
    });
}

/// A norm over rows: `(x - mean) / sqrt(mean of squares + epsilon) * weight + bias`.
#[derive(Clone, Copy, Debug)]
pub struct Norm<'a> {
    /// Whether the mean is taken off first: layer norm (Ba et al. 2016, arXiv 1607.06450), else RMS
    /// norm (Zhang and Sennrich 2019, arXiv 1910.07467).
    pub centred: bool,
    /// `[hidden]`
    pub weight: &'a [f32],
    /// `[hidden]`
    pub bias: Option<&'a [f32]>,
    /// Added to the mean of squares.
    pub epsilon: f32,
}

/// Rows of `cols` elements that make a task.
fn task_rows(cols: usize) -> usize {
    TASK_ELEMENTS.div_ceil(cols.max(1))
}

struct Add<'a> {
    x: &'a mut [f32],
    delta: &'a [f32],
}

impl Op for Add<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for vector in 0..self.x.len().div_ceil(LANES) {
            let value = simd.load_at(self.x, vector, 0.0);
            let sum = simd.add(value, simd.load_at(self.delta, vector, 0.0));
            simd.store_at(sum, self.x, vector);
        }
    }
}

struct NormRows<'a> {
    x: &'a mut [f32],
    delta: Option<&'a [f32]>,
    norm: &'a Norm<'a>,
}

impl Op for NormRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { x, delta, norm: &Norm { centred, weight, bias, epsilon } } = self;
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
            let mean = if centred { simd.sum(sums) / hidden as f32 } else { 0.0 };
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
                let value = match bias {
                    Some(bias) => simd.fma(value, weight, simd.load_at(bias, vector, 0.0)),
                    None => simd.mul(value, weight),
                };
                simd.store_at(value, row, vector);
            }
        }
    }
}

struct Softmax<'a> {
    row: &'a mut [f32],
}

impl Op for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let row = self.row;
        let vectors = row.len().div_ceil(LANES);
        let mut largest = simd.splat(f32::NEG_INFINITY);
        for vector in 0..vectors {
            largest = simd.max(simd.load_at(row, vector, f32::NEG_INFINITY), largest);
        }
        let largest = simd.splat(simd.max_lane(largest));
        let mut sums = simd.splat(0.0);
        for vector in 0..vectors {
            let e = exp(simd, simd.sub(simd.load_at(row, vector, 0.0), largest));
            simd.store_at(e, row, vector);
            sums = simd.add(sums, simd.load_at(row, vector, 0.0));
        }
        let inverse = simd.splat(1.0 / simd.sum(sums));
        for vector in 0..vectors {
            simd.store_at(simd.mul(simd.load_at(row, vector, 0.0), inverse), row, vector);
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
                let bias = vec![0.5; hidden];
                let (weight, bias) = (&weight, Some(bias.as_slice()));
                let norm = Norm { centred: true, weight, bias, epsilon: 1e-12 };
                kernels.norm(&mut workspace, &mut x, Some(&delta), &norm);
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
    fn rms_norm_has_the_mean_square_it_promises() {
        for isa in Isa::all_supported() {
            let (kernels, mut workspace) = (Kernels::new(isa), Workspace::new(2));
            for hidden in [1_usize, 5, 16, 17, 384] {
                let mut x: Vec<f32> = (0..hidden).map(|i| 1.0 + (i * 7 % 13) as f32).collect();
                let (before, weight) = (x.clone(), vec![3.0; hidden]);
                let norm = Norm { centred: false, weight: &weight, bias: None, epsilon: 0.0 };
                kernels.norm(&mut workspace, &mut x, None, &norm);
                let square = x.iter().map(|x| x * x).sum::<f32>() / hidden as f32;
                assert!((square - 9.0).abs() < 1e-4, "{isa}, {hidden}: {square}");
                let stretch = x[0] / before[0];
                let same = x.iter().zip(&before).all(|(x, y)| (x / y - stretch).abs() < 1e-5);
                assert!(same, "{isa}, {hidden}: the direction is the same");
            }
        }
    }

    #[test]
    fn softmax_sums_to_one_in_the_ratios_of_exponentials() {
        for isa in Isa::all_supported() {
            for cols in [1_usize, 8, 16, 37] {
                let mut x: Vec<f32> = (0..2 * cols).map(|i| (i * 5 % 7) as f32 - 50.0).collect();
                let before = x.clone();
                Kernels::new(isa).softmax(&mut Workspace::new(1), &mut x, cols);
                for (row, before) in x.chunks_exact(cols).zip(before.chunks_exact(cols)) {
                    assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{isa}, {cols}");
                    for (x, before_x) in row.iter().zip(before) {
                        let wanted = row[0] * (before_x - before[0]).exp();
                        assert!((x / wanted - 1.0).abs() < 1e-5, "{isa}, {cols}: {x}, {wanted}");
                    }
                }
            }
        }
    }

    #[test]
    fn heads_are_normed_one_by_one_and_values_left_alone() {
        for isa in Isa::all_supported() {
            let (kernels, mut workspace) = (Kernels::new(isa), Workspace::new(1));
            // Two heads of queries, one of keys, one of values; two elements each.
            let heads = Heads { queries: 2, keys: 1, width: 2 };
            let mut x = [3.0, 3.0, 0.0, -8.0, 5.0, 5.0, 7.0, 7.0];
            let norm = |weight| Norm { centred: false, weight, bias: None, epsilon: 0.0 };
            let norms = [&norm(&[1.0, 2.0]), &norm(&[4.0, 1.0])];
            kernels.norm_keys(&mut workspace, &mut x, heads, norms);
            let wanted = [1.0, 2.0, 0.0, -2.0 * 2.0_f32.sqrt(), 4.0, 1.0, 7.0, 7.0];
            let near = x.iter().zip(&wanted).all(|(x, wanted)| (x - wanted).abs() < 1e-6);
            assert!(near, "{isa}: {x:?}");
        }
    }

    #[test]
    fn sums_reach_every_element() {
        for isa in Isa::all_supported() {
            let (kernels, mut workspace) = (Kernels::new(isa), Workspace::new(2));
            for elements in [0, 1, 15, 17, TASK_ELEMENTS, 2 * TASK_ELEMENTS + 3] {
                let mut x: Vec<f32> = (0..elements).map(|i| i as f32).collect();
                kernels.add(&mut workspace, &mut x, &vec![0.5; elements]);
                let right = x.iter().enumerate().all(|(i, x)| *x == i as f32 + 0.5);
                assert!(right, "{isa}, {elements}");
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
            let heads = Heads { queries: 1, keys: 1, width: 5 };
            kernels.rope(&mut workspace, &mut x, heads, (&[0.0, 1.0], &[1.0, 0.0]));
            let turned = [0.0, 2.0, 1.0, 0.0, 9.0];
            assert_eq!(x, [turned, turned, head].concat(), "{isa}");

            // The other way to pair: the second pair is turned by nothing.
            let mut x = [head, head, head].concat();
            kernels.rope_neighbours(&mut workspace, &mut x, heads, (&[0.0, 1.0], &[1.0, 0.0]));
            let turned = [-2.0, 1.0, 0.0, 0.0, 9.0];
            assert_eq!(x, [turned, turned, head].concat(), "{isa}");
        }
    }
}
