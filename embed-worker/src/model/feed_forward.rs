//! The feed-forward layer of some tokens, or the experts of several that a router chooses for each.

use super::error::ModelError;
use super::hyper::{Experts, Hyperparameters};
use super::steps::Steps;
use super::weights::{Block, FeedForward, Linear};
use crate::kernels::{Activation, Activations, Buffer, Epilogue, Forms, Product, QuantizedRows};

/// Buffers of a feed-forward layer, for a tile of tokens.
#[derive(Debug, Default)]
pub(super) struct FeedForwardScratch {
    /// The layer's inside, `[tile, inner]`, if the weights after it take floats.
    pub(super) inner: Buffer,
    /// The same as int8.
    quantized_inner: QuantizedRows,
    experts: ExpertScratch,
}

/// Buffers for experts.
#[derive(Debug, Default)]
struct ExpertScratch {
    /// How well each expert suits each token, `[tile, experts]`.
    suits: Buffer,
    /// The tokens of one expert, `[tile, hidden]`.
    rows: Buffer,
    /// What it makes of them, `[tile, hidden]`.
    made: Buffer,
    /// Which they are, and what each gives for it.
    chosen: Vec<(usize, f32)>,
    /// Whether their states are not finite.
    broken: Vec<bool>,
}

impl FeedForwardScratch {
    /// Bytes that a tile of `tile` tokens takes, and one of `texts` texts in the heads after pooling.
    /// The layer's inside is wanted in `forms`, and as floats if `plain`.
    pub(super) fn bytes(
        hyper: &Hyperparameters,
        (forms, plain): (Forms, bool),
        (tile, texts): (usize, usize),
    ) -> usize {
        let heads = texts * hyper.head_inner.unwrap_or(0);
        let inner = heads.max(if plain { tile * hyper.inner } else { 0 });
        let quantized = QuantizedRows::bytes(tile, hyper.inner, forms);
        let experts = hyper.experts.map_or(0, |experts| {
            let floats = experts.count + 2 * hyper.hidden;
            tile * (floats * size_of::<f32>() + size_of::<(usize, f32)>() + size_of::<bool>())
        });
        inner * size_of::<f32>() + quantized + experts
    }

    /// Bytes that are held.
    pub(super) fn held_bytes(&self) -> usize {
        let Self { inner, quantized_inner, experts } = self;
        let ExpertScratch { suits, rows, made, chosen, broken } = experts;
        let floats = inner.bytes() + suits.bytes() + rows.bytes() + made.bytes();
        let choice = chosen.capacity() * size_of::<(usize, f32)>() + broken.capacity();
        floats + quantized_inner.held_bytes() + choice
    }
}

