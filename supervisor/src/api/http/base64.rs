//! Base64 text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The base64 text of a file.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The bytes of a base64 text; `None` if it is not one.
pub(super) fn bytes(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}
