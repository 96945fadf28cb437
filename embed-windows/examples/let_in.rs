//! `let_in PATH` lets everyone read and write a file or folder, and what is made in it: what `chmod 777` is
//! elsewhere. For tests of how that is found out and refused.
#![cfg_attr(windows, expect(unsafe_code, reason = "Windows' own structures"))]

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args_os().nth(1) {
        Some(path) if let_in(path.as_ref()) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

#[cfg(windows)]
fn let_in(path: &std::path::Path) -> bool {
    use std::os::windows::ffi::OsStrExt;
    use windows_sys::Win32::Foundation::{ERROR_SUCCESS, LocalFree};
    use windows_sys::Win32::Security::Authorization::{
        ConvertStringSecurityDescriptorToSecurityDescriptorW, SDDL_REVISION_1, SE_FILE_OBJECT,
        SetNamedSecurityInfoW,
    };
    use windows_sys::Win32::Security::{
        DACL_SECURITY_INFORMATION, GetSecurityDescriptorDacl, PROTECTED_DACL_SECURITY_INFORMATION,
    };

    let Ok(path) = path.canonicalize() else { return false };
    let path: Vec<u16> = path.as_os_str().encode_wide().chain([0]).collect();
    let text: Vec<u16> = "D:P(A;OICI;FA;;;WD)\0".encode_utf16().collect();
    let mut descriptor = std::ptr::null_mut();
    // SAFETY: the text ends with a NUL, and the other pointer is to a local.
    let parsed = unsafe {
        ConvertStringSecurityDescriptorToSecurityDescriptorW(
            text.as_ptr(),
            SDDL_REVISION_1,
            &mut descriptor,
            std::ptr::null_mut(),
        )
    };
    if parsed == 0 {
        return false;
    }
    let (mut present, mut defaulted, mut list) = (0, 0, std::ptr::null_mut());
    // SAFETY: the descriptor is whole, and the other pointers are to locals.
    unsafe { GetSecurityDescriptorDacl(descriptor, &mut present, &mut list, &mut defaulted) };
    // SAFETY: the path ends with a NUL; the list lies in the descriptor, which still lives.
    let outcome = unsafe {
        SetNamedSecurityInfoW(
            path.as_ptr(),
            SE_FILE_OBJECT,
            DACL_SECURITY_INFORMATION | PROTECTED_DACL_SECURITY_INFORMATION,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            list,
            std::ptr::null_mut(),
        )
    };
    // SAFETY: Windows has allocated it for us, and nobody else frees it.
    unsafe { LocalFree(descriptor) };
    outcome == ERROR_SUCCESS
}

#[cfg(not(windows))]
fn let_in(_path: &std::path::Path) -> bool {
    false
}
