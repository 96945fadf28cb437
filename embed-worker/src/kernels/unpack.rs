//! Sixteen rows of blocks at once: what [`super::block`] says of one row, on whole registers.
//!
//! Bytes are turned to columns while they are still packed, so that every later step serves 16 rows:
//! a register holds four bytes of each row, and a column of scales is a column of words.

use super::block::{
    Format, GROUP, IQ4_NL, IQ4_VALUES, IQ4_XS, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K,
    Q6_K, Q8_0, at,
};
use super::memory::BlockRows;
use super::panel::{PanelBlock, QUAD, ROWS};
use super::simd::Simd;

/// Quads of columns in a group.
const QUADS: usize = GROUP / QUAD;

/// A format that is unpacked 16 rows at a time.
pub(super) trait Unpack: Format {
    /// Writes the values, scales and minimums of block `index` of each row to `out`, which has
    /// [`Format::PARTS`] blocks.
    fn unpack<S: Simd>(
        simd: S,
        rows: &BlockRows<'_, Self::Block>,
        index: usize,
        out: &mut [PanelBlock],
    );
}

/// `N` bytes of each block at `$offset`.
macro_rules! bytes_at {
    ($blocks:expr, $offset:expr) => {{
        let mut out = [at($blocks[0], $offset); ROWS];
        for row in 1..ROWS {
            out[row] = at($blocks[row], $offset);
        }
        out
    }};
}

/// The word at `offset` of each block.
#[inline(always)]
fn word_at<S: Simd, const N: usize>(simd: S, blocks: &[&[u8; N]; ROWS], offset: usize) -> S::Bits {
    let mut words = [[0; 4]; ROWS];
    for row in 0..ROWS {
        words[row] = *at(blocks[row], offset);
    }
    simd.words(words)
}

/// `byte` in every byte.
#[inline(always)]
fn splat<S: Simd>(simd: S, byte: u8) -> S::Bits {
    simd.splat_bits(u32::from_le_bytes([byte; 4]))
}

/// Writes the scale of a small block, and its minimum if it has one: the first two halves.
#[inline(always)]
fn small_scales<S: Simd, F: Format>(simd: S, head: S::Bits, out: &mut PanelBlock) {
    simd.store(simd.f16s(head), &mut out.scales[0]);
    if F::MINIMUM {
        simd.store(simd.f16s(simd.shr::<16>(head)), &mut out.minimums[0]);
    }
}

/// The lower halves of four columns of bytes, then their upper halves.
#[inline(always)]
fn nibbles<S: Simd>(simd: S, packed: [S::Bits; 4]) -> [S::Bits; QUADS] {
    let mask = splat(simd, 15);
    let mut out = [mask; QUADS];
    for column in 0..4 {
        out[column] = simd.and(packed[column], mask);
        out[4 + column] = simd.and(simd.shr::<4>(packed[column]), mask);
    }
    out
}

#[inline(always)]
fn store<S: Simd>(simd: S, quads: [S::Bits; QUADS], out: &mut PanelBlock) {
    for column in 0..QUADS {
        simd.store_bits(quads[column], &mut out.quads[column]);
    }
}

/// A format of 32 weights in a block: the scale at the start, then what `$values` makes of it.
macro_rules! small {
    ($name:ident, $simd:ident, $blocks:ident => $values:expr) => {
        impl Unpack for $name {
            #[inline(always)]
            fn unpack<S: Simd>(
                $simd: S,
                rows: &BlockRows<'_, Self::Block>,
                index: usize,
                out: &mut [PanelBlock],
            ) {
                let $blocks = &rows.get(index);
                small_scales::<S, Self>($simd, word_at($simd, $blocks, 0), &mut out[0]);
                store($simd, $values, &mut out[0]);
            }
        }
    };
}

small!(Q8_0, simd, blocks => simd.columns8(bytes_at!(blocks, 2)));
small!(Q4_0, simd, blocks => {
    minus(simd, nibbles(simd, simd.columns4(bytes_at!(blocks, 2))), 8)
});
small!(Q4_1, simd, blocks => nibbles(simd, simd.columns4(bytes_at!(blocks, 4))));
small!(Q5_0, simd, blocks => {
    let low = nibbles(simd, simd.columns4(bytes_at!(blocks, 6)));
    minus(simd, with_fifth_bits(simd, low, word_at(simd, blocks, 2)), 16)
});
small!(Q5_1, simd, blocks => {
    let low = nibbles(simd, simd.columns4(bytes_at!(blocks, 8)));
    with_fifth_bits(simd, low, word_at(simd, blocks, 4))
});
small!(IQ4_NL, simd, blocks => {
    iq4(simd, nibbles(simd, simd.columns4(bytes_at!(blocks, 2))))
});

