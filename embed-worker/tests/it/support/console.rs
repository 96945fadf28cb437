//! A console such as a terminal's: what is typed into it, and what becomes of its programs when it is
//! closed.
//!
//! Windows tells a program of either by a thread that it starts in it. Wine 8 gives a program another
//! output than the console that it is started in and tells it nothing; there, that thread is started here.
#![expect(unsafe_code, reason = "the standard library makes no console")]

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::process::Command;
use std::time::Duration;

use windows_sys::Win32::Foundation::{HANDLE, WAIT_OBJECT_0};
use windows_sys::Win32::System::Console::{
    COORD, CTRL_C_EVENT, CTRL_CLOSE_EVENT, ClosePseudoConsole, CreatePseudoConsole, HPCON,
    SetConsoleCtrlHandler,
};
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleA, GetProcAddress};
use windows_sys::Win32::System::Pipes::CreatePipe;
use windows_sys::Win32::System::Threading::{
    CREATE_UNICODE_ENVIRONMENT, CreateProcessW, CreateRemoteThread, DeleteProcThreadAttributeList,
    EXTENDED_STARTUPINFO_PRESENT, GetExitCodeProcess, InitializeProcThreadAttributeList,
    PROC_THREAD_ATTRIBUTE_PSEUDOCONSOLE, PROCESS_INFORMATION, STARTUPINFOEXW, TerminateProcess,
    UpdateProcThreadAttribute, WaitForSingleObject,
};

/// A console that nobody sees.
pub(crate) struct Console {
    handle: HPCON,
    keyboard: File,
    is_open: bool,
}

impl Console {
    pub(crate) fn new() -> Self {
        // Whoever runs the tests may have made them deaf to Ctrl-C, which children inherit.
        // SAFETY: no handler, which means this process's own state.
        unsafe { SetConsoleCtrlHandler(None, 0) };
        let (input, keyboard) = pipe();
        let (mut screen, output) = pipe();
        let mut handle: HPCON = 0;
        let size = COORD { X: 200, Y: 50 };
        // SAFETY: both handles are open, and the console takes copies of them; the place is a local.
        let outcome = unsafe {
            CreatePseudoConsole(size, input.as_raw_handle(), output.as_raw_handle(), 0, &mut handle)
        };
        assert!(outcome >= 0, "no console: {outcome:#x}");
        // Else a program that writes to it would wait.
        std::thread::spawn(move || screen.read_to_end(&mut Vec::new()));
        Self { handle, keyboard, is_open: true }
    }

    /// Types Ctrl-C, of which `program` is to hear.
    pub(crate) fn interrupt(&mut self, program: &InConsole) {
        if is_wine() {
            return program.is_told(CTRL_C_EVENT);
        }
        self.keyboard.write_all(b"\x03").expect("the console reads");
    }

    /// Closes it, as if its window were closed, of which `program` is to hear, and waits for its programs
    /// as the system does.
    pub(crate) fn close(&mut self, program: &InConsole) {
        if is_wine() {
            return program.is_told(CTRL_CLOSE_EVENT);
        }
        self.end();
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.is_open) {
            // SAFETY: it is open, and is not used any more.
            unsafe { ClosePseudoConsole(self.handle) };
        }
    }

    /// Starts a program in it.
    pub(crate) fn start(&self, command: &Command) -> InConsole {
        let mut attributes = Attributes::new(self.handle);
        let mut startup = STARTUPINFOEXW::default();
        startup.StartupInfo.cb = size_of::<STARTUPINFOEXW>() as u32;
        startup.lpAttributeList = attributes.as_mut_ptr();
        let (mut line, environment) = (command_line(command), environment(command));
        let mut started = PROCESS_INFORMATION::default();
        // SAFETY: both texts end as they must, the structures are whole, and what they point at lives
        // through the call.
        let is_started = unsafe {
            CreateProcessW(
                std::ptr::null(),
                line.as_mut_ptr(),
                std::ptr::null(),
                std::ptr::null(),
                0,
                EXTENDED_STARTUPINFO_PRESENT | CREATE_UNICODE_ENVIRONMENT,
                environment.as_ptr().cast(),
                std::ptr::null(),
                (&raw const startup).cast(),
                &mut started,
            )
        };
        assert_ne!(is_started, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: it was just opened, and nobody else closes it.
        drop(unsafe { OwnedHandle::from_raw_handle(started.hThread) });
        // SAFETY: as above.
        InConsole(unsafe { OwnedHandle::from_raw_handle(started.hProcess) })
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.end();
    }
}

/// A program in a [`Console`]. It is ended with the value.
pub(crate) struct InConsole(OwnedHandle);

