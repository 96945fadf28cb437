//! Blocks: what the bytes of a row mean, for every quantized type.
//!
//! `weight = scale * value + minimum`, where scale and minimum belong to 32 or to 16 weights.
//! Layouts and formulas are those of `ggml-common.h` and `ggml-quants.c` of llama.cpp; all multi-byte
//! fields are little-endian, and no block has an alignment.
//!
//! This is the law, one row at a time; `unpack` does the same for 16 rows at once.
#![expect(non_camel_case_types, reason = "GGUF's own spelling, so that it can be searched")]

use super::DType;
use super::panel::SLICE;
use super::simd::{LANES, Simd};

/// Weights that share a step of a dot product.
pub(super) const GROUP: usize = 32;

/// The values that the 4-bit indices of `IQ4_NL` and `IQ4_XS` stand for (`kvalues_iq4nl`).
pub(super) const IQ4_VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Scales of a block at most: two for each of eight groups.
pub(super) const SCALES_MAX: usize = 16;

/// Scales and minimums of a block, in the order of what they belong to: one for each part, or for
/// each half of one, and what lies beyond means nothing. Minimums are zero where the format has none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scales {
    pub(super) scales: [f32; SCALES_MAX],
    pub(super) minimums: [f32; SCALES_MAX],
}

/// A quantized type.
///
/// Bodies are loops over arrays of fixed size, which compilers turn into vector code once they are
/// inlined into [`super::simd::dispatch`].
pub(super) trait Format {
    /// The bytes of a block.
    type Block: 'static;
    /// The type.
    const DTYPE: DType;
    /// Groups of a block.
    const PARTS: usize = Self::DTYPE.block_elements() / GROUP;
    /// Whether each half of a group has a scale of its own.
    const HALVES: bool = false;
    /// Whether a block has 256 weights.
    const LARGE: bool = Self::DTYPE.block_elements() == SLICE;
    /// Whether there are minimums.
    const MINIMUM: bool = Self::DTYPE.has_minimum();
    /// The largest magnitude of a value.
    const MAGNITUDE: u8;
    /// Whether some values are negative.
    #[cfg(target_arch = "x86_64")]
    const SIGNED: bool = !Self::MINIMUM;

    /// A row of weights in blocks.
    fn blocks(row: &[u8]) -> &[Self::Block];

    /// The values of part `part` of `block`.
    fn values(block: &Self::Block, part: usize) -> [i8; GROUP];

    /// The scales of `block`.
    fn scales<S: Simd>(simd: S, block: &Self::Block) -> Scales;
}

/// Runs `$body` with `$format` bound to the [`Format`] of `$dtype`, or `$plain` if the type is not
/// quantized.
macro_rules! with_format {
    ($dtype:expr, $format:ident => $body:expr, plain => $plain:expr) => {{
        use $crate::kernels::block as formats;
        macro_rules! with {
            ($name:ident) => {{
                type $format = formats::$name;
                $body
            }};
        }
        match $dtype {
            DType::Q4_0 => with!(Q4_0),
            DType::Q4_1 => with!(Q4_1),
            DType::Q5_0 => with!(Q5_0),
            DType::Q5_1 => with!(Q5_1),
            DType::Q8_0 => with!(Q8_0),
            DType::Q2_K => with!(Q2_K),
            DType::Q3_K => with!(Q3_K),
            DType::Q4_K => with!(Q4_K),
            DType::Q5_K => with!(Q5_K),
            DType::Q6_K => with!(Q6_K),
            DType::IQ4_NL => with!(IQ4_NL),
            DType::IQ4_XS => with!(IQ4_XS),
            DType::F32 | DType::F16 | DType::BF16 => $plain,
        }
    }};
}
pub(super) use with_format;

/// The `N` bytes at `offset`.
#[inline(always)]
pub(super) fn at<const N: usize>(block: &[u8], offset: usize) -> &[u8; N] {
    let Some(bytes) = block[offset..].first_chunk() else { unreachable!("whole blocks only") };
    bytes
}

#[inline(always)]
fn scale_at<S: Simd>(simd: S, block: &[u8], offset: usize) -> f32 {
    simd.f16(u16::from_le_bytes(*at(block, offset)))
}

/// Applies `$op` to every element.
macro_rules! each {
    ($n:literal, $i:ident => $op:expr) => {{
        let mut out = [0; $n];
        for $i in 0..$n {
            out[$i] = $op;
        }
        out
    }};
}

