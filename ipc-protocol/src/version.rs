//! The protocol version this build speaks, and how a mismatch is refused.

/// Raised whenever a frame's meaning changes; both sides must speak the same one.
pub const PROTOCOL: u32 = 5;

/// The version of this build, for people.
pub const BUILD: &str = env!("CARGO_PKG_VERSION");

/// The sentence for a peer that speaks another version, with both named.
pub fn mismatch(theirs: u32) -> String {
    format!("this program speaks protocol {PROTOCOL} and the other side speaks protocol {theirs}")
}
