//! Frames over an asynchronous stream: the bounds of `ipc_protocol::frame`, awaited.

use std::io;

use ipc_protocol::connection::ConnectionError;
use ipc_protocol::frame::{self, HEADER_BYTES, Header, Message};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Waits for one message.
///
/// # Errors
/// `Closed` when the other side left between two frames. Not to be cancelled half-way: what was read
/// of a frame would be lost.
pub async fn read<M: Message>(reader: &mut (impl AsyncRead + Unpin)) -> Result<M, ConnectionError> {
    let mut header = [0; HEADER_BYTES];
    let first = reader.read(&mut header).await?;
    if first == 0 {
        return Err(ConnectionError::Closed);
    }
    reader.read_exact(&mut header[first..]).await?;
    let header = Header::parse::<M>(&header)?;
    let mut body = vec![0; header.length];
    reader.read_exact(&mut body).await?;
    Ok(header.decode(&body)?)
}

/// Sends one message and the raw bytes that belong to it.
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

/// Sends messages that are encoded already.
pub async fn write_encoded(
    writer: &mut (impl AsyncWrite + Unpin),
    frames: &[u8],
) -> Result<(), ConnectionError> {
    Ok(write_all(writer, frames).await?)
}

/// Sends one message.
pub async fn write<M: Message>(
    writer: &mut (impl AsyncWrite + Unpin),
    message: &M,
) -> Result<(), ConnectionError> {
    write_with(writer, message, &[]).await
}

async fn write_all(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes).await
}
