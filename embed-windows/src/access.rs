//! What others may do with a file or folder: what modes 600 and 700 are elsewhere, asked and made.
//!
//! Nobody else may mean: nobody but the user, the system and its administrators, who may do everything
//! on a machine anyway, as root may.
#![expect(unsafe_code, reason = "access lists are read through Windows' own structures")]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::path::Path;

use windows_sys::Win32::Foundation::{
    ERROR_SUCCESS, GENERIC_ALL, GENERIC_EXECUTE, GENERIC_READ, GENERIC_WRITE, INVALID_HANDLE_VALUE,
};
use windows_sys::Win32::Security::Authorization::{GetSecurityInfo, SE_FILE_OBJECT};
use windows_sys::Win32::Security::{
    ACCESS_ALLOWED_ACE, ACE_HEADER, ACL, DACL_SECURITY_INFORMATION, GetAce,
    GetSecurityDescriptorDacl, GetSecurityDescriptorOwner, OWNER_SECURITY_INFORMATION,
};
use windows_sys::Win32::Storage::FileSystem::{
    CREATE_NEW, CreateDirectoryW, CreateFileW, DELETE, FILE_APPEND_DATA, FILE_ATTRIBUTE_NORMAL,
    FILE_DELETE_CHILD, FILE_EXECUTE, FILE_READ_DATA, FILE_READ_EA, FILE_SHARE_DELETE,
    FILE_SHARE_READ, FILE_SHARE_WRITE, FILE_WRITE_ATTRIBUTES, FILE_WRITE_DATA, FILE_WRITE_EA,
    WRITE_DAC, WRITE_OWNER,
};

use crate::descriptor::Descriptor;
use crate::sid;
use crate::user::User;

/// Rights that let somebody change a file, or what lies in a folder, or who may do so. Generic ones
/// stand in entries that are handed down.
const WRITING: u32 = FILE_WRITE_DATA
    | FILE_APPEND_DATA
    | FILE_WRITE_EA
    | FILE_WRITE_ATTRIBUTES
    | FILE_DELETE_CHILD
    | DELETE
    | WRITE_DAC
    | WRITE_OWNER
    | GENERIC_WRITE
    | GENERIC_ALL;

/// Rights that let somebody see what is in a file or folder.
const READING: u32 = FILE_READ_DATA | FILE_READ_EA | FILE_EXECUTE | GENERIC_READ | GENERIC_EXECUTE;

/// The system itself, and its administrators.
const POWERS: [&str; 2] = ["S-1-5-18", "S-1-5-32-544"];

/// Not anybody: whoever makes a file in the folder, and whoever owns it. The owner is looked at, and
/// of what others have made in the folder it is looked who.
const STAND_INS: [&str; 2] = ["S-1-3-0", "S-1-3-4"];

/// Those whom people know by a name.
const NAMES: [(&str, &str); 4] = [
    ("S-1-1-0", "everyone"),
    ("S-1-5-11", "all users who have logged on"),
    ("S-1-5-32-545", "all users of this machine"),
    ("S-1-5-7", "who has not logged on"),
];

/// Kinds of entries (winnt.h) that grant something to one identifier, which begins at the same place
/// in both.
const GRANTS: [u8; 2] = [0x0, 0x9];

/// Kinds of entries that refuse something.
const REFUSALS: [u8; 4] = [0x1, 0x6, 0xa, 0xc];

/// What others must not be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barred {
    /// To change it.
    Writing,
    /// To change it, or to see what is in it.
    Everything,
}

/// Whose a file or folder is, and who may do what with it.
#[derive(Debug)]
pub struct Access {
    /// The owner's security identifier.
    owner: String,
    /// Who is granted something; none where there is no list, so that everybody may do everything.
    grants: Option<Vec<Grant>>,
}

/// An entry of an access list. Those that are only handed down to what is made in a folder count as
/// well: the user's own files are made there.
#[derive(Debug)]
struct Grant {
    who: String,
    rights: u32,
}

