//! Stand-ins: text that a download left in the place of weights.

/// Describes a text file that a failed download left in place of the weights.
pub fn stand_in(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"version https://git-lfs") {
        return Some(
            "is a git-lfs pointer and not the file itself: run `git lfs pull` in its repository, or \
             download it again",
        );
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = bytes.trim_ascii_start();
    let begins = |start: &[u8]| {
        let first = text.get(..start.len());
        first.is_some_and(|first| first.eq_ignore_ascii_case(start))
    };
    let page = [&b"<!doctype"[..], b"<html", b"<head", b"<?xml", b"<error"];
    if page.into_iter().any(begins) {
        return Some(
            "is a web page and not the file itself: its download was answered with a page, as for a \
             repository that asks for a login or a licence; download it again",
        );
    }
    let answer = [
        &b"{\"error\""[..],
        b"Invalid username or password",
        b"Access to model",
        b"Entry not found",
    ];
    answer.into_iter().any(begins).then_some(
        "is a server's error message and not the file itself: its download was refused; download it again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lfs_pointers_web_pages_and_server_errors_are_recognised_and_weights_are_not() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
        let told = stand_in(pointer).expect("a pointer");
        assert!(told.contains("git-lfs pointer"), "{told}");
        let pages = [
            "<!DOCTYPE html>",
            "\u{feff}<HTML><head>",
            "\n  <?xml version=\"1.0\"?>",
        ];
        for page in pages {
            let told = stand_in(page.as_bytes()).expect("a page");
            assert!(told.contains("web page"), "{page}: {told}");
        }
        assert!(stand_in(b"{\"error\":\"gated\"}").is_some());
        assert!(stand_in(b"\x10\0\0\0\0\0\0\0{\"a\":1}").is_none());
        assert!(stand_in(b"GGUF\x03\0\0\0").is_none());
    }
}
