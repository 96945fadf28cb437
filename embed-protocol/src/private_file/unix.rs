//! Owners and modes.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Only the user may read and write it.
const FILE_MODE: u32 = 0o600;

/// Only the user may enter it.
const DIRECTORY_MODE: u32 = 0o700;

/// Permissions of anybody but the user.
const OTHERS: u32 = 0o077;

/// Follows no link, waits for nobody, and lets nobody else in.
pub(super) fn guard(options: &mut OpenOptions) -> &mut OpenOptions {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.mode(FILE_MODE).custom_flags(flags.bits().cast_signed())
}

pub(super) fn create_new(path: &Path) -> io::Result<File> {
    guard(OpenOptions::new().write(true).create_new(true)).open(path)
}

pub(super) fn make_directory(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(dir)
}

/// Who may do what with a file or directory.
pub(super) struct Rights(Metadata);

impl Rights {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        file.metadata().map(Self)
    }

    pub(super) fn of_directory(dir: &Path) -> io::Result<Self> {
        dir.symlink_metadata().map(Self)
    }

    pub(super) fn owner_fault(&self) -> Option<String> {
        let (found, user) = (self.0.uid(), rustix::process::geteuid().as_raw());
        (found != user).then(|| format!("belongs to user {found}, not to {user}"))
    }

    pub(super) fn secret_fault(&self) -> Option<String> {
        self.mode_fault(FILE_MODE)
    }

    pub(super) fn directory_fault(&self) -> Option<String> {
        self.mode_fault(DIRECTORY_MODE)
    }

    fn mode_fault(&self, wanted: u32) -> Option<String> {
        let mode = self.0.mode();
        (mode & OTHERS != 0).then(|| format!("has mode {:o}, not {wanted:o}", mode & 0o777))
    }
}
