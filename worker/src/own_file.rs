//! A file about this process in /proc, opened once: a confined process cannot open it again.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

/// Longest content that is read, in bytes: `status` and `stat` have less than 3 KiB.
const BYTES_MAX: usize = 8192;

/// A file in /proc/self.
#[derive(Debug)]
pub struct OwnFile {
    path: &'static str,
    file: OnceLock<Option<File>>,
}

impl OwnFile {
    pub const fn new(path: &'static str) -> Self {
        Self {
            path,
            file: OnceLock::new(),
        }
    }

    /// Reads the file, as it is now. Empty if it is missing.
    pub fn read(&self) -> String {
        let file = self.file.get_or_init(|| File::open(self.path).ok());
        let Some(file) = file else {
            return String::new();
        };
        let mut bytes = vec![0; BYTES_MAX];
        // The kernel writes it anew for each read from the beginning.
        let length = file.read_at(&mut bytes, 0).unwrap_or(0);
        bytes.truncate(length);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_read_is_of_now() {
        let own = OwnFile::new("/proc/thread-self/comm");
        assert!(own.read().ends_with('\n'));
        let name = c"renamed";
        nix::sys::prctl::set_name(name).expect("a short name");
        assert_eq!(own.read(), "renamed\n");
        assert_eq!(OwnFile::new("/proc/self/nothing").read(), "");
    }
}
