//! What a client may do, by the user that the kernel says it is.

use std::collections::BTreeSet;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::messages::client::Verb;
use nix::unistd::Uid;

/// The users who may operate the pool: the daemon's own, root, and those of the settings.
#[derive(Debug, Clone)]
pub struct Operators {
    daemon: u32,
    named: BTreeSet<u32>,
}

impl Operators {
    /// With the users that `socket.operators` names.
    pub fn new(named: BTreeSet<u32>) -> Self {
        Self {
            daemon: Uid::effective().as_raw(),
            named,
        }
    }

    /// The rights of a client of this user.
    pub fn rights(&self, uid: u32) -> ClientRights {
        let trusted = uid == 0 || uid == self.daemon;
        ClientRights {
            uid,
            trusted,
            operator: trusted || self.named.contains(&uid),
        }
    }
}

/// The rights of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientRights {
    uid: u32,
    /// It may ask on behalf of other users: only the daemon's own user and root.
    pub trusted: bool,
    /// It may operate the pool and cancel everybody's jobs.
    pub operator: bool,
}

impl ClientRights {
    /// The client's user, as jobs name it.
    pub fn user(self) -> String {
        format!("uid:{}", self.uid)
    }

    /// Refuses a verb that changes something for everybody. Whose job a job is, the loop knows.
    ///
    /// # Errors
    /// `NotPermitted`, with who may.
    pub fn check(self, verb: &Verb) -> Result<(), Failure> {
        let word = match verb {
            Verb::CancelJob { .. } | Verb::Why { .. } | Verb::Plan { .. } | Verb::Quarantined => {
                return Ok(());
            }
            Verb::Stop(_) => "stop",
            Verb::Start(_) => "start",
            Verb::Restart(_) => "restart",
            Verb::Shutdown => "shutdown",
            Verb::Pin { pinned: true, .. } => "pin",
            Verb::Pin { pinned: false, .. } => "unpin",
            Verb::Scale { .. } => "scale",
            Verb::Drain | Verb::Undrain => "drain",
            Verb::Release { .. } => "quarantine release",
        };
        if self.operator {
            return Ok(());
        }
        Err(Failure::new(
            FailureKind::NotPermitted,
            format!(
                "user {} may not {word}: only root, the daemon's own user and the users in socket.operators may",
                self.uid
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use ipc_protocol::ids::JobId;
    use ipc_protocol::messages::client::Target;

    use super::*;

    const DAEMON: u32 = 200;
    const NAMED: u32 = 1000;
    const CLIENT: u32 = 1001;

    fn operators() -> Operators {
        Operators {
            daemon: DAEMON,
            named: BTreeSet::from([NAMED]),
        }
    }

    #[test]
    fn only_operators_change_what_concerns_everybody() {
        let model = || "syn".to_owned();
        let changes = [
            Verb::Stop(Target::All),
            Verb::Start(Target::All),
            Verb::Restart(Target::All),
            Verb::Shutdown,
            Verb::Drain,
            Verb::Undrain,
            Verb::Pin {
                model: model(),
                pinned: true,
            },
            Verb::Scale {
                model: model(),
                workers: 4,
            },
            Verb::Release { digest: None },
        ];
        for verb in changes {
            for uid in [0, DAEMON, NAMED] {
                assert_eq!(
                    operators().rights(uid).check(&verb),
                    Ok(()),
                    "{uid} {verb:?}"
                );
            }
            let refused = operators().rights(CLIENT).check(&verb);
            let refused = refused.expect_err("a client is no operator");
            assert_eq!(refused.kind, FailureKind::NotPermitted);
            assert_eq!(refused.kind.exit_code(), 4);
            assert!(refused.message.contains("user 1001"), "{refused}");
        }
    }

    #[test]
    fn every_client_may_ask_questions() {
        let questions = [
            Verb::Why { job: JobId(1) },
            Verb::Plan {
                model: "syn".into(),
                size: None,
            },
            Verb::Quarantined,
        ];
        for verb in questions {
            assert_eq!(operators().rights(CLIENT).check(&verb), Ok(()), "{verb:?}");
        }
    }

    #[test]
    fn an_operator_of_the_settings_asks_in_its_own_name_only() {
        let rights = |uid| operators().rights(uid);
        assert!(rights(NAMED).operator && !rights(NAMED).trusted);
        assert!(rights(0).trusted && rights(DAEMON).trusted);
        assert!(!rights(CLIENT).operator && !rights(CLIENT).trusted);
        assert_eq!(rights(CLIENT).user(), "uid:1001");
    }
}
