//! Reads GGUF files where they lie on disk: metadata and tensors are ranges of one shared map.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3, little
//! endian (version 1 had 32-bit counts and left the world in 2023).
//!
//! Every count, length, type, offset and product is checked before it is used, so that whatever the
//! bytes say, opening ends in a value or in an error that names the place. Knows nothing about
//! what keys and tensors mean, but for `general.alignment`.

mod ahead;
mod error;
mod metadata;
mod mmap;
mod reader;
mod source;
mod tensor;
mod value;

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::kernels::DType;

pub use ahead::ReadAhead;
pub use error::GgufError;
pub use mmap::Slice;
pub use source::{FileChanged, FileIdentity, SourceFile};
pub use tensor::Tensor;
pub use value::{Array, FloatArray, IntegerArray, StringArray, Value, ValueType};

use metadata::Metadata;
use mmap::Map;
use reader::Reader;
use tensor::TensorTable;

/// The first four bytes of every GGUF file.
pub const MAGIC: [u8; 4] = *b"GGUF";

/// Versions with 64-bit counts; their layout is the same.
const VERSIONS: std::ops::RangeInclusive<u32> = 2..=3;

/// Where the data section starts unless `general.alignment` says otherwise (GGUF specification).
const ALIGNMENT_DEFAULT: u32 = 32;

/// The largest alignment believed: a 64 KiB page, beyond which no mapping could honour it.
const ALIGNMENT_MAX: u32 = 64 * 1024;

/// A GGUF file, mapped and checked.
///
/// Cheap to keep: private memory holds one small record for each key and tensor, never a string,
/// an array or a weight.
#[derive(Debug)]
pub struct GgufFile {
    map: Arc<Map>,
    version: u32,
    alignment: usize,
    metadata: Metadata,
    tensors: TensorTable,
}

