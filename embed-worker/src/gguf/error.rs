//! What can be wrong with a GGUF file, said so that the writer of the file can find it.

use std::path::PathBuf;
use std::{fmt, io};

/// The longest name an error repeats: a hostile file may have keys of 64 KiB.
const QUOTED_CHARS_MAX: usize = 80;

/// Why a file was not accepted as GGUF, or why a key could not be read as asked.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The operating system would not open the file.
    #[error("file `{}`: cannot be opened", path.display())]
    Open {
        /// What was asked for.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A directory, pipe or device.
    #[error("file `{}`: is not a regular file", path.display())]
    NotAFile {
        /// What was asked for.
        path: PathBuf,
    },
    /// Somebody goes on writing to it.
    #[error("file `{}`: is being written to; try again when it is whole", path.display())]
    BeingWritten {
        /// What was asked for.
        path: PathBuf,
    },
    /// The operating system would not map the file.
    #[error("file `{}`: cannot be mapped", path.display())]
    Map {
        /// What was asked for.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Some other file, or GGML's formats before GGUF.
    #[error("magic: found `{}` at byte 0, wanted `GGUF`", found.escape_ascii())]
    Magic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// A version with another layout, or none at all.
    #[error("version: found {found} at byte 4, wanted 2 or 3")]
    Version {
        /// What the file says.
        found: u32,
    },
    /// A file for big-endian machines.
    #[error("version: {version} is big-endian at byte 4, wanted little-endian")]
    BigEndian {
        /// The version, read as big-endian.
        version: u32,
    },
    /// The file ends within the thing named.
    #[error("{what}: needs {needs} bytes at {offset}, file ends at {file_bytes}")]
    Truncated {
        /// The thing that was being read.
        what: String,
        /// How long it claims to be.
        needs: u64,
        /// Where it starts.
        offset: usize,
        /// Where the file ends.
        file_bytes: usize,
    },
    /// Metadata and tensor table are larger than any real file's.
    #[error("{what}: needs {needs} bytes at {offset}, metadata may take {max} bytes")]
    HeaderTooLong {
        /// The thing that was being read.
        what: String,
        /// How long it claims to be.
        needs: u64,
        /// Where it starts.
        offset: usize,
        /// Where metadata and tensor table must have ended.
        max: usize,
    },
    /// A count or length beyond its limit.
    #[error("{what}: found {found} at byte {offset}, at most {max} accepted")]
    TooMany {
        /// What is counted.
        what: String,
        /// The count in the file.
        found: u64,
        /// Where the count stands.
        offset: usize,
        /// The limit.
        max: u64,
    },
    /// Nothing where there must be something.
    #[error("{what}: is empty at byte {offset}")]
    Empty {
        /// What is empty.
        what: String,
        /// Where it stands.
        offset: usize,
    },
    /// A name or string that is not UTF-8.
    #[error("{what}: is not UTF-8 at byte {offset}")]
    Utf8 {
        /// What should be text.
        what: String,
        /// Where the text starts.
        offset: usize,
    },
    /// Two keys or two tensors with one name.
    #[error("{what}: appears twice, at byte {first} and at byte {second}")]
    Duplicate {
        /// The name, with what it names.
        what: String,
        /// Where the first stands.
        first: usize,
        /// Where the second stands.
        second: usize,
    },
    /// A value type that GGUF does not define.
    #[error("{what}: found value type {found} at byte {offset}, wanted 0 to 12")]
    ValueType {
        /// Whose value.
        what: String,
        /// The type's number.
        found: u32,
        /// Where the number stands.
        offset: usize,
    },
    /// A boolean that is neither 0 nor 1.
    #[error("{what}: found boolean {found} at byte {offset}, wanted 0 or 1")]
    Boolean {
        /// Whose value.
        what: String,
        /// The byte.
        found: u8,
        /// Where it stands.
        offset: usize,
    },
    /// A value of another type than the reader needs, or out of its range.
    #[error("key `{key}`: found {found}, wanted {wanted}")]
    WrongType {
        /// The key.
        key: String,
        /// Type and, for a number, value in the file.
        found: String,
        /// What the reader needs.
        wanted: &'static str,
    },
    /// An alignment that cannot be.
    #[error("key `general.alignment`: found {found}, wanted a power of two from 8 to {max}")]
    Alignment {
        /// What the file says.
        found: u32,
        /// The largest accepted.
        max: u32,
    },
    /// A tensor type that this worker has no kernels for.
    #[error("{what}: type {number} ({name}) at byte {offset} is not supported")]
    TensorType {
        /// The tensor.
        what: String,
        /// The type's number.
        number: u32,
        /// ggml's name for it.
        name: &'static str,
        /// Where the number stands.
        offset: usize,
    },
    /// A tensor with an impossible number of dimensions.
    #[error("{what}: found {found} dimensions at byte {offset}, wanted 1 to 4")]
    Dimensions {
        /// The tensor.
        what: String,
        /// What the file says.
        found: u32,
        /// Where it says so.
        offset: usize,
    },
    /// A dimension of zero, or dimensions whose product no machine could address.
    #[error("{what}: shape {dims:?} at byte {offset} has no or too many elements")]
    Shape {
        /// The tensor.
        what: String,
        /// The dimensions, fastest first.
        dims: Vec<u64>,
        /// Where they stand.
        offset: usize,
    },
    /// A row that is not a whole number of blocks.
    #[error("{what}: rows of {row} elements at byte {offset} do not divide into blocks of {block}")]
    Blocks {
        /// The tensor, with its type.
        what: String,
        /// Elements in a row.
        row: u64,
        /// Elements in a block.
        block: usize,
        /// Where the dimensions stand.
        offset: usize,
    },
    /// A tensor that does not start on the file's alignment.
    #[error("{what}: data offset {found} is not a multiple of {alignment}")]
    Misaligned {
        /// The tensor.
        what: String,
        /// Its offset within the data section.
        found: u64,
        /// The file's alignment.
        alignment: usize,
    },
    /// Tensor data beyond the end of the file.
    #[error("{what}: needs {needs} bytes at {offset}, file ends at {file_bytes}")]
    TensorOutOfFile {
        /// The tensor.
        what: String,
        /// Bytes of its data.
        needs: usize,
        /// Where the data starts, from the start of the file.
        offset: u64,
        /// Where the file ends.
        file_bytes: usize,
    },
    /// Two tensors that share bytes.
    #[error("{first} and {second}: share bytes from {offset}")]
    Overlap {
        /// The tensor that starts first.
        first: String,
        /// The tensor that starts within it.
        second: String,
        /// Where the second starts.
        offset: usize,
    },
}

/// A name from the file, made fit for a terminal: escaped, and cut when absurdly long.
#[derive(Clone, Copy)]
pub(super) struct Quoted<'a> {
    kind: &'static str,
    name: &'a str,
}

/// `name` as the `kind` of thing it names: a key, a tensor.
pub(super) fn quoted<'a>(kind: &'static str, name: &'a str) -> Quoted<'a> {
    Quoted { kind, name }
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = self.name.char_indices().nth(QUOTED_CHARS_MAX).map(|(at, _)| at);
        let shown = &self.name[..cut.unwrap_or(self.name.len())];
        let ellipsis = if cut.is_some() { "…" } else { "" };
        write!(f, "{} `{}{ellipsis}`", self.kind, shown.escape_debug())
    }
}