/// A format of 32 weights in a block: scale at the start, and a minimum after it if it has one.
macro_rules! small_block {
    ($name:ident, $magnitude:literal, $block:ident => $values:expr) => {
        #[doc = concat!("See [`DType::", stringify!($name), "`].")]
        pub(super) struct $name;

        impl Format for $name {
            type Block = [u8; DType::$name.block_bytes()];
            const DTYPE: DType = DType::$name;
            const MAGNITUDE: u8 = $magnitude;

            #[inline(always)]
            fn blocks(row: &[u8]) -> &[Self::Block] {
                row.as_chunks().0
            }

            #[inline(always)]
            fn values($block: &Self::Block, _part: usize) -> [i8; GROUP] {
                $values
            }

            #[inline(always)]
            fn scales<S: Simd>(simd: S, block: &Self::Block) -> Scales {
                let minimum = if Self::MINIMUM { scale_at(simd, block, 2) } else { 0.0 };
                let scale = scale_at(simd, block, 0);
                Scales { scales: [scale; SCALES_MAX], minimums: [minimum; SCALES_MAX] }
            }
        }
    };
}

small_block!(Q4_0, 8, block => minus(nibbles(at(block, 2)), 8));
small_block!(Q4_1, 15, block => minus(nibbles(at(block, 4)), 0));
small_block!(Q5_0, 16, block => minus(with_fifth_bits(nibbles(at(block, 6)), at(block, 2)), 16));
small_block!(Q5_1, 31, block => minus(with_fifth_bits(nibbles(at(block, 8)), at(block, 4)), 0));
small_block!(Q8_0, 128, block => minus(*at(block, 2), 0));
small_block!(IQ4_NL, 127, block => iq4(nibbles(at(block, 2))));

/// The lower halves of 16 bytes, then their upper halves.
#[inline(always)]
fn nibbles(bytes: &[u8; 16]) -> [u8; GROUP] {
    let mut out = [0; GROUP];
    for i in 0..16 {
        out[i] = bytes[i] & 15;
        out[16 + i] = bytes[i] >> 4;
    }
    out
}

/// Takes `bias` off every value.
#[inline(always)]
fn minus(values: [u8; GROUP], bias: u8) -> [i8; GROUP] {
    each!(32, i => values[i].wrapping_sub(bias).cast_signed())
}

/// Adds bit `i` of `high` as the fifth bit of value `i`.
#[inline(always)]
fn with_fifth_bits(low: [u8; GROUP], high: &[u8; 4]) -> [u8; GROUP] {
    let mut spread = [0_u8; GROUP];
    for byte in 0..4 {
        for i in 0..8 {
            spread[8 * byte + i] = high[byte];
        }
    }
    each!(32, i => low[i] | if spread[i] & (1 << (i % 8)) == 0 { 0 } else { 16 })
}

/// The values that 4-bit indices stand for.
#[inline(always)]
fn iq4(indices: [u8; GROUP]) -> [i8; GROUP] {
    each!(32, i => IQ4_VALUES[usize::from(indices[i] & 15)])
}

/// `bytes` as floats times `scale`.
#[inline(always)]
fn times(bytes: [i8; LANES], scale: f32) -> [f32; LANES] {
    let mut out = [0.0; LANES];
    for i in 0..LANES {
        out[i] = f32::from(bytes[i]) * scale;
    }
    out
}

/// Scales and minimums of `Q4_K` and `Q5_K`: 8 of each of 6 bits, packed in 12 bytes
/// (`get_scale_min_k4`), times the block's own.
#[inline(always)]
fn scales_k4<S: Simd>(simd: S, block: &[u8]) -> Scales {
    let word = |offset: usize| u32::from_le_bytes(*at(block, 4 + offset));
    let (a, b, c) = (word(0), word(4), word(8));
    // Four fields at a time, a byte each: the upper four take their high bits from the lower ones'.
    let scales = [a & 0x3f3f_3f3f, c & 0x0f0f_0f0f | (a >> 6 & 0x0303_0303) << 4];
    let minimums = [b & 0x3f3f_3f3f, c >> 4 & 0x0f0f_0f0f | (b >> 6 & 0x0303_0303) << 4];
    Scales {
        scales: times(eight(scales), scale_at(simd, block, 0)),
        minimums: times(eight(minimums), -scale_at(simd, block, 2)),
    }
}

/// The bytes of two words, and zeros.
#[inline(always)]
fn eight(words: [u32; 2]) -> [i8; LANES] {
    let (low, high) = (words[0].to_le_bytes(), words[1].to_le_bytes());
    let mut out = [0; LANES];
    for i in 0..4 {
        out[i] = low[i].cast_signed();
        out[4 + i] = high[i].cast_signed();
    }
    out
}

