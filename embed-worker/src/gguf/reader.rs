//! A little-endian cursor that cannot leave the file and knows where it stands.

use std::fmt::Display;
use std::ops::Range;

use super::GgufError;

/// Metadata and tensor table end within this many bytes, or the file is refused: no byte of a
/// 100 GB file is worth reading because a count says so. The largest real ones (256 k tokens
/// with merges and scores) take 20 MB. It also lets positions in the header be `u32`.
const HEADER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Reads the header of a file front to back.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The offset of the next byte, from the start of the file.
    pub(super) fn offset(&self) -> usize {
        self.at
    }

    /// Steps over `n_bytes` and tells where they are.
    pub(super) fn skip(
        &mut self,
        n_bytes: u64,
        what: impl Display,
    ) -> Result<Range<usize>, GgufError> {
        let end = usize::try_from(n_bytes).ok().and_then(|n| self.at.checked_add(n));
        let Some(end) = end.filter(|end| *end <= self.bytes.len()) else {
            return Err(GgufError::Truncated {
                what: what.to_string(),
                needs: n_bytes,
                offset: self.at,
                file_bytes: self.bytes.len(),
            });
        };
        if end > HEADER_BYTES_MAX {
            return Err(GgufError::HeaderTooLong {
                what: what.to_string(),
                needs: n_bytes,
                offset: self.at,
                max: HEADER_BYTES_MAX,
            });
        }
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(
        &mut self,
        what: impl Display,
    ) -> Result<[u8; N], GgufError> {
        let range = self.skip(N as u64, what)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[range]);
        Ok(array)
    }

    pub(super) fn u32(&mut self, what: impl Display) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: impl Display) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A length of 8 bytes and the name that follows: not empty, UTF-8, at most `bytes_max` long.
    pub(super) fn name(
        &mut self,
        what: impl Display,
        bytes_max: u64,
    ) -> Result<(&'a str, Range<usize>), GgufError> {
        let offset = self.at;
        let found = self.u64(&what)?;
        if found > bytes_max {
            let what = format!("{what} length");
            return Err(GgufError::TooMany { what, found, offset, max: bytes_max });
        }
        if found == 0 {
            return Err(GgufError::Empty { what: what.to_string(), offset });
        }
        let range = self.skip(found, &what)?;
        let name = std::str::from_utf8(&self.bytes[range.clone()])
            .map_err(|_| GgufError::Utf8 { what: what.to_string(), offset: range.start })?;
        Ok((name, range))
    }
}
