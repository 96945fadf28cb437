//! The key/value section: walked once, kept as one small record for each key.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use super::GgufError;
use super::error::{Quoted, quoted};
use super::mmap::{Map, Slice};
use super::reader::Reader;
use super::value::{Array, Value, ValueType};

/// More keys than any file has: real ones have under a hundred. Bounds the records at 3 MiB.
const KEYS_MAX: u64 = 65_536;

/// The longest key the specification allows.
const KEY_BYTES_MAX: u64 = 65_535;

/// Arrays within arrays: the specification allows any depth, no writer uses more than one.
const ARRAY_DEPTH_MAX: u32 = 4;

/// The metadata of one file.
#[derive(Debug)]
pub(super) struct Metadata {
    map: Arc<Map>,
    /// In the order of the file.
    entries: Vec<Entry>,
    /// Indices of `entries`, in the order of their keys.
    by_key: Vec<u32>,
}

/// Where a key and its value stand. The header is shorter than 4 GiB: see `reader`.
#[derive(Debug)]
struct Entry {
    key: Range<u32>,
    kind: ValueType,
    /// The value's bytes; for strings and arrays those after the count and type.
    value: Range<u32>,
    /// Of an array: its elements' type and count.
    array: Option<(ValueType, u32)>,
}

impl Metadata {
    pub(super) fn read(
        reader: &mut Reader<'_>,
        map: &Arc<Map>,
        n_keys: u64,
    ) -> Result<Self, GgufError> {
        if n_keys > KEYS_MAX {
            let offset = reader.offset() - 8;
            let what = "key count".to_owned();
            return Err(GgufError::TooMany { what, found: n_keys, offset, max: KEYS_MAX });
        }
        let mut entries = Vec::new();
        for index in 0..n_keys {
            entries.push(Entry::read(reader, map.bytes(), index)?);
        }
        let mut metadata = Self { map: Arc::clone(map), entries, by_key: Vec::new() };
        metadata.sort_keys()?;
        Ok(metadata)
    }

    fn sort_keys(&mut self) -> Result<(), GgufError> {
        let key = |index: &u32| self.key_bytes(&self.entries[*index as usize]);
        let mut by_key: Vec<u32> = (0..).take(self.entries.len()).collect();
        by_key.sort_by(|a, b| key(a).cmp(key(b)));
        for pair in by_key.windows(2) {
            if key(&pair[0]) == key(&pair[1]) {
                let [first, second] = [pair[0], pair[1]].map(|i| &self.entries[i as usize]);
                return Err(GgufError::Duplicate {
                    what: quoted("key", self.key(first)).to_string(),
                    first: first.key.start as usize,
                    second: second.key.start as usize,
                });
            }
        }
        self.by_key = by_key;
        Ok(())
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Value)> {
        self.entries.iter().map(|entry| (self.key(entry), self.value(entry)))
    }

    pub(super) fn find(&self, key: &str) -> Option<Value> {
        self.find_entry(key).map(|entry| self.value(entry))
    }

