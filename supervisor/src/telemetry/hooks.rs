//! Log lines about the hooks of the settings.

use ipc_protocol::ids::Device;
use ipc_protocol::untrusted::Untrusted;
use tracing::{info, warn};

use crate::config::truce::Hook;

/// A hook has ended well.
pub fn ran(hook: &Hook, device: Device) {
    info!(hook = %name(hook), %device, "Hook ran");
}

/// A hook failed.
pub fn failed(hook: &Hook, device: Device, error: &str) {
    let error = Untrusted::new(error);
    warn!(hook = %name(hook), %device, %error, "Hook failed");
}

/// The program's path, or the address.
fn name(hook: &Hook) -> &str {
    match hook {
        Hook::Program(words) => words.first().map_or("", String::as_str),
        Hook::Call { url, .. } => url,
    }
}
