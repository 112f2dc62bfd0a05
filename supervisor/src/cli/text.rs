//! Lines of text with tones, and how they fit a terminal.

use std::fmt::Display;

use console::{Term, measure_text_width, truncate_str};
use ipc_protocol::untrusted::escaped;

use super::colour::{ColourChoice, Tone};

/// Ends a text that was cut.
const CUT: &str = "…";

/// The properties of stdout that decide how lines are written.
#[derive(Debug, Clone, Copy)]
pub struct OutputFormat {
    /// Whether lines have colours.
    pub is_coloured: bool,
    /// Columns of the terminal; `None` if stdout is not a terminal, where lines have any length.
    pub columns: Option<usize>,
}

impl OutputFormat {
    /// The format for stdout.
    pub fn of_stdout(choice: ColourChoice) -> Self {
        let columns = Term::stdout().size_checked();
        Self {
            is_coloured: choice.on_stdout(),
            columns: columns.map(|(_, columns)| usize::from(columns).max(1)),
        }
    }
}

/// A line of texts, each with a tone. Control characters are escaped when a text is added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TonedLine(Vec<(Tone, String)>);

impl TonedLine {
    /// A line of one text.
    pub fn of(tone: Tone, text: impl Display) -> Self {
        Self::default().and(tone, text)
    }

    /// Adds a text.
    pub fn and(mut self, tone: Tone, text: impl Display) -> Self {
        self.push(tone, text);
        self
    }

    /// Adds a text.
    pub fn push(&mut self, tone: Tone, text: impl Display) {
        self.0.push((tone, escaped(text)));
    }

    /// Adds blanks up to a width.
    pub fn pad(mut self, width: usize) -> Self {
        let blanks = width.saturating_sub(self.width());
        if blanks > 0 {
            self.push(Tone::Plain, " ".repeat(blanks));
        }
        self
    }

    /// Adds all texts of another line.
    pub fn join(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Columns of the line.
    pub fn width(&self) -> usize {
        self.0
            .iter()
            .map(|(_, text)| measure_text_width(text))
            .sum()
    }

    /// The line cut to a number of columns; a cut line ends with `…`.
    pub fn cut(self, columns: usize) -> Self {
        if self.width() <= columns {
            return self;
        }
        let mut left = columns;
        let mut kept = Vec::new();
        for (tone, text) in self.0 {
            let width = measure_text_width(&text);
            if width < left {
                left -= width;
                kept.push((tone, text));
                continue;
            }
            // Longer than `left`, or a later text follows: it ends here.
            let text = truncate_str(&format!("{text}  "), left, CUT).into_owned();
            kept.push((tone, text));
            break;
        }
        Self(kept)
    }

    /// The line as it is printed, without blanks at its end.
    pub fn print(&self, is_coloured: bool) -> String {
        let last = self
            .0
            .iter()
            .rposition(|(_, text)| !text.trim_end().is_empty());
        let shown = &self.0[..last.map_or(0, |last| last + 1)];
        let mut line = String::new();
        for (nth, (tone, text)) in shown.iter().enumerate() {
            let text = match Some(nth) == last {
                true => text.trim_end(),
                false => text,
            };
            match is_coloured {
                true => line.push_str(&tone.paint(text)),
                false => line.push_str(text),
            }
        }
        line
    }
}

/// Joins parts with `, ` to lines of at most `columns`, broken between parts. A part that is longer is broken
/// between its words.
pub fn wrapped(parts: &[String], columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let fits =
        |line: &str, more: &str| measure_text_width(line) + measure_text_width(more) <= columns;
    let count = parts.len();
    for (nth, part) in parts.iter().enumerate() {
        let part = match nth + 1 == count {
            true => part.clone(),
            false => format!("{part},"),
        };
        match lines.last_mut() {
            Some(line) if fits(line, &format!(" {part}")) => *line += &format!(" {part}"),
            Some(_) | None if fits("", &part) => lines.push(part),
            Some(_) | None => {
                for word in part.split(' ').flat_map(|word| broken(word, columns)) {
                    match lines.last_mut() {
                        Some(line) if fits(line, &format!(" {word}")) => {
                            *line += &format!(" {word}")
                        }
                        Some(_) | None => lines.push(word.to_owned()),
                    }
                }
            }
        }
    }
    lines
}

/// A word, in pieces if it is wider than `columns`.
fn broken(word: &str, columns: usize) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut left = columns;
    for c in word.chars() {
        let width = measure_text_width(c.encode_utf8(&mut [0; 4]));
        if width > left && left < columns {
            pieces.push(String::new());
            left = columns;
        }
        if let Some(piece) = pieces.last_mut() {
            piece.push(c);
        }
        left = left.saturating_sub(width);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_line_has_the_width_and_says_that_it_was_cut() {
        let line = || TonedLine::of(Tone::Good, "four").and(Tone::Plain, "five5");
        let cut = |columns| line().cut(columns).print(false);
        assert_eq!(cut(9), "fourfive5");
        assert_eq!(cut(8), "fourfiv…");
        assert_eq!(cut(4), "fou…");
        assert_eq!(cut(5), "four…");
        for columns in 1..12 {
            assert!(line().cut(columns).width() <= columns, "{columns}");
        }
        assert_eq!(
            TonedLine::of(Tone::Plain, "日本語").cut(5).print(false),
            "日本…"
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let line = TonedLine::of(Tone::Plain, "a\u{1b}[2Jb\n");
        assert!(!line.print(false).contains(char::is_control));
        let painted = TonedLine::of(Tone::Bad, "a")
            .and(Tone::Plain, "   ")
            .print(true);
        assert_eq!(painted, "\u{1b}[31ma\u{1b}[0m");
    }

    #[test]
    fn parts_are_broken_between_parts_or_words() {
        let parts = |texts: &[&str]| -> Vec<String> {
            texts.iter().map(|text| (*text).to_owned()).collect()
        };
        let all = parts(&["pid 4711", "uptime 0:03:12", "cpu"]);
        assert_eq!(wrapped(&all, 80), ["pid 4711, uptime 0:03:12, cpu"]);
        assert_eq!(wrapped(&all, 20), ["pid 4711,", "uptime 0:03:12, cpu"]);
        let long = parts(&["a very long sentence of words", "end"]);
        assert_eq!(
            wrapped(&long, 12),
            ["a very long", "sentence of", "words, end"]
        );
        assert_eq!(
            wrapped(&parts(&["a verylongword b"]), 5),
            ["a", "veryl", "ongwo", "rd b"]
        );
        assert!(wrapped(&[], 5).is_empty());
    }
}