impl Access {
    /// Of the file or folder that is open at `handle` with the right to ask (`READ_CONTROL`, which
    /// reading brings along).
    ///
    /// # Errors
    ///
    /// The system's, for example that the handle does not give the right.
    pub fn of(handle: BorrowedHandle<'_>) -> io::Result<Self> {
        let mut descriptor = std::ptr::null_mut();
        // SAFETY: the handle is open, the descriptor's place is a local, and nothing else is wanted.
        let outcome = unsafe {
            GetSecurityInfo(
                handle.as_raw_handle(),
                SE_FILE_OBJECT,
                OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                &mut descriptor,
            )
        };
        if outcome != ERROR_SUCCESS {
            return Err(io::Error::from_raw_os_error(outcome.cast_signed()));
        }
        Self::of_descriptor(&Descriptor::allocated(descriptor))
    }

    fn of_descriptor(descriptor: &Descriptor) -> io::Result<Self> {
        let (mut owner, mut defaulted) = (std::ptr::null_mut(), 0);
        // SAFETY: the descriptor is whole, and the other pointers are to locals.
        let told =
            unsafe { GetSecurityDescriptorOwner(descriptor.as_ptr(), &mut owner, &mut defaulted) };
        if told == 0 {
            return Err(io::Error::last_os_error());
        }
        if owner.is_null() {
            return Err(io::Error::other("has no owner"));
        }
        // SAFETY: it points into the descriptor, which still lives.
        let owner = unsafe { sid::text(owner) }?;
        let (mut present, mut list) = (0, std::ptr::null_mut());
        // SAFETY: as above.
        let told = unsafe {
            GetSecurityDescriptorDacl(descriptor.as_ptr(), &mut present, &mut list, &mut defaulted)
        };
        if told == 0 {
            return Err(io::Error::last_os_error());
        }
        if present == 0 || list.is_null() {
            return Ok(Self { owner, grants: None });
        }
        // SAFETY: it is a list within the descriptor, which still lives.
        let grants = unsafe { grants(list) }?;
        Ok(Self { owner, grants: Some(grants) })
    }

    /// What is wrong with the owner of what must be `user`'s.
    pub fn owner_fault(&self, user: &User) -> Option<String> {
        let owner = self.owner.as_str();
        let is_trusted = owner == user.sid() || POWERS.contains(&owner);
        (!is_trusted).then(|| format!("belongs to {}, not to {}", named(owner), user.sid()))
    }

    /// Which others may do what must be `barred` to everybody but `user`.
    pub fn others_fault(&self, user: &User, barred: Barred) -> Option<String> {
        let Some(grants) = &self.grants else {
            return Some("has no access list, so that everyone may write to it".to_owned());
        };
        let is_other = |grant: &&Grant| {
            let who = grant.who.as_str();
            who != user.sid() && !POWERS.contains(&who) && !STAND_INS.contains(&who)
        };
        let holds =
            |rights: u32| grants.iter().filter(is_other).find(|grant| grant.rights & rights != 0);
        if let Some(writer) = holds(WRITING) {
            return Some(format!("may be written to by {}", named(&writer.who)));
        }
        let reader = if barred == Barred::Everything { holds(READING) } else { None };
        reader.map(|reader| format!("may be read by {}", named(&reader.who)))
    }
}

/// An identifier, with the name that people know it by.
fn named(sid: &str) -> String {
    let name = NAMES.into_iter().find(|(known, _)| *known == sid);
    name.map_or_else(|| sid.to_owned(), |(_, name)| format!("{name} ({sid})"))
}

