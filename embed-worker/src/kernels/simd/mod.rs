//! Sixteen float lanes on any instruction set: what happens between the integer dots is written
//! once over [`Simd`] and compiled for each.
//!
//! Every operation is one that IEEE 754 defines to the bit, and sums have one order, so that all
//! instruction sets give the same results.
//!
//! Code that is generic over `Simd` must be inlined all the way up into [`dispatch`], because only
//! there is the instruction set switched on: mark it `#[inline(always)]` and write loops and
//! [`Op`]s, not closures, which the compiler may leave standing as calls of their own.
#![expect(unsafe_code, reason = "enters code for instructions that the processor was seen to have")]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

pub(super) use portable::Portable;

use super::Isa;
#[cfg(target_arch = "aarch64")]
use super::isa::Neon;
#[cfg(target_arch = "x86_64")]
use super::isa::{Avx2, Avx512Vnni};

/// Lanes of a vector.
pub(super) const LANES: usize = 16;

/// 1.5 * 2^23: adding it to a number below 2^22 rounds that to a whole one, ties to even, and leaves
/// it in the lowest bits.
pub(super) const ROUND: f32 = 12_582_912.0;

/// The operations of one instruction set. A value of an implementing type is the proof that the
/// processor has it.
pub(super) trait Simd: Copy {
    /// 16 floats.
    type F32: Copy;

