//! Colours in the output: when, and which.

use std::io::IsTerminal;

use anstyle::{AnsiColor, Color, Style};

/// The value of `--color`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ColourChoice {
    // Without doc comments, so that the help of every command stays short.
    #[default]
    Auto,
    Always,
    Never,
}

impl ColourChoice {
    /// The word of the choice, as `--color` takes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        }
    }

    /// Makes the progress bars follow this choice. For `auto` they look at the environment themselves.
    pub fn apply_to_bars(self) {
        match self {
            Self::Auto => {}
            Self::Always => console::set_colors_enabled_stderr(true),
            Self::Never => console::set_colors_enabled_stderr(false),
        }
    }

    /// Whether output on stdout has colours.
    pub fn on_stdout(self) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => std::io::stdout().is_terminal() && allows_colour(variable),
        }
    }
}

fn variable(name: &str) -> String {
    let value = std::env::var_os(name).unwrap_or_default();
    value.to_string_lossy().into_owned()
}

/// Whether the environment allows colours; an empty $NO_COLOR counts as unset (no-color.org).
fn allows_colour(variable: impl Fn(&str) -> String) -> bool {
    variable("NO_COLOR").is_empty() && variable("TERM") != "dumb"
}

/// The meaning of a text, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// No colour.
    Plain,
    /// As wanted.
    Good,
    /// Changes at the moment, or needs attention soon.
    Warning,
    /// Broken.
    Bad,
    /// Less important than the rest.
    Faint,
    /// A heading.
    Heading,
}

impl Tone {
    fn style(self) -> Style {
        let coloured = |colour| Style::new().fg_color(Some(Color::Ansi(colour)));
        match self {
            Self::Plain => Style::new(),
            Self::Good => coloured(AnsiColor::Green),
            Self::Warning => coloured(AnsiColor::Yellow),
            Self::Bad => coloured(AnsiColor::Red),
            Self::Faint => Style::new().dimmed(),
            Self::Heading => Style::new().bold(),
        }
    }

    /// Wraps a text without control characters in the codes of this tone.
    pub fn paint(self, text: &str) -> String {
        let style = self.style();
        format!("{}{text}{}", style.render(), style.render_reset())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_can_forbid_colours() {
        let with = |no_color: &str, term: &str| {
            let value = |name: &str| match name {
                "NO_COLOR" => no_color.to_owned(),
                _ => term.to_owned(),
            };
            allows_colour(value)
        };
        assert!(with("", "xterm"));
        assert!(!with("1", "xterm"));
        assert!(!with("", "dumb"));
    }

    #[test]
    fn a_plain_text_has_no_codes() {
        assert_eq!(Tone::Plain.paint("a"), "a");
        assert_eq!(Tone::Good.paint("a"), "\u{1b}[32ma\u{1b}[0m");
    }
}
