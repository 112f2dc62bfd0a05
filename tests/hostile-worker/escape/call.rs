//! System calls by number: what a compromised process would use, whatever its libraries offer.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc::{self, c_long};

/// Calls the kernel. Pointers in the arguments are to memory that lives until it returns.
#[expect(
    unsafe_code,
    reason = "an attacker is not limited to safe code, and this is only in tests"
)]
pub fn call<const N: usize>(number: c_long, arguments: [usize; N]) -> Result<usize, Errno> {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&arguments);
    let [a, b, c, d, e, f] = all;
    // SAFETY: the callers pass pointers to live memory of the size that the call expects.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    Errno::result(result).map(|value| value as usize)
}

/// The same, where the value does not matter.
pub fn attempt<const N: usize>(number: c_long, arguments: [usize; N]) -> Result<(), Errno> {
    call(number, arguments).map(drop)
}

/// A negative number, as the kernel reads it.
pub fn signed(value: i32) -> usize {
    value as isize as usize
}

pub fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no zero bytes")
}

/// The address of a value, for the kernel.
pub fn at<T: ?Sized>(value: &T) -> usize {
    std::ptr::from_ref(value).cast::<u8>() as usize
}

/// The kernel's error in one of the standard library.
pub fn errno(error: &io::Error) -> Errno {
    error
        .raw_os_error()
        .map_or(Errno::UnknownErrno, Errno::from_raw)
}

pub fn done<T>(result: io::Result<T>) -> Result<(), Errno> {
    result.map(drop).map_err(|error| errno(&error))
}