impl InConsole {
    /// Starts the thread in it by which a console tells it something. Its code is the system's, which lies
    /// at one address in all programs.
    fn is_told(&self, event: u32) {
        // SAFETY: both names end as they must, and the library is never unloaded.
        let routine = unsafe {
            let library = GetModuleHandleA(c"kernelbase.dll".as_ptr().cast());
            GetProcAddress(library, c"CtrlRoutine".as_ptr().cast())
        };
        let routine = routine.expect("a console has it as well");
        // SAFETY: it is a thread's function, as which the system itself uses it: it takes the event.
        let routine = unsafe {
            std::mem::transmute::<
                unsafe extern "system" fn() -> isize,
                unsafe extern "system" fn(*mut std::ffi::c_void) -> u32,
            >(routine)
        };
        let event = std::ptr::without_provenance::<std::ffi::c_void>(event as usize);
        // SAFETY: the handle is open and may do everything; the event is a number and points nowhere.
        let thread = unsafe {
            CreateRemoteThread(
                self.0.as_raw_handle(),
                std::ptr::null(),
                0,
                Some(routine),
                event,
                0,
                std::ptr::null_mut(),
            )
        };
        assert!(!thread.is_null(), "{}", std::io::Error::last_os_error());
        // SAFETY: it was just opened, and nobody else closes it.
        drop(unsafe { OwnedHandle::from_raw_handle(thread) });
    }

    pub(crate) fn has_ended(&self) -> bool {
        // SAFETY: the handle is open; this does not wait.
        unsafe { WaitForSingleObject(self.0.as_raw_handle(), 0) == WAIT_OBJECT_0 }
    }

    /// Waits for its end; gives its exit code.
    pub(crate) fn end(&self, patience: Duration) -> u32 {
        let milliseconds = u32::try_from(patience.as_millis()).expect("seconds");
        // SAFETY: the handle is open.
        let waited = unsafe { WaitForSingleObject(self.0.as_raw_handle(), milliseconds) };
        assert_eq!(waited, WAIT_OBJECT_0, "it still runs after {patience:?}");
        let mut code = 0;
        // SAFETY: the handle is open, and the place is a local.
        assert_ne!(unsafe { GetExitCodeProcess(self.0.as_raw_handle(), &mut code) }, 0);
        code
    }
}

impl Drop for InConsole {
    fn drop(&mut self) {
        // SAFETY: the handle is open; one that has ended is not ended again.
        unsafe { TerminateProcess(self.0.as_raw_handle(), 1) };
    }
}

fn is_wine() -> bool {
    std::env::var_os("WINEPREFIX").is_some()
}

/// Both ends of a pipe: to read from, and to write to.
fn pipe() -> (File, File) {
    let (mut read, mut write): (HANDLE, HANDLE) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: both places are locals.
    let made = unsafe { CreatePipe(&mut read, &mut write, std::ptr::null(), 0) };
    assert_ne!(made, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: they were just opened, and nobody else closes them.
    [read, write].map(|end| File::from(unsafe { OwnedHandle::from_raw_handle(end) })).into()
}

/// What a program is told beyond what every program is: its console.
struct Attributes(Vec<u64>);

impl Attributes {
    fn new(console: HPCON) -> Self {
        let mut bytes = 0;
        // SAFETY: without a place for it only the size is told.
        unsafe { InitializeProcThreadAttributeList(std::ptr::null_mut(), 1, 0, &mut bytes) };
        // Of eights, so that it is aligned for whatever it holds.
        let mut list = Self(vec![0; bytes.div_ceil(size_of::<u64>())]);
        // SAFETY: it has the size that was told.
        let made =
            unsafe { InitializeProcThreadAttributeList(list.as_mut_ptr(), 1, 0, &mut bytes) };
        assert_ne!(made, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: the list was just made, and has room for one; of this one the value is the handle
        // itself.
        let set = unsafe {
            UpdateProcThreadAttribute(
                list.as_mut_ptr(),
                0,
                PROC_THREAD_ATTRIBUTE_PSEUDOCONSOLE as usize,
                console as *const _,
                size_of::<HPCON>(),
                std::ptr::null_mut(),
                std::ptr::null(),
            )
        };
        assert_ne!(set, 0, "{}", std::io::Error::last_os_error());
        list
    }

    fn as_mut_ptr(&mut self) -> *mut std::ffi::c_void {
        self.0.as_mut_ptr().cast()
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: it was made, and is not used any more.
        unsafe { DeleteProcThreadAttributeList(self.as_mut_ptr()) };
    }
}

/// Program and arguments; none of them has a quote or ends with a backslash.
fn command_line(command: &Command) -> Vec<u16> {
    let mut line = OsString::new();
    for word in [command.get_program()].into_iter().chain(command.get_args()) {
        let text = word.to_string_lossy();
        assert!(!text.contains('"') && !text.ends_with('\\'), "{text}");
        for part in [OsStr::new("\""), word, OsStr::new("\" ")] {
            line.push(part);
        }
    }
    line.encode_wide().chain([0]).collect()
}

/// This process's environment with the changes of `command`.
fn environment(command: &Command) -> Vec<u16> {
    let mut variables: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    for (name, value) in command.get_envs() {
        variables.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        variables.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }
    let mut block = Vec::new();
    for (name, value) in variables {
        block.extend(name.encode_wide());
        block.push(u16::from(b'='));
        block.extend(value.encode_wide());
        block.push(0);
    }
    block.push(0);
    block
}
