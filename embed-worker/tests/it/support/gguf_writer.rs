//! Writes small GGUF files after the specification, knowing nothing of the reader.

use embed_worker::gguf::GgufFile;

const TYPE_U8: u32 = 0;
const TYPE_U32: u32 = 4;
const TYPE_I32: u32 = 5;
const TYPE_F32: u32 = 6;
const TYPE_BOOL: u32 = 7;
const TYPE_STRING: u32 = 8;
const TYPE_ARRAY: u32 = 9;

/// Keys and tensors of a file to be.
#[derive(Clone, Default)]
pub(crate) struct GgufWriter {
    n_keys: u64,
    keys: Vec<u8>,
    n_tensors: u64,
    tensors: Vec<u8>,
    data: Vec<u8>,
}

impl GgufWriter {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn string(self, key: &str, value: &str) -> Self {
        self.key(key, TYPE_STRING, |out| push_string(out, value.as_bytes()))
    }

    pub(crate) fn u32(self, key: &str, value: u32) -> Self {
        self.key(key, TYPE_U32, |out| out.extend(value.to_le_bytes()))
    }

    pub(crate) fn bool(self, key: &str, value: bool) -> Self {
        self.key(key, TYPE_BOOL, |out| out.push(value.into()))
    }

    pub(crate) fn strings(self, key: &str, values: &[impl AsRef<[u8]>]) -> Self {
        self.key(key, TYPE_ARRAY, |out| {
            out.extend(TYPE_STRING.to_le_bytes());
            out.extend((values.len() as u64).to_le_bytes());
            values.iter().for_each(|value| push_string(out, value.as_ref()));
        })
    }

    pub(crate) fn i32s(self, key: &str, values: &[i32]) -> Self {
        self.key(key, TYPE_ARRAY, |out| {
            out.extend(TYPE_I32.to_le_bytes());
            out.extend((values.len() as u64).to_le_bytes());
            values.iter().for_each(|value| out.extend(value.to_le_bytes()));
        })
    }

    pub(crate) fn f32s(self, key: &str, values: &[f32]) -> Self {
        self.key(key, TYPE_ARRAY, |out| {
            out.extend(TYPE_F32.to_le_bytes());
            out.extend((values.len() as u64).to_le_bytes());
            values.iter().for_each(|value| out.extend(value.to_le_bytes()));
        })
    }

    /// An array of `u8`.
    pub(crate) fn blob(self, key: &str, bytes: &[u8]) -> Self {
        self.key(key, TYPE_ARRAY, |out| {
            out.extend(TYPE_U8.to_le_bytes());
            out.extend((bytes.len() as u64).to_le_bytes());
            out.extend(bytes);
        })
    }

    /// A key with its type's number and the bytes of its value, whether right or wrong.
    pub(crate) fn raw(mut self, key: &[u8], kind: u32, value: &[u8]) -> Self {
        self.n_keys += 1;
        push_string(&mut self.keys, key);
        self.keys.extend(kind.to_le_bytes());
        self.keys.extend(value);
        self
    }

    /// `[empty; depth]` of arrays in arrays, around an empty array of u32.
    pub(crate) fn nested(self, key: &str, depth: u32) -> Self {
        self.key(key, TYPE_ARRAY, |out| {
            for _ in 1..depth {
                out.extend(TYPE_ARRAY.to_le_bytes());
                out.extend(1_u64.to_le_bytes());
            }
            out.extend(TYPE_U32.to_le_bytes());
            out.extend(0_u64.to_le_bytes());
        })
    }

    /// A tensor with its place in the data section; the data itself is up to the caller.
    pub(crate) fn tensor(mut self, name: &str, dims: &[u64], ggml_type: u32, offset: u64) -> Self {
        self.n_tensors += 1;
        push_string(&mut self.tensors, name.as_bytes());
        self.tensors.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|dim| self.tensors.extend(dim.to_le_bytes()));
        self.tensors.extend(ggml_type.to_le_bytes());
        self.tensors.extend(offset.to_le_bytes());
        self
    }

    pub(crate) fn data(mut self, bytes: &[u8]) -> Self {
        self.data.extend(bytes);
        self
    }

    /// The file, padded to 32 before the data.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(3_u32.to_le_bytes());
        file.extend(self.n_tensors.to_le_bytes());
        file.extend(self.n_keys.to_le_bytes());
        file.extend(self.keys);
        file.extend(self.tensors);
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(self.data);
        file
    }

    pub(crate) fn f32(self, key: &str, value: f32) -> Self {
        self.key(key, TYPE_F32, |out| out.extend(value.to_le_bytes()))
    }

    /// A whole file with these keys and tensors before its own; a key of the same name is not the file's
    /// any more.
    ///
    /// Its tensors' data stay where they are: a last key fills what is new up to the alignment.
    pub(crate) fn added_to(mut self, sound: &[u8], replaced: &[&str]) -> Vec<u8> {
        /// Where a file's counts end and its keys begin.
        const KEYS_AT: usize = 24;
        const ALIGNMENT: usize = 32;
        const FILLER: &str = "test.filler";

        let bytes = self.keys.len() + self.tensors.len() + 8 + FILLER.len() + 4 + 8;
        self = self.string(FILLER, &" ".repeat(bytes.next_multiple_of(ALIGNMENT) - bytes));
        let mut file = sound.to_vec();
        for key in replaced {
            // Another name of the same length is the same as none.
            let at = file.windows(key.len()).position(|bytes| bytes == key.as_bytes());
            file[at.expect("the file has the key")] = b'x';
        }
        for (at, more) in [(8, self.n_tensors), (16, self.n_keys)] {
            let count = u64::from_le_bytes(file[at..at + 8].try_into().expect("eight bytes"));
            file[at..at + 8].copy_from_slice(&(count + more).to_le_bytes());
        }
        if !self.tensors.is_empty() {
            let of_file = GgufFile::from_bytes(sound.to_vec()).expect("sound");
            let first = of_file.tensors().first().expect("a file of tensors").name().to_owned();
            let mut named = Vec::new();
            push_string(&mut named, first.as_bytes());
            let at = file.windows(named.len()).position(|bytes| bytes == named);
            let at = at.expect("named in the file");
            file.splice(at..at, self.tensors);
        }
        file.splice(KEYS_AT..KEYS_AT, self.keys);
        file
    }

    fn key(self, key: &str, kind: u32, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut value = Vec::new();
        write(&mut value);
        self.raw(key.as_bytes(), kind, &value)
    }
}

fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text);
}
