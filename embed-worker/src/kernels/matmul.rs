//! Products of activations with mapped weights: `out = x · W^T + bias`.
//!
//! A task is one panel of 16 output columns over all rows of activations: it unpacks the panel into
//! its thread's scratch and runs it over the tokens, some at a time.

use super::block::Form;
use super::dispatch::{flip, tile, with_features};
use super::memory::{Cell, SharedOut};
use super::panel::{Panel, PanelBlock, ROWS};
use super::quantize::QuantizedRows;
use super::workspace::{Workspace, first_error};
use super::{Activations, Isa, Kernels, Matrix, NonFiniteWeight};

impl Kernels {
    /// Writes `x · weights^T + bias` to `out`.
    ///
    /// # Shapes
    ///
    /// `x` is `[tokens, cols]`, `weights` `[rows, cols]`, `bias` `[rows]`; `out` is
    /// `[tokens, rows]` with `stride` elements from one token to the next.
    ///
    /// # Errors
    ///
    /// A weight or scale that is not finite; `out` is then of no use.
    ///
    /// # Panics
    ///
    /// If the shapes do not fit together.
    pub fn matmul(
        self,
        workspace: &mut Workspace,
        weights: &Matrix<'_>,
        x: &Activations<'_>,
        bias: Option<&[f32]>,
        out: &mut [f32],
        stride: usize,
    ) -> Result<(), NonFiniteWeight> {
        let tokens = x.rows.len() / weights.cols;
        assert!(tokens * weights.cols == x.rows.len(), "activations are whole rows");
        assert!(bias.is_none_or(|bias| bias.len() == weights.rows), "one bias for each row");
        let form = Form::of(weights.dtype);
        if form.is_some() {
            let quantized = (x.quantized.rows(), x.quantized.cols());
            assert!(quantized == (tokens, weights.cols), "both forms are of the same rows");
        }
        let out = SharedOut::new(out, (tokens, weights.rows, stride), (tokens.max(1), ROWS));
        let panels = weights.rows.div_ceil(ROWS);
        let run = |panel: usize, scratch: &mut Panel| -> Result<(), NonFiniteWeight> {
            let Some(mut cell) = out.take(0, panel) else { return Ok(()) };
            let first = panel * ROWS;
            let bias = bias.map(|bias| &bias[first..weights.rows.min(first + ROWS)]);
            match form {
                Some(form) => {
                    quantized_panel(self.isa, weights, form, first, x.quantized, scratch, &mut cell)
                }
                None => plain_panel(self.isa, weights, first, x.rows, scratch, &mut cell),
            }?;
            if let Some(bias) = bias {
                for token in 0..cell.rows() {
                    for (out, bias) in cell.row_mut(token).iter_mut().zip(bias) {
                        *out += bias;
                    }
                }
            }
            Ok(())
        };
        first_error(workspace.run(panels, |task, scratch| run(task, &mut scratch.panel)))
    }
}

/// One panel of quantized weights over all tokens.
fn quantized_panel(
    isa: Isa,
    weights: &Matrix<'_>,
    form: Form,
    first: usize,
    x: &QuantizedRows,
    scratch: &mut Panel,
    out: &mut Cell<'_>,
) -> Result<(), NonFiniteWeight> {
    let flip = flip(isa, form);
    let panel = with_features(isa, || scratch.unpack(weights, form, first, flip))?;
    let mut tiles = Tiles { isa, form, panel, x, token: 0, out };
    match isa {
        // Twice as many accumulators as tokens, of 32 registers.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni(_) => {
            tiles.run::<12>();
            tiles.run::<8>();
            tiles.run::<4>();
            tiles.run::<2>();
            tiles.run::<1>();
        }
        // The same, of 16.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) => {
            tiles.run::<4>();
            tiles.run::<2>();
            tiles.run::<1>();
        }
        Isa::Portable => tiles.run::<1>(),
    }
    Ok(())
}

/// The walk of one panel over the tokens.
///
/// How many of them go together changes nothing but the speed: each token's sums are its own.
struct Tiles<'a, 'b> {
    isa: Isa,
    form: Form,
    panel: &'a [PanelBlock],
    x: &'a QuantizedRows,
    token: usize,
    out: &'a mut Cell<'b>,
}

impl Tiles<'_, '_> {
    /// As many tiles of `T` tokens as there are tokens left for.
    fn run<const T: usize>(&mut self) {
        while self.x.rows() - self.token >= T {
            let q = std::array::from_fn(|t| self.x.q(self.token + t));
            let meta = std::array::from_fn(|t| self.x.meta(self.token + t));
            let rows = tile::<T>(self.isa, self.form, self.panel, q, meta);
            write(self.out, self.token, &rows);
            self.token += T;
        }
    }
}

/// One panel of weights that are not quantized over all tokens.
fn plain_panel(
    isa: Isa,
    weights: &Matrix<'_>,
    first: usize,
    x: &[f32],
    scratch: &mut Panel,
    out: &mut Cell<'_>,
) -> Result<(), NonFiniteWeight> {
    with_features(isa, || {
        let panel = scratch.unpack_plain(weights, first)?;
        let mut token = 0;
        for x in x.chunks(PLAIN_TOKENS * weights.cols) {
            if let Some(x) = rows_of::<PLAIN_TOKENS>(x, weights.cols) {
                write(out, token, &plain_tile(panel, x));
                token += PLAIN_TOKENS;
            } else {
                for x in x.chunks_exact(weights.cols) {
                    write(out, token, &plain_tile(panel, [x]));
                    token += 1;
                }
            }
        }
        Ok(())
    })
}

/// Tokens that share a read of a panel that is not quantized: their accumulators fit AVX2.
const PLAIN_TOKENS: usize = 4;

/// The first `T` rows of `x`, if there are so many.
#[inline(always)]
fn rows_of<const T: usize>(x: &[f32], cols: usize) -> Option<[&[f32]; T]> {
    (x.len() == T * cols).then(|| std::array::from_fn(|t| &x[t * cols..][..cols]))
}

/// 16 rows of weights by `T` rows of activations, column by column.
#[inline(always)]
fn plain_tile<const T: usize>(panel: &[[f32; ROWS]], x: [&[f32]; T]) -> [[f32; ROWS]; T] {
    let x = x.map(|x| &x[..panel.len()]);
    let mut sums = [[0.0_f32; ROWS]; T];
    for (index, weights) in panel.iter().enumerate() {
        for t in 0..T {
            let x = x[t][index];
            for row in 0..ROWS {
                sums[t][row] = weights[row].mul_add(x, sums[t][row]);
            }
        }
    }
    sums
}

/// Copies `rows` to the cell, from row `first` on.
#[inline(always)]
fn write(out: &mut Cell<'_>, first: usize, rows: &[[f32; ROWS]]) {
    for (index, row) in rows.iter().enumerate() {
        let out = out.row_mut(first + index);
        out.copy_from_slice(&row[..out.len()]);
    }
}