/// A format of 256 weights in a block.
macro_rules! large_block {
    ($name:ident, halves: $halves:literal, magnitude: $magnitude:literal,
     $block:ident, $part:ident => $values:expr, $simd:ident => $scales:expr) => {
        #[doc = concat!("See [`DType::", stringify!($name), "`].")]
        pub(super) struct $name;

        impl Format for $name {
            type Block = [u8; DType::$name.block_bytes()];
            const DTYPE: DType = DType::$name;
            const HALVES: bool = $halves;
            const MAGNITUDE: u8 = $magnitude;

            #[inline(always)]
            fn blocks(row: &[u8]) -> &[Self::Block] {
                row.as_chunks().0
            }

            #[inline(always)]
            fn values($block: &Self::Block, $part: usize) -> [i8; GROUP] {
                $values
            }

            #[inline(always)]
            fn scales<S: Simd>($simd: S, $block: &Self::Block) -> Scales {
                $scales
            }
        }
    };
}

large_block!(Q4_K, halves: false, magnitude: 15, block, part => {
    let (bytes, shift) = (at::<32>(block, 16 + part / 2 * 32), 4 * (part % 2));
    each!(32, i => (bytes[i] >> shift & 15).cast_signed())
}, simd => scales_k4(simd, block));

large_block!(Q5_K, halves: false, magnitude: 31, block, part => {
    let (bytes, shift) = (at::<32>(block, 48 + part / 2 * 32), 4 * (part % 2));
    let high = at::<32>(block, 16);
    each!(32, i => (bytes[i] >> shift & 15 | (high[i] >> part & 1) << 4).cast_signed())
}, simd => scales_k4(simd, block));

// 128 bytes of lower four bits, 64 bytes of upper two, 16 signed scales, one f16.
large_block!(Q6_K, halves: true, magnitude: 32, block, part => {
    let (half, quarter) = (part / 4, part % 4);
    let low = at::<32>(block, 64 * half + 32 * (quarter % 2));
    let high = at::<32>(block, 128 + 32 * half);
    let (low_shift, high_shift) = (4 * (quarter / 2), 2 * quarter);
    let values =
        each!(32, i => low[i] >> low_shift & 15 | (high[i] >> high_shift & 3) << 4);
    minus(values, 32)
}, simd => {
    let packed = at::<16>(block, 192);
    let scales = each!(16, i => packed[i].cast_signed());
    Scales { scales: times(scales, scale_at(simd, block, 208)), minimums: [0.0; 16] }
});

// 16 bytes of scales and minimums (4 bits each), 64 bytes of 2-bit values, two f16.
large_block!(Q2_K, halves: true, magnitude: 3, block, part => {
    let (bytes, shift) = (at::<32>(block, 16 + part / 4 * 32), 2 * (part % 4));
    each!(32, i => (bytes[i] >> shift & 3).cast_signed())
}, simd => {
    let packed = at::<16>(block, 0);
    let scales = each!(16, i => (packed[i] & 15).cast_signed());
    let minimums = each!(16, i => (packed[i] >> 4).cast_signed());
    Scales {
        scales: times(scales, scale_at(simd, block, 80)),
        minimums: times(minimums, -scale_at(simd, block, 82)),
    }
});

// 32 bytes of third bits, 64 bytes of lower two bits, 12 bytes of 6-bit scales, one f16.
large_block!(Q3_K, halves: true, magnitude: 4, block, part => {
    let (low, shift) = (at::<32>(block, 32 + part / 4 * 32), 2 * (part % 4));
    let high = at::<32>(block, 0);
    let values = each!(32, i => low[i] >> shift & 3 | (high[i] >> part & 1) << 2);
    minus(values, 4)
}, simd => {
    let (low, high) = (at::<8>(block, 96), at::<4>(block, 104));
    let scales = each!(16, i => {
        let low = if i < 8 { low[i % 8] & 15 } else { low[i % 8] >> 4 };
        (low | (high[i % 4] >> (2 * (i / 4)) & 3) << 4).cast_signed() - 32
    });
    Scales { scales: times(scales, scale_at(simd, block, 108)), minimums: [0.0; 16] }
});

// One f16, 16 bits of scales' upper two bits, 4 bytes of their lower four, 128 bytes of indices.
large_block!(IQ4_XS, halves: false, magnitude: 127, block, part => {
    iq4(nibbles(at(block, 8 + 16 * part)))
}, simd => {
    let (high, low) = (u16::from_le_bytes(*at(block, 2)), at::<4>(block, 4));
    let scales = each!(16, i => {
        let (part, low) = (i % 8, low[i % 8 / 2]);
        let low = low >> (4 * (part % 2)) & 15;
        (low | ((high >> (2 * part)) as u8 & 3) << 4).cast_signed() - 32
    });
    Scales { scales: times(scales, scale_at(simd, block, 0)), minimums: [0.0; 16] }
});
