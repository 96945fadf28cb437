//! What lies in the user's directory is the user's alone: the one place that says what that means.
//!
//! Each file is looked at by itself once it is open: it must be of the right kind and of this user, and
//! no symbolic link is followed to it. So it does not matter who may write to the directories above:
//! whoever puts another one in the place of ours has only put there what is refused.
//!
//! Others are all but root; on Windows, all but the system and its administrators.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

#[cfg(unix)]
#[path = "private_file/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "private_file/windows.rs"]
mod system;

/// Opens `path`, but not what a symbolic link in its place leads to, and without waiting, should it be
/// a pipe; a file that `options` lets it make is for this user alone (on Windows, as far as the directory
/// is).
///
/// # Errors
///
/// The system's.
pub fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    system::guard(options).open(path)
}

/// Puts a file with `contents` in the place of what is called `path`, at once and whole; until then it
/// is called `unfinished`. Nobody else may read it or write to it, under either name.
///
/// # Errors
///
/// The system's; nothing is left of the unfinished file then.
pub fn replace(path: &Path, unfinished: &Path, contents: &[u8]) -> io::Result<()> {
    // What a process may have left that was killed.
    remove(unfinished)?;
    // Made here and now: nothing that lies there is opened, nor what it leads to.
    let replaced = system::create_new(unfinished)
        .and_then(|mut file| file.write_all(contents))
        .and_then(|()| std::fs::rename(unfinished, path));
    if replaced.is_err() {
        let _ = remove(unfinished);
    }
    replaced
}

/// Removes a file, or a link and not what it leads to; one that is not there is as good.
///
/// # Errors
///
/// The system's.
pub fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes a directory for this user alone, and what is above it; one that is there is left as it is, and
/// to be looked at: see [`directory_fault`].
///
/// # Errors
///
/// The system's.
pub fn make_directory(dir: &Path) -> io::Result<()> {
    system::make_directory(dir)
}

/// What is wrong with an open file that must be a regular one of this user; its permissions are not
/// looked at.
///
/// # Errors
///
/// The system does not tell.
pub fn fault(file: &File) -> io::Result<Option<String>> {
    if !file.metadata()?.is_file() {
        return Ok(Some("is not a regular file".to_owned()));
    }
    Ok(system::Rights::of(file)?.owner_fault())
}

/// What is wrong with an open file that must besides be closed to others, for what it holds.
///
/// # Errors
///
/// The system does not tell.
pub fn secret_fault(file: &File) -> io::Result<Option<String>> {
    if !file.metadata()?.is_file() {
        return Ok(Some("is not a regular file".to_owned()));
    }
    let rights = system::Rights::of(file)?;
    Ok(rights.owner_fault().or_else(|| rights.secret_fault()))
}

/// What is wrong with a directory that must be this user's, closed to others (on Windows, where each file
/// is closed by itself, to their writing), and no link.
///
/// # Errors
///
/// The system does not tell, or there is none ([`io::ErrorKind::NotFound`]).
pub fn directory_fault(dir: &Path) -> io::Result<Option<String>> {
    if !dir.symlink_metadata()?.is_dir() {
        return Ok(Some("is not a directory (a symbolic link is none)".to_owned()));
    }
    let rights = system::Rights::of_directory(dir)?;
    Ok(rights.owner_fault().or_else(|| rights.directory_fault()))
}
