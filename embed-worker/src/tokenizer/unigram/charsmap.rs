//! SentencePiece's precompiled character map: what a character, or a short cluster of them, is
//! replaced by.
//!
//! The blob is the bytes of the units, in a `u32`; the units of a double array (Darts-clone, with
//! XOR); then the replacements, each up to a zero byte. It is read where the file's map has it.
//!
//! Follows the `spm_precompiled` crate and not SentencePiece, as Hugging Face does: the text is cut
//! into grapheme clusters, one of fewer than 6 bytes is looked up as a whole, and what is found
//! first, the shortest match, replaces all of it. Clusters depend on the version of Unicode, so
//! the crate that cuts them is the one that `tokenizers` uses.

use unicode_segmentation::UnicodeSegmentation as _;

use crate::gguf::{GgufFile, Slice};

use super::super::{TokenizerError, keys};

const UNIT_BYTES: usize = 4;

/// Clusters from this length on are looked up character by character.
const CLUSTER_BYTES_MAX: usize = 6;

/// The longest replacement that is believed: a real one has 33 bytes, U+FDFA's. Bounds how much
/// a text may grow.
const REPLACEMENT_BYTES_MAX: usize = 256;

/// A map from the file.
#[derive(Debug)]
pub(super) struct Charsmap {
    blob: Slice,
    n_units: usize,
    /// Whether a character of ASCII stays as it is.
    stays: [bool; 128],
}

/// One unit of the double array.
#[derive(Clone, Copy)]
struct Unit(u32);

impl Unit {
    /// Holds the place of a replacement, or nothing; not a node.
    fn is_value(self) -> bool {
        self.0 >> 31 == 1
    }

    fn has_value(self) -> bool {
        self.0 >> 8 & 1 == 1
    }

    fn value(self) -> usize {
        (self.0 & 0x7FFF_FFFF) as usize
    }

    /// The byte that leads here; no byte, if this is a value.
    fn label(self) -> u32 {
        self.0 & 0x8000_00FF
    }

    /// To the children, XORed with the own place and their label.
    fn offset(self) -> usize {
        ((self.0 >> 10) as usize) << ((self.0 & 1 << 9) >> 6)
    }
}

impl Charsmap {
    /// `None`: the file has no map, text stays as it is.
    pub(super) fn from_gguf(file: &GgufFile) -> Result<Option<Self>, TokenizerError> {
        let Some(blob) = file.blob(keys::CHARSMAP)? else { return Ok(None) };
        let bytes = blob.bytes();
        if bytes.is_empty() {
            return Ok(None);
        }
        let head = bytes.first_chunk().map(|head| u32::from_le_bytes(*head)).unwrap_or_default();
        let max = bytes.len().saturating_sub(UNIT_BYTES);
        let n_bytes = head as usize;
        if n_bytes == 0 || !n_bytes.is_multiple_of(UNIT_BYTES) || n_bytes > max {
            return Err(TokenizerError::CharsmapSize { found: head.into(), max });
        }
        let mut charsmap = Self { blob, n_units: n_bytes / UNIT_BYTES, stays: [false; 128] };
        charsmap.check()?;
        charsmap.stays = std::array::from_fn(|byte| {
            let mut buffer = [0; 4];
            // A carriage return may be one cluster with the line feed after it.
            byte != usize::from(b'\r')
                && charsmap.replacement(char::from(byte as u8).encode_utf8(&mut buffer)).is_none()
        });
        Ok(Some(charsmap))
    }

    /// Sends the characters of `text`, replaced, to `take`.
    pub(super) fn run(&self, text: &str, mut take: impl FnMut(char)) {
        let mut rest = text;
        while !rest.is_empty() {
            rest = self.run_ascii(rest, &mut take);
            let mut clusters = rest.graphemes(true);
            while let Some(cluster) = clusters.next() {
                self.run_cluster(cluster, &mut take);
                rest = clusters.as_str();
                if matches!(rest.as_bytes(), [0..128, 0..128, ..]) {
                    break;
                }
            }
        }
    }

    /// The head of `text` whose characters are clusters of their own and stay; returns the rest.
    ///
    /// Between two characters of ASCII there is a boundary, but for CR LF. The last one before
    /// others may be the base of marks.
    fn run_ascii<'a>(&self, text: &'a str, take: &mut impl FnMut(char)) -> &'a str {
        let bytes = text.as_bytes();
        let stays = |byte: &u8| self.stays.get(usize::from(*byte)).is_some_and(|stays| *stays);
        let n_stay = bytes.iter().position(|byte| !stays(byte)).unwrap_or(bytes.len());
        let is_ascii_next = bytes.get(n_stay).is_none_or(u8::is_ascii);
        let n_taken = if is_ascii_next { n_stay } else { n_stay.saturating_sub(1) };
        bytes[..n_taken].iter().for_each(|byte| take(char::from(*byte)));
        &text[n_taken..]
    }

    fn run_cluster(&self, cluster: &str, take: &mut impl FnMut(char)) {
        if cluster.len() < CLUSTER_BYTES_MAX
            && let Some(replacement) = self.replacement(cluster)
        {
            return replacement.chars().for_each(take);
        }
        let mut buffer = [0; 4];
        for c in cluster.chars() {
            match self.replacement(c.encode_utf8(&mut buffer)) {
                Some(replacement) => replacement.chars().for_each(&mut *take),
                None => take(c),
            }
        }
    }

    /// What the shortest key that `text` starts with is replaced by.
    fn replacement(&self, text: &str) -> Option<&str> {
        let mut place = self.unit(0)?.offset();
        for byte in text.bytes().take_while(|byte| *byte != 0) {
            place ^= usize::from(byte);
            let unit = self.unit(place)?;
            if unit.label() != u32::from(byte) {
                return None;
            }
            place ^= unit.offset();
            if unit.has_value() {
                return self.text_at(self.unit(place)?.value());
            }
        }
        None
    }

    fn unit(&self, place: usize) -> Option<Unit> {
        let start = place.checked_add(1)?.checked_mul(UNIT_BYTES)?;
        let bytes = self.blob.bytes().get(start..start + UNIT_BYTES)?;
        (place < self.n_units).then_some(Unit(u32::from_le_bytes(bytes.try_into().ok()?)))
    }

    /// The replacement that starts at `value`, if there is one and it is not too long.
    fn text_at(&self, value: usize) -> Option<&str> {
        let start = (self.n_units + 1) * UNIT_BYTES + value;
        let bytes = self.blob.bytes().get(start..).filter(|bytes| !bytes.is_empty())?;
        let n_bytes = bytes.iter().take(REPLACEMENT_BYTES_MAX + 1).position(|byte| *byte == 0)?;
        std::str::from_utf8(&bytes[..n_bytes]).ok()
    }

    /// Follows every way out of every node, so that no look-up can fail later.
    ///
    /// A look-up goes on by a byte with each unit: it ends however the units lead.
    fn check(&self) -> Result<(), TokenizerError> {
        for place in 0..self.n_units {
            let Some(unit) = self.unit(place).filter(|unit| !unit.is_value()) else { continue };
            let refuse = |problem| Err(TokenizerError::CharsmapUnit { unit: place, problem });
            let children = place ^ unit.offset();
            if children | 0xFF >= self.n_units {
                return refuse("has children beyond the last unit");
            }
            let Some(value) = self.unit(children).filter(|_| unit.has_value()) else { continue };
            if self.text_at(value.value()).is_none() {
                return refuse("has a replacement that is not there, not UTF-8 or too long");
            }
        }
        Ok(())
    }
}
