//! Removes files that killed daemons and private pools have left.

use std::path::Path;

use ipc_protocol::folders;
use ipc_protocol::segment::named;

use crate::config::paths;
use crate::process::identity::Identity;
use crate::telemetry;

/// Removes shared-memory segments and folders that killed daemons and private pools of this user have left.
pub(super) fn sweep(runtime_dir: &Path) {
    let segments = named::sweep(|owner| identity(owner).is_some_and(Identity::is_alive));
    let folders = [runtime_dir.to_owned(), folders::runtime()]
        .iter()
        .map(|base| sweep_private(base))
        .sum::<usize>();
    if segments + folders > 0 {
        telemetry::daemon::swept(segments, folders);
    }
}

/// Removes the folders of dead private pools; returns their number. A folder that other users may write to is left
/// alone: a link in it could point at this user's own files.
fn sweep_private(base: &Path) -> usize {
    let private = base.join(paths::PRIVATE);
    if !paths::is_ours(base) || !paths::is_ours(&private) {
        return 0;
    }
    let entries = std::fs::read_dir(&private).into_iter().flatten().flatten();
    let is_dead = |entry: &std::fs::DirEntry| {
        let owner = entry.file_name().to_str().and_then(identity);
        owner.is_some_and(|owner| !owner.is_alive())
    };
    let swept = entries
        .filter(is_dead)
        .filter(|entry| std::fs::remove_dir_all(entry.path()).is_ok())
        .count();
    // Fails if the folder is not empty: other private pools use it.
    let _ = std::fs::remove_dir(&private);
    swept
}

fn identity(name: &str) -> Option<Identity> {
    name.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// An identity that no process has: pid 1 with a wrong start time.
    const DEAD: &str = "1-18446744073709551615";

    #[test]
    fn only_the_folders_of_dead_private_pools_are_removed() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let private = base.path().join(paths::PRIVATE);
        for name in [DEAD, "notes"] {
            paths::prepare(&private.join(name), 0o600).expect("ours to make");
        }
        let alive = private.join(Identity::own().to_string());
        paths::prepare(&alive, 0o600).expect("ours to make");
        assert_eq!(sweep_private(base.path()), 1);
        assert!(!private.join(DEAD).exists());
        assert!(alive.exists() && private.join("notes").exists());
    }

    #[test]
    fn nothing_is_removed_through_a_link_or_where_others_may_write() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let victim = base.path().join("victim");
        paths::prepare(&victim.join(DEAD), 0o600).expect("ours to make");
        let trap = base.path().join("trap");
        paths::prepare(&trap, 0o600).expect("ours to make");
        std::os::unix::fs::symlink(&victim, trap.join(paths::PRIVATE)).expect("ours");
        assert_eq!(sweep_private(&trap), 0);
        let open = base.path().join("open");
        paths::prepare(&open.join(paths::PRIVATE).join(DEAD), 0o600).expect("ours to make");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(&open, mode).expect("ours");
        assert_eq!(sweep_private(&open), 0);
        assert!(victim.join(DEAD).exists() && open.join(paths::PRIVATE).join(DEAD).exists());
    }
}
