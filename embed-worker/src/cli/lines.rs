//! Lines of input, however long they are and whatever is in them.

use std::io::{self, BufRead};

use embed_protocol::{ErrorCode, TEXT_BYTES_MAX};

use crate::batch::Failure;

/// Bytes that are kept of a line: the longest text, and the two that may end its line.
const LINE_BYTES_MAX: usize = TEXT_BYTES_MAX + 2;

/// One line after the other, of which no more is kept in memory than a text may have.
#[derive(Debug)]
pub(super) struct Lines<R> {
    input: R,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, line: Vec::new() }
    }

    /// The next line without its end, or why it is no text; none at the end of the input.
    pub(super) fn next_text(&mut self) -> io::Result<Option<Result<&str, Failure>>> {
        self.line.clear();
        let mut bytes = 0;
        loop {
            let read = match self.input.fill_buf() {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if read.is_empty() {
                break;
            }
            let end = read.iter().position(|&byte| byte == b'\n');
            let part = &read[..end.map_or(read.len(), |end| end + 1)];
            let room = LINE_BYTES_MAX - self.line.len();
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            let used = part.len();
            bytes += used;
            self.input.consume(used);
            if end.is_some() {
                break;
            }
        }
        if bytes == 0 {
            return Ok(None);
        }
        // What was not kept is more than a text may have, whatever ends it.
        if bytes > self.line.len() {
            return Ok(Some(Err(too_long(bytes))));
        }
        let text = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.len() > TEXT_BYTES_MAX {
            return Ok(Some(Err(too_long(text.len()))));
        }
        Ok(Some(std::str::from_utf8(text).map_err(|error| {
            let message = format!(
                "text: is not UTF-8 from byte {} on; convert it first, for example with iconv",
                error.valid_up_to()
            );
            Failure::new(ErrorCode::BadArgument, message)
        })))
    }

    /// Whether the next line would have to be waited for, as far as can be told.
    pub(super) fn is_drained(&self) -> bool
    where
        R: Buffered,
    {
        self.input.is_drained()
    }
}

/// A reader that knows whether it has read more than was asked for.
pub(super) trait Buffered {
    fn is_drained(&self) -> bool;
}

impl<R> Buffered for io::BufReader<R> {
    fn is_drained(&self) -> bool {
        self.buffer().is_empty()
    }
}

/// A text that is longer than any may be.
pub(super) fn too_long(bytes: usize) -> Failure {
    let message = format!("text: has {bytes} bytes, at most {TEXT_BYTES_MAX} are accepted");
    Failure::new(ErrorCode::TextTooLong, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read, in buffers of so many bytes.
    fn read(input: &[u8], buffer: usize) -> Vec<Result<String, (ErrorCode, String)>> {
        let mut lines = Lines::new(io::BufReader::with_capacity(buffer, input));
        let mut found = Vec::new();
        while let Some(line) = lines.next_text().expect("memory") {
            let line = line.map(str::to_owned);
            found.push(line.map_err(|failure| (failure.code, failure.message)));
        }
        found
    }

    #[test]
    fn lines_end_as_on_every_system_and_the_last_one_need_not() {
        for buffer in [1, 2, 3, 64] {
            let found = read("a\r\n\nb c\n\u{e9}".as_bytes(), buffer);
            assert_eq!(found, ["a", "", "b c", "\u{e9}"].map(|line| Ok(line.to_owned())));
        }
        assert!(read(b"", 8).is_empty());
        assert_eq!(read(b"\n", 8), [Ok(String::new())]);
    }

    #[test]
    fn a_line_that_is_no_text_costs_itself_only() {
        let found = read(b"caf\xe9\nnext\n", 4);
        let (code, message) = found[0].clone().expect_err("not UTF-8");
        assert_eq!(code, ErrorCode::BadArgument);
        assert!(message.contains("from byte 3 on"), "{message}");
        assert_eq!(found[1], Ok("next".into()));
    }

    #[test]
    fn a_line_is_kept_as_far_as_a_text_may_go() {
        for end in ["\n", "\r\n", ""] {
            let longest = "x".repeat(TEXT_BYTES_MAX);
            assert_eq!(read(format!("{longest}{end}").as_bytes(), 8192), [Ok(longest.clone())]);
            let longer = format!("{longest}x{end}next");
            let found = read(longer.as_bytes(), 8192);
            let (code, _) = found[0].clone().expect_err("one byte too many");
            assert_eq!(code, ErrorCode::TextTooLong);
        }
        let mut lines = Lines::new(io::BufReader::new(io::Read::take(io::repeat(b'x'), 64 << 20)));
        let failure = lines.next_text().expect("memory").expect("a line").expect_err("too long");
        assert!(failure.message.contains("has 67108864 bytes"), "{}", failure.message);
        assert!(lines.line.capacity() <= 4 * LINE_BYTES_MAX, "{}", lines.line.capacity());
    }
}