/// Who is granted what by a list.
///
/// # Safety
///
/// `list` points at a whole list that lives through the call.
unsafe fn grants(list: *const ACL) -> io::Result<Vec<Grant>> {
    // SAFETY: the caller vouches for it.
    let count = unsafe { list.read() }.AceCount;
    let mut grants = Vec::new();
    for index in 0..count.into() {
        let mut entry: *mut c_void = std::ptr::null_mut();
        // SAFETY: the caller vouches for the list; the other pointer is to a local.
        if unsafe { GetAce(list, index, &mut entry) } == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: every entry begins with a header.
        let kind = unsafe { entry.cast::<ACE_HEADER>().read() }.AceType;
        if REFUSALS.contains(&kind) {
            continue;
        }
        if !GRANTS.contains(&kind) {
            // Nothing that file systems have; whom it admits to what is not known here.
            grants.push(Grant { who: format!("an entry of kind {kind}"), rights: u32::MAX });
            continue;
        }
        let entry = entry.cast::<ACCESS_ALLOWED_ACE>();
        // SAFETY: its kind tells that it is one.
        let rights = unsafe { (*entry).Mask };
        // SAFETY: as above; the identifier begins here.
        let who = unsafe { &raw mut (*entry).SidStart };
        // SAFETY: it lies in the entry, whole.
        let who = unsafe { sid::text(who.cast()) }?;
        grants.push(Grant { who, rights });
    }
    Ok(grants)
}

/// The text of the descriptor of a file or folder that is `user`'s alone, and of what is made in it.
///
/// | part | says |
/// |---|---|
/// | `O:` | the user owns it, and not the group of administrators, as it would be for one of them |
/// | `D:P` | nothing is inherited |
/// | `(A;OICI;FA;;;…)` | the user may do everything, and so with what is made in it |
/// | `SY`, `BA` | as in every folder of a profile, the system and its administrators may: they could anyway, and what saves, searches and removes files needs no exception |
pub fn private(user: &User) -> String {
    let sid = user.sid();
    format!("O:{sid}D:P(A;OICI;FA;;;{sid})(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)")
}

/// Makes a folder for this user alone; what is above it must be there.
///
/// # Errors
///
/// The system's, among them that something has its name ([`io::ErrorKind::AlreadyExists`]).
pub fn make_directory(path: &Path) -> io::Result<()> {
    let descriptor = Descriptor::parse(&private(&User::current()?))?;
    let (path, attributes) = (any_length(path)?, descriptor.attributes());
    // SAFETY: the path ends with a NUL; the attributes' descriptor lives through the call.
    let made = unsafe { CreateDirectoryW(path.as_ptr(), &attributes) };
    if made == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes a file for this user alone and opens it for writing.
///
/// # Errors
///
/// The system's, among them that something has its name ([`io::ErrorKind::AlreadyExists`]).
pub fn create_new(path: &Path) -> io::Result<File> {
    let descriptor = Descriptor::parse(&private(&User::current()?))?;
    let (path, attributes) = (any_length(path)?, descriptor.attributes());
    // SAFETY: the path ends with a NUL; the attributes' descriptor lives through the call.
    let handle = unsafe {
        CreateFileW(
            path.as_ptr(),
            GENERIC_READ | GENERIC_WRITE,
            FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
            &attributes,
            CREATE_NEW,
            FILE_ATTRIBUTE_NORMAL,
            std::ptr::null_mut(),
        )
    };
    if handle == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just opened, and nobody else closes it.
    Ok(File::from(unsafe { OwnedHandle::from_raw_handle(handle) }))
}

/// A path as Windows' functions take it at any length: from the root, in the form `\\?\C:\…`.
fn any_length(path: &Path) -> io::Result<Vec<u16>> {
    const VERBATIM: &str = r"\\?\";

    let path: Vec<u16> = std::path::absolute(path)?.as_os_str().encode_wide().collect();
    let begins = |with: &str| path.iter().copied().take(with.len()).eq(with.encode_utf16());
    let (prefix, rest) = if begins(VERBATIM) || begins(r"\\.\") {
        ("", &path[..])
    } else if begins(r"\\") {
        (r"\\?\UNC\", &path[2..])
    } else {
        (VERBATIM, &path[..])
    };
    Ok(prefix.encode_utf16().chain(rest.iter().copied()).chain([0]).collect())
}

#[cfg(test)]
mod tests;
