//! The files of pictures under addresses that cannot be guessed, bounded in time and memory.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use pool::Moment;

use super::error::ApiError;
use super::secret::secret;
use crate::api::jobs::store::ResultLimits;
use crate::clock::Clock;
use crate::picture::format::{self, PictureFormat};

/// A picture with an address is kept for this time at least, as OpenAI does.
const KEEP_MIN: Duration = Duration::from_secs(3600);

/// The files, oldest first. They are bounded in time and in memory.
#[derive(Debug)]
pub(super) struct PictureFiles {
    clock: Clock,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    files: VecDeque<PictureFile>,
    bytes: u64,
}

#[derive(Debug)]
struct PictureFile {
    name: String,
    until: Moment,
    format: PictureFormat,
    bytes: Bytes,
}

impl PictureFiles {
    /// No files yet.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            kept: Mutex::default(),
        }
    }

    /// Keeps a file within `limits`, but for an hour at least; returns its name. The oldest ones leave if there is no memory
    /// for it.
    ///
    /// # Errors
    /// The kernel gives no random bits for a name, or the file alone is too large.
    pub fn keep(
        &self,
        limits: ResultLimits,
        format: PictureFormat,
        bytes: Vec<u8>,
    ) -> Result<String, ApiError> {
        let secret = secret().map_err(|error| {
            let message = format!("the kernel gives no random bits: {error}");
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
        })?;
        let (length, bytes_max) = (bytes.len() as u64, limits.memory_mb << 20);
        if length > bytes_max {
            let message =
                "the picture is larger than limits.result_mb: send response_format b64_json";
            return Err(ApiError::bad_value("response_format", message));
        }
        let name = format!("{secret}.{}", format::extension(format));
        let mut kept = self.kept.lock().expect("no holder of this lock can panic");
        kept.expire(self.clock.now());
        while kept.bytes + length > bytes_max {
            kept.drop_oldest();
        }
        kept.bytes += length;
        kept.files.push_back(PictureFile {
            name: name.clone(),
            until: self.clock.now() + limits.keep.max(KEEP_MIN),
            format,
            bytes: bytes.into(),
        });
        Ok(name)
    }

    /// The file with this name.
    pub fn find(&self, name: &str) -> Option<(PictureFormat, Bytes)> {
        let mut kept = self.kept.lock().expect("no holder of this lock can panic");
        kept.expire(self.clock.now());
        let file = kept.files.iter().find(|file| file.name == name)?;
        Some((file.format, file.bytes.clone()))
    }
}

impl Kept {
    fn expire(&mut self, now: Moment) {
        while self.files.front().is_some_and(|oldest| oldest.until <= now) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(file) = self.files.pop_front() {
            self.bytes -= file.bytes.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_leave_after_their_time_and_when_newer_ones_need_their_memory() {
        let files = PictureFiles::new(Clock::start());
        let limits = |memory_mb| ResultLimits {
            keep: Duration::from_secs(1),
            memory_mb,
        };
        let keep = |bytes: usize| files.keep(limits(1), PictureFormat::Png, vec![0; bytes]);
        let first = keep(600 << 10).expect("it fits");
        assert!(first.ends_with(".png") && first.len() == 52, "{first}");
        let (format, bytes) = files.find(&first).expect("it is new");
        assert_eq!((format, bytes.len()), (PictureFormat::Png, 600 << 10));
        let second = keep(600 << 10).expect("the first leaves");
        assert!(files.find(&first).is_none() && files.find(&second).is_some());
        assert!(keep((1 << 20) + 1).is_err(), "larger than all");
        assert!(files.find(&second).is_some(), "a refused one costs nothing");
        // The settings have changed.
        let kept = files.keep(limits(2), PictureFormat::Png, vec![0; 1 << 20]);
        let third = kept.expect("it fits beside the second");
        assert!(files.find(&second).is_some() && files.find(&third).is_some());
        let mut kept = files.kept.lock().expect("no panic");
        kept.expire(files.clock.now() + Duration::from_secs(3601));
        assert!(kept.files.is_empty());
        assert_eq!(kept.bytes, 0);
    }
}
