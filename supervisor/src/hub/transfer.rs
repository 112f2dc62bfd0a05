//! Downloads one file to `NAME.part`, resumes it, and renames it once its digest matches.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::digest::Hasher;
use super::lookup::{Hub, Remote};
use super::trouble::FetchError;

/// Tries without a single new byte before a file is given up.
const BARREN_TRIES_MAX: u32 = 4;
/// Tries of one file, however much each brings.
const TRIES_MAX: u32 = 200;
/// The pause after a first barren try; it doubles.
const PAUSE: Duration = Duration::from_millis(200);
/// How often progress is told.
const TELL_BYTES: u64 = 1 << 20;

/// What a transfer tells while it runs.
pub(super) enum Told {
    /// So many bytes are here.
    Bytes(u64),
    /// It broke off and is taken up again.
    Broke(String),
}

/// What came of a transfer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Transferred {
    /// Digest of the file.
    pub sha256: String,
    /// Bytes that came over the network.
    pub bytes: u64,
}

/// How one try ended.
enum Try {
    /// Everything is here.
    Whole,
    /// It broke off; a sentence.
    Broke(String),
    /// More came than there can be: the hub does not honour ranges, or states a wrong size.
    TooMuch,
}

/// A file on its way.
struct Part<'a> {
    remote: &'a Remote,
    path: PathBuf,
    file: File,
    hasher: Hasher,
    have: u64,
    /// Bytes that came over the network in this process.
    came: u64,
    /// Bytes that were on the disk, or came in an earlier try, count in the digest.
    resumed: bool,
}

/// Brings `remote` to `folder`.
///
/// # Errors
/// The hub says no, the conversation broke too often, or the bytes are not the stated ones.
pub(super) async fn run(
    hub: &Hub,
    remote: &Remote,
    folder: &Path,
    mut tell: impl FnMut(Told),
) -> Result<Transferred, FetchError> {
    let to = folder.join(remote.to.as_str());
    if let Some(sha256) = kept(remote, &to)? {
        tell(Told::Bytes(remote.bytes));
        return Ok(Transferred { sha256, bytes: 0 });
    }
    let mut part = Part::open(remote, folder.join(format!("{}.part", remote.to)))?;
    let (mut barren, mut tries) = (0, 0);
    loop {
        let before = part.have;
        let ended = part.bring(hub, &mut tell).await?;
        tries += 1;
        barren = if part.have > before { 0 } else { barren + 1 };
        match ended {
            Try::Whole => match part.hasher.clone().finish(&remote.stated) {
                Ok(sha256) => {
                    fs::rename(&part.path, &to).map_err(FetchError::at(&to))?;
                    let bytes = part.came;
                    return Ok(Transferred { sha256, bytes });
                }
                // Two halves of different tries may not belong together: once more, in one piece.
                Err(_) if part.resumed => part.restart()?,
                Err(found) => return Err(part.delete(found)),
            },
            Try::TooMuch if part.resumed => part.restart()?,
            Try::TooMuch => return Err(part.delete("of more bytes than stated".into())),
            Try::Broke(why) if barren >= BARREN_TRIES_MAX || tries >= TRIES_MAX => {
                let what = format!("{} of {}", remote.name, remote.repository);
                return Err(FetchError::Network { what, why });
            }
            Try::Broke(why) => {
                tell(Told::Broke(why));
                tokio::time::sleep(PAUSE * (1 << barren)).await;
            }
        }
    }
}

/// The digest of a file that an earlier fetch had brought and checked; read again, because time passed.
fn kept(remote: &Remote, to: &Path) -> Result<Option<String>, FetchError> {
    let Ok(file) = File::open(to) else {
        return Ok(None);
    };
    let mut hasher = Hasher::new(&remote.stated, remote.bytes);
    hasher.update_from(file).map_err(FetchError::at(to))?;
    match hasher.finish(&remote.stated) {
        Ok(sha256) => Ok(Some(sha256)),
        Err(_) => {
            fs::remove_file(to).map_err(FetchError::at(to))?;
            Ok(None)
        }
    }
}

impl<'a> Part<'a> {
    fn open(remote: &'a Remote, path: PathBuf) -> Result<Self, FetchError> {
        let at = || FetchError::at(&path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(at())?;
        }
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(at())?;
        if file.metadata().map_err(at())?.len() > remote.bytes {
            file.set_len(0).map_err(at())?;
        }
        let mut hasher = Hasher::new(&remote.stated, remote.bytes);
        let have = hasher.update_from(&mut file).map_err(at())?;
        Ok(Self {
            remote,
            path,
            file,
            hasher,
            have,
            came: 0,
            resumed: have > 0,
        })
    }

    /// One try: everything from where we are.
    async fn bring(&mut self, hub: &Hub, tell: &mut impl FnMut(Told)) -> Result<Try, FetchError> {
        tell(Told::Bytes(self.have));
        if self.have == self.remote.bytes {
            return Ok(Try::Whole);
        }
        let begin = self.have;
        self.resumed |= begin > 0;
        let mut answer = match hub.bytes(self.remote, begin).await {
            Ok(answer) => answer,
            Err(FetchError::Network { why, .. }) => return Ok(Try::Broke(why)),
            Err(error) => return Err(error),
        };
        let mut told = begin;
        loop {
            let chunk = match hub.chunk(&mut answer).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) if self.have == self.remote.bytes => return Ok(Try::Whole),
                Ok(None) => {
                    return Ok(Try::Broke(format!(
                        "it ended after {} of {} bytes",
                        self.have, self.remote.bytes
                    )));
                }
                Err(why) => return Ok(Try::Broke(why)),
            };
            if chunk.len() as u64 > self.remote.bytes - self.have {
                return Ok(Try::TooMuch);
            }
            self.append(&chunk)?;
            if self.have - told >= TELL_BYTES || self.have == self.remote.bytes {
                told = self.have;
                tell(Told::Bytes(told));
            }
        }
    }

    fn append(&mut self, chunk: &[u8]) -> Result<(), FetchError> {
        self.file
            .write_all(chunk)
            .map_err(FetchError::at(&self.path))?;
        self.hasher.update(chunk);
        self.have += chunk.len() as u64;
        self.came += chunk.len() as u64;
        Ok(())
    }

    /// From the first byte, in one piece.
    fn restart(&mut self) -> Result<(), FetchError> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(FetchError::at(&self.path))?;
        self.hasher = Hasher::new(&self.remote.stated, self.remote.bytes);
        self.have = 0;
        self.resumed = false;
        Ok(())
    }

    /// Nothing of it may be taken for the file later.
    fn delete(&self, found: String) -> FetchError {
        match fs::remove_file(&self.path) {
            Ok(()) => FetchError::Wrong {
                file: format!("{} of {}", self.remote.name, self.remote.repository),
                found,
            },
            Err(source) => FetchError::at(&self.path)(source),
        }
    }
}
