//! Messages of panics, without folder names of the build, and panics of libraries as errors.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

thread_local! {
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Calls a library that panics on some invalid files, and returns its panic as a message. What the call was about
/// to change must not be used after a panic.
///
/// # Errors
/// The panic's own message.
pub fn caught<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    let outer = IS_CAUGHT.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    IS_CAUGHT.set(outer);
    result.map_err(|payload| said(payload.as_ref()).to_owned())
}

/// Whether a panic on this thread becomes an error of [`caught`]: then it does not end the process.
pub fn is_caught() -> bool {
    IS_CAUGHT.get()
}

/// Returns the message of a panic and its source line, such as `candle-core-0.11.1/src/tensor.rs:12`.
pub fn message(panic: &PanicHookInfo) -> String {
    let place = panic.location();
    let place = place.map_or("an unknown place".to_owned(), |place| {
        format!("{}:{}", within_crate(place.file()), place.line())
    });
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("unnamed");
    format!(
        "worker: thread {name} panicked at {place}: {}",
        said(panic.payload())
    )
}

fn said(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

/// The path of a source file, starting at the folder of its crate. Paths of this workspace already do.
fn within_crate(path: &str) -> &str {
    if !path.starts_with('/') {
        return path;
    }
    let Some(source) = path.rfind("/src/") else {
        return path.rsplit('/').next().unwrap_or(path);
    };
    let start = path[..source].rfind('/').map_or(0, |slash| slash + 1);
    &path[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caught_panic_is_an_error_with_its_message() {
        assert_eq!(caught(|| 3), Ok(3));
        let failed = caught(|| {
            assert!(is_caught());
            if is_caught() {
                panic!("no entry {}", 7);
            }
        });
        assert_eq!(failed, Err("no entry 7".into()));
        assert!(!is_caught());
    }

    #[test]
    fn a_source_path_starts_at_the_folder_of_its_crate() {
        let cases = [
            ("worker/src/job.rs", "worker/src/job.rs"),
            (
                "/build/registry/src/index-0123/candle-core-0.11.1/src/cpu/mod.rs",
                "candle-core-0.11.1/src/cpu/mod.rs",
            ),
            (
                "/rustc/0123abcd/library/core/src/panicking.rs",
                "core/src/panicking.rs",
            ),
            ("/build/out/generated.rs", "generated.rs"),
        ];
        for (path, wanted) in cases {
            assert_eq!(within_crate(path), wanted);
        }
    }
}
