//! The hostile files: valid ones, and others that differ from them in one way each.

use serde::Deserialize;

use super::test_data;

/// A file and what must come of it.
#[derive(Deserialize)]
pub(crate) struct Hostile {
    pub(crate) file: String,
    /// The one thing that is wrong.
    pub(crate) what: String,
    /// `ok`, `reject`, `either`, `reject-or-default`, `error-no-nan`, `reject-or-error-no-nan`.
    pub(crate) expect: String,
    control: String,
    /// Offset in the control, bytes taken out, bytes put in (hexadecimal).
    edits: Vec<(usize, usize, String)>,
}

impl Hostile {
    /// Every file, in the order of the index.
    pub(crate) fn all() -> Vec<Self> {
        let index = std::fs::read(test_data("hostile/index.json")).expect("the index");
        serde_json::from_slice(&index).expect("valid JSON")
    }

    /// The file's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let path = test_data("hostile").join(&self.control);
        let control = std::fs::read(path).expect("the control file");
        let (mut bytes, mut at) = (Vec::new(), 0);
        for (offset, taken, put) in &self.edits {
            bytes.extend(&control[at..*offset]);
            let digits = put.as_bytes().chunks(2);
            bytes.extend(digits.map(|pair| {
                let pair = std::str::from_utf8(pair).expect("hexadecimal");
                u8::from_str_radix(pair, 16).expect("hexadecimal")
            }));
            at = offset + taken;
        }
        bytes.extend(&control[at..]);
        bytes
    }
}
