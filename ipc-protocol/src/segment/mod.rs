//! A worker's shared memory: latents after each step, a preview, latents to resume from, a picture.
//!
//! The supervisor creates one segment per worker generation before it starts the process. It reserves
//! all pages, so that a lack of memory is an error then and not a SIGBUS later, and owns the segment
//! until the process is reaped. Both sides use positioned reads and writes on a file handle, never a
//! mapping. So neither a truncated segment nor a worker that keeps writing can crash the supervisor.
//!
//! ```text
//!  │ latents 0 │ latents 1 │ preview │ resume │ picture │     each begins on a page boundary
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

/// An area of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Slot {
    /// Latents after even steps.
    Latents0,
    /// Latents after odd steps.
    Latents1,
    /// A preview, RGB8.
    Preview,
    /// Latents to resume from, written by the supervisor.
    Resume,
    /// The finished picture, RGB8.
    Picture,
}

impl Slot {
    /// The latents slot of a step. Two slots alternate, so that the last finished step is never overwritten.
    pub fn of_step(step: u32) -> Self {
        match step % 2 {
            0 => Self::Latents0,
            _ => Self::Latents1,
        }
    }
}

/// The layout of a segment: the bytes of each slot, for the model's largest picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Geometry {
    /// Bytes of each of the three latents slots.
    pub latents_bytes: u64,
    /// Bytes of the preview slot.
    pub preview_bytes: u64,
    /// Bytes of the picture slot.
    pub picture_bytes: u64,
}

impl Geometry {
    /// The layout for pictures up to this size, of a model with latents of this shape.
    pub fn for_pictures_up_to(largest: PictureSize, latents: LatentShape) -> Self {
        Self {
            latents_bytes: latents.bytes(largest),
            preview_bytes: latents.plane(largest).rgb8_bytes(),
            picture_bytes: largest.rgb8_bytes(),
        }
    }

    /// Offset and capacity of a slot, in bytes.
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

    /// Size of the whole segment in bytes.
    pub fn total_bytes(self) -> u64 {
        3 * pages(self.latents_bytes) + pages(self.preview_bytes) + pages(self.picture_bytes)
    }
}

fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_BYTES) * PAGE_BYTES
}

/// The reason why a segment could not be created or used.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// There is not enough shared memory for its pages.
    #[error("no room for a segment of {bytes} bytes: {source}")]
    NoRoom {
        /// The requested size.
        bytes: u64,
        /// The kernel's error.
        source: io::Error,
    },
    /// Another operation on the segment failed.
    #[error("cannot {what}: {source}")]
    Os {
        /// The operation that failed.
        what: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// The segment does not have the announced size.
    #[error("the segment has {found} bytes, the geometry needs {expected}")]
    WrongSize {
        /// Size by the geometry.
        expected: u64,
        /// Size by the kernel.
        found: u64,
    },
    /// The bytes do not fit the slot.
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
    /// A memfd that is sealed against shrinking and growing, and never has a name.
    #[default]
    Sealed,
    /// A POSIX shared-memory object, which has a name until the worker has started.
    Named,
}

/// A segment, as the supervisor or a worker holds it.
#[derive(Debug)]
pub struct Segment {
    file: File,
    geometry: Geometry,
    name: Option<named::SegmentName>,
}

impl Segment {
    /// Creates a segment and reserves all its pages. `label` identifies the segment in /proc, and must be
    /// unique on the machine for `Named`.
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

    /// Opens an inherited segment, after checking its size.
    pub fn from_handle(handle: OwnedFd, geometry: Geometry) -> Result<Self, SegmentError> {
        let file = File::from(handle);
        let found = file
            .metadata()
            .map_err(os("read the size of a segment"))?
            .len();
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

    /// Duplicates the descriptor of the segment, for a worker to inherit.
    pub fn handle(&self) -> Result<OwnedFd, SegmentError> {
        self.file
            .as_fd()
            .try_clone_to_owned()
            .map_err(os("duplicate the descriptor of a segment"))
    }

    /// Removes the name, if there is one. From then on the segment is reachable only through descriptors.
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
            Errno::EFBIG => io::Error::other("the file size limit (ulimit -f) is lower"),
            other => other.into(),
        },
    })
}