#[inline(always)]
fn minus<S: Simd>(simd: S, mut quads: [S::Bits; QUADS], bias: u8) -> [S::Bits; QUADS] {
    for column in 0..QUADS {
        quads[column] = simd.sub_bytes(quads[column], splat(simd, bias));
    }
    quads
}

#[inline(always)]
fn iq4<S: Simd>(simd: S, mut quads: [S::Bits; QUADS]) -> [S::Bits; QUADS] {
    for column in 0..QUADS {
        quads[column] = simd.lookup(&IQ4_VALUES, quads[column]);
    }
    quads
}

/// Adds the bits of `high` as the fifth bits.
#[inline(always)]
fn with_fifth_bits<S: Simd>(simd: S, low: [S::Bits; QUADS], high: S::Bits) -> [S::Bits; QUADS] {
    [
        simd.or(low[0], simd.spread::<0>(high, 16)),
        simd.or(low[1], simd.spread::<1>(high, 16)),
        simd.or(low[2], simd.spread::<2>(high, 16)),
        simd.or(low[3], simd.spread::<3>(high, 16)),
        simd.or(low[4], simd.spread::<4>(high, 16)),
        simd.or(low[5], simd.spread::<5>(high, 16)),
        simd.or(low[6], simd.spread::<6>(high, 16)),
        simd.or(low[7], simd.spread::<7>(high, 16)),
    ]
}

/// Byte `BYTE` of each word, without or with sign, as floats times `scale`.
#[inline(always)]
fn scaled<S: Simd, const BYTE: usize>(
    simd: S,
    words: S::Bits,
    signed: bool,
    scale: S::F32,
) -> S::F32 {
    let top = match BYTE {
        0 => simd.shl::<24>(words),
        1 => simd.shl::<16>(words),
        2 => simd.shl::<8>(words),
        _ => words,
    };
    let number = if signed { simd.sar::<24>(top) } else { simd.shr::<24>(top) };
    simd.mul(simd.to_floats(number), scale)
}

/// The four bytes of each word, without or with sign, as floats times `scale`.
#[inline(always)]
fn four_scaled<S: Simd>(simd: S, words: S::Bits, signed: bool, scale: S::F32) -> [S::F32; 4] {
    [
        scaled::<S, 0>(simd, words, signed, scale),
        scaled::<S, 1>(simd, words, signed, scale),
        scaled::<S, 2>(simd, words, signed, scale),
        scaled::<S, 3>(simd, words, signed, scale),
    ]
}

/// Writes the four bytes of each word times `scale` as the scales from number `first` on; `per_part`
/// of them belong to a block of the panel.
#[inline(always)]
fn four_scales<S: Simd>(
    simd: S,
    words: S::Bits,
    signed: bool,
    scale: S::F32,
    (first, per_part): (usize, usize),
    out: &mut [PanelBlock],
) {
    let four = four_scaled(simd, words, signed, scale);
    for number in 0..4 {
        let (part, half) = ((first + number) / per_part, (first + number) % per_part);
        simd.store(four[number], &mut out[part].scales[half]);
    }
}

/// The same for minimums, which have no sign.
#[inline(always)]
fn four_minimums<S: Simd>(
    simd: S,
    words: S::Bits,
    scale: S::F32,
    (first, per_part): (usize, usize),
    out: &mut [PanelBlock],
) {
    let four = four_scaled(simd, words, false, scale);
    for number in 0..4 {
        let (part, half) = ((first + number) / per_part, (first + number) % per_part);
        simd.store(four[number], &mut out[part].minimums[half]);
    }
}

#[inline(always)]
fn negative<S: Simd>(simd: S, value: S::F32) -> S::F32 {
    simd.mul(value, simd.splat(-1.0))
}

