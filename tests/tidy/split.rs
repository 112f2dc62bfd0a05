//! A Rust file split into code, comments and strings.

/// A file with its comments and strings taken out of the code.
#[derive(Debug, Default)]
pub struct Split {
    /// As many bytes and lines as the file: comments and strings are blanks.
    pub code: String,
    /// Line and text of every comment, with its slashes.
    pub comments: Vec<(usize, String)>,
    /// Line and content of every string literal.
    pub strings: Vec<(usize, String)>,
}

/// Splits a text; block comments may be nested, strings may be raw.
pub fn split(text: &str) -> Split {
    let mut found = Split::default();
    let mut rest = text;
    let mut line = 1;
    while !rest.is_empty() {
        let (length, part) = next(rest, found.code.chars().next_back());
        let (token, after) = rest.split_at(length);
        match part {
            Lexeme::Code => found.code.push_str(token),
            Lexeme::Comment => found.comments.push((line, token.to_owned())),
            Lexeme::String(quotes) => {
                let inside = &token[quotes.0..token.len() - quotes.1];
                found.strings.push((line, inside.to_owned()));
            }
            Lexeme::Char => {}
        }
        if !matches!(part, Lexeme::Code) {
            found.code.extend(token.bytes().map(blank));
        }
        line += token.matches('\n').count();
        rest = after;
    }
    found
}

/// The code without the items under `#[cfg(test)]`, each with its braces.
pub fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..at]);
        let item = &rest[at..];
        let end = match item.find(['{', ';']) {
            Some(begin) if item[begin..].starts_with('{') => begin + braced(&item[begin..]),
            Some(end) => end + 1,
            None => item.len(),
        };
        kept.extend(item[..end].bytes().map(blank));
        rest = &item[end..];
    }
    kept + rest
}

/// The length of a text in braces, which begins with the first one.
fn braced(text: &str) -> usize {
    let mut depth = 0;
    for (at, sign) in text.char_indices() {
        match sign {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

enum Lexeme {
    Code,
    Comment,
    /// With the lengths of what stands before and after the content.
    String((usize, usize)),
    Char,
}

fn blank(byte: u8) -> char {
    if byte == b'\n' { '\n' } else { ' ' }
}

/// The length and kind of the part that `rest` begins with; `before` is the last character of code.
fn next(rest: &str, before: Option<char>) -> (usize, Lexeme) {
    let name_goes_on = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if rest.starts_with("//") {
        (rest.find('\n').unwrap_or(rest.len()), Lexeme::Comment)
    } else if rest.starts_with("/*") {
        (block(rest), Lexeme::Comment)
    } else if let Some((head, hashes)) = (!name_goes_on).then(|| raw(rest)).flatten() {
        let close = format!("\"{}", "#".repeat(hashes));
        let end = rest[head..]
            .find(&close)
            .map_or(rest.len(), |at| head + at + close.len());
        (end, Lexeme::String((head, close.len())))
    } else if let Some(text) = rest.strip_prefix('"') {
        (1 + quoted(text), Lexeme::String((1, 1)))
    } else if rest.starts_with('\'') {
        match character(rest) {
            Some(length) => (length, Lexeme::Char),
            None => (1, Lexeme::Code),
        }
    } else {
        (rest.chars().next().map_or(0, char::len_utf8), Lexeme::Code)
    }
}

fn block(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// The length of `r#"` or `br"` at the beginning, and how many `#` it has.
fn raw(rest: &str) -> Option<(usize, usize)> {
    let after = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..]
        .starts_with('"')
        .then(|| (rest.len() - after.len() + hashes + 1, hashes))
}

/// The length of a string's rest, with the quote that ends it.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, sign) in rest.char_indices() {
        match sign {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Returns the length of a character literal; a lifetime has none.
fn character(rest: &str) -> Option<usize> {
    let inside = &rest[1..];
    if let Some(escape) = inside.strip_prefix('\\') {
        let first = escape.chars().next()?.len_utf8();
        return escape[first..].find('\'').map(|at| 2 + first + at + 1);
    }
    let length = inside.chars().next()?.len_utf8();
    inside[length..].starts_with('\'').then_some(length + 2)
}

#[test]
fn strings_and_comments_are_not_code() {
    let text = r##"let a = "x // {"; /* b /* c */ */ let d = r#"e " f"#; // g
let h: &'static str = '"'.into(); let i = "\"";"##;
    let found = split(text);
    assert_eq!(found.code.len(), text.len());
    assert!(!found.code.contains(['{', '"', '/', '#']), "{}", found.code);
    let strings: Vec<&str> = found
        .strings
        .iter()
        .map(|(_, text)| text.as_str())
        .collect();
    assert_eq!(strings, ["x // {", "e \" f", "\\\""]);
    assert_eq!(found.comments.len(), 2);
}

#[test]
fn items_for_tests_are_left_out() {
    let code =
        "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { } }\n#[cfg(test)]\nmod c;\nfn d() {}\n";
    let kept = without_tests(code);
    assert_eq!(
        kept.split_whitespace().collect::<Vec<_>>().join(" "),
        "fn a() {} fn d() {}"
    );
}
