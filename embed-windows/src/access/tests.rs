//! Access lists by their text, and those of real files and folders.

use std::io::Write;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::AsHandle;
use std::path::PathBuf;

use windows_sys::Win32::Storage::FileSystem::{FILE_FLAG_BACKUP_SEMANTICS, READ_CONTROL};

use super::*;

/// A folder that goes with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("embed-windows-{}-{name}", std::process::id()));
        std::fs::create_dir(&folder).expect("nobody has it");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn user() -> User {
    User::current().expect("has one")
}

/// What is found in the descriptor `text`, in which `USER` stands for the user.
fn faults(text: &str) -> (Option<String>, Option<String>, Option<String>) {
    let user = user();
    let text = text.replace("USER", user.sid());
    let access = Access::of_descriptor(&Descriptor::parse(&text).expect(&text)).expect(&text);
    (
        access.owner_fault(&user),
        access.others_fault(&user, Barred::Writing),
        access.others_fault(&user, Barred::Everything),
    )
}

/// Of the file or folder at `path`.
fn access(path: &Path) -> Access {
    let mut options = File::options();
    options.access_mode(READ_CONTROL).custom_flags(FILE_FLAG_BACKUP_SEMANTICS);
    Access::of(options.open(path).expect("ours").as_handle()).expect("is told")
}

#[test]
fn what_is_the_users_alone_has_no_fault() {
    for text in [
        &private(&user()),
        "O:USERD:(A;;FA;;;USER)",
        // As every folder of a profile is.
        "O:USERD:AI(A;OICIID;FA;;;SY)(A;OICIID;FA;;;BA)(A;OICIID;FA;;;USER)",
        // Made by an elevated process.
        "O:BAD:(A;;FA;;;USER)",
        "O:SYD:(A;;FA;;;USER)",
        // For whoever makes a file in it, or owns it: that is asked of file and owner.
        "O:USERD:(A;;FA;;;USER)(A;OICIIO;FA;;;CO)(A;;FA;;;OW)",
        // Nobody is admitted by a refusal, or by an empty list.
        "O:USERD:(D;;FA;;;WD)(A;;FA;;;USER)",
        "O:USERD:P",
    ] {
        assert_eq!(faults(text), (None, None, None), "{text}");
    }
}

#[test]
fn another_owner_is_named() {
    for owner in ["S-1-5-21-1-2-3-1001", "BU", "WD"] {
        let (fault, _, _) = faults(&format!("O:{owner}D:(A;;FA;;;USER)"));
        let fault = fault.expect(owner);
        assert!(fault.starts_with("belongs to ") && fault.contains(user().sid()), "{fault}");
    }
}

#[test]
fn whoever_else_may_write_is_named() {
    for (entry, who) in [
        ("(A;;FA;;;WD)", "everyone (S-1-1-0)"),
        ("(A;OICI;0x1301bf;;;AU)", "all users who have logged on (S-1-5-11)"),
        // Handed down to what is made in it, as in the root of a drive.
        ("(A;OICIIO;GA;;;BU)", "all users of this machine (S-1-5-32-545)"),
        ("(A;;GW;;;S-1-5-21-1-2-3-1001)", "S-1-5-21-1-2-3-1001"),
        ("(A;;DC;;;WD)", "everyone"),
        ("(A;;LC;;;WD)", "everyone"),
        ("(A;;SD;;;WD)", "everyone"),
        ("(A;;WD;;;WD)", "everyone"),
        ("(A;;WO;;;WD)", "everyone"),
        ("(A;;DT;;;WD)", "everyone"),
        // The group of whoever makes a file in it.
        ("(A;OICIIO;FA;;;CG)", "S-1-3-1"),
        // A kind that no file system has.
        ("(OA;;CCDC;bf967aba-0de6-11d0-a285-00aa003049e2;;WD)", "kind 5"),
    ] {
        // Wine 8 cannot read it.
        if crate::is_wine() && entry.starts_with("(OA") {
            continue;
        }
        let (owner, writers, all) = faults(&format!("O:USERD:(A;;FA;;;USER){entry}"));
        assert_eq!(owner, None);
        assert_eq!(writers, all, "{entry}");
        let fault = writers.expect(entry);
        assert!(fault.starts_with("may be written to by ") && fault.contains(who), "{fault}");
    }
    // Wine 8 takes it for an empty list.
    if !crate::is_wine() {
        let (_, writers, all) = faults("O:USERD:NO_ACCESS_CONTROL");
        assert_eq!(writers, all);
        assert!(writers.expect("none").contains("no access list"));
    }
}

