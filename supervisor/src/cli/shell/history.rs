//! Earlier lines of the shell, in a file that only this user can read: prompts are private.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ipc_protocol::folders;

/// Most lines that are kept.
pub const LINES_MAX: usize = 1000;

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The file of earlier lines. Errors are ignored: a shell without a history works.
#[derive(Debug)]
pub struct HistoryFile(Option<PathBuf>);

impl HistoryFile {
    /// The file of this user.
    pub fn of_user() -> Self {
        let folder = folders::of_user("XDG_STATE_HOME", ".local/state");
        Self(folder.map(|folder| folder.join("imagepool/history")))
    }

    /// Reads the earlier lines, oldest first. Rewrites the file if it has become too long.
    pub fn read(&self) -> Vec<String> {
        let Some(path) = &self.0 else {
            return Vec::new();
        };
        let is_small = fs::metadata(path).is_ok_and(|file| file.len() <= FILE_BYTES_MAX);
        let text = match is_small {
            true => fs::read(path).unwrap_or_default(),
            false => Vec::new(),
        };
        let text = String::from_utf8_lossy(&text).into_owned();
        let all: Vec<&str> = text.lines().collect();
        let kept = &all[all.len().saturating_sub(LINES_MAX)..];
        if kept.len() < all.len() || (!is_small && path.exists()) {
            let _ = rewrite(path, kept);
        }
        kept.iter().map(|line| (*line).to_owned()).collect()
    }

    /// Adds a line. A line that begins with a blank is not kept.
    pub fn add(&self, line: &str) {
        if let Some(path) = &self.0
            && !line.starts_with(' ')
            && !line.contains('\n')
        {
            let _ = append(path, line);
        }
    }
}

fn append(path: &Path, line: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
    }
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(format!("{line}\n").as_bytes())
}

fn rewrite(path: &Path, lines: &[&str]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    for line in lines {
        writeln!(file, "{line}")?;
    }
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn lines_are_kept_in_order_up_to_a_number_for_their_user_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a/history");
        let file = HistoryFile(Some(path.clone()));
        assert!(file.read().is_empty());
        for nth in 0..LINES_MAX + 5 {
            file.add(&format!("why {nth}"));
        }
        file.add(" generate 'a secret'");
        let lines = file.read();
        assert_eq!(lines.len(), LINES_MAX);
        assert_eq!(lines.last().map(String::as_str), Some("why 1004"));
        assert_eq!(file.read(), lines, "it was cut");
        let text = fs::read_to_string(&path).expect("our own file");
        assert_eq!(text.lines().count(), LINES_MAX);
        let mode = fs::metadata(&path)
            .expect("our own file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_shell_without_a_home_has_no_history() {
        let file = HistoryFile(None);
        file.add("status");
        assert!(file.read().is_empty());
    }
}
