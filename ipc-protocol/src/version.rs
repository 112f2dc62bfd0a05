//! The protocol version of this build, and the error for a peer with another one.

/// Version of the protocol. It is raised when the meaning of a frame changes; both sides must have the same.
pub const PROTOCOL: u32 = 10;

/// Version of this build, as printed by `--version`.
pub const BUILD: &str = env!("CARGO_PKG_VERSION");

/// The error message for a peer that speaks another version; it names both.
pub fn mismatch(theirs: u32) -> String {
    format!("this program speaks protocol {PROTOCOL} and the other side speaks protocol {theirs}")
}
