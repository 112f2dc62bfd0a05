//! Messages to bytes and back: the only file that names bincode.
//!
//! bincode 2.0.1 is the last release and will get no other (RUSTSEC-2025-0141). It is pinned, named
//! here alone, always given a limit (without one a claimed length is allocated before a byte is read)
//! and its wire bytes are fixed by a test, so that replacing it is a change to this file.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};

/// No message is larger, whatever its kind.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

const CONFIG: Configuration<LittleEndian, Varint, Limit<BODY_BYTES_MAX>> =
    bincode::config::standard().with_limit::<BODY_BYTES_MAX>();

/// Why a value is not bytes, or bytes are not a value.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The value cannot be written.
    #[error("cannot encode: {0}")]
    Encode(String),
    /// The bytes hold no such value.
    #[error("cannot decode: {0}")]
    Decode(String),
    /// A value, and then more.
    #[error("{0} bytes follow the message")]
    TrailingBytes(usize),
}

/// The bytes of a value.
pub fn encode<T: bincode::Encode>(value: &T) -> Result<Vec<u8>, CodecError> {
    bincode::encode_to_vec(value, CONFIG).map_err(|error| CodecError::Encode(error.to_string()))
}

/// The value in `bytes`, all of them.
pub fn decode<T: bincode::Decode<()>>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, used) = bincode::decode_from_slice(bytes, CONFIG)
        .map_err(|error| CodecError::Decode(error.to_string()))?;
    match bytes.len() - used {
        0 => Ok(value),
        trailing => Err(CodecError::TrailingBytes(trailing)),
    }
}
