//! The terminal while the live view is open: raw, on its alternate screen, without a cursor.

use std::io::{self, Stdin, Stdout, Write};
use std::os::fd::AsFd;

use console::Term;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd;

use crate::cli::text::TonedLine;

/// Opens the alternate screen, hides the cursor, and stops lines from wrapping.
const OPEN: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
/// Undoes [`OPEN`].
const CLOSE: &str = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";

/// The terminal, which is restored when this is dropped.
#[derive(Debug)]
pub struct Screen {
    stdin: Stdin,
    stdout: Stdout,
    before: Termios,
    /// Whether the terminal obeys control sequences; others get one table below the other.
    is_controlled: bool,
}

/// A key that the view knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// End the view.
    Quit,
    /// Change the order.
    Order,
    /// Draw everything again.
    Redraw,
    /// Stop this process until the terminal's shell continues it.
    Suspend,
}

impl Screen {
    /// Opens the view on the terminal.
    ///
    /// # Errors
    /// Stdin is not a terminal, or stdout cannot be written.
    pub fn open() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin)?;
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let mut screen = Self {
            stdin,
            stdout: io::stdout(),
            before,
            is_controlled: !is_dumb,
        };
        screen.enter()?;
        Ok(screen)
    }

    /// Rows and columns of the terminal.
    pub fn size(&self) -> (usize, usize) {
        let (rows, columns) = Term::stdout().size();
        (usize::from(rows), usize::from(columns))
    }

    /// Draws lines; those beyond the last row are left out, with their number.
    pub fn draw(
        &mut self,
        mut lines: Vec<TonedLine>,
        footer: TonedLine,
        is_coloured: bool,
    ) -> io::Result<()> {
        let mut text = String::new();
        if !self.is_controlled {
            for line in &lines {
                text += &format!("{}\r\n", line.print(is_coloured));
            }
            text += "\r\n";
            return self.write(&text);
        }
        let (rows, columns) = self.size();
        let room = rows.saturating_sub(1);
        if lines.len() > room {
            let hidden = lines.len() - room.saturating_sub(1);
            lines.truncate(room.saturating_sub(1));
            let more = format!("… {hidden} more lines: the terminal is too low");
            lines.push(TonedLine::of(crate::cli::colour::Tone::Faint, more).cut(columns));
        }
        text += "\x1b[H";
        for line in &lines {
            // Cleared first: after a line as wide as the terminal, the cursor is on its last character.
            text += &format!("\x1b[K{}\r\n", line.print(is_coloured));
        }
        text += &format!(
            "\x1b[J\x1b[{rows};1H\x1b[K{}",
            footer.cut(columns).print(is_coloured)
        );
        self.write(&text)
    }

    /// Reads the keys that were pressed. Blocks if there are none.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn keys(&self) -> io::Result<Vec<Key>> {
        let mut bytes = [0; 64];
        match unistd::read(self.stdin.as_fd(), &mut bytes)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(keys(&bytes[..count])),
        }
    }

    /// Restores the terminal, runs `meanwhile`, and opens the view again.
    pub fn leave_for(&mut self, meanwhile: impl FnOnce()) -> io::Result<()> {
        self.restore();
        meanwhile();
        self.enter()
    }

    fn enter(&mut self) -> io::Result<()> {
        let mut raw = self.before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&self.stdin, SetArg::TCSADRAIN, &raw)?;
        match self.is_controlled {
            true => self.write(OPEN),
            false => Ok(()),
        }
    }

    fn restore(&mut self) {
        // If the terminal is gone, there is nothing to restore.
        if self.is_controlled {
            let _ = self.write(CLOSE);
        }
        let _ = tcsetattr(&self.stdin, SetArg::TCSADRAIN, &self.before);
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.stdout.write_all(text.as_bytes())?;
        self.stdout.flush()
    }
}

impl AsFd for Screen {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.stdin.as_fd()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.restore();
    }
}

/// The keys in what a terminal sent. Sequences of special keys are ignored.
fn keys(bytes: &[u8]) -> Vec<Key> {
    const ESCAPE: u8 = 0x1b;
    let typed = bytes.iter().take_while(|byte| **byte != ESCAPE);
    typed
        .filter_map(|byte| match byte {
            b'q' | b'Q' | 0x03 | 0x04 => Some(Key::Quit),
            b's' | b'S' => Some(Key::Order),
            b' ' | b'\r' | 0x0c => Some(Key::Redraw),
            0x1a => Some(Key::Suspend),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_and_sequences_of_special_keys_are_ignored() {
        assert_eq!(keys(b"sq"), [Key::Order, Key::Quit]);
        assert_eq!(keys(&[3]), [Key::Quit]);
        assert_eq!(keys(&[0x1a]), [Key::Suspend]);
        assert!(
            keys(b"\x1b[6q").is_empty(),
            "the cursor's answer is not a key"
        );
        assert!(keys(b"x1").is_empty());
    }
}