/// Scales and minimums of `Q4_K` and `Q5_K`: two f16, then 8 of each of 6 bits.
#[inline(always)]
fn scales_k4<S: Simd, const N: usize>(simd: S, blocks: &[&[u8; N]; ROWS], out: &mut [PanelBlock]) {
    let [head, a, b, c] = simd.columns4(bytes_at!(blocks, 0));
    let six = splat(simd, 0x3f);
    let (four, two) = (splat(simd, 0x0f), splat(simd, 0x03));
    // The upper four fields take their high bits from the lower ones'.
    let high = simd.shl::<4>(simd.and(simd.shr::<6>(a), two));
    let upper_scales = simd.or(simd.and(c, four), high);
    let high = simd.shl::<4>(simd.and(simd.shr::<6>(b), two));
    let upper_minimums = simd.or(simd.and(simd.shr::<4>(c), four), high);
    let scale = simd.f16s(head);
    let minimum = negative(simd, simd.f16s(simd.shr::<16>(head)));
    four_scales(simd, simd.and(a, six), false, scale, (0, 1), out);
    four_scales(simd, upper_scales, false, scale, (4, 1), out);
    four_minimums(simd, simd.and(b, six), minimum, (0, 1), out);
    four_minimums(simd, upper_minimums, minimum, (4, 1), out);
}

/// A format of 256 weights in a block.
macro_rules! large {
    ($name:ident, $simd:ident, $blocks:ident, $out:ident => $body:expr) => {
        impl Unpack for $name {
            #[inline(always)]
            fn unpack<S: Simd>(
                $simd: S,
                rows: &BlockRows<'_, Self::Block>,
                index: usize,
                $out: &mut [PanelBlock],
            ) {
                let $blocks = &rows.get(index);
                $body
            }
        }
    };
}

large!(Q4_K, simd, blocks, out => {
    scales_k4(simd, blocks, out);
    let mask = splat(simd, 15);
    for pair in 0..4 {
        let packed = simd.columns8(bytes_at!(blocks, 16 + 32 * pair));
        for column in 0..QUADS {
            let (low, high) = (packed[column], simd.shr::<4>(packed[column]));
            simd.store_bits(simd.and(low, mask), &mut out[2 * pair].quads[column]);
            simd.store_bits(simd.and(high, mask), &mut out[2 * pair + 1].quads[column]);
        }
    }
});

large!(Q5_K, simd, blocks, out => {
    scales_k4(simd, blocks, out);
    let (mask, fifth) = (splat(simd, 15), splat(simd, 16));
    let mut bits = simd.columns8(bytes_at!(blocks, 16));
    for pair in 0..4 {
        let packed = simd.columns8(bytes_at!(blocks, 48 + 32 * pair));
        for column in 0..QUADS {
            // The two lowest bits are this pair's; the next pair's follow.
            let (low, high) = (packed[column], simd.shr::<4>(packed[column]));
            let first = simd.and(simd.shl::<4>(bits[column]), fifth);
            let second = simd.and(simd.shl::<3>(bits[column]), fifth);
            bits[column] = simd.shr::<2>(bits[column]);
            let first = simd.or(simd.and(low, mask), first);
            let second = simd.or(simd.and(high, mask), second);
            simd.store_bits(first, &mut out[2 * pair].quads[column]);
            simd.store_bits(second, &mut out[2 * pair + 1].quads[column]);
        }
    }
});

large!(Q6_K, simd, blocks, out => {
    let scale = simd.f16s(word_at_end(simd, blocks));
    for (four, words) in simd.columns4(bytes_at!(blocks, 192)).into_iter().enumerate() {
        four_scales(simd, words, true, scale, (4 * four, 2), out);
    }
    let (low_mask, high_mask, bias) = (splat(simd, 15), splat(simd, 0x30), splat(simd, 32));
    for half in 0..2 {
        let low = [
            simd.columns8(bytes_at!(blocks, 64 * half)),
            simd.columns8(bytes_at!(blocks, 64 * half + 32)),
        ];
        let high = simd.columns8(bytes_at!(blocks, 128 + 32 * half));
        for column in 0..QUADS {
            let bits = high[column];
            let bits = [simd.shl::<4>(bits), simd.shl::<2>(bits), bits, simd.shr::<2>(bits)];
            for quarter in 0..4 {
                let low = low[quarter % 2][column];
                let low = if quarter < 2 { low } else { simd.shr::<4>(low) };
                let high = simd.and(bits[quarter], high_mask);
                let value = simd.or(simd.and(low, low_mask), high);
                let value = simd.sub_bytes(value, bias);
                simd.store_bits(value, &mut out[4 * half + quarter].quads[column]);
            }
        }
    }
});

