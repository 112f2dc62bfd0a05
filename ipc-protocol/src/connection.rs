//! Sending and receiving frames over a blocking reader and writer.

use std::io::{self, Read, Write};

use crate::frame::{self, FrameError, HEADER_BYTES, Header, Message};

/// The reason why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The peer closed the connection between two frames.
    #[error("the peer closed the connection")]
    Closed,
    /// Reading or writing failed, or the peer closed the connection within a frame.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The received bytes are not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Sends one message and the raw bytes that follow it, in a single write.
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
/// `Closed` if the peer closed the connection between two frames.
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
