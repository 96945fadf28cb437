//! Blocks: what 32 weights in a row of the file are, for every quantized type.
//!
//! `weight = scale * (value - bias) + minimum`, where `bias` is a constant of the type and scale and
//! minimum belong to 32 or to 16 weights.
//! Layouts and formulas are those of `ggml-common.h` and `ggml-quants.c` of llama.cpp; all multi-byte
//! fields are little-endian, and no block has an alignment.

use super::DType;
use super::float::f16_to_f32;

/// Weights that share a step of a dot product.
pub(super) const GROUP: usize = 32;

/// Largest block in bytes, [`DType::Q6_K`]'s.
const _: () = assert!(DType::Q6_K.block_bytes() == 210);

/// The values that the 4-bit indices of `IQ4_NL` and `IQ4_XS` stand for (`kvalues_iq4nl`).
const IQ4_VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// How a quantized type's groups are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// What is taken off a value: `weight = scale * (value - bias) + minimum`.
    pub(super) bias: i32,
    /// Whether each half of a group has a scale of its own.
    pub(super) halves: bool,
    /// Whether there are minimums.
    pub(super) minimum: bool,
}

impl Form {
    /// The form of `dtype`, or `None` if it is not quantized.
    pub(super) const fn of(dtype: DType) -> Option<Self> {
        let (bias, halves, minimum) = match dtype {
            DType::F32 | DType::F16 | DType::BF16 => return None,
            DType::Q4_0 => (8, false, false),
            DType::Q5_0 => (16, false, false),
            DType::Q8_0 | DType::IQ4_NL | DType::IQ4_XS => (128, false, false),
            DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => (0, false, true),
            DType::Q3_K => (4, true, false),
            DType::Q6_K => (32, true, false),
            DType::Q2_K => (0, true, true),
        };
        Some(Self { bias, halves, minimum })
    }
}

/// 32 weights of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Group {
    /// The values, without their bias taken off.
    pub(super) values: [u8; GROUP],
    /// Scales of the two halves; equal where the form has no halves.
    pub(super) scales: [f32; 2],
    /// Minimums of the two halves; zero where the form has none.
    pub(super) minimums: [f32; 2],
}

impl Group {
    /// Whether every scale and minimum is a number.
    #[inline(always)]
    pub(super) fn is_finite(&self) -> bool {
        self.scales.iter().chain(&self.minimums).all(|value| value.is_finite())
    }
}

/// Unpacks group `group` of `row`, a whole number of blocks of `dtype`.
///
/// # Panics
///
/// If `dtype` is not quantized, or the row has no such group.
#[inline(always)]
pub(super) fn unpack(dtype: DType, row: &[u8], group: usize) -> Group {
    let groups = dtype.block_elements() / GROUP;
    let block = &row[group / groups * dtype.block_bytes()..][..dtype.block_bytes()];
    let part = group % groups;
    match dtype {
        DType::Q4_0 => whole(scale_at(block, 0), 0.0, nibbles(at(block, 2))),
        DType::Q4_1 => whole(scale_at(block, 0), scale_at(block, 2), nibbles(at(block, 4))),
        DType::Q5_0 => {
            whole(scale_at(block, 0), 0.0, with_fifth_bits(nibbles(at(block, 6)), at(block, 2)))
        }
        DType::Q5_1 => {
            let values = with_fifth_bits(nibbles(at(block, 8)), at(block, 4));
            whole(scale_at(block, 0), scale_at(block, 2), values)
        }
        DType::Q8_0 => whole(scale_at(block, 0), 0.0, at::<32>(block, 2).map(|value| value ^ 0x80)),
        DType::IQ4_NL => whole(scale_at(block, 0), 0.0, nibbles(at(block, 2)).map(iq4)),
        DType::Q2_K => q2_k(block, part),
        DType::Q3_K => q3_k(block, part),
        DType::Q4_K => {
            let (scale, minimum) = scale_and_minimum_k4(block, part);
            whole(scale, minimum, half_bytes(at(block, 16 + part / 2 * 32), part % 2))
        }
        DType::Q5_K => {
            let (scale, minimum) = scale_and_minimum_k4(block, part);
            let low = half_bytes(at(block, 48 + part / 2 * 32), part % 2);
            let high: [u8; 32] = at(block, 16);
            let values = std::array::from_fn(|i| low[i] | ((high[i] >> part) & 1) << 4);
            whole(scale, minimum, values)
        }
        DType::Q6_K => q6_k(block, part),
        DType::IQ4_XS => {
            let high = u16::from_le_bytes(at(block, 2)) >> (2 * part) & 3;
            let low = block[4 + part / 2] >> (4 * (part % 2)) & 15;
            let scale = f32::from(i16::from(low) | (high as i16) << 4) - 32.0;
            whole(scale_at(block, 0) * scale, 0.0, nibbles(at(block, 8 + 16 * part)).map(iq4))
        }
        DType::F32 | DType::F16 | DType::BF16 => unreachable!("{dtype} is not quantized"),
    }
}

