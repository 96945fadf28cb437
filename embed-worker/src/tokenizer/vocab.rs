//! Token to id, over the strings where the file's map has them.
//!
//! Private memory is 4 bytes a token for where it starts and 8 to 16 for the hash table: 0.4 MB for
//! the 30,522 tokens of BERT.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};

use crate::gguf::{GgufFile, IntegerArray, StringArray};

use super::TokenizerError;
use super::keys::{TOKEN_TYPE, TOKENS};

/// What the converter puts before a token that starts a word, in place of the `##` that
/// Hugging Face puts before one that does not.
const WORD_START: &[u8] = "\u{2581}".as_bytes();

/// Token types, as llama.cpp numbers them.
const TYPE_UNKNOWN: i64 = 2;
const TYPE_CONTROL: i64 = 3;
const TYPE_USER_DEFINED: i64 = 4;
const TYPE_UNUSED: i64 = 5;
const TYPE_BYTE: i64 = 6;

/// Bytes of all user-defined tokens with blanks together, of which Gemma has 30 with 1.5 kB.
const BLANKS_BYTES_MAX: usize = 64 * 1024;

/// How many tokens with one home may follow each other. At half load and with a good hash the
/// longest run in a vocabulary of a million is some 60.
const PROBES_MAX: usize = 256;

/// How many random keys are tried before the vocabulary is refused.
const KEYS_MAX: usize = 8;

/// An odd number without pattern: the golden ratio's fraction, as wyhash and others use.
const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

/// No token has this slot: the largest id of a table is never used.
const EMPTY: u32 = u32::MAX;

/// Where in a word a piece may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// At its start.
    Initial = 0,
    /// After another piece.
    Continuation = 1,
}

/// What a file says a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A piece of text; also what a file without types has.
    Normal,
    /// What stands for text without pieces.
    Unknown,
    /// Marks a text's start or end, or the like.
    Control,
    /// Matched verbatim in raw text.
    UserDefined,
    /// Fills a gap in the numbering: not matched at all.
    Unused,
    /// Stands for one byte, spelt `<0xNN>`.
    Byte,
}

/// How the file spells its tokens.
#[derive(Debug)]
enum Spelling {
    /// A mark before those that start a word: see [`WORD_START`].
    Words,
    /// As texts have them after normalisation. The converter writes the white space of
    /// user-defined tokens as blanks: here they are with marks, as models know them.
    Verbatim { blanks: BTreeMap<u32, Box<[u8]>> },
}

/// The tokens of a file.
#[derive(Debug)]
pub(super) struct Vocab {
    spelling: Spelling,
    tokens: StringArray,
    types: Option<IntegerArray>,
    table: Table,
}

/// A hash table of ids with linear probing.
///
/// The hash has a random key, so that nobody can choose colliding tokens in advance, and a run of
/// probes is bounded, so that a load ends even if somebody could.
#[derive(Debug)]
struct Table {
    /// Upper bits: tag, the top of the hash. Lower bits: id. The length is a power of two.
    slots: Box<[u32]>,
    id_bits: u32,
    key: u64,
    /// Bytes of the longest token in each position.
    bytes_max: [usize; 2],
    /// Whether some token is there twice.
    repeats: bool,
}

impl Vocab {
    /// Bytes that are held beside the map.
    pub(super) fn private_bytes(&self) -> usize {
        size_of_val(&*self.table.slots) + self.tokens.private_bytes()
    }

    /// Tokens in WordPiece's spelling.
    ///
    /// `piece_bytes_max`: longer tokens cannot be part of a word, and are left out.
    pub(super) fn from_gguf(
        file: &GgufFile,
        piece_bytes_max: usize,
    ) -> Result<Self, TokenizerError> {
        let mut vocab = Self::without_table(file)?;
        vocab.fill(piece_bytes_max)?;
        Ok(vocab)
    }

