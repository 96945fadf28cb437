//! The wide inside of a feed-forward layer, quantized as it is made.
//!
//! A task makes 256 columns for some tokens in its thread's scratch, which the second-level cache
//! holds, and quantizes them: the next product wants nothing else, so that the widest activations of
//! a model are never written to memory as floats, nor read by another core.

use super::matmul::{Activation, Epilogue, Product, Task, WIDTH, task_tokens};
use super::memory::SharedOut;
use super::panel::{SLICE, slices};
use super::quantize::{Forms, QuantizedRows};
use super::workspace::{ThreadScratch, Workspace, first_error};
use super::{Activations, Kernels, NonFiniteWeight};

impl Kernels {
    /// Quantizes `activation(x · up^T + bias)`, or `activation(x · gate^T) * (x · up^T)` if there is a
    /// gate, to `out` in the forms `forms`.
    ///
    /// # Shapes
    ///
    /// `x` is `[tokens, cols]`, the weights are `[inner, cols]`, `out` becomes `[tokens, inner]`.
    ///
    /// # Errors
    ///
    /// A weight or scale that is not finite, in `up` (0) or `gate` (1); `out` is then of no use.
    ///
    /// # Panics
    ///
    /// If the shapes do not fit together.
    pub fn feed_forward(
        self,
        workspace: &mut Workspace,
        up: &Product<'_>,
        gate: Option<&Product<'_>>,
        activation: Activation,
        x: &Activations<'_>,
        (forms, out): (Forms, &mut QuantizedRows),
    ) -> Result<(), (usize, NonFiniteWeight)> {
        let (tokens, inner) = (x.tokens, up.weights.rows);
        let plain = if gate.is_some() { Epilogue::Store } else { Epilogue::Activate(activation) };
        let up = (up, plain);
        let products = [Some(up), gate.map(|gate| (gate, Epilogue::Gate(activation)))];
        for (product, _) in products.iter().flatten() {
            product.check(x, up.0.weights.cols);
            assert!(product.weights.rows == inner, "up and gate have the same rows");
        }
        out.reset(tokens, inner, forms);
        let slices = slices(inner);
        let chunk = task_tokens(workspace.threads(), slices, tokens);
        let out = out.share(chunk);
        first_error(workspace.run(slices * tokens.div_ceil(chunk), |task, scratch| {
            let (slice, chunk_index) = (task % slices, task / slices);
            let tokens = chunk_index * chunk..tokens.min((chunk_index + 1) * chunk);
            let first = slice * SLICE;
            let width = SLICE.min(inner - first);
            let ThreadScratch { panels, sums, columns, .. } = scratch;
            columns.grow(tokens.len() * SLICE);
            let columns = &mut columns[..tokens.len() * SLICE];
            for (index, (product, epilogue)) in products.iter().flatten().enumerate() {
                let shape = (tokens.len(), width, SLICE);
                let cells = SharedOut::new(columns, shape, (tokens.len(), WIDTH));
                for pair in 0..width.div_ceil(WIDTH) {
                    let Some(cell) = cells.take(0, pair) else { continue };
                    let task = Task {
                        kernels: self,
                        weights: &product.weights,
                        bias: product.bias,
                        x,
                        epilogue: *epilogue,
                        tokens: tokens.clone(),
                        row: first + pair * WIDTH,
                    };
                    task.run(cell, panels, sums).map_err(|error| (index, error))?;
                }
            }
            out.fill(self.isa, (slice, chunk_index), columns, SLICE, 0..width);
            Ok(())
        }))
    }
}
