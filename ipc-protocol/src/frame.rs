//! The layout and size limits of frames; checks headers and does no IO.
//!
//! ```text
//!  0        4       6        8        12
//!  │ "IMGP" │ kind  │ 0 0    │ length │ body: `length` bytes of bincode …
//! ```
//! All numbers are little-endian. The length is compared with the cap of its kind before a byte of the
//! body is read or allocated.

pub use crate::codec::BODY_BYTES_MAX;
use crate::codec::{self, CodecError};

/// Bytes of a header.
pub const HEADER_BYTES: usize = 12;

const MAGIC: [u8; 4] = *b"IMGP";

/// The messages that one side of a connection may send. Each side has its own type, so that a worker cannot
/// send a message of the supervisor.
pub trait Message: bincode::Encode + bincode::Decode<()> {
    /// The number of this message's kind in the header.
    fn kind(&self) -> u16;
    /// The largest body of that kind in bytes; `None` for a kind that does not exist.
    fn cap(kind: u16) -> Option<usize>;
}

/// The reason why bytes are not a valid frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The first four bytes are not `IMGP`.
    #[error("not a frame: it begins with {0:02x?}")]
    Magic([u8; 4]),
    /// The reserved bytes are not zero.
    #[error("reserved header bytes are not zero")]
    Reserved,
    /// This side has no message of that kind.
    #[error("no message has kind {0}")]
    Kind(u16),
    /// The body is longer than the cap of its kind.
    #[error("a body of {length} bytes is over the {cap} that kind {kind} may have")]
    TooLong {
        /// Kind by the header.
        kind: u16,
        /// Length by the header.
        length: usize,
        /// The limit in bytes.
        cap: usize,
    },
    /// The header and the body have different kinds.
    #[error("the header says kind {header}, the body is kind {body}")]
    KindMismatch {
        /// Kind by the header.
        header: u16,
        /// Kind of the decoded body.
        body: u16,
    },
    /// The body does not decode to a message.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// A header that passed every check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Kind of the message.
    pub kind: u16,
    /// Bytes of the body, at most the cap of its kind.
    pub length: usize,
}

impl Header {
    /// Parses a header and checks it against the caps of `M`.
    pub fn parse<M: Message>(bytes: &[u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let [m0, m1, m2, m3, k0, k1, r0, r1, l0, l1, l2, l3] = *bytes;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(FrameError::Magic([m0, m1, m2, m3]));
        }
        if [r0, r1] != [0, 0] {
            return Err(FrameError::Reserved);
        }
        let kind = u16::from_le_bytes([k0, k1]);
        let cap = M::cap(kind)
            .ok_or(FrameError::Kind(kind))?
            .min(BODY_BYTES_MAX);
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > cap {
            return Err(FrameError::TooLong { kind, length, cap });
        }
        Ok(Self { kind, length })
    }

    /// Decodes the body that belongs to this header.
    pub fn decode<M: Message>(self, body: &[u8]) -> Result<M, FrameError> {
        let message: M = codec::decode(body)?;
        match message.kind() {
            kind if kind == self.kind => Ok(message),
            kind => Err(FrameError::KindMismatch {
                header: self.kind,
                body: kind,
            }),
        }
    }
}

/// Encodes a message as a frame, header and body.
///
/// # Errors
/// `TooLong` if the message is larger than the cap of its kind.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, FrameError> {
    let kind = message.kind();
    let cap = M::cap(kind)
        .ok_or(FrameError::Kind(kind))?
        .min(BODY_BYTES_MAX);
    let body = codec::encode(message)?;
    if body.len() > cap {
        return Err(FrameError::TooLong {
            kind,
            length: body.len(),
            cap,
        });
    }
    let mut frame = Vec::with_capacity(HEADER_BYTES + body.len());
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&kind.to_le_bytes());
    frame.extend_from_slice(&[0, 0]);
    frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}
