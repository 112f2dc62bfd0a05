//! Text written by another program, made safe to print: control characters escaped, length bounded.

use std::fmt::{self, Write};

/// Longest text printed for one value, in bytes after escaping.
pub const SHOWN_BYTES_MAX: usize = 4 * 1024;

/// Text from a worker, a file, a client or the hub. It can only be read through `Display`, which escapes
/// every character that a terminal would execute, and cuts the text after [`SHOWN_BYTES_MAX`] bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Untrusted<T>(T);

impl<T: AsRef<str>> Untrusted<T> {
    /// Wraps a text.
    pub fn new(text: T) -> Self {
        Self(text)
    }
}

impl Untrusted<String> {
    /// Wraps the `Display` text of a value, such as an error that contains a file name.
    pub fn of(value: impl fmt::Display) -> Self {
        Self(value.to_string())
    }
}

impl<T: AsRef<str>> fmt::Display for Untrusted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = Bounded {
            to: f,
            left: SHOWN_BYTES_MAX,
            cut: false,
        };
        match Escaping(&mut shown).write_str(self.0.as_ref()) {
            Err(_) if shown.cut => shown.to.write_char('…'),
            result => result,
        }
    }
}

impl<T: AsRef<str>> fmt::Debug for Untrusted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A writer that escapes everything written through it, without a length limit: the last step before a
/// terminal or a log.
///
/// The escapes are those of JSON strings, so a line of JSON keeps its value. Escaping a text twice gives the
/// same text as escaping it once.
#[derive(Debug)]
pub struct Escaping<W>(pub W);

impl<W: Write> Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_obeyed) {
            let (plain, from) = rest.split_at(at);
            let mut chars = from.chars();
            let obeyed = chars.next().expect("the search found one");
            if !plain.is_empty() {
                self.0.write_str(plain)?;
            }
            self.0.write_str(&escape(obeyed))?;
            rest = chars.as_str();
        }
        match rest {
            "" => Ok(()),
            plain => self.0.write_str(plain),
        }
    }
}

/// Escapes a whole line for printing, without a length limit; see [`Escaping`].
pub fn escaped(line: impl fmt::Display) -> String {
    let mut text = String::new();
    write!(Escaping(&mut text), "{line}").expect("a string takes everything");
    text
}

/// Tells whether terminals, editors or line readers act on this character instead of showing it: control
/// characters (C0, DEL, C1), line and paragraph separators, and characters that change the text direction.
pub fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{2028}' | '\u{2029}' // line and paragraph separators
            | '\u{61c}' | '\u{200e}' | '\u{200f}' // direction marks
            | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' // embeddings, overrides, isolates
        )
}

fn escape(c: char) -> String {
    match c {
        '\n' => "\\n".to_owned(),
        '\r' => "\\r".to_owned(),
        '\t' => "\\t".to_owned(),
        other => format!("\\u{:04x}", u32::from(other)),
    }
}

/// A writer that accepts whole characters until its byte limit is reached.
struct Bounded<W> {
    to: W,
    left: usize,
    cut: bool,
}

impl<W: Write> Write for Bounded<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.len() <= self.left {
            self.left -= text.len();
            return self.to.write_str(text);
        }
        self.cut = true;
        // An escape sequence is written whole, and left out if it does not fit.
        if !text.starts_with('\\') {
            self.to
                .write_str(&text[..text.floor_char_boundary(self.left)])?;
        }
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One character of each kind that is escaped.
    const OBEYED: &str = "\u{1b}[2J\r\n\t\0\u{7f}\u{9b}31m\u{202e}\u{2066}\u{200f}\u{2028}\u{2029}";

    #[test]
    fn control_and_direction_characters_are_escaped() {
        let shown = Untrusted::new(OBEYED).to_string();
        assert!(!shown.contains(is_obeyed), "{shown}");
        let expected =
            "\\u001b[2J\\r\\n\\t\\u0000\\u007f\\u009b31m\\u202e\\u2066\\u200f\\u2028\\u2029";
        assert_eq!(shown, expected);
        assert!(!format!("{:?}", Untrusted::new(OBEYED)).contains(is_obeyed));
    }

    #[test]
    fn plain_text_of_any_script_is_printed_unchanged() {
        for text in ["", "a fox", "größer 🦊 日本語 שלום", "C:\\new\\u0041", "👩‍🚀"]
        {
            assert_eq!(Untrusted::new(text).to_string(), text);
        }
    }

    #[test]
    fn escaping_twice_equals_escaping_once() {
        let once = Untrusted::new(OBEYED).to_string();
        assert_eq!(Untrusted::new(&once).to_string(), once);
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_ends_with_an_ellipsis() {
        for text in ["ü".repeat(SHOWN_BYTES_MAX), "\u{1b}".repeat(100_000)] {
            let shown = Untrusted::new(text).to_string();
            let kept = shown.strip_suffix('…').expect("it was cut");
            assert!(kept.len() <= SHOWN_BYTES_MAX, "{} bytes", kept.len());
            assert!(kept.len() > SHOWN_BYTES_MAX - 6, "{} bytes", kept.len());
        }
        let fits = "x".repeat(SHOWN_BYTES_MAX);
        assert_eq!(Untrusted::new(&fits).to_string(), fits);
    }
}
