//! The keys of one architecture: `ARCHITECTURE.…`, each with the values that make sense.

use super::architecture::{Architecture, Input, NormKind, Pooling, Sight};
use super::error::ModelError;
use super::hyper::{Experts, Local};
use super::published::Known;
use super::rope::{Pairing, Rope, Scaling};
use crate::gguf::{GgufFile, IntegerArray, Value};
use crate::kernels::{Activation, Heads};

/// Most elements in a row of hidden states or of a feed-forward layer.
pub(super) const WIDTH_MAX: u32 = 1 << 20;
/// Most dimensions of the answer; what a frame of the protocol holds.
pub(super) const HIDDEN_MAX: u32 = 16_000;
/// Most tokens in a text; the longest published context is a million.
pub(super) const CONTEXT_MAX: u32 = 1 << 20;
/// Most experts of a layer: published models have up to some hundred.
const EXPERTS_MAX: u32 = 1024;

/// The keys of a file of this architecture.
pub(super) struct Keys<'a> {
    pub(super) file: &'a GgufFile,
    pub(super) architecture: &'static Architecture,
}

impl Keys<'_> {
    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture.name)
    }

    fn value(&self, key: &str, found: impl ToString, wanted: impl Into<String>) -> ModelError {
        let (found, wanted) = (found.to_string(), wanted.into());
        ModelError::KeyValue { key: self.full(key), found, wanted }
    }

    fn unsupported(&self, key: &str, found: &str, wanted: &'static str) -> ModelError {
        ModelError::KeyUnsupported { key: self.full(key), found: found.into(), wanted }
    }

    /// A required count between 1 and `most`.
    pub(super) fn size(&self, key: &str, most: u32) -> Result<usize, ModelError> {
        self.size_or(key, most, None)
    }

    /// A count between 1 and `most`, or `default` where the file has none.
    fn size_or(&self, key: &str, most: u32, default: Option<usize>) -> Result<usize, ModelError> {
        size(self.file, self.full(key), most, default)
    }

    /// Heads of queries, keys and values, of one width.
    pub(super) fn heads(&self, hidden: usize) -> Result<Heads, ModelError> {
        let queries = self.size("attention.head_count", HIDDEN_MAX)?;
        let keys = self.size_or("attention.head_count_kv", HIDDEN_MAX, Some(queries))?;
        if !queries.is_multiple_of(keys) {
            let wanted = format!("a divisor of attention.head_count, {queries}");
            return Err(self.value("attention.head_count_kv", keys, wanted));
        }
        let key_length = self.file.u32(&self.full("attention.key_length"))?;
        if key_length.is_none() && !hidden.is_multiple_of(queries) {
            let wanted = format!("a divisor of embedding_length, {hidden}");
            return Err(self.value("attention.head_count", queries, wanted));
        }
        let even = Some(hidden / queries);
        let width = self.size_or("attention.key_length", HIDDEN_MAX, even)?;
        let values = self.size_or("attention.value_length", HIDDEN_MAX, Some(width))?;
        if values != width {
            let wanted = format!("attention.key_length, {width}");
            return Err(self.value("attention.value_length", values, wanted));
        }
        if queries * width > WIDTH_MAX as usize {
            let wanted = format!("at most {WIDTH_MAX} for all {queries} heads together");
            return Err(self.value("attention.key_length", width, wanted));
        }
        Ok(Heads { queries, keys, width })
    }

    /// Rows of the token type table, 0 where the architecture has none.
    pub(super) fn token_types(&self) -> Result<usize, ModelError> {
        match self.architecture.input {
            Input::TypedAndNormed => {
                size(self.file, "tokenizer.ggml.token_type_count".into(), WIDTH_MAX, None)
            }
            Input::Normed | Input::Plain | Input::Scaled => Ok(0),
        }
    }

    pub(super) fn epsilon(&self) -> Result<f32, ModelError> {
        let key = match self.architecture.norm {
            NormKind::Layer | NormKind::LayerScale => "attention.layer_norm_epsilon",
            NormKind::Rms => "attention.layer_norm_rms_epsilon",
        };
        let epsilon = self
            .file
            .f32(&self.full(key))?
            .ok_or_else(|| ModelError::KeyMissing { key: self.full(key) })?;
        if epsilon.is_finite() && epsilon >= 0.0 {
            Ok(epsilon)
        } else {
            Err(self.value(key, epsilon, "finite and not negative"))
        }
    }

    /// Whether a token sees only those before it: decoders by default, encoders never.
    pub(super) fn causal(&self) -> Result<bool, ModelError> {
        let key = "attention.causal";
        match (self.architecture.sight, self.file.bool(&self.full(key))?) {
            (Sight::Back, named) => Ok(named.unwrap_or(true)),
            (Sight::All | Sight::Alternating { .. }, Some(true)) => {
                Err(self.unsupported(key, "true", "an encoder's attention is bidirectional"))
            }
            (Sight::All | Sight::Alternating { .. }, _) => Ok(false),
        }
    }

    /// What makes the feed-forward layer not linear.
    pub(super) fn activation(&self) -> Result<Activation, ModelError> {
        let key = "hidden_activation";
        match self.file.str(&self.full(key))? {
            None => Ok(self.architecture.activation),
            Some("gelu") => Ok(Activation::Gelu),
            Some("gelu_pytorch_tanh") => Ok(Activation::GeluTanh),
            Some("silu") => Ok(Activation::Silu),
            Some(other) => Err(self.unsupported(
                key,
                &format!("`{other}`"),
                "only gelu, gelu_pytorch_tanh and silu are",
            )),
        }
    }

    /// Rotations whose base stands under `key`.
    pub(super) fn rope(
        &self,
        key: &str,
        (default_base, pairing): (f32, Pairing),
        head_width: usize,
    ) -> Result<Rope, ModelError> {
        let base = self.positive(key, default_base)?;
        let dims = match self.file.u32(&self.full("rope.dimension_count"))? {
            Some(dims) => dims as usize,
            None => head_width,
        };
        if dims == 0 || !dims.is_multiple_of(2) || dims > head_width {
            let wanted = format!("even, and from 2 to the head's width, {head_width}");
            return Err(self.value("rope.dimension_count", dims, wanted));
        }
        Ok(Rope { base, dims, pairing, scaling: self.rope_scaling()? })
    }

    /// How positions are stretched. As in llama.cpp, a file that names a factor and no type means the
    /// linear one.
    fn rope_scaling(&self) -> Result<Scaling, ModelError> {
        const TYPE: &str = "rope.scaling.type";
        let factor = self.positive("rope.scaling.factor", 1.0)?;
        if factor < 1.0 {
            return Err(self.value("rope.scaling.factor", factor, "at least 1"));
        }
        let scaling = match self.file.str(&self.full(TYPE))? {
            Some("none") => Scaling::None,
            None | Some("linear") if factor == 1.0 => Scaling::None,
            None | Some("linear") => Scaling::Linear { factor },
            Some("yarn") => self.yarn(factor)?,
            Some(other) => {
                let wanted = "only none, linear and yarn are";
                return Err(self.unsupported(TYPE, &format!("`{other}`"), wanted));
            }
        };
        if scaling != Scaling::None && matches!(self.architecture.sight, Sight::Alternating { .. })
        {
            let wanted = "where layers have rotations of two kinds, only none is";
            return Err(self.unsupported(TYPE, "scaling", wanted));
        }
        Ok(scaling)
    }

    fn yarn(&self, factor: f32) -> Result<Scaling, ModelError> {
        /// Keys that change more than this version does, with the value that changes nothing.
        const NEUTRAL: [(&str, f32); 4] = [
            ("rope.scaling.attn_factor", 1.0),
            ("rope.scaling.yarn_attn_factor", 1.0),
            ("rope.scaling.yarn_ext_factor", 1.0),
            ("rope.scaling.yarn_log_multiplier", 0.0),
        ];
        for (key, neutral) in NEUTRAL {
            if let Some(found) = self.file.f32(&self.full(key))?.filter(|found| *found != neutral) {
                let wanted = "only YaRN as it was published is";
                return Err(self.unsupported(key, &found.to_string(), wanted));
            }
        }
        let context = self.size("context_length", CONTEXT_MAX)?;
        let original = "rope.scaling.original_context_length";
        let scaling = Scaling::Yarn {
            factor,
            original_context: self.size_or(original, CONTEXT_MAX, Some(context))?,
            beta_fast: self.positive("rope.scaling.yarn_beta_fast", 32.0)?,
            beta_slow: self.positive("rope.scaling.yarn_beta_slow", 1.0)?,
        };
        Ok(if factor == 1.0 { Scaling::None } else { scaling })
    }

    /// A number above zero, or `default` where the file has none.
    fn positive(&self, key: &str, default: f32) -> Result<f32, ModelError> {
        let found = self.file.f32(&self.full(key))?.unwrap_or(default);
        if found.is_finite() && found > 0.0 {
            Ok(found)
        } else {
            Err(self.value(key, found, "finite and above zero"))
        }
    }

    /// Which of `blocks` layers see only what is near: by default all but the first or the last of
    /// each period.
    pub(super) fn local(
        &self,
        blocks: usize,
        head_width: usize,
        default_base: f32,
        (period, first): (u32, bool),
    ) -> Result<Local, ModelError> {
        let window = self.size("attention.sliding_window", CONTEXT_MAX)?;
        let rope = (default_base, Pairing::Halves);
        let rope = self.rope("rope.freq_base_swa", rope, head_width)?;
        let key = "attention.sliding_window_pattern";
        let layers = match self.file.value(&self.full(key)) {
            Some(Value::Array(_)) => {
                let named = self.file.integers(&self.full(key))?;
                let len = named.as_ref().map_or(0, IntegerArray::len);
                if len != blocks {
                    let wanted = format!("one element a layer, of which there are {blocks}");
                    return Err(self.value(key, format!("an array of {len}"), wanted));
                }
                named.iter().flat_map(IntegerArray::iter).map(|named| named != 0).collect()
            }
            _ => {
                let period = self.size_or(key, WIDTH_MAX, Some(period as usize))?;
                let full = if first { 0 } else { period - 1 };
                (0..blocks).map(|block| block % period != full).collect()
            }
        };
        Ok(Local { reach: window / 2, rope, layers })
    }

    /// Refuses experts where the architecture's row has none.
    pub(super) fn no_experts(&self) -> Result<(), ModelError> {
        match self.file.u32(&self.full("expert_count"))? {
            None | Some(0) => Ok(()),
            Some(count) => {
                let wanted = "models of this architecture run without experts only";
                Err(self.unsupported("expert_count", &count.to_string(), wanted))
            }
        }
    }

    pub(super) fn experts(&self) -> Result<Experts, ModelError> {
        let count = self.size("expert_count", EXPERTS_MAX)?;
        let used = self.size("expert_used_count", EXPERTS_MAX)?;
        if used > count {
            let wanted = format!("at most expert_count, {count}");
            return Err(self.value("expert_used_count", used, wanted));
        }
        Ok(Experts { count, used, every: self.size("moe_every_n_layers", WIDTH_MAX)? })
    }

    /// Width between the two linear heads after pooling, and of what they give.
    pub(super) fn dense_heads(&self, hidden: usize) -> Result<Option<(usize, usize)>, ModelError> {
        let sizes = ["dense_2_feat_in", "dense_2_feat_out", "dense_3_feat_in", "dense_3_feat_out"];
        let mut found = [None; 4];
        for (found, key) in found.iter_mut().zip(sizes) {
            *found = self.file.u32(&self.full(key))?;
        }
        if found == [None; 4] {
            return Ok(None);
        }
        let dense_2_in = self.size(sizes[0], HIDDEN_MAX)?;
        let inner = self.size(sizes[1], WIDTH_MAX)?;
        let dense_3_in = self.size(sizes[2], WIDTH_MAX)?;
        let dimensions = self.size(sizes[3], HIDDEN_MAX)?;
        if dense_2_in != hidden {
            return Err(self.value(sizes[0], dense_2_in, format!("embedding_length, {hidden}")));
        }
        if dense_3_in != inner {
            return Err(self.value(sizes[2], dense_3_in, format!("dense_2_feat_out, {inner}")));
        }
        Ok(Some((inner, dimensions)))
    }

    /// The pooling, and whether the file names it.
    ///
    /// Numbers are those of llama.cpp's `llama_pooling_type`. Encoders whose file says nothing were
    /// nearly all trained with mean pooling; models that were not are known by name.
    pub(super) fn pooling(&self) -> Result<(Pooling, bool), ModelError> {
        let unsupported = |found: &str| {
            let wanted = "only MEAN, CLS and LAST make one vector of a text here";
            Err(self.unsupported("pooling_type", found, wanted))
        };
        match self.file.u32(&self.full("pooling_type"))? {
            Some(1) => Ok((Pooling::Mean, true)),
            Some(2) => Ok((Pooling::Cls, true)),
            Some(3) => Ok((Pooling::Last, true)),
            Some(0) => unsupported("NONE"),
            Some(4) => unsupported("RANK"),
            Some(other) => unsupported(&other.to_string()),
            None => {
                let known = Known::of(self.file)?.map(|known| known.published.pooling);
                Ok((known.unwrap_or(self.architecture.pooling), false))
            }
        }
    }
}

/// A count between 1 and `most` under `key`, or `default` where the file has none.
fn size(
    file: &GgufFile,
    key: String,
    most: u32,
    default: Option<usize>,
) -> Result<usize, ModelError> {
    match file.u32(&key)? {
        None => default.ok_or(ModelError::KeyMissing { key }),
        Some(value) if (1..=most).contains(&value) => Ok(value as usize),
        Some(value) => Err(ModelError::KeyValue {
            key,
            found: value.to_string(),
            wanted: format!("from 1 to {most}"),
        }),
    }
}