    /// Tokens in SentencePiece's spelling.
    ///
    /// `piece_bytes_max`: longer tokens are refused.
    pub(super) fn verbatim(
        file: &GgufFile,
        piece_bytes_max: usize,
    ) -> Result<Self, TokenizerError> {
        let mut vocab = Self::without_table(file)?;
        vocab.spelling = Spelling::Verbatim { blanks: vocab.blanks()? };
        for (id, text) in (0..).zip(vocab.tokens.iter()) {
            let bytes = text.len();
            if bytes > piece_bytes_max && vocab.kind(id) != Kind::Unused {
                return Err(TokenizerError::PieceTooLong { id, bytes, max: piece_bytes_max });
            }
        }
        vocab.fill(piece_bytes_max * WORD_START.len())?;
        Ok(vocab)
    }

    fn without_table(file: &GgufFile) -> Result<Self, TokenizerError> {
        let tokens = file.strings(TOKENS)?.ok_or(TokenizerError::Missing { key: TOKENS })?;
        if tokens.is_empty() {
            return Err(TokenizerError::Empty);
        }
        let types = file.integers(TOKEN_TYPE)?;
        if let Some(types) = types.as_ref().filter(|types| types.len() != tokens.len()) {
            let (found, tokens) = (types.len(), tokens.len());
            return Err(TokenizerError::TypeCount { found, tokens });
        }
        let table = Table::new(&tokens);
        Ok(Self { spelling: Spelling::Words, tokens, types, table })
    }

