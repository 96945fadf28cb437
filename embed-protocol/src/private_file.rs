//! What lies in the user's directory is the user's alone: the one place that says what that means.
//!
//! Each file is looked at by itself once it is open: it must be of the right kind and of this user, and
//! no symbolic link is followed to it. So it does not matter who may write to the directories above:
//! whoever puts another one in the place of ours has only put there what is refused.
//! On Windows the user's profile keeps others out by its own permissions.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Opens `path`, but not what a symbolic link in its place leads to, and without waiting, should it be
/// a pipe; a file that `options` lets it make is for this user alone.
///
/// # Errors
///
/// The system's.
pub fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        options.mode(FILE_MODE).custom_flags(flags.bits().cast_signed());
    }
    options.open(path)
}

/// Puts a file with `contents` in the place of what is called `path`, at once and whole; until then it
/// is called `unfinished`, which nobody else may write to.
///
/// # Errors
///
/// The system's; nothing is left of the unfinished file then.
pub fn replace(path: &Path, unfinished: &Path, contents: &[u8]) -> io::Result<()> {
    // What a process may have left that was killed.
    remove(unfinished)?;
    // Made here and now: nothing that lies there is opened, nor what it leads to.
    let replaced = open(OpenOptions::new().write(true).create_new(true), unfinished)
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

/// Only the user may read and write it.
#[cfg(unix)]
const FILE_MODE: u32 = 0o600;

/// Permissions of anybody but the user.
#[cfg(unix)]
const OTHERS: u32 = 0o077;

/// What is wrong with an open file that must be a regular one of this user; its permissions are not
/// looked at.
///
/// # Errors
///
/// The system does not tell.
pub fn fault(file: &File) -> io::Result<Option<String>> {
    Ok(file_fault(&file.metadata()?))
}

/// What is wrong with an open file that must besides be closed to others, for what it holds.
///
/// # Errors
///
/// The system does not tell.
pub fn secret_fault(file: &File) -> io::Result<Option<String>> {
    let metadata = file.metadata()?;
    Ok(file_fault(&metadata).or_else(|| mode_fault(&metadata, "600")))
}

/// What is wrong with a directory that must be this user's, closed to others, and no link.
///
/// # Errors
///
/// The system does not tell, or there is none ([`io::ErrorKind::NotFound`]). On Windows nothing is
/// asked.
pub fn directory_fault(dir: &Path) -> io::Result<Option<String>> {
    if cfg!(windows) {
        return Ok(None);
    }
    let metadata = dir.symlink_metadata()?;
    let fault =
        (!metadata.is_dir()).then(|| "is not a directory (a symbolic link is none)".to_owned());
    Ok(fault.or_else(|| owner_fault(&metadata)).or_else(|| mode_fault(&metadata, "700")))
}

fn file_fault(metadata: &Metadata) -> Option<String> {
    let fault = (!metadata.is_file()).then(|| "is not a regular file".to_owned());
    fault.or_else(|| owner_fault(metadata))
}

#[cfg(unix)]
fn owner_fault(metadata: &Metadata) -> Option<String> {
    use std::os::unix::fs::MetadataExt;

    let (found, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    (found != user).then(|| format!("belongs to user {found}, not to {user}"))
}

#[cfg(unix)]
fn mode_fault(metadata: &Metadata, wanted: &str) -> Option<String> {
    use std::os::unix::fs::MetadataExt;

    let mode = metadata.mode();
    (mode & OTHERS != 0).then(|| format!("has mode {:o}, not {wanted}", mode & 0o777))
}

#[cfg(not(unix))]
fn owner_fault(_metadata: &Metadata) -> Option<String> {
    None
}

#[cfg(not(unix))]
fn mode_fault(_metadata: &Metadata, _wanted: &str) -> Option<String> {
    None
}
