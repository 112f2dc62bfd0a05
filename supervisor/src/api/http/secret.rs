//! Texts that cannot be guessed: tokens, and the names of files that need no token.

use store::digest::hex;

/// Random bytes of a text.
const BYTES: usize = 24;

/// A new text of hexadecimal digits.
///
/// # Errors
/// The kernel gives no random bits.
pub(super) fn secret() -> Result<String, getrandom::Error> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(hex(&bytes))
}
