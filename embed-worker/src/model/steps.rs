//! The steps that a forward pass is made of: products, norms and sums over some rows.

use super::error::ModelError;
use super::weights::{BlockNorms, Linear, Norm};
use crate::kernels::{
    Activations, Epilogue, Forms, Kernels, Output, Product, QuantizedRows, Workspace,
};

/// What computes.
pub(super) struct Steps<'a> {
    pub(super) kernels: Kernels,
    pub(super) workspace: &'a mut Workspace,
}

impl Steps<'_> {
    /// What a layer's part takes in: `states`, normed in `normed` if there is a norm.
    pub(super) fn input<'x>(
        &mut self,
        norms: &BlockNorms,
        states: &'x [f32],
        normed: &'x mut [f32],
    ) -> &'x [f32] {
        match &norms.input {
            None => states,
            Some(norm) => {
                let normed = &mut normed[..states.len()];
                normed.copy_from_slice(states);
                self.norm(norm, normed);
                normed
            }
        }
    }

    /// Adds what a layer's part gives to `states`, with the norms before and after that.
    pub(super) fn add(&mut self, norms: &BlockNorms, states: &mut [f32], delta: &mut [f32]) {
        if let Some(norm) = &norms.output {
            self.norm(norm, delta);
        }
        let Self { kernels, workspace } = self;
        match (&norms.sum, &norms.second_sum) {
            (None, _) => kernels.add(workspace, states, delta),
            (Some(norm), None) => kernels.norm(workspace, states, Some(delta), &norm.kernel()),
            (Some(first), Some(second)) => {
                kernels.norm(workspace, delta, Some(states), &first.kernel());
                kernels.norm(workspace, states, Some(delta), &second.kernel());
            }
        }
    }

    /// Norms rows in place.
    pub(super) fn norm(&mut self, norm: &Norm, rows: &mut [f32]) {
        self.kernels.norm(self.workspace, rows, None, &norm.kernel());
    }

    /// `rows` in the forms that `linears` want; marks those that are not finite.
    pub(super) fn quantize<'x>(
        &mut self,
        rows: &'x [f32],
        linears: &[&Linear],
        quantized: &'x mut QuantizedRows,
        broken: &mut [bool],
    ) -> Activations<'x> {
        let forms = Forms::of(linears.iter().map(|linear| linear.matrix().shape().0));
        self.kernels.quantize(self.workspace, rows, linears[0].cols, forms, quantized);
        quantized.mark_broken(broken);
        Activations { tokens: rows.len() / linears[0].cols, rows, quantized }
    }

    /// The products with `linears`, side by side in rows of `out`.
    pub(super) fn multiply(
        &mut self,
        linears: &[&Linear],
        x: &Activations<'_>,
        epilogue: Epilogue,
        out: &mut [f32],
    ) -> Result<(), ModelError> {
        let products: Vec<Product<'_>> = linears.iter().map(|linear| linear.product()).collect();
        let stride = linears.iter().map(|linear| linear.rows).sum();
        self.kernels
            .matmul(self.workspace, &products, x, Output { out, stride, epilogue })
            .map_err(|(index, error)| linears[index].not_finite(error))
    }

    /// Quantizes `rows` and multiplies them with `linears`.
    pub(super) fn project(
        &mut self,
        linears: &[&Linear],
        rows: &[f32],
        quantized: &mut QuantizedRows,
        broken: &mut [bool],
        out: &mut [f32],
    ) -> Result<(), ModelError> {
        let x = self.quantize(rows, linears, quantized, broken);
        self.multiply(linears, &x, Epilogue::Store, out)
    }
}