/// The `N` bytes at `offset`.
#[inline(always)]
fn at<const N: usize>(block: &[u8], offset: usize) -> [u8; N] {
    std::array::from_fn(|i| block[offset + i])
}

#[inline(always)]
fn scale_at(block: &[u8], offset: usize) -> f32 {
    f16_to_f32(at(block, offset))
}

#[inline(always)]
fn whole(scale: f32, minimum: f32, values: [u8; GROUP]) -> Group {
    Group { values, scales: [scale; 2], minimums: [minimum; 2] }
}

/// The lower halves of 16 bytes, then their upper halves.
#[inline(always)]
fn nibbles(bytes: [u8; 16]) -> [u8; GROUP] {
    std::array::from_fn(|i| if i < 16 { bytes[i] & 15 } else { bytes[i - 16] >> 4 })
}

/// The lower (`part` 0) or upper halves of 32 bytes.
#[inline(always)]
fn half_bytes(bytes: [u8; 32], part: usize) -> [u8; GROUP] {
    let shift = 4 * part;
    bytes.map(|byte| byte >> shift & 15)
}

/// Adds bit `i` of `high` as the fifth bit of value `i`.
#[inline(always)]
fn with_fifth_bits(low: [u8; GROUP], high: [u8; 4]) -> [u8; GROUP] {
    std::array::from_fn(|i| low[i] | (high[i / 8] >> (i % 8) & 1) << 4)
}

#[inline(always)]
fn iq4(index: u8) -> u8 {
    IQ4_VALUES[usize::from(index & 15)].cast_unsigned() ^ 0x80
}

/// Scale and minimum of part `part` of a `Q4_K` or `Q5_K` block: 6 bits each, packed in 12 bytes
/// (`get_scale_min_k4`), times the block's own.
#[inline(always)]
fn scale_and_minimum_k4(block: &[u8], part: usize) -> (f32, f32) {
    let packed: [u8; 12] = at(block, 4);
    let (scale, minimum) = if part < 4 {
        (packed[part] & 63, packed[part + 4] & 63)
    } else {
        (
            packed[part + 4] & 15 | packed[part - 4] >> 6 << 4,
            packed[part + 4] >> 4 | packed[part] >> 6 << 4,
        )
    };
    (scale_at(block, 0) * f32::from(scale), -(scale_at(block, 2) * f32::from(minimum)))
}

/// `Q2_K`: 16 bytes of scales and minimums (4 bits each), 64 bytes of 2-bit values, two f16.
#[inline(always)]
fn q2_k(block: &[u8], part: usize) -> Group {
    let shift = 2 * (part % 4);
    let values = at::<32>(block, 16 + part / 4 * 32).map(|byte| byte >> shift & 3);
    let (scale, minimum) = (scale_at(block, 80), scale_at(block, 82));
    let packed: [u8; 2] = at(block, 2 * part);
    Group {
        values,
        scales: packed.map(|byte| scale * f32::from(byte & 15)),
        minimums: packed.map(|byte| -(minimum * f32::from(byte >> 4))),
    }
}

/// `Q3_K`: 32 bytes of third bits, 64 bytes of lower two bits, 12 bytes of 6-bit scales, one f16.
#[inline(always)]
fn q3_k(block: &[u8], part: usize) -> Group {
    let shift = 2 * (part % 4);
    let low = at::<32>(block, 32 + part / 4 * 32);
    let high: [u8; 32] = at(block, 0);
    let values = std::array::from_fn(|i| low[i] >> shift & 3 | (high[i] >> part & 1) << 2);
    let scale = scale_at(block, 108);
    let scales = [0, 1].map(|half| {
        let index = 2 * part + half;
        let low = if index < 8 { block[96 + index] & 15 } else { block[88 + index] >> 4 };
        let high = block[104 + index % 4] >> (2 * (index / 4)) & 3;
        scale * (f32::from(low | high << 4) - 32.0)
    });
    Group { values, scales, minimums: [0.0; 2] }
}

/// `Q6_K`: 128 bytes of lower four bits, 64 bytes of upper two, 16 signed scales, one f16.
#[inline(always)]
fn q6_k(block: &[u8], part: usize) -> Group {
    let (half, quarter) = (part / 4, part % 4);
    let low: [u8; 32] = at(block, 64 * half + 32 * (quarter % 2));
    let high: [u8; 32] = at(block, 128 + 32 * half);
    let (low_shift, high_shift) = (4 * (quarter / 2), 2 * quarter);
    let values =
        std::array::from_fn(|i| low[i] >> low_shift & 15 | (high[i] >> high_shift & 3) << 4);
    let scale = scale_at(block, 208);
    let scales =
        [0, 1].map(|i| scale * f32::from(block[192 + 8 * half + 2 * quarter + i].cast_signed()));
    Group { values, scales, minimums: [0.0; 2] }
}
