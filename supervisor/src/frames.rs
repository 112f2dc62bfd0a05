//! Reads and writes frames of `ipc_protocol` on an asynchronous stream.

use std::io;
use std::time::Duration;

use ipc_protocol::connection::ConnectionError;
use ipc_protocol::frame::{self, HEADER_BYTES, Header, Message};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Reads one message. Must not be cancelled: the part of a frame that was already read would be lost.
///
/// # Errors
/// `Closed` if the other side closed the stream between two frames.
pub async fn read<M: Message>(reader: &mut (impl AsyncRead + Unpin)) -> Result<M, ConnectionError> {
    let begun = begin(reader).await?;
    finish(reader, begun).await
}

/// Reads one message, which must be complete within `patience` of its first byte. Must not be cancelled.
///
/// # Errors
/// `TimedOut` if it is not, and those of [`read`].
pub async fn read_within<M: Message>(
    reader: &mut (impl AsyncRead + Unpin),
    patience: Duration,
) -> Result<M, ConnectionError> {
    let begun = begin(reader).await?;
    match timeout(patience, finish(reader, begun)).await {
        Ok(message) => message,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

/// The first bytes of a header, and their number.
type BegunHeader = ([u8; HEADER_BYTES], usize);

async fn begin(reader: &mut (impl AsyncRead + Unpin)) -> Result<BegunHeader, ConnectionError> {
    let mut header = [0; HEADER_BYTES];
    match reader.read(&mut header).await? {
        0 => Err(ConnectionError::Closed),
        first => Ok((header, first)),
    }
}

async fn finish<M: Message>(
    reader: &mut (impl AsyncRead + Unpin),
    (mut header, first): BegunHeader,
) -> Result<M, ConnectionError> {
    reader.read_exact(&mut header[first..]).await?;
    let header = Header::parse::<M>(&header)?;
    let mut body = vec![0; header.length];
    reader.read_exact(&mut body).await?;
    Ok(header.decode(&body)?)
}

/// Sends a message and the raw bytes that belong to it.
pub async fn write_with<M: Message>(
    writer: &mut (impl AsyncWrite + Unpin),
    message: &M,
    raw: &[u8],
) -> Result<(), ConnectionError> {
    let frame = frame::encode(message)?;
    write_all(writer, &frame).await?;
    write_all(writer, raw).await?;
    Ok(())
}

/// Sends messages that are already encoded.
pub async fn write_encoded(
    writer: &mut (impl AsyncWrite + Unpin),
    frames: &[u8],
) -> Result<(), ConnectionError> {
    Ok(write_all(writer, frames).await?)
}

/// Sends a message.
pub async fn write<M: Message>(
    writer: &mut (impl AsyncWrite + Unpin),
    message: &M,
) -> Result<(), ConnectionError> {
    write_with(writer, message, &[]).await
}

async fn write_all(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes).await
}
