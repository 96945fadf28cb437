//! The tensor types of GGUF: how many elements a block holds and how many bytes it takes.
//!
//! Numbers and sizes are those of `ggml.h` (`enum ggml_type`) and `ggml-common.h` (block structs).

/// A tensor element type that this worker can read.
///
/// The discriminant is the number that GGUF files carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[expect(
    non_camel_case_types,
    reason = "GGUF's own spelling, so that it can be searched in the spec"
)]
pub enum DType {
    /// IEEE binary32.
    F32 = 0,
    /// IEEE binary16.
    F16 = 1,
    /// 32 elements: f16 scale, 4-bit values minus 8.
    Q4_0 = 2,
    /// 32 elements: f16 scale, f16 minimum, 4-bit values.
    Q4_1 = 3,
    /// 32 elements: f16 scale, 5-bit values minus 16.
    Q5_0 = 6,
    /// 32 elements: f16 scale, f16 minimum, 5-bit values.
    Q5_1 = 7,
    /// 32 elements: f16 scale, 8-bit signed values.
    Q8_0 = 8,
    /// 256 elements: 16 sub-blocks of 16 with 4-bit scales and minimums.
    Q2_K = 10,
    /// 256 elements: 16 sub-blocks of 16 with 6-bit scales.
    Q3_K = 11,
    /// 256 elements: 8 sub-blocks of 32 with 6-bit scales and minimums.
    Q4_K = 12,
    /// 256 elements: 8 sub-blocks of 32 with 6-bit scales and minimums, 5-bit values.
    Q5_K = 13,
    /// 256 elements: 16 sub-blocks of 16 with 8-bit scales, 6-bit values minus 32.
    Q6_K = 14,
    /// 32 elements: f16 scale, 4-bit indices into a table of 16 values.
    IQ4_NL = 20,
    /// 256 elements: 8 sub-blocks of 32 with 6-bit scales, 4-bit indices into the `IQ4_NL` table.
    IQ4_XS = 23,
    /// bfloat16.
    BF16 = 30,
}

impl DType {
    /// Every type, in the order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::F32,
        Self::F16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2_K,
        Self::Q3_K,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
        Self::IQ4_NL,
        Self::IQ4_XS,
        Self::BF16,
    ];

    /// Whether weights come in blocks with a scale.
    pub const fn is_quantized(self) -> bool {
        !matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }

    /// Whether blocks have minimums beside their scales.
    pub const fn has_minimum(self) -> bool {
        matches!(self, Self::Q4_1 | Self::Q5_1 | Self::Q2_K | Self::Q4_K | Self::Q5_K)
    }

    /// The type with this number in a GGUF file, if this worker reads it.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| *dtype as u32 == number)
    }

    /// Elements in one block: 1, 32 or 256.
    pub const fn block_elements(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::IQ4_NL => 32,
            Self::Q2_K | Self::Q3_K | Self::Q4_K | Self::Q5_K | Self::Q6_K | Self::IQ4_XS => 256,
        }
    }

    /// Bytes that one block takes in the file.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 | Self::IQ4_NL => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2_K => 84,
            Self::Q3_K => 110,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
            Self::IQ4_XS => 136,
        }
    }

    /// Bytes that one row of `elements` takes, or `None` if it is not a whole number of blocks or
    /// does not fit `usize`.
    pub fn row_bytes(self, elements: usize) -> Option<usize> {
        if !elements.is_multiple_of(self.block_elements()) {
            return None;
        }
        (elements / self.block_elements()).checked_mul(self.block_bytes())
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}
