#![expect(unsafe_code, reason = "calls code for instructions that the processor was seen to have")]
//! From an [`Isa`] to the code that uses it: one exhaustive `match` an operation.
//!
//! A new instruction set does not compile until every operation here handles it.

use super::Isa;
use super::block::Form;
use super::panel::{PanelBlock, ROWS};
use super::portable;
use super::quantize::Meta;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// Runs `body` compiled for `isa`: what is inlined into it may use its registers.
///
/// Bodies are plain Rust over fixed-size arrays; the compiler turns them into vector code, and the
/// bits stay the same because it never reorders float operations.
#[inline(always)]
pub(super) fn with_features<R>(isa: Isa, body: impl FnOnce() -> R) -> R {
    match isa {
        Isa::Portable => body(),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token exists, so the processor has these features.
        Isa::Avx2(_) => unsafe { with_avx2(body) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the token exists, so the processor has these features.
        Isa::Avx512Vnni(_) => unsafe { with_avx512(body) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn with_avx2<R>(body: impl FnOnce() -> R) -> R {
    body()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
fn with_avx512<R>(body: impl FnOnce() -> R) -> R {
    body()
}

/// What [`super::panel::Panel::unpack`] must xor to values of `form` for [`tile`].
pub(super) fn flip(isa: Isa, form: Form) -> u8 {
    match isa {
        Isa::Portable => 0,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) => {
            if form.bias == 128 {
                0x80
            } else {
                0
            }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni(_) => 0,
    }
}

/// 16 rows of weights by `T` rows of activations; see [`portable::tile`].
#[inline(always)]
pub(super) fn tile<const T: usize>(
    isa: Isa,
    form: Form,
    panel: &[PanelBlock],
    q: [&[i8]; T],
    meta: [&[Meta]; T],
) -> [[f32; ROWS]; T] {
    match isa {
        Isa::Portable => portable::tile(form, panel, q, meta),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) => {
            let run = match (form.halves, form.minimum, form.bias == 128) {
                (false, false, true) => avx2::tile::<T, false, false, true>,
                (false, false, false) => avx2::tile::<T, false, false, false>,
                (false, true, _) => avx2::tile::<T, false, true, false>,
                (true, false, _) => avx2::tile::<T, true, false, false>,
                (true, true, _) => avx2::tile::<T, true, true, false>,
            };
            // SAFETY: the token exists, so the processor has these features.
            unsafe { run(form, panel, q, meta) }
        }
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni(_) => {
            let run = match (form.halves, form.minimum) {
                (false, false) => avx512::tile::<T, false, false>,
                (false, true) => avx512::tile::<T, false, true>,
                (true, false) => avx512::tile::<T, true, false>,
                (true, true) => avx512::tile::<T, true, true>,
            };
            // SAFETY: the token exists, so the processor has these features.
            unsafe { run(form, panel, q, meta) }
        }
    }
}