large!(Q2_K, simd, blocks, out => {
    let head = word_at(simd, blocks, 80);
    let scale = simd.f16s(head);
    let minimum = negative(simd, simd.f16s(simd.shr::<16>(head)));
    let mask = splat(simd, 15);
    for (four, words) in simd.columns4(bytes_at!(blocks, 0)).into_iter().enumerate() {
        let (low, high) = (simd.and(words, mask), simd.and(simd.shr::<4>(words), mask));
        four_scales(simd, low, false, scale, (4 * four, 2), out);
        four_minimums(simd, high, minimum, (4 * four, 2), out);
    }
    let mask = splat(simd, 3);
    for half in 0..2 {
        let packed = simd.columns8(bytes_at!(blocks, 16 + 32 * half));
        for column in 0..QUADS {
            let four = two_bits(simd, packed[column]);
            for quarter in 0..4 {
                let value = simd.and(four[quarter], mask);
                simd.store_bits(value, &mut out[4 * half + quarter].quads[column]);
            }
        }
    }
});

large!(Q3_K, simd, blocks, out => {
    let (a, b, c) =
        (word_at(simd, blocks, 96), word_at(simd, blocks, 100), word_at(simd, blocks, 104));
    let scale = simd.f16s(word_at_end(simd, blocks));
    let (four, two, bias) = (splat(simd, 15), splat(simd, 0x30), splat(simd, 32));
    let fields = [
        (a, simd.shl::<4>(c)),
        (b, simd.shl::<2>(c)),
        (simd.shr::<4>(a), c),
        (simd.shr::<4>(b), simd.shr::<2>(c)),
    ];
    for (index, (low, high)) in fields.into_iter().enumerate() {
        let value = simd.or(simd.and(low, four), simd.and(high, two));
        four_scales(simd, simd.sub_bytes(value, bias), true, scale, (4 * index, 2), out);
    }
    let (mask, third, bias) = (splat(simd, 3), splat(simd, 4), splat(simd, 4));
    let mut bits = simd.columns8(bytes_at!(blocks, 0));
    for half in 0..2 {
        let packed = simd.columns8(bytes_at!(blocks, 32 + 32 * half));
        for column in 0..QUADS {
            let four = two_bits(simd, packed[column]);
            let high = bits[column];
            let high = [simd.shl::<2>(high), simd.shl::<1>(high), high, simd.shr::<1>(high)];
            bits[column] = simd.shr::<4>(bits[column]);
            for quarter in 0..4 {
                let value = simd.and(four[quarter], mask);
                let value = simd.or(value, simd.and(high[quarter], third));
                let value = simd.sub_bytes(value, bias);
                simd.store_bits(value, &mut out[4 * half + quarter].quads[column]);
            }
        }
    }
});

large!(IQ4_XS, simd, blocks, out => {
    let (head, low) = (word_at(simd, blocks, 0), word_at(simd, blocks, 4));
    let scale = simd.f16s(head);
    let high = simd.shr::<16>(head);
    four_scales(simd, scales_iq4(simd, low, high), true, scale, (0, 1), out);
    let (low, high) = (simd.shr::<16>(low), simd.shr::<8>(high));
    four_scales(simd, scales_iq4(simd, low, high), true, scale, (4, 1), out);
    for (part, out) in out.iter_mut().enumerate() {
        let packed = simd.columns4(bytes_at!(blocks, 8 + 16 * part));
        store(simd, iq4(simd, nibbles(simd, packed)), out);
    }
});

/// Four scales of `IQ4_XS`: fields of four bits in `low`, of two in `high`.
#[inline(always)]
fn scales_iq4<S: Simd>(simd: S, low: S::Bits, high: S::Bits) -> S::Bits {
    let (four, two) = (simd.splat_bits(15), simd.splat_bits(0x30));
    let low = [low, simd.shr::<4>(low), simd.shr::<8>(low), simd.shr::<12>(low)];
    let high = [simd.shl::<4>(high), simd.shl::<2>(high), high, simd.shr::<2>(high)];
    let mut fields = low;
    for field in 0..4 {
        fields[field] = simd.or(simd.and(low[field], four), simd.and(high[field], two));
    }
    let lower = simd.or(fields[0], simd.shl::<8>(fields[1]));
    let upper = simd.or(simd.shl::<16>(fields[2]), simd.shl::<24>(fields[3]));
    simd.sub_bytes(simd.or(lower, upper), splat(simd, 32))
}

/// The four fields of two bits of each byte, lowest first; what stands above them is not cut off.
#[inline(always)]
fn two_bits<S: Simd>(simd: S, packed: S::Bits) -> [S::Bits; 4] {
    [packed, simd.shr::<2>(packed), simd.shr::<4>(packed), simd.shr::<6>(packed)]
}

/// The last two bytes of each block.
#[inline(always)]
fn word_at_end<S: Simd, const N: usize>(simd: S, blocks: &[&[u8; N]; ROWS]) -> S::Bits {
    simd.shr::<16>(word_at(simd, blocks, N - 4))
}
