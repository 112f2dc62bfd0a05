//! Encodes messages to bytes and decodes them: the only file that calls bincode.
//!
//! bincode 2.0.1 is the last release, without a successor (RUSTSEC-2025-0141). It is pinned, called
//! only here, and always has a limit, because without one it allocates a claimed length before it reads
//! a byte. A test fixes the wire bytes, so that only this file changes when bincode is replaced.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};

/// The largest body of any message, in bytes.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

const CONFIG: Configuration<LittleEndian, Varint, Limit<BODY_BYTES_MAX>> =
    bincode::config::standard().with_limit::<BODY_BYTES_MAX>();

/// The reason why encoding or decoding failed.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The value cannot be encoded.
    #[error("cannot encode: {0}")]
    Encode(String),
    /// The bytes do not decode to this type.
    #[error("cannot decode: {0}")]
    Decode(String),
    /// Bytes are left after the value.
    #[error("{0} bytes follow the message")]
    TrailingBytes(usize),
}

/// Encodes a value.
pub fn encode<T: bincode::Encode>(value: &T) -> Result<Vec<u8>, CodecError> {
    bincode::encode_to_vec(value, CONFIG).map_err(|error| CodecError::Encode(error.to_string()))
}

/// Decodes a value that takes all of `bytes`.
pub fn decode<T: bincode::Decode<()>>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, used) = bincode::decode_from_slice(bytes, CONFIG)
        .map_err(|error| CodecError::Decode(error.to_string()))?;
    match bytes.len() - used {
        0 => Ok(value),
        trailing => Err(CodecError::TrailingBytes(trailing)),
    }
}