    /// User-defined tokens with blanks, with the mark in their place.
    fn blanks(&self) -> Result<BTreeMap<u32, Box<[u8]>>, TokenizerError> {
        let (mut blanks, mut n_bytes) = (BTreeMap::new(), 0);
        for (id, text) in (0..).zip(self.tokens.iter()) {
            if self.kind(id) != Kind::UserDefined || !text.contains(&b' ') {
                continue;
            }
            let spell = |byte: &u8| match byte {
                b' ' => WORD_START.to_vec(),
                byte => vec![*byte],
            };
            n_bytes += text.len() * WORD_START.len();
            if n_bytes > BLANKS_BYTES_MAX {
                return Err(TokenizerError::TooManyBlanks { id, max: BLANKS_BYTES_MAX });
            }
            blanks.insert(id, text.iter().flat_map(spell).collect());
        }
        Ok(blanks)
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The tokens that the file marks as special; `None` if it marks none because it has no types.
    pub(super) fn special_ids(&self) -> Option<Vec<u32>> {
        let types = self.types.as_ref()?;
        let verbatim = matches!(self.spelling, Spelling::Verbatim { .. });
        let is_special = |kind| match kind {
            TYPE_CONTROL | TYPE_USER_DEFINED => true,
            TYPE_UNKNOWN => verbatim,
            _ => false,
        };
        Some(
            (0..)
                .zip(types.iter())
                .filter(|(_, kind)| is_special(*kind))
                .map(|(id, _)| id)
                .collect(),
        )
    }

    /// What a special token looks like in a text. The converter marks a word's start on all but
    /// control tokens, and old converters on these too.
    pub(super) fn special_text(&self, id: u32) -> &[u8] {
        if self.is_control(id) {
            return self.tokens.get(id as usize).unwrap_or_default();
        }
        self.piece(id).1
    }

    /// The longest token that `text` starts with, and its bytes. `hashes` is scratch with room
    /// for every byte of `text`.
    pub(super) fn longest(
        &self,
        position: Position,
        text: &str,
        hashes: &mut [u64],
    ) -> Option<(u32, usize)> {
        let bytes = text.as_bytes();
        let n_bytes = bytes.len().min(self.table.bytes_max[position as usize]);
        let mut hash = self.table.start(position);
        for (byte, place) in bytes[..n_bytes].iter().zip(&mut *hashes) {
            hash = step(hash, *byte);
            *place = hash;
        }
        (1..=n_bytes).rev().filter(|n_bytes| text.is_char_boundary(*n_bytes)).find_map(|n_bytes| {
            let id = self.find(position, &bytes[..n_bytes], hashes[n_bytes - 1])?;
            Some((id, n_bytes))
        })
    }

    /// The token that is `text` and does not start with the mark of a word's start: byte-level
    /// vocabularies have no such mark.
    pub(super) fn id(&self, text: &[u8]) -> Option<u32> {
        self.id_at(Position::Continuation, text)
    }

    /// As [`Vocab::id`], of a token whose id is likely to be `guess`.
    pub(super) fn id_near(&self, guess: u32, text: &[u8]) -> Option<u32> {
        // Of the same token twice the table has the first.
        let is_it = !self.table.repeats && self.piece(guess) == (Position::Continuation, text);
        if is_it { Some(guess) } else { self.id(text) }
    }

    /// The token that is `text`, in a vocabulary that is spelt verbatim.
    pub(super) fn verbatim_id(&self, text: &[u8]) -> Option<u32> {
        self.id_at(Position::Initial, text)
    }

    fn id_at(&self, position: Position, text: &[u8]) -> Option<u32> {
        let hash = text.iter().fold(self.table.start(position), |hash, byte| step(hash, *byte));
        self.find(position, text, hash)
    }

    /// Gives the memory of the hash table back: no token is found by its text from then on.
    pub(super) fn forget_table(&mut self) {
        self.table.slots = [EMPTY].into();
    }

    /// Every token that `text` starts with and their bytes, the shortest first, in a vocabulary
    /// that is spelt verbatim. `text` is UTF-8.
    pub(super) fn prefixes(&self, text: &[u8], mut take: impl FnMut(u32, usize)) {
        let position = Position::Initial;
        let mut hash = self.table.start(position);
        let n_bytes_max = text.len().min(self.bytes_max());
        for (n_bytes, byte) in (1..=n_bytes_max).zip(text) {
            hash = step(hash, *byte);
            // Only at the end of a character: what follows does not continue one.
            if text.get(n_bytes).is_some_and(|next| next & 0xC0 == 0x80) {
                continue;
            }
            if let Some(id) = self.find(position, &text[..n_bytes], hash) {
                take(id, n_bytes);
            }
        }
    }

    /// Bytes of the longest token, in a vocabulary that is spelt verbatim.
    pub(super) fn bytes_max(&self) -> usize {
        self.table.bytes_max[Position::Initial as usize]
    }

    /// What the token is for.
    pub(super) fn kind(&self, id: u32) -> Kind {
        match self.types.as_ref().and_then(|types| types.get(id as usize)) {
            Some(TYPE_UNKNOWN) => Kind::Unknown,
            Some(TYPE_CONTROL) => Kind::Control,
            Some(TYPE_USER_DEFINED) => Kind::UserDefined,
            Some(TYPE_UNUSED) => Kind::Unused,
            Some(TYPE_BYTE) => Kind::Byte,
            _ => Kind::Normal,
        }
    }

    /// A token's text, in a vocabulary that is spelt verbatim.
    pub(super) fn text(&self, id: u32) -> &[u8] {
        if let Spelling::Verbatim { blanks } = &self.spelling
            && !blanks.is_empty()
            && let Some(text) = blanks.get(&id)
        {
            return text;
        }
        self.tokens.get(id as usize).unwrap_or_default()
    }

    fn find(&self, position: Position, text: &[u8], hash: u64) -> Option<u32> {
        let table = &self.table;
        let tag = table.tag(hash);
        let mut at = table.home(hash);
        loop {
            let slot = table.slots[at];
            if slot == EMPTY {
                return None;
            }
            if slot >> table.id_bits == tag {
                let id = slot & table.id_mask();
                if self.piece(id) == (position, text) {
                    return Some(id);
                }
            }
            at = table.next(at);
        }
    }

    /// A token as pieces of words know it.
    fn piece(&self, id: u32) -> (Position, &[u8]) {
        if let Spelling::Verbatim { .. } = &self.spelling {
            return (Position::Initial, self.text(id));
        }
        let text = self.tokens.get(id as usize).unwrap_or_default();
        if self.is_control(id) {
            return (Position::Initial, text);
        }
        match text.strip_prefix(WORD_START) {
            // The mark alone would be the empty word: it is the character as a continuation.
            Some(rest) if !rest.is_empty() => (Position::Initial, rest),
            _ => (Position::Continuation, text),
        }
    }

    /// Whether the file marks the token as one that no text is meant to contain.
    pub(super) fn is_control(&self, id: u32) -> bool {
        self.types.as_ref().and_then(|types| types.get(id as usize)) == Some(TYPE_CONTROL)
    }

    fn fill(&mut self, piece_bytes_max: usize) -> Result<(), TokenizerError> {
        let mut collided = 0;
        for _ in 0..KEYS_MAX {
            self.table.clear();
            match self.try_fill(piece_bytes_max) {
                Ok(()) => return Ok(()),
                Err(id) => collided = id,
            }
        }
        Err(TokenizerError::Collisions { id: collided, probes: PROBES_MAX })
    }

    /// Puts every token into the table, or names the one that collides too often.
    fn try_fill(&mut self, piece_bytes_max: usize) -> Result<(), u32> {
        for id in (0..).take(self.tokens.len()) {
            let (position, text) = self.piece(id);
            let verbatim = matches!(self.spelling, Spelling::Verbatim { .. });
            if verbatim && self.kind(id) == Kind::Unused {
                continue;
            }
            if text.is_empty() || text.len() > piece_bytes_max {
                continue;
            }
            let hash = text.iter().fold(self.table.start(position), |hash, byte| step(hash, *byte));
            let n_bytes = text.len();
            let Some(at) = self.vacancy(position, text, hash).ok_or(id)? else {
                self.table.repeats = true;
                continue;
            };
            self.table.slots[at] = self.table.tag(hash) << self.table.id_bits | id;
            let longest = &mut self.table.bytes_max[position as usize];
            *longest = n_bytes.max(*longest);
        }
        Ok(())
    }

    /// The free slot for a token: `Some(None)` if an earlier token is the same (the lowest id
    /// stays), `None` if the search took too long.
    fn vacancy(&self, position: Position, text: &[u8], hash: u64) -> Option<Option<usize>> {
        let table = &self.table;
        let tag = table.tag(hash);
        let mut at = table.home(hash);
        for _ in 0..PROBES_MAX {
            let slot = table.slots[at];
            if slot == EMPTY {
                return Some(Some(at));
            }
            let same = slot >> table.id_bits == tag
                && self.piece(slot & table.id_mask()) == (position, text);
            if same {
                return Some(None);
            }
            at = table.next(at);
        }
        None
    }
}

impl Table {
    /// An empty table with room for `tokens`, at most half full.
    fn new(tokens: &StringArray) -> Self {
        // One id more than there are, so that no slot equals `EMPTY`. The tag has the rest: 11
        // bits for the largest array that `StringArray` allows, 17 for BERT's vocabulary.
        let id_bits = (tokens.len() as u32 + 1).next_power_of_two().trailing_zeros();
        let n_slots = (tokens.len() * 2).next_power_of_two();
        Self {
            slots: vec![EMPTY; n_slots].into(),
            id_bits,
            key: 0,
            bytes_max: [0; 2],
            repeats: false,
        }
    }

    /// Forgets everything and takes another random key.
    fn clear(&mut self) {
        self.slots.fill(EMPTY);
        self.key = RandomState::new().hash_one(MULTIPLIER);
        self.bytes_max = [0; 2];
        self.repeats = false;
    }

    fn start(&self, position: Position) -> u64 {
        step(self.key, position as u8)
    }

    fn tag(&self, hash: u64) -> u32 {
        (hash >> 32) as u32 >> self.id_bits
    }

    fn home(&self, hash: u64) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }

    fn id_mask(&self) -> u32 {
        (1 << self.id_bits) - 1
    }
}

/// One byte into the hash: multiply to 128 bits and fold, after wyhash, so that every prefix of a
/// word has its hash after one pass.
fn step(hash: u64, byte: u8) -> u64 {
    let product = u128::from(hash ^ u64::from(byte)) * u128::from(MULTIPLIER);
    product as u64 ^ (product >> 64) as u64
}
