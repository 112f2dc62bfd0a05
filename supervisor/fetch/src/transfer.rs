//! Downloads one file to `NAME.part`, resumes it, and renames it once its digest matches.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::lookup::{HubClient, RemoteFile};
use store::digest::Hasher;
use store::trouble::FetchError;

/// Tries in a row without a new byte, after which the transfer fails.
const BARREN_TRIES_MAX: u32 = 4;
/// Tries of one file, with or without new bytes.
const TRIES_MAX: u32 = 200;
/// Pause after the first try without a new byte; it doubles with each.
const PAUSE: Duration = Duration::from_millis(200);
/// Bytes between two reports of progress.
const REPORT_BYTES: u64 = 1 << 20;

/// A report of a running transfer.
pub enum TransferEvent {
    /// Bytes of the file on this machine.
    Bytes(u64),
    /// The transfer broke off, for this reason, and resumes.
    Broke(String),
}

/// A finished transfer.
#[derive(Debug, PartialEq, Eq)]
pub struct Transferred {
    /// SHA-256 of the file.
    pub sha256: String,
    /// Bytes that came over the network.
    pub bytes: u64,
}

/// The end of one try.
enum TryEnd {
    /// The file has its stated size.
    Whole,
    /// The transfer broke off, for this reason.
    Broke(String),
    /// The hub sent more bytes than it stated: it ignores ranges, or states a wrong size.
    TooMuch,
}

/// A file that is being transferred.
struct PartialFile<'a> {
    remote: &'a RemoteFile,
    path: PathBuf,
    file: File,
    hasher: Hasher,
    have: u64,
    /// Bytes that came over the network in this process.
    came: u64,
    /// The file has bytes of an earlier try or fetch.
    resumed: bool,
}

/// Transfers `remote` to `folder`.
///
/// # Errors
/// The hub refuses, the transfer breaks off too often, or the bytes differ from the stated digest.
pub async fn run(
    hub: &HubClient,
    remote: &RemoteFile,
    folder: &Path,
    mut report: impl FnMut(TransferEvent),
) -> Result<Transferred, FetchError> {
    let to = folder.join(remote.to.as_str());
    if let Some(sha256) = kept(remote, &to)? {
        report(TransferEvent::Bytes(remote.bytes));
        return Ok(Transferred { sha256, bytes: 0 });
    }
    let mut part = PartialFile::open(remote, folder.join(format!("{}.part", remote.to)))?;
    let (mut barren, mut tries) = (0, 0);
    loop {
        let before = part.have;
        let ended = part.bring(hub, &mut report).await?;
        tries += 1;
        barren = if part.have > before { 0 } else { barren + 1 };
        match ended {
            TryEnd::Whole => match part.hasher.clone().finish(&remote.stated) {
                Ok(sha256) => {
                    fs::rename(&part.path, &to).map_err(FetchError::at(&to))?;
                    let bytes = part.came;
                    return Ok(Transferred { sha256, bytes });
                }
                // Parts of different tries may not belong together: fetch the file again in one piece.
                Err(_) if part.resumed => part.restart()?,
                Err(found) => return Err(part.delete(found)),
            },
            TryEnd::TooMuch if part.resumed => part.restart()?,
            TryEnd::TooMuch => return Err(part.delete("of more bytes than stated".into())),
            TryEnd::Broke(why) if barren >= BARREN_TRIES_MAX || tries >= TRIES_MAX => {
                let what = format!("{} of {}", remote.name, remote.repository);
                return Err(FetchError::Network { what, why });
            }
            TryEnd::Broke(why) => {
                report(TransferEvent::Broke(why));
                tokio::time::sleep(PAUSE * (1 << barren)).await;
            }
        }
    }
}

/// The SHA-256 of a file that an earlier fetch transferred. Reads the file again, because it may have changed.
fn kept(remote: &RemoteFile, to: &Path) -> Result<Option<String>, FetchError> {
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

impl<'a> PartialFile<'a> {
    fn open(remote: &'a RemoteFile, path: PathBuf) -> Result<Self, FetchError> {
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

    /// Tries once to transfer the rest of the file.
    async fn bring(
        &mut self,
        hub: &HubClient,
        report: &mut impl FnMut(TransferEvent),
    ) -> Result<TryEnd, FetchError> {
        report(TransferEvent::Bytes(self.have));
        if self.have == self.remote.bytes {
            return Ok(TryEnd::Whole);
        }
        let begin = self.have;
        self.resumed |= begin > 0;
        let mut answer = match hub.bytes(self.remote, begin).await {
            Ok(answer) => answer,
            Err(FetchError::Network { why, .. }) => return Ok(TryEnd::Broke(why)),
            Err(error) => return Err(error),
        };
        let mut reported = begin;
        loop {
            let chunk = match hub.chunk(&mut answer).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) if self.have == self.remote.bytes => return Ok(TryEnd::Whole),
                Ok(None) => {
                    return Ok(TryEnd::Broke(format!(
                        "it ended after {} of {} bytes",
                        self.have, self.remote.bytes
                    )));
                }
                Err(why) => return Ok(TryEnd::Broke(why)),
            };
            if chunk.len() as u64 > self.remote.bytes - self.have {
                return Ok(TryEnd::TooMuch);
            }
            self.append(&chunk)?;
            if self.have - reported >= REPORT_BYTES || self.have == self.remote.bytes {
                reported = self.have;
                report(TransferEvent::Bytes(reported));
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

    /// Starts again at the first byte.
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

    /// Deletes the file, so that no later fetch resumes it.
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
