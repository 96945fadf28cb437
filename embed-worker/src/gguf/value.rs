//! Metadata values: scalars by value, strings and arrays as ranges of the map.

use std::fmt;

use super::GgufError;
use super::error::quoted;
use super::mmap::Slice;

/// More strings than any vocabulary (262,144) or merge list (514,906) known. Bounds the offset
/// table at 4 MiB.
const STRINGS_MAX: usize = 1 << 20;

/// The types of metadata values. The discriminant is the number that files carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[expect(missing_docs, reason = "the names are their own documentation")]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    pub(super) fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }

    /// Bytes of one value; `None` where each value says its own length.
    pub(super) const fn value_bytes(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", format!("{self:?}").to_ascii_lowercase())
    }
}

/// One metadata value.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names are their own documentation")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    /// The bytes of a string: meant to be UTF-8, but not checked until asked for as text.
    String(Slice),
    Array(Array),
}

impl Value {
    /// The value of an integer of any type.
    pub fn as_integer(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(value) => value.into(),
            Self::I8(value) => value.into(),
            Self::U16(value) => value.into(),
            Self::I16(value) => value.into(),
            Self::U32(value) => value.into(),
            Self::I32(value) => value.into(),
            Self::U64(value) => value.into(),
            Self::I64(value) => value.into(),
            _ => return None,
        })
    }

    pub(super) fn into_array(self) -> Option<Array> {
        match self {
            Self::Array(array) => Some(array),
            _ => None,
        }
    }

    /// Type and, for a scalar, value: the `found` of an error message.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::U8(value) => format!("u8 {value}"),
            Self::I8(value) => format!("i8 {value}"),
            Self::U16(value) => format!("u16 {value}"),
            Self::I16(value) => format!("i16 {value}"),
            Self::U32(value) => format!("u32 {value}"),
            Self::I32(value) => format!("i32 {value}"),
            Self::U64(value) => format!("u64 {value}"),
            Self::I64(value) => format!("i64 {value}"),
            Self::F32(value) => format!("f32 {value}"),
            Self::F64(value) => format!("f64 {value}"),
            Self::Bool(value) => format!("bool {value}"),
            Self::String(bytes) => {
                quoted("string", &String::from_utf8_lossy(bytes.bytes())).to_string()
            }
            Self::Array(array) => format!("array of {}", array.element),
        }
    }
}

/// An array in the file: its elements' type, count and bytes.
#[derive(Clone, Debug)]
pub struct Array {
    pub(super) element: ValueType,
    pub(super) len: usize,
    pub(super) slice: Slice,
}

impl Array {
    /// The type of every element.
    pub fn element(&self) -> ValueType {
        self.element
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn into_blob(self) -> Option<Slice> {
        matches!(self.element, ValueType::U8 | ValueType::I8).then_some(self.slice)
    }

    /// The bytes of element `index` of a type of fixed size.
    fn element_bytes<const N: usize>(&self, index: usize) -> Option<[u8; N]> {
        let start = index.checked_mul(N)?;
        self.slice.bytes().get(start..start.checked_add(N)?)?.try_into().ok()
    }
}

/// Strings of the file, by index.
#[derive(Clone, Debug)]
pub struct StringArray {
    slice: Slice,
    /// Where each string's length field starts, and where the last string ends.
    starts: Box<[u32]>,
}

impl StringArray {
    /// Bytes that are held beside the map.
    pub fn private_bytes(&self) -> usize {
        size_of_val(&*self.starts)
    }

    pub(super) fn new(key: &str, array: Array) -> Result<Self, GgufError> {
        let wrong_type = |found: String| GgufError::WrongType {
            key: key.to_owned(),
            found,
            wanted: "array of string",
        };
        if array.element != ValueType::String {
            return Err(wrong_type(format!("array of {}", array.element)));
        }
        if array.len > STRINGS_MAX {
            return Err(GgufError::TooMany {
                what: quoted("key", key).to_string(),
                found: array.len as u64,
                offset: array.slice.offset(),
                max: STRINGS_MAX as u64,
            });
        }
        let bytes = array.slice.bytes();
        let mut starts = Vec::with_capacity(array.len + 1);
        let mut at = 0_usize;
        starts.push(0);
        for _ in 0..array.len {
            // The lengths were walked when the file was opened; they differ only if somebody has
            // rewritten the file since.
            let next = string_end(bytes, at).and_then(|end| Some((end, u32::try_from(end).ok()?)));
            let Some((end, end_u32)) = next else {
                return Err(wrong_type("strings that changed while being read".to_owned()));
            };
            starts.push(end_u32);
            at = end;
        }
        Ok(Self { slice: array.slice, starts: starts.into_boxed_slice() })
    }

    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of string `index`: meant to be UTF-8, but not checked.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let start = *self.starts.get(index)? as usize + STRING_LENGTH_BYTES;
        let end = *self.starts.get(index + 1)? as usize;
        self.slice.bytes().get(start..end)
    }

    /// Every string in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index).unwrap_or_default())
    }
}

/// Bytes of the length before every string.
pub(super) const STRING_LENGTH_BYTES: usize = 8;

/// Where the string ends whose length field stands at `at`.
fn string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let length = bytes.get(at..at.checked_add(STRING_LENGTH_BYTES)?)?;
    let length = u64::from_le_bytes(length.try_into().ok()?);
    let end = (at + STRING_LENGTH_BYTES).checked_add(usize::try_from(length).ok()?)?;
    (end <= bytes.len()).then_some(end)
}

/// Integers of the file, by index.
#[derive(Clone, Debug)]
pub struct IntegerArray(Array);

impl IntegerArray {
    pub(super) fn new(array: Array) -> Option<Self> {
        let is_integer = !matches!(
            array.element,
            ValueType::F32 | ValueType::F64 | ValueType::String | ValueType::Array
        );
        is_integer.then_some(Self(array))
    }

    /// How many integers there are.
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The integer at `index`, saturated where a `u64` does not fit.
    pub fn get(&self, index: usize) -> Option<i64> {
        let array = &self.0;
        Some(match array.element {
            ValueType::U8 | ValueType::Bool => {
                u8::from_le_bytes(array.element_bytes(index)?).into()
            }
            ValueType::I8 => i8::from_le_bytes(array.element_bytes(index)?).into(),
            ValueType::U16 => u16::from_le_bytes(array.element_bytes(index)?).into(),
            ValueType::I16 => i16::from_le_bytes(array.element_bytes(index)?).into(),
            ValueType::U32 => u32::from_le_bytes(array.element_bytes(index)?).into(),
            ValueType::I32 => i32::from_le_bytes(array.element_bytes(index)?).into(),
            ValueType::U64 => {
                i64::try_from(u64::from_le_bytes(array.element_bytes(index)?)).unwrap_or(i64::MAX)
            }
            ValueType::I64 => i64::from_le_bytes(array.element_bytes(index)?),
            ValueType::F32 | ValueType::F64 | ValueType::String | ValueType::Array => return None,
        })
    }

    /// Every integer in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = i64> {
        (0..self.len()).map(|index| self.get(index).unwrap_or_default())
    }
}

/// `f32` numbers of the file, by index.
#[derive(Clone, Debug)]
pub struct FloatArray(Array);

impl FloatArray {
    pub(super) fn new(array: Array) -> Option<Self> {
        (array.element == ValueType::F32).then_some(Self(array))
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number at `index`. It may be infinite or NaN.
    pub fn get(&self, index: usize) -> Option<f32> {
        self.0.element_bytes(index).map(f32::from_le_bytes)
    }
}
