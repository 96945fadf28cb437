//! The one thing that this crate reads of a model file: the length of its vectors.
//!
//! A fallback vector must be as long as the model's own, also if no worker has ever run to tell.
//! It stands near the beginning of a GGUF file, before the vocabulary
//! (github.com/ggml-org/ggml/blob/master/docs/gguf.md); everything is read through a bounded reader,
//! and whatever is unexpected means that the length is not known.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// Most bytes of a file that are read: what precedes the vocabulary takes a few hundred.
const BYTES_MAX: u64 = 1024 * 1024;

/// Longest key or architecture name.
const NAME_BYTES_MAX: u64 = 256;

/// The value types of GGUF that matter here.
mod value_type {
    pub(super) const UINT32: u32 = 4;
    pub(super) const STRING: u32 = 8;
    pub(super) const ARRAY: u32 = 9;
}

/// The `ARCHITECTURE.embedding_length` of the GGUF file at `path`, if it can be found.
pub(crate) fn read_model_width(path: &Path) -> Option<u32> {
    // Asked before opening, because opening a named pipe would wait for its writer.
    if !path.metadata().ok()?.is_file() {
        return None;
    }
    read(BufReader::new(File::open(path).ok()?.take(BYTES_MAX))).ok()
}

fn read(mut file: impl Read) -> io::Result<u32> {
    let mut magic = [0; 4];
    file.read_exact(&mut magic)?;
    if &magic != b"GGUF" {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let _version = u32(&mut file)?;
    let _n_tensors = u64(&mut file)?;
    let n_keys = u64(&mut file)?;
    let mut wanted = None;
    for _ in 0..n_keys {
        let key = name(&mut file)?;
        let value_type = u32(&mut file)?;
        if key == "general.architecture" && value_type == value_type::STRING {
            wanted = Some(format!("{}.embedding_length", name(&mut file)?));
        } else if Some(&key) == wanted.as_ref() && value_type == value_type::UINT32 {
            return u32(&mut file);
        } else {
            skip_value(&mut file, value_type)?;
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn skip_value(file: &mut impl Read, value_type: u32) -> io::Result<()> {
    match value_type {
        value_type::STRING => {
            let bytes = u64(file)?;
            skip(file, bytes)
        }
        value_type::ARRAY => {
            let element_type = u32(file)?;
            let n_elements = u64(file)?;
            match size_of(element_type) {
                Some(size) => {
                    skip(file, n_elements.checked_mul(size).ok_or(io::ErrorKind::InvalidData)?)
                }
                // Strings. Arrays of arrays are not in any model's header; there this ends.
                None if element_type == value_type::STRING => {
                    (0..n_elements).try_for_each(|_| skip_value(file, element_type))
                }
                None => Err(io::ErrorKind::Unsupported.into()),
            }
        }
        other => skip(file, size_of(other).ok_or(io::ErrorKind::InvalidData)?),
    }
}

/// Bytes of a number or truth value.
fn size_of(value_type: u32) -> Option<u64> {
    match value_type {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

fn skip(file: &mut impl Read, bytes: u64) -> io::Result<()> {
    let skipped = io::copy(&mut file.take(bytes), &mut io::sink())?;
    if skipped == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn name(file: &mut impl Read) -> io::Result<String> {
    let bytes = u64(file)?;
    if bytes > NAME_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = String::new();
    if file.take(bytes).read_to_string(&mut text)? as u64 == bytes {
        Ok(text)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn u32(file: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    file.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn u64(file: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    file.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Option<u32> {
        read_model_width(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path))
    }

    #[test]
    fn the_width_of_real_models_is_found() {
        assert_eq!(of("models/all-MiniLM-L6-v2.Q8_0.gguf"), Some(384));
        assert_eq!(of("embed-worker/tests/data/golden/nomic-bert-Q2_K.gguf"), Some(256));
        assert_eq!(of("embed-worker/tests/data/hostile/ok-qwen3.gguf"), Some(32));
    }

    #[test]
    fn what_is_no_model_has_no_width() {
        assert_eq!(of("README.md"), None);
        assert_eq!(of("no/such/file"), None);
        let model = std::fs::read(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/all-MiniLM-L6-v2.Q8_0.gguf"),
        );
        let head = &model.expect("ships with the package")[..4096];
        let found = (0..head.len()).find(|n_bytes| read(&head[..*n_bytes]).is_ok());
        for n_bytes in 0..found.expect("within the first page") {
            assert!(read(&head[..n_bytes]).is_err(), "of {n_bytes} bytes");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_named_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("model.gguf");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("POSIX has it");
        assert!(made.success());
        assert_eq!(read_model_width(&pipe), None);
    }

    #[test]
    fn counts_that_lie_end_with_the_file() {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(u64::MAX.to_le_bytes());
        file.extend(u64::MAX.to_le_bytes());
        file.extend(1_u64.to_le_bytes());
        file.push(b'k');
        file.extend(value_type::ARRAY.to_le_bytes());
        file.extend(12_u32.to_le_bytes());
        file.extend(u64::MAX.to_le_bytes());
        assert!(read(&file[..]).is_err());
    }
}
