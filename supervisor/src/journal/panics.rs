//! Panics of redb on some damaged files: returned as text instead of printed.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    /// Panics of this thread are caught.
    static CATCHES: Cell<bool> = const { Cell::new(false) };
}

/// Runs something that may panic. Returns the message of the panic, which is not printed.
pub(super) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !CATCHES.get() {
                print(panic);
            }
        }));
    });
    let before = CATCHES.replace(true);
    let ran = panic::catch_unwind(AssertUnwindSafe(run));
    CATCHES.set(before);
    ran.map_err(|payload| message(payload.as_ref()))
}

fn message(payload: &(dyn Any + Send)) -> String {
    let words = payload.downcast_ref::<&str>().copied();
    let text = payload.downcast_ref::<String>().map(String::as_str);
    words.or(text).unwrap_or("a panic without words").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_returned_as_its_message() {
        assert_eq!(caught(|| 7), Ok(7));
        let page = 3;
        assert_eq!(
            caught(|| panic!("page {page} has no header")),
            Err::<(), _>("page 3 has no header".to_owned())
        );
        assert_eq!(
            caught(|| panic!("no page")),
            Err::<(), _>("no page".to_owned())
        );
    }
}
