//! The message of a panic, without folder names of the machine that built the program.

use std::any::Any;
use std::panic::PanicHookInfo;

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
