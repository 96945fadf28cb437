//! Where lines go.

use std::io::{self, Write};
use std::sync::Arc;

use tracing_subscriber::fmt::MakeWriter;

use crate::file::RotatingFile;

/// Standard error or a file; never standard output.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    Stderr,
    File(Arc<RotatingFile>),
    /// For tests of this crate.
    #[cfg(test)]
    Memory(Arc<std::sync::Mutex<Vec<u8>>>),
}

impl Output {
    /// Writes whole lines at once. If they cannot be written, there is nobody to tell.
    pub(crate) fn write_line(&self, line: &[u8]) {
        let _ = self.clone().write_all(line);
    }
}

impl Write for Output {
    /// Writes all of it or fails: a line that is written in two goes would be mixed with others'.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stderr => io::stderr().write_all(lines)?,
            Self::File(file) => file.append(lines)?,
            #[cfg(test)]
            Self::Memory(memory) => memory.lock().expect("no panic").extend_from_slice(lines),
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