impl GgufFile {
    /// Maps the file at `path` and checks its structure.
    ///
    /// The file must not be cut or rewritten while the value, or anything made from it, lives; who
    /// cannot promise that asks [`Self::source`] before believing what was read.
    /// A renamed or replaced file is fine: the map keeps the old one. Reading a part that was cut
    /// off kills the process with SIGBUS on Unix (Windows refuses to cut a mapped file).
    ///
    /// # Errors
    ///
    /// The file cannot be opened or mapped, or its structure is not that of a GGUF file: see
    /// [`GgufError`]. What tensors and keys mean is not judged here.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        Self::from_map(Map::open(path)?)
    }

    /// Checks the structure of a GGUF file that is in memory: for tests, fuzzers and generated
    /// files.
    ///
    /// # Errors
    ///
    /// As [`GgufFile::open`], without those of the file system.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, GgufError> {
        Self::from_map(Map::from_bytes(bytes))
    }

    fn from_map(map: Map) -> Result<Self, GgufError> {
        let map = Arc::new(map);
        let mut reader = Reader::new(map.bytes());
        let version = read_magic_and_version(&mut reader)?;
        let n_tensors = reader.u64("tensor count")?;
        let n_keys = reader.u64("key count")?;
        let metadata = Metadata::read(&mut reader, &map, n_keys)?;
        let alignment = read_alignment(&metadata)?;
        let tensors = TensorTable::read(&mut reader, &map, n_tensors, alignment)?;
        Ok(Self { version, alignment, metadata, tensors, map })
    }

    /// The version of the format: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What tensor offsets are multiples of, in bytes.
    pub fn alignment(&self) -> usize {
        self.alignment
    }

    /// Bytes of the whole file.
    pub fn file_bytes(&self) -> usize {
        self.map.bytes().len()
    }

    /// The file behind the map; none of bytes in memory.
    pub fn source(&self) -> Option<&Arc<SourceFile>> {
        self.map.source()
    }

    /// Every tensor, in the order of the file.
    pub fn tensors(&self) -> &[Tensor] {
        self.tensors.all()
    }

    /// A handle of the tensor with this name.
    pub fn tensor(&self, name: &str) -> Option<Tensor> {
        self.tensors.find(name).cloned()
    }

    /// The type that most of the tensors' bytes have; `None` without tensors.
    pub fn main_dtype(&self) -> Option<DType> {
        let bytes_of = |dtype: DType| -> usize {
            let same = self.tensors().iter().filter(|tensor| tensor.dtype() == dtype);
            same.map(|tensor| tensor.bytes().len()).sum()
        };
        DType::ALL.into_iter().max_by_key(|dtype| bytes_of(*dtype)).filter(|d| bytes_of(*d) > 0)
    }

    /// SHA-256 of metadata and tensor table, in hexadecimal: files that differ in architecture,
    /// sizes, vocabulary or tensor types have different ones. The weights are not part of it.
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::digest(&self.map.bytes()[..self.tensors.table_end()]);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Every key with its value, in the order of the file.
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (&str, Value)> {
        self.metadata.iter()
    }

    /// The value under `key`, whatever its type.
    pub fn value(&self, key: &str) -> Option<Value> {
        self.metadata.find(key)
    }

    /// The string under `key`.
    ///
    /// # Errors
    ///
    /// The value has another type or is not UTF-8.
    pub fn str(&self, key: &str) -> Result<Option<&str>, GgufError> {
        self.metadata.str(key)
    }

    /// The boolean under `key`.
    ///
    /// # Errors
    ///
    /// The value has another type.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, "bool", |value| match value {
            Value::Bool(value) => Some(value),
            _ => None,
        })
    }

    /// The number under `key`: writers disagree on integer types, so any whose value fits will do.
    ///
    /// # Errors
    ///
    /// The value has another type or does not fit.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, GgufError> {
        self.typed(key, "an integer from 0 to 4294967295", |value| {
            u32::try_from(value.as_integer()?).ok()
        })
    }

    /// The number under `key`, from `f32` or, rounded, from `f64`. It may be infinite or NaN.
    ///
    /// # Errors
    ///
    /// The value has another type.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, GgufError> {
        self.typed(key, "f32", |value| match value {
            Value::F32(value) => Some(value),
            Value::F64(value) => Some(value as f32),
            _ => None,
        })
    }

    /// The array of strings under `key`, with a table of where each one starts (4 bytes a string).
    ///
    /// # Errors
    ///
    /// The value has another type or more strings than any vocabulary or merge list is known to
    /// have.
    pub fn strings(&self, key: &str) -> Result<Option<StringArray>, GgufError> {
        let Some(array) = self.typed(key, "array of string", Value::into_array)? else {
            return Ok(None);
        };
        StringArray::new(key, array).map(Some)
    }

    /// The array of integers (or booleans, as 0 and 1) under `key`.
    ///
    /// # Errors
    ///
    /// The value has another type.
    pub fn integers(&self, key: &str) -> Result<Option<IntegerArray>, GgufError> {
        self.typed(key, "array of integers", |value| IntegerArray::new(value.into_array()?))
    }

    /// The array of `f32` under `key`.
    ///
    /// # Errors
    ///
    /// The value has another type.
    pub fn floats(&self, key: &str) -> Result<Option<FloatArray>, GgufError> {
        self.typed(key, "array of f32", |value| FloatArray::new(value.into_array()?))
    }

    /// The array of `u8` or `i8` under `key`: a blob.
    ///
    /// # Errors
    ///
    /// The value has another type.
    pub fn blob(&self, key: &str) -> Result<Option<Slice>, GgufError> {
        self.typed(key, "array of u8", |value| value.into_array()?.into_blob())
    }

    fn typed<T>(
        &self,
        key: &str,
        wanted: &'static str,
        convert: impl FnOnce(Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        self.metadata.typed(key, wanted, convert)
    }
}

fn read_magic_and_version(reader: &mut Reader<'_>) -> Result<u32, GgufError> {
    let magic = reader.array::<4>("magic")?;
    if magic != MAGIC {
        return Err(GgufError::Magic { found: magic });
    }
    let version = reader.u32("version")?;
    if VERSIONS.contains(&version.swap_bytes()) {
        return Err(GgufError::BigEndian { version: version.swap_bytes() });
    }
    if !VERSIONS.contains(&version) {
        return Err(GgufError::Version { found: version });
    }
    Ok(version)
}

/// `general.alignment`, checked. The specification wants a multiple of 8.
fn read_alignment(metadata: &Metadata) -> Result<usize, GgufError> {
    const WANTED: &str = "u32";
    let found = metadata
        .typed("general.alignment", WANTED, |value| u32::try_from(value.as_integer()?).ok())?
        .unwrap_or(ALIGNMENT_DEFAULT);
    if !found.is_power_of_two() || !(8..=ALIGNMENT_MAX).contains(&found) {
        return Err(GgufError::Alignment { found, max: ALIGNMENT_MAX });
    }
    Ok(found as usize)
}

#[cfg(test)]
mod tests;
