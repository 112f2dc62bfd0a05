//! Blocking frames over anything that reads and writes.

use std::io::{self, Read, Write};

use crate::frame::{self, FrameError, HEADER_BYTES, Header, Message};

/// Why a conversation ended.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The other side closed between two frames.
    #[error("the other side closed the connection")]
    Closed,
    /// The kernel said no, or the other side closed within a frame.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The received bytes are not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Sends one message, and the raw bytes that belong to it, in one go.
pub fn write_with<M: Message>(
    writer: &mut impl Write,
    message: &M,
    raw: &[u8],
) -> Result<(), ConnectionError> {
    let mut bytes = frame::encode(message)?;
    bytes.extend_from_slice(raw);
    writer.write_all(&bytes)?;
    writer.flush()?;
    Ok(())
}

/// Sends one message.
pub fn write<M: Message>(writer: &mut impl Write, message: &M) -> Result<(), ConnectionError> {
    write_with(writer, message, &[])
}

/// Waits for one message.
///
/// # Errors
/// `Closed` when the other side left between two frames.
pub fn read<M: Message>(reader: &mut impl Read) -> Result<M, ConnectionError> {
    let mut header = [0; HEADER_BYTES];
    let first = loop {
        match reader.read(&mut header) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if first == 0 {
        return Err(ConnectionError::Closed);
    }
    reader.read_exact(&mut header[first..])?;
    let header = Header::parse::<M>(&header)?;
    let mut body = vec![0; header.length];
    reader.read_exact(&mut body)?;
    Ok(header.decode(&body)?)
}