#[test]
fn whoever_else_may_only_read_is_named_where_that_matters() {
    for rights in ["FR", "GR", "FX", "0x1200a9"] {
        let (owner, writers, all) = faults(&format!("O:USERD:(A;;FA;;;USER)(A;;{rights};;;WD)"));
        assert_eq!((owner, writers), (None, None), "{rights}");
        assert_eq!(all.as_deref(), Some("may be read by everyone (S-1-1-0)"), "{rights}");
    }
    // Who may see when it was written sees nothing of what is in it.
    assert_eq!(faults("O:USERD:(A;;FA;;;USER)(A;;0x120080;;;WD)"), (None, None, None));
}

#[test]
fn what_is_made_for_the_user_alone_is_so_and_so_is_what_is_made_in_it() {
    let (user, folder) = (user(), Folder::new("private"));
    let private = folder.0.join("run");
    make_directory(&private).expect("room");
    let error = make_directory(&private).expect_err("is there");
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    let made = folder.0.join("key");
    create_new(&made).expect("room").write_all(b"secret").expect("is open for writing");
    let error = create_new(&made).expect_err("is there");
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    std::fs::write(private.join("lock"), "").expect("room");
    for path in [private.clone(), made.clone(), private.join("lock")] {
        let access = access(&path);
        assert_eq!(access.owner_fault(&user), None, "{access:?}");
        assert_eq!(access.others_fault(&user, Barred::Writing), None, "{access:?}");
        // Wine 8 hands nothing down: a file has the rights that Linux gives to a new one.
        if !crate::is_wine() || path != private.join("lock") {
            assert_eq!(access.others_fault(&user, Barred::Everything), None, "{access:?}");
        }
    }
    assert_eq!(std::fs::read(&made).expect("ours"), b"secret");
}

#[test]
fn a_folder_that_everyone_may_write_to_is_found_to_be_so() {
    let (user, folder) = (user(), Folder::new("open"));
    let open = folder.0.join("open");
    let sid = user.sid();
    let text = format!("O:{sid}D:P(A;OICI;FA;;;{sid})(A;OICI;FA;;;WD)");
    let descriptor = Descriptor::parse(&text).expect("is one");
    let (path, attributes) = (any_length(&open).expect("is there"), descriptor.attributes());
    // SAFETY: the path ends with a NUL; the attributes' descriptor lives through the call.
    assert_ne!(unsafe { CreateDirectoryW(path.as_ptr(), &attributes) }, 0);
    let access = access(&open);
    assert_eq!(access.owner_fault(&user), None, "{access:?}");
    // Wine 8 makes it with what Linux takes from every new folder: that others may write.
    let barred = if crate::is_wine() { Barred::Everything } else { Barred::Writing };
    let fault = access.others_fault(&user, barred).expect("everyone may");
    assert!(fault.contains("everyone"), "{fault}");
}

#[test]
fn a_path_of_more_than_260_characters_is_made_and_asked() {
    let folder = Folder::new("long");
    let mut path = folder.0.clone();
    for part in ["Grüße", "世界", "Пользователь", "🦀"] {
        path.push(part.repeat(66 / part.encode_utf16().count()));
        make_directory(&path).expect("room");
    }
    assert!(path.as_os_str().encode_wide().count() > 260, "{}", path.display());
    let file = path.join("key");
    create_new(&file).expect("room").write_all(b"x").expect("is open for writing");
    assert_eq!(access(&file).owner_fault(&user()), None);
}

#[test]
fn a_path_of_any_form_is_taken_from_the_root() {
    let long = |path: &str| {
        let wide = any_length(Path::new(path)).expect("a path");
        String::from_utf16(&wide).expect("text")
    };
    assert_eq!(long(r"C:\a\b"), "\\\\?\\C:\\a\\b\0");
    assert_eq!(long(r"C:/a/./c/../b"), "\\\\?\\C:\\a\\b\0");
    assert_eq!(long(r"\\server\share\a"), "\\\\?\\UNC\\server\\share\\a\0");
    assert_eq!(long(r"\\?\C:\a"), "\\\\?\\C:\\a\0");
    assert!(long("a").ends_with("\\a\0") && long("a").starts_with(r"\\?\"), "{}", long("a"));
}
