//! A worker's shared memory: latents after each step, a preview, a resume, a picture.
//!
//! The supervisor makes one segment per worker generation before the spawn, reserves its pages (no
//! room is an error here, not a SIGBUS later) and owns it until the process is reaped. Both sides use
//! positioned reads and writes on a file handle, never a mapping, so neither a truncated segment nor a
//! worker that goes on writing can hurt the supervisor.
//!
//! ```text
//!  │ latents 0 │ latents 1 │ preview │ resume │ picture │     each begins on a page
//! ```

pub mod named;
pub mod sealed;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use bincode::{Decode, Encode};

use crate::latents::LatentShape;
use crate::units::PictureSize;

const PAGE_BYTES: u64 = 4096;

/// A place in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Slot {
    /// Latents after every other step.
    Latents0,
    /// Latents after the steps between.
    Latents1,
    /// A small picture of the way there, RGB8.
    Preview,
    /// Latents to resume from, written by the supervisor.
    Resume,
    /// The finished picture, RGB8.
    Picture,
}

impl Slot {
    /// The latents slot of a step: two take turns, so the last finished one is never overwritten.
    pub fn of_step(step: u32) -> Self {
        match step % 2 {
            0 => Self::Latents0,
            _ => Self::Latents1,
        }
    }
}

/// How a segment is laid out, sized from the model's largest picture. In bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Geometry {
    /// Room for latents, three times: two turns and the resume.
    pub latents_bytes: u64,
    /// Room for a preview.
    pub preview_bytes: u64,
    /// Room for a picture.
    pub picture_bytes: u64,
}

impl Geometry {
    /// Room for pictures up to this size of a model with such latents.
    pub fn for_pictures_up_to(largest: PictureSize, latents: LatentShape) -> Self {
        Self {
            latents_bytes: latents.bytes(largest),
            preview_bytes: latents.plane(largest).rgb8_bytes(),
            picture_bytes: largest.rgb8_bytes(),
        }
    }

    /// Where a slot begins and how much it holds.
    fn place(self, slot: Slot) -> (u64, u64) {
        let latents = pages(self.latents_bytes);
        let preview = pages(self.preview_bytes);
        match slot {
            Slot::Latents0 => (0, self.latents_bytes),
            Slot::Latents1 => (latents, self.latents_bytes),
            Slot::Preview => (2 * latents, self.preview_bytes),
            Slot::Resume => (2 * latents + preview, self.latents_bytes),
            Slot::Picture => (3 * latents + preview, self.picture_bytes),
        }
    }

    /// Bytes of the whole segment.
    pub fn total_bytes(self) -> u64 {
        3 * pages(self.latents_bytes) + pages(self.preview_bytes) + pages(self.picture_bytes)
    }
}

fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_BYTES) * PAGE_BYTES
}

/// Why a segment could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// Not enough shared memory for its pages.
    #[error("no room for a segment of {bytes} bytes: {source}")]
    NoRoom {
        /// The requested size.
        bytes: u64,
        /// The kernel's error.
        source: io::Error,
    },
    /// The back end failed otherwise.
    #[error("cannot {what}: {source}")]
    Os {
        /// The operation that failed.
        what: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// The handle is not the segment that was announced.
    #[error("the segment has {found} bytes, the geometry needs {expected}")]
    WrongSize {
        /// By the geometry.
        expected: u64,
        /// By the kernel.
        found: u64,
    },
    /// More bytes than the slot holds.
    #[error("{bytes} bytes do not fit the {capacity} of slot {slot:?}")]
    DoesNotFit {
        /// The slot.
        slot: Slot,
        /// Bytes to read or write.
        bytes: u64,
        /// Bytes that the slot holds.
        capacity: u64,
    },
}

/// The back end of segments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Backing {
    /// A memfd, sealed against shrinking and growing, without a name at any time.
    #[default]
    Sealed,
    /// A POSIX shared-memory object, named until the worker is up.
    Named,
}

/// One side's handle on a segment.
#[derive(Debug)]
pub struct Segment {
    file: File,
    geometry: Geometry,
    name: Option<named::Name>,
}

impl Segment {
    /// Makes a segment with all its pages reserved. `label` tells segments apart in /proc and, for
    /// `Named`, must be unique on the machine.
    pub fn create(backing: Backing, label: &str, geometry: Geometry) -> Result<Self, SegmentError> {
        let bytes = geometry.total_bytes();
        let (file, name) = match backing {
            Backing::Sealed => (sealed::create(label, bytes)?, None),
            Backing::Named => {
                let (file, name) = named::create(label, bytes)?;
                (file, Some(name))
            }
        };
        Ok(Self {
            file,
            geometry,
            name,
        })
    }

    /// Takes up a segment that was handed over, after checking its size.
    pub fn from_handle(handle: OwnedFd, geometry: Geometry) -> Result<Self, SegmentError> {
        let file = File::from(handle);
        let found = file.metadata().map_err(os("look at a segment"))?.len();
        let expected = geometry.total_bytes();
        if found != expected {
            return Err(SegmentError::WrongSize { expected, found });
        }
        Ok(Self {
            file,
            geometry,
            name: None,
        })
    }

    /// A second descriptor of the same segment, for a worker to inherit.
    pub fn handle(&self) -> Result<OwnedFd, SegmentError> {
        self.file
            .as_fd()
            .try_clone_to_owned()
            .map_err(os("duplicate a segment's handle"))
    }

    /// Takes the name away, where there is one; from then on only handles lead here.
    pub fn unname(&mut self) {
        self.name = None;
    }

    /// Writes `bytes` to the start of a slot.
    pub fn write(&self, slot: Slot, bytes: &[u8]) -> Result<(), SegmentError> {
        let offset = self.checked(slot, bytes.len() as u64)?;
        self.file
            .write_all_at(bytes, offset)
            .map_err(os("write to a segment"))
    }

    /// Copies the first `bytes` bytes of a slot.
    pub fn read(&self, slot: Slot, bytes: u64) -> Result<Vec<u8>, SegmentError> {
        let offset = self.checked(slot, bytes)?;
        let mut copy = vec![0; bytes as usize];
        self.file
            .read_exact_at(&mut copy, offset)
            .map_err(os("read from a segment"))?;
        Ok(copy)
    }

    fn checked(&self, slot: Slot, bytes: u64) -> Result<u64, SegmentError> {
        let (offset, capacity) = self.geometry.place(slot);
        if bytes > capacity {
            return Err(SegmentError::DoesNotFit {
                slot,
                bytes,
                capacity,
            });
        }
        Ok(offset)
    }
}

fn os(what: &'static str) -> impl FnOnce(io::Error) -> SegmentError {
    move |source| SegmentError::Os { what, source }
}

/// Reserves every page of `file`, so that a lack of memory is an error here.
fn reserve(file: &File, bytes: u64) -> Result<(), SegmentError> {
    use nix::errno::Errno;
    use nix::fcntl::{FallocateFlags, fallocate};
    let length = i64::try_from(bytes).map_err(|_| SegmentError::NoRoom {
        bytes,
        source: io::ErrorKind::InvalidInput.into(),
    })?;
    fallocate(file, FallocateFlags::empty(), 0, length).map_err(|errno| SegmentError::NoRoom {
        bytes,
        source: match errno {
            Errno::EFBIG => io::Error::other("the limit of a file's size (ulimit -f) is lower"),
            other => other.into(),
        },
    })
}
