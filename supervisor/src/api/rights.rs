//! The rights of a client, from its user id, which the kernel reports, and the users that it may name.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use ipc_protocol::failure::{Failure, FailureKind, Field};
use ipc_protocol::messages::client::Verb;
use nix::unistd::{Uid, User};

use crate::config::Config;
use crate::config::operators::OperatorIds;

/// The users that may operate the pool: the daemon's own, root, and `socket.operators` from the settings. Cheap to
/// clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Operators {
    daemon: u32,
    known: Arc<RwLock<KnownUsers>>,
}

/// The users that the settings name.
#[derive(Debug, Clone, Default)]
pub struct KnownUsers {
    /// The users and groups of `socket.operators`.
    pub operators: OperatorIds,
    /// The accounts of the sections `[users.NAME]`: `uid:N` or `token:NAME`.
    pub accounts: BTreeSet<String>,
}

impl KnownUsers {
    /// The users that these settings name.
    pub fn of(config: &Config) -> Self {
        Self {
            operators: config.operators.clone(),
            accounts: config.pool.quotas.accounts.keys().cloned().collect(),
        }
    }
}

impl Operators {
    /// Takes the users that the settings name.
    pub fn new(known: KnownUsers) -> Self {
        Self {
            daemon: Uid::effective().as_raw(),
            known: Arc::new(RwLock::new(known)),
        }
    }

    /// Replaces the users that the settings name, for clients that connect from now on.
    pub fn replace(&self, known: KnownUsers) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
    }

    /// The user that jobs count for if `client` sends them for `name`: a user of this machine or of a section
    /// `[users.NAME]`, by name or number, or a client `USER/NAME` of one. Looks names up, which may block.
    ///
    /// # Errors
    /// `NotPermitted` if the client may not act for others; `BadValue` for an unknown user.
    pub fn named_user(&self, client: ClientRights, name: &str) -> Result<String, Failure> {
        let refused = |kind, message| Failure {
            field: Some(Field::User),
            ..Failure::new(kind, message)
        };
        if !client.trusted {
            let message = "only the daemon's own user and root may send requests for another user";
            return Err(refused(FailureKind::NotPermitted, message.to_owned()));
        }
        let (user, of_user) = match name.split_once('/') {
            Some((user, _)) => name.split_at(user.len()),
            None => (name, ""),
        };
        let account = self.account(client, user).ok_or_else(|| {
            refused(
                FailureKind::BadValue,
                format!(
                    "{user:?} is neither a user of this machine nor in [users] of the settings: use a name or number \
                     of one, or USER/NAME for a client of one"
                ),
            )
        })?;
        Ok(account + of_user)
    }

    /// The account of a user; `None` if there is no such user.
    fn account(&self, client: ClientRights, user: &str) -> Option<String> {
        let number = user.strip_prefix("uid:").unwrap_or(user).parse::<u32>();
        let found = match number {
            Ok(uid) => User::from_uid(Uid::from_raw(uid)),
            Err(_) => User::from_name(user),
        };
        let account = match (number, &found) {
            (Ok(uid), _) => format!("uid:{uid}"),
            (Err(_), Ok(Some(found))) => format!("uid:{}", found.uid),
            (Err(_), Ok(None) | Err(_)) => user.to_owned(),
        };
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let is_known = matches!(found, Ok(Some(_)))
            || known.accounts.contains(&account)
            || client.user() == account;
        is_known.then_some(account)
    }

    /// The rights of a client with this user id, and this group as its own.
    pub fn rights(&self, uid: u32, gid: Option<u32>) -> ClientRights {
        let trusted = uid == 0 || uid == self.daemon;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        ClientRights {
            uid,
            trusted,
            operator: trusted
                || known.operators.uids.contains(&uid)
                || gid.is_some_and(|gid| known.operators.gids.contains(&gid)),
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
                "user {} may not {word}: only root, the daemon's own user and those in socket.operators may",
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
    const GROUP: u32 = 70;
    /// A user of a section that this machine does not know.
    const UNLISTED: &str = "uid:4000000000";

    fn operators() -> Operators {
        Operators {
            daemon: DAEMON,
            known: Arc::new(RwLock::new(KnownUsers {
                operators: OperatorIds {
                    uids: BTreeSet::from([NAMED]),
                    gids: BTreeSet::from([GROUP]),
                },
                accounts: BTreeSet::from([UNLISTED.to_owned(), "token:chat".to_owned()]),
            })),
        }
    }

    #[test]
    fn only_known_users_may_be_named_and_only_by_trusted_clients() {
        let operators = operators();
        let named = |uid, name| operators.named_user(operators.rights(uid, None), name);
        for (name, user) in [
            ("root", "uid:0"),
            ("0", "uid:0"),
            ("uid:0", "uid:0"),
            ("root/bot", "uid:0/bot"),
            (UNLISTED, UNLISTED),
            ("4000000000/bot", "uid:4000000000/bot"),
            ("token:chat", "token:chat"),
            ("uid:200", "uid:200"),
        ] {
            assert_eq!(named(DAEMON, name).as_deref(), Ok(user), "{name}");
        }
        for name in ["no such user", "", "/bot", "4000000001", "token:none", "*"] {
            let refused = named(DAEMON, name).expect_err(name);
            assert_eq!(refused.kind, FailureKind::BadValue, "{name}");
            assert_eq!(refused.field, Some(Field::User), "{name}");
        }
        for uid in [NAMED, CLIENT] {
            let refused = named(uid, "root").expect_err("neither root nor the daemon's user");
            assert_eq!(refused.kind, FailureKind::NotPermitted);
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
                    operators().rights(uid, None).check(&verb),
                    Ok(()),
                    "{uid} {verb:?}"
                );
            }
            let refused = operators().rights(CLIENT, None).check(&verb);
            let refused = refused.expect_err("a client is not an operator");
            assert_eq!(refused.kind, FailureKind::NotPermitted);
            assert_eq!(refused.kind.exit_code(), 4);
            assert!(refused.message.contains("user 1001"), "{refused}");
        }
    }

    #[test]
    fn a_client_whose_group_is_named_is_an_operator() {
        let rights = |gid| operators().rights(CLIENT, gid);
        assert!(rights(Some(GROUP)).operator && !rights(Some(GROUP)).trusted);
        assert!(!rights(Some(CLIENT)).operator && !rights(None).operator);
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
            assert_eq!(
                operators().rights(CLIENT, None).check(&verb),
                Ok(()),
                "{verb:?}"
            );
        }
    }

    #[test]
    fn an_operator_from_the_settings_may_not_act_for_other_users() {
        let rights = |uid| operators().rights(uid, None);
        assert!(rights(NAMED).operator && !rights(NAMED).trusted);
        assert!(rights(0).trusted && rights(DAEMON).trusted);
        assert!(!rights(CLIENT).operator && !rights(CLIENT).trusted);
        assert_eq!(rights(CLIENT).user(), "uid:1001");
    }
}
