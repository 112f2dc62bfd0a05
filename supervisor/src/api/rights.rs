//! The rights of a client, from its user id, which the kernel reports.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::messages::client::Verb;
use nix::unistd::Uid;

/// The users that may operate the pool: the daemon's own, root, and `socket.operators` from the settings. Cheap to
/// clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Operators {
    daemon: u32,
    named: Arc<RwLock<BTreeSet<u32>>>,
}

impl Operators {
    /// Takes the user ids that `socket.operators` names.
    pub fn new(named: BTreeSet<u32>) -> Self {
        Self {
            daemon: Uid::effective().as_raw(),
            named: Arc::new(RwLock::new(named)),
        }
    }

    /// Replaces the users that `socket.operators` names, for clients that connect from now on.
    pub fn replace(&self, named: BTreeSet<u32>) {
        *self.named.write().unwrap_or_else(PoisonError::into_inner) = named;
    }

    pub fn rights(&self, uid: u32) -> ClientRights {
        let trusted = uid == 0 || uid == self.daemon;
        let named = self.named.read().unwrap_or_else(PoisonError::into_inner);
        ClientRights {
            uid,
            trusted,
            operator: trusted || named.contains(&uid),
        }
    }
}

/// The rights of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientRights {
    uid: u32,
    /// Whether it may send requests for other users: true for the daemon's own user and root.
    pub trusted: bool,
    /// Whether it may operate the pool and cancel the jobs of all users.
    pub operator: bool,
}

impl ClientRights {
    /// The client's user id.
    pub fn uid(self) -> u32 {
        self.uid
    }

    /// The user name of the client's jobs: `uid:N`.
    pub fn user(self) -> String {
        format!("uid:{}", self.uid)
    }

    /// Refuses a verb that affects other users, unless the client is an operator. Verbs about one job pass: the
    /// loop knows the job's user and checks it.
    ///
    /// # Errors
    /// `NotPermitted`; the message names the users that may.
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
            Verb::Evict { .. } => "evict",
            Verb::Yield { .. } => "yield",
            Verb::Drain | Verb::Undrain => "drain",
            Verb::Release { .. } => "quarantine release",
            Verb::Signal { .. } => "signal",
            Verb::Clear(_) => "clear",
            Verb::Reread => "reread",
            Verb::Update { .. } => "update",
            Verb::Reload => "reload",
        };
        self.check_operator(word)
    }

    /// Refuses `word`, a command or what it does, unless the client is an operator.
    ///
    /// # Errors
    /// `NotPermitted`; the message names the users that may.
    pub fn check_operator(self, word: &str) -> Result<(), Failure> {
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
            named: Arc::new(RwLock::new(BTreeSet::from([NAMED]))),
        }
    }

    #[test]
    fn only_operators_may_change_the_pool() {
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
            Verb::Evict { model: model() },
            Verb::Yield { seconds: 1 },
            Verb::Release { digest: None },
            Verb::Signal {
                signal: "HUP".into(),
                target: Target::All,
            },
            Verb::Clear(Target::All),
            Verb::Reread,
            Verb::Update { models: Vec::new() },
            Verb::Reload,
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
            let refused = refused.expect_err("a client is not an operator");
            assert_eq!(refused.kind, FailureKind::NotPermitted);
            assert_eq!(refused.kind.exit_code(), 4);
            assert!(refused.message.contains("user 1001"), "{refused}");
        }
    }

    #[test]
    fn every_client_may_query_the_pool() {
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
    fn an_operator_from_the_settings_may_not_act_for_other_users() {
        let rights = |uid| operators().rights(uid);
        assert!(rights(NAMED).operator && !rights(NAMED).trusted);
        assert!(rights(0).trusted && rights(DAEMON).trusted);
        assert!(!rights(CLIENT).operator && !rights(CLIENT).trusted);
        assert_eq!(rights(CLIENT).user(), "uid:1001");
    }
}
