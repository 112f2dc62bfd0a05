//! A line of the shell, split into words.

/// The meaning of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShellLine {
    /// Nothing, or only a comment.
    Empty,
    /// A command, with its arguments.
    Words(Vec<String>),
    /// `quit` or `exit`, with the exit code if one is given.
    Leave(Option<u8>),
    /// `help quit` or `help exit`, which no command has.
    HelpToLeave,
    /// `quit` or `exit` with a word that is not an exit code.
    NoCode(String),
    /// A quote is not closed.
    Unclosed,
}

/// Splits a line as a shell of the system does: with quotes, backslashes, and comments after `#`. A first word
/// `imagepool` is left out, so that the examples of the help work here too.
pub fn read(line: &str) -> ShellLine {
    let Some(mut words) = shlex::split(line) else {
        return ShellLine::Unclosed;
    };
    if words.first().is_some_and(|word| word == "imagepool") {
        words.remove(0);
    }
    let texts: Vec<&str> = words.iter().map(String::as_str).collect();
    match texts.as_slice() {
        [] => ShellLine::Empty,
        ["quit" | "exit"] => ShellLine::Leave(None),
        [word @ ("quit" | "exit"), code] => match code.parse() {
            Ok(code) => ShellLine::Leave(Some(code)),
            Err(_) => ShellLine::NoCode((*word).to_owned()),
        },
        ["help", "quit" | "exit"] => ShellLine::HelpToLeave,
        _ => ShellLine::Words(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_with_its_quotes_and_without_its_comment() {
        let words = |line| match read(line) {
            ShellLine::Words(words) => words,
            other => panic!("{other:?}"),
        };
        assert_eq!(words("status"), ["status"]);
        assert_eq!(
            words("generate 'a red fox' -o \"my fox.png\" # the best"),
            ["generate", "a red fox", "-o", "my fox.png"]
        );
        assert_eq!(words("imagepool stop all"), ["stop", "all"]);
        assert_eq!(words("exit 3 now"), ["exit", "3", "now"]);
    }

    #[test]
    fn some_lines_are_for_the_shell_itself() {
        for line in ["", "  \t", "# nothing", "imagepool"] {
            assert_eq!(read(line), ShellLine::Empty, "{line:?}");
        }
        assert_eq!(read(" quit "), ShellLine::Leave(None));
        assert_eq!(read("exit"), ShellLine::Leave(None));
        assert_eq!(read("exit 3"), ShellLine::Leave(Some(3)));
        for line in ["exit now", "exit -1", "exit 256"] {
            assert_eq!(read(line), ShellLine::NoCode("exit".into()), "{line}");
        }
        assert_eq!(read("help exit"), ShellLine::HelpToLeave);
        for line in ["generate 'a", "generate \"a", "generate a\\"] {
            assert_eq!(read(line), ShellLine::Unclosed, "{line:?}");
        }
    }
}
