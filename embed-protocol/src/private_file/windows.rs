//! Owners and access lists.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::AsHandle;
use std::path::Path;

use embed_windows::access::{self, Access, Barred};
use embed_windows::user::User;

/// Opens a link itself (`FILE_FLAG_OPEN_REPARSE_POINT`, winbase.h).
const OPEN_LINK: u32 = 0x0020_0000;

/// Opens a directory at all (`FILE_FLAG_BACKUP_SEMANTICS`, winbase.h).
const OPEN_DIRECTORY: u32 = 0x0200_0000;

/// The right to ask who may do what (`READ_CONTROL`, winnt.h).
const ASK: u32 = 0x0002_0000;

/// Follows no link.
pub(super) fn guard(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags(OPEN_LINK)
}

pub(super) fn create_new(path: &Path) -> io::Result<File> {
    access::create_new(path)
}

pub(super) fn make_directory(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(above) = dir.parent().filter(|above| !above.as_os_str().is_empty()) {
        std::fs::create_dir_all(above)?;
    }
    match access::make_directory(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        made => made,
    }
}

/// Who may do what with a file or directory.
pub(super) struct Rights {
    user: User,
    access: Access,
}

impl Rights {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        Ok(Self { user: User::current()?, access: Access::of(file.as_handle())? })
    }

    pub(super) fn of_directory(dir: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let options = options.access_mode(ASK).custom_flags(OPEN_LINK | OPEN_DIRECTORY);
        Self::of(&options.open(dir)?)
    }

    pub(super) fn owner_fault(&self) -> Option<String> {
        self.access.owner_fault(&self.user)
    }

    pub(super) fn secret_fault(&self) -> Option<String> {
        self.access.others_fault(&self.user, Barred::Everything)
    }

    /// A directory can be passed through without any right to it, so that each file is closed by itself;
    /// who may write to the directory could put other files there.
    pub(super) fn directory_fault(&self) -> Option<String> {
        self.access.others_fault(&self.user, Barred::Writing)
    }
}
