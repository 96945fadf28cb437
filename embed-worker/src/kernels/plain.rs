//! Weights that are not quantized: f32, f16 and bf16, element by element.

use super::float::{bf16_to_f32, f16_to_f32};

/// A type of one number an element.
pub(super) trait Plain {
    /// The bytes of an element, little-endian.
    type Element: 'static;

    /// A row of elements.
    fn elements(row: &[u8]) -> &[Self::Element];

    /// The value of an element. Exact.
    fn value(element: &Self::Element) -> f32;
}

/// Runs `$body` with `$plain` bound to the [`Plain`] of `$dtype`, which is not quantized.
macro_rules! with_plain {
    ($dtype:expr, $plain:ident => $body:expr) => {{
        macro_rules! with {
            ($name:ident) => {{
                type $plain = $crate::kernels::plain::$name;
                $body
            }};
        }
        match $dtype {
            DType::F32 => with!(F32),
            DType::F16 => with!(F16),
            DType::BF16 => with!(Bf16),
            dtype => unreachable!("{dtype} is quantized"),
        }
    }};
}
pub(super) use with_plain;

macro_rules! plain {
    ($name:ident, $bytes:literal, $value:expr) => {
        #[doc = concat!("Elements of ", stringify!($bytes), " bytes.")]
        pub(super) struct $name;

        impl Plain for $name {
            type Element = [u8; $bytes];

            #[inline(always)]
            fn elements(row: &[u8]) -> &[Self::Element] {
                row.as_chunks().0
            }

            #[inline(always)]
            fn value(element: &Self::Element) -> f32 {
                $value(*element)
            }
        }
    };
}

plain!(F32, 4, f32::from_le_bytes);
plain!(F16, 2, f16_to_f32);
plain!(Bf16, 2, bf16_to_f32);