impl Steps<'_> {
    /// What the feed-forward layer of `block` makes of `rows`, in `out`, both `[tokens, hidden]`.
    pub(super) fn feed_forward(
        &mut self,
        (block, hyper): (&Block, &Hyperparameters),
        rows: &[f32],
        (quantized, scratch): (&mut QuantizedRows, &mut FeedForwardScratch),
        broken: &mut [bool],
        out: &mut [f32],
    ) -> Result<(), ModelError> {
        match (&block.router, hyper.experts) {
            (Some(router), Some(experts)) => {
                let suits = (router, experts);
                self.experts((block, hyper), suits, rows, (quantized, scratch), broken, out)
            }
            _ => {
                let (layer, activation) = (&block.ffn[0], hyper.activation);
                self.layer((layer, activation), rows, (quantized, scratch), broken, out)
            }
        }
    }

    /// `out = down(activation(up(rows)))`, with a gate `down(activation(gate(rows)) * up(rows))`.
    fn layer(
        &mut self,
        (layer, activation): (&FeedForward, Activation),
        rows: &[f32],
        (quantized, scratch): (&mut QuantizedRows, &mut FeedForwardScratch),
        broken: &mut [bool],
        out: &mut [f32],
    ) -> Result<(), ModelError> {
        let FeedForward { up, gate, down } = layer;
        let linears: Vec<&Linear> = [up].into_iter().chain(gate).collect();
        let x = self.quantize(rows, &linears, quantized, broken);
        let forms = Forms::of([down.matrix().shape().0]);
        if forms.is_none() {
            // Weights that are not quantized take floats.
            let elements = x.tokens * up.rows;
            scratch.inner.grow(elements);
            let inner = &mut scratch.inner[..elements];
            match gate {
                None => self.multiply(&[up], &x, Epilogue::Activate(activation), inner)?,
                Some(gate) => {
                    self.multiply(&[up], &x, Epilogue::Store, inner)?;
                    self.multiply(&[gate], &x, Epilogue::Gate(activation), inner)?;
                }
            }
            return self.project(&[down], inner, quantized, broken, out);
        }
        let products: Vec<Product<'_>> = linears.iter().map(|linear| linear.product()).collect();
        let (up, gate) = (&products[0], products.get(1));
        let inner = (forms, &mut scratch.quantized_inner);
        self.kernels
            .feed_forward(self.workspace, up, gate, activation, &x, inner)
            .map_err(|(index, error)| linears[index].not_finite(error))?;
        let quantized = &scratch.quantized_inner;
        quantized.mark_broken(broken);
        let x = Activations { tokens: x.tokens, rows: &[], quantized };
        self.multiply(&[down], &x, Epilogue::Store, out)
    }

    /// The experts that suit each token best, added up by how well they do.
    ///
    /// Experts take their turns in their order, so that a token's sum has one order whoever else is
    /// there.
    fn experts(
        &mut self,
        (block, hyper): (&Block, &Hyperparameters),
        (router, experts): (&Linear, Experts),
        rows: &[f32],
        (quantized, scratch): (&mut QuantizedRows, &mut FeedForwardScratch),
        broken: &mut [bool],
        out: &mut [f32],
    ) -> Result<(), ModelError> {
        let (hidden, tokens) = (hyper.hidden, rows.len() / hyper.hidden);
        // The others' buffers are lent out as a whole while an expert works.
        let mut own = std::mem::take(&mut scratch.experts);
        let ExpertScratch { suits, rows: taken, made, chosen, broken: marks } = &mut own;
        suits.grow(tokens * experts.count);
        let suits = &mut suits[..tokens * experts.count];
        self.project(&[router], rows, quantized, broken, suits)?;
        self.kernels.softmax(self.workspace, suits, experts.count);
        for suits in suits.chunks_exact_mut(experts.count) {
            keep_best(suits, experts.used);
        }
        taken.grow(tokens * hidden);
        made.grow(tokens * hidden);
        out.fill(0.0);
        for (expert, layer) in block.ffn.iter().enumerate() {
            chosen.clear();
            let suits = suits.chunks_exact(experts.count).map(|suits| suits[expert]).enumerate();
            chosen.extend(suits.filter(|(_, weight)| *weight != 0.0));
            if chosen.is_empty() {
                continue;
            }
            let taken = &mut taken[..chosen.len() * hidden];
            for ((token, _), to) in chosen.iter().zip(taken.chunks_exact_mut(hidden)) {
                to.copy_from_slice(&rows[token * hidden..][..hidden]);
            }
            marks.clear();
            marks.resize(chosen.len(), false);
            let made = &mut made[..chosen.len() * hidden];
            let layer = (layer, hyper.activation);
            self.layer(layer, taken, (&mut *quantized, &mut *scratch), marks, made)?;
            for (index, (token, weight)) in chosen.iter().enumerate() {
                broken[*token] |= marks[index];
                let sum = &mut out[token * hidden..][..hidden];
                for (sum, made) in sum.iter_mut().zip(&made[index * hidden..][..hidden]) {
                    *sum += weight * made;
                }
            }
        }
        scratch.experts = own;
        Ok(())
    }
}

/// Sets all but the `used` largest of a token's numbers to zero; of equal ones the first is kept. A NaN
/// is kept as well, so that the token is seen to be broken.
fn keep_best(suits: &mut [f32], used: usize) {
    for index in (0..suits.len()).rev() {
        let own = suits[index];
        // Those behind that were beaten are zero already and beat nothing.
        let better = |(other, suit): (usize, &f32)| *suit > own || (*suit == own && other < index);
        if suits.iter().enumerate().filter(|suit| better(*suit)).count() >= used {
            suits[index] = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_kept_and_of_equal_ones_the_first() {
        let kept = |suits: &[f32], used| {
            let mut suits = suits.to_vec();
            keep_best(&mut suits, used);
            suits
        };
        assert_eq!(kept(&[0.1, 0.4, 0.2, 0.3], 2), [0.0, 0.4, 0.0, 0.3]);
        assert_eq!(kept(&[0.25; 4], 2), [0.25, 0.25, 0.0, 0.0]);
        assert_eq!(kept(&[0.5, 0.3, 0.5], 1), [0.5, 0.0, 0.0]);
        assert_eq!(kept(&[0.5, 0.3, 0.2], 3), [0.5, 0.3, 0.2]);
        assert!(kept(&[f32::NAN; 3], 2).iter().all(|suit| suit.is_nan()));
    }
}