    pub(super) fn typed<T>(
        &self,
        key: &str,
        wanted: &'static str,
        convert: impl FnOnce(Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.find(key) else {
            return Ok(None);
        };
        match convert(value.clone()) {
            Some(converted) => Ok(Some(converted)),
            None => {
                Err(GgufError::WrongType { key: key.to_owned(), found: value.describe(), wanted })
            }
        }
    }

    pub(super) fn str(&self, key: &str) -> Result<Option<&str>, GgufError> {
        let Some(entry) = self.find_entry(key) else {
            return Ok(None);
        };
        if entry.kind != ValueType::String {
            let found = self.value(entry).describe();
            return Err(GgufError::WrongType { key: key.to_owned(), found, wanted: "string" });
        }
        let range = wide(&entry.value);
        let offset = range.start;
        std::str::from_utf8(&self.map.bytes()[range])
            .map(Some)
            .map_err(|_| GgufError::Utf8 { what: quoted("key", key).to_string(), offset })
    }

    fn find_entry(&self, key: &str) -> Option<&Entry> {
        let compare = |index: &u32| -> Ordering {
            self.key_bytes(&self.entries[*index as usize]).cmp(key.as_bytes())
        };
        let place = self.by_key.binary_search_by(compare).ok()?;
        Some(&self.entries[self.by_key[place] as usize])
    }

    fn key_bytes(&self, entry: &Entry) -> &[u8] {
        &self.map.bytes()[wide(&entry.key)]
    }

    /// Keys are UTF-8 when the file is opened; should somebody rewrite the file later, the key is
    /// shown empty.
    fn key(&self, entry: &Entry) -> &str {
        std::str::from_utf8(self.key_bytes(entry)).unwrap_or_default()
    }

    fn value(&self, entry: &Entry) -> Value {
        let slice = || Slice::new(&self.map, wide(&entry.value));
        let bytes = &self.map.bytes()[wide(&entry.value)];
        if let Some((element, len)) = entry.array {
            return Value::Array(Array { element, len: len as usize, slice: slice() });
        }
        match entry.kind {
            ValueType::U8 => Value::U8(u8::from_le_bytes(first(bytes))),
            ValueType::I8 => Value::I8(i8::from_le_bytes(first(bytes))),
            ValueType::U16 => Value::U16(u16::from_le_bytes(first(bytes))),
            ValueType::I16 => Value::I16(i16::from_le_bytes(first(bytes))),
            ValueType::U32 => Value::U32(u32::from_le_bytes(first(bytes))),
            ValueType::I32 => Value::I32(i32::from_le_bytes(first(bytes))),
            ValueType::U64 => Value::U64(u64::from_le_bytes(first(bytes))),
            ValueType::I64 => Value::I64(i64::from_le_bytes(first(bytes))),
            ValueType::F32 => Value::F32(f32::from_le_bytes(first(bytes))),
            ValueType::F64 => Value::F64(f64::from_le_bytes(first(bytes))),
            ValueType::Bool => Value::Bool(first::<1>(bytes) == [1]),
            ValueType::String | ValueType::Array => Value::String(slice()),
        }
    }
}

impl Entry {
    fn read(reader: &mut Reader<'_>, bytes: &[u8], index: u64) -> Result<Self, GgufError> {
        let (name, key) = reader.name(format_args!("key {index}"), KEY_BYTES_MAX)?;
        let what = quoted("key", name);
        let kind = read_type(reader, what)?;
        let mut array = None;
        let value = match kind {
            ValueType::String => {
                let length = reader.u64(what)?;
                reader.skip(length, what)?
            }
            ValueType::Array => {
                let (element, len, range) = read_array(reader, what, 1)?;
                array = Some((element, len));
                range
            }
            scalar => reader.skip(scalar.value_bytes().unwrap_or_default() as u64, what)?,
        };
        if kind == ValueType::Bool && bytes[value.start] > 1 {
            let found = bytes[value.start];
            return Err(GgufError::Boolean { what: what.to_string(), found, offset: value.start });
        }
        Ok(Self { key: narrow(&key), kind, value: narrow(&value), array })
    }
}

fn read_type(reader: &mut Reader<'_>, what: Quoted<'_>) -> Result<ValueType, GgufError> {
    let offset = reader.offset();
    let found = reader.u32(what)?;
    ValueType::from_number(found).ok_or_else(|| GgufError::ValueType {
        what: what.to_string(),
        found,
        offset,
    })
}

/// Element type, count and the range of the elements. The count is believed as far as the file
/// goes: nothing is allocated for it.
fn read_array(
    reader: &mut Reader<'_>,
    what: Quoted<'_>,
    depth: u32,
) -> Result<(ValueType, u32, Range<usize>), GgufError> {
    let offset = reader.offset();
    if depth > ARRAY_DEPTH_MAX {
        return Err(GgufError::TooMany {
            what: format!("{what}: depth of arrays"),
            found: depth.into(),
            offset,
            max: ARRAY_DEPTH_MAX.into(),
        });
    }
    let element = read_type(reader, what)?;
    let offset = reader.offset();
    let found = reader.u64(what)?;
    let len = u32::try_from(found).map_err(|_| GgufError::TooMany {
        what: format!("{what}: array length"),
        found,
        offset,
        max: u32::MAX.into(),
    })?;
    let start = reader.offset();
    match element.value_bytes() {
        Some(value_bytes) => {
            reader.skip(u64::from(len) * value_bytes as u64, what)?;
        }
        None => {
            for _ in 0..len {
                if element == ValueType::Array {
                    read_array(reader, what, depth + 1)?;
                } else {
                    let length = reader.u64(what)?;
                    reader.skip(length, what)?;
                }
            }
        }
    }
    Ok((element, len, start..reader.offset()))
}

/// The first `N` bytes: the reader has checked that they are there.
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[..N]);
    array
}

fn wide(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// Positions in the header fit: `reader::HEADER_BYTES_MAX`.
fn narrow(range: &Range<usize>) -> Range<u32> {
    range.start as u32..range.end as u32
}