    /// All lanes `value`.
    fn splat(self, value: f32) -> Self::F32;
    /// The lanes as they lie in memory.
    fn load(self, from: &[f32; LANES]) -> Self::F32;
    /// Writes the lanes.
    fn store(self, value: Self::F32, to: &mut [f32; LANES]);
    /// `a + b`
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a - b`
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b`
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a / b`
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// `if a < b { a } else { b }`: `b` where either is NaN.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `if a > b { a } else { b }`: `b` where either is NaN.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `2^n` for each lane that holds `n + ROUND`, for `n` from -126 to 127.
    fn exp2_rounded(self, value: Self::F32) -> Self::F32;
    /// Writes the lowest byte of each lane's bits.
    fn store_low_bytes(self, value: Self::F32, to: &mut [u8; LANES]);
    /// `((0 + 8) + (4 + 12)) + ...`: lanes `i` and `i + 8`, then `i + 4`, `i + 2`, `i + 1`.
    fn sum(self, value: Self::F32) -> f32;
    /// The smallest lane by [`Self::min`], in the order of [`Self::sum`].
    fn min_lane(self, value: Self::F32) -> f32;
    /// The largest lane by [`Self::max`], in the order of [`Self::sum`].
    fn max_lane(self, value: Self::F32) -> f32;

    /// The sum of each of 16 vectors, in the order of [`Self::sum`].
    #[inline(always)]
    fn sums(self, vectors: &[Self::F32; LANES]) -> Self::F32 {
        let mut out = [0.0; LANES];
        for lane in 0..LANES {
            out[lane] = self.sum(vectors[lane]);
        }
        self.load(&out)
    }

    /// The largest lane of each of 16 vectors, as [`Self::max_lane`] has it.
    #[inline(always)]
    fn max_lanes(self, vectors: &[Self::F32; LANES]) -> Self::F32 {
        let mut out = [0.0; LANES];
        for lane in 0..LANES {
            out[lane] = self.max_lane(vectors[lane]);
        }
        self.load(&out)
    }

    /// 16 words of 32 bits, or 64 bytes: a word for each row of a panel.
    type Bits: Copy;

    /// All words `word`.
    fn splat_bits(self, word: u32) -> Self::Bits;
    /// The bytes as they lie in memory.
    fn load_bits(self, from: &[i8; 64]) -> Self::Bits;
    /// Writes the bytes.
    fn store_bits(self, value: Self::Bits, to: &mut [i8; 64]);
    /// Writes the words.
    fn store_words(self, value: Self::Bits, to: &mut [i32; LANES]);
    /// `a & b`
    fn and(self, a: Self::Bits, b: Self::Bits) -> Self::Bits;
    /// `a | b`
    fn or(self, a: Self::Bits, b: Self::Bits) -> Self::Bits;
    /// Words shifted right by `BY`, zeros coming in.
    fn shr<const BY: u32>(self, a: Self::Bits) -> Self::Bits;
    /// Words shifted right by `BY`, signs coming in.
    fn sar<const BY: u32>(self, a: Self::Bits) -> Self::Bits;
    /// Words shifted left by `BY`.
    fn shl<const BY: u32>(self, a: Self::Bits) -> Self::Bits;
    /// Differences of bytes.
    fn sub_bytes(self, a: Self::Bits, b: Self::Bits) -> Self::Bits;
    /// Differences of words.
    fn sub_words(self, a: Self::Bits, b: Self::Bits) -> Self::Bits;
    /// `table[index]` for each byte, all of which are below 16.
    fn lookup(self, table: &[i8; 16], index: Self::Bits) -> Self::Bits;
    /// Bits `4 * QUAD` to `4 * QUAD + 3` of each word as bytes: `value` where the bit is set, else 0.
    fn spread<const QUAD: usize>(self, words: Self::Bits, value: u8) -> Self::Bits;
    /// The sum of each word's four signed bytes, added to `sums`.
    fn add_bytes(self, sums: Self::Bits, bytes: Self::Bits) -> Self::Bits;
    /// Signed words as floats.
    fn to_floats(self, words: Self::Bits) -> Self::F32;
    /// The IEEE binary16 in each word's lower half. Exact.
    fn f16s(self, words: Self::Bits) -> Self::F32;
    /// Rows of four bytes side by side.
    fn words(self, rows: [[u8; 4]; LANES]) -> Self::Bits;
    /// Rows of 16 bytes, turned to columns of four.
    fn columns4(self, rows: [&[u8; 16]; LANES]) -> [Self::Bits; 4];
    /// Rows of 32 bytes, turned to columns of four.
    fn columns8(self, rows: [&[u8; 32]; LANES]) -> [Self::Bits; 8];

    /// The value of an IEEE binary16. Exact.
    fn f16(self, bits: u16) -> f32;
    /// Turns rows to columns: `columns[c][row]` is `rows[row][c]`.
    fn interleave_floats(self, rows: &[[f32; 8]; LANES], columns: &mut [[f32; LANES]; 8]);

    /// `from`, and `fill` in the lanes beyond its end.
    #[inline(always)]
    fn load_part(self, from: &[f32], fill: f32) -> Self::F32 {
        let mut lanes = [fill; LANES];
        lanes[..from.len()].copy_from_slice(from);
        self.load(&lanes)
    }

    /// Writes the first lanes, as many as `to` takes.
    #[inline(always)]
    fn store_part(self, value: Self::F32, to: &mut [f32]) {
        let mut lanes = [0.0; LANES];
        self.store(value, &mut lanes);
        to.copy_from_slice(&lanes[..to.len()]);
    }

    /// `from` in vectors of 16 lanes; the last is filled up with `fill`.
    #[inline(always)]
    fn load_at(self, from: &[f32], vector: usize, fill: f32) -> Self::F32 {
        let rest = &from[vector * LANES..];
        rest.first_chunk().map_or_else(|| self.load_part(rest, fill), |full| self.load(full))
    }

    /// Writes vector `vector` of `to`, or as much of it as there is.
    #[inline(always)]
    fn store_at(self, value: Self::F32, to: &mut [f32], vector: usize) {
        let rest = &mut to[vector * LANES..];
        match rest.first_chunk_mut() {
            Some(full) => self.store(value, full),
            None => self.store_part(value, rest),
        }
    }
}

/// Work that is the same code on every instruction set.
pub(super) trait Op {
    /// What it gives.
    type Output;

    /// Does it. Implementations are `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Does `op` on `isa`.
#[inline]
pub(super) fn dispatch<O: Op>(isa: Isa, op: O) -> O::Output {
    match isa {
        Isa::Portable => op.run(Portable),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token exists, so the processor has these features.
        Isa::Avx2(token) => unsafe { on_avx2(token, op) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above; only the inner product knows more instructions than AVX2 has.
        Isa::AvxVnni(token) => unsafe { on_avx2(token.avx2(), op) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token exists, so the processor has these features.
        Isa::Avx512Vnni(token) => unsafe { on_avx512(token, op) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: the token exists, so the processor has this feature.
        Isa::Neon(token) => unsafe { on_neon(token, op) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above; only the inner product knows more instructions than NEON has.
        Isa::NeonDot(token) => unsafe { on_neon(token.neon(), op) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn on_avx2<O: Op>(token: Avx2, op: O) -> O::Output {
    op.run(token)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn on_avx512<O: Op>(token: Avx512Vnni, op: O) -> O::Output {
    op.run(token)
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
fn on_neon<O: Op>(token: Neon, op: O) -> O::Output {
    op.run(token)
}
