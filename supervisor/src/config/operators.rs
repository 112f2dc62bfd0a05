//! The users and groups that may operate the pool, by name or number.

use std::collections::BTreeSet;

use nix::errno::Errno;
use nix::unistd::{Gid, Group, User};
use serde::Deserialize;

/// Most entries in `socket.operators`.
pub const OPERATORS_MAX: usize = 100;
/// The beginning of an entry that is a group.
const GROUP: char = '@';

/// One entry in `socket.operators`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Operator {
    /// A user id.
    Uid(u32),
    /// A user name, or `@` and the name or number of a group.
    Name(String),
}

/// The users and groups of `socket.operators`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperatorIds {
    /// Users, with the members of the groups as they were when the settings were read.
    pub uids: BTreeSet<u32>,
    /// Groups: a process that has one as its own group acts for a member.
    pub gids: BTreeSet<u32>,
}

impl OperatorIds {
    /// Looks up the users and groups of `operators`.
    ///
    /// # Errors
    /// The message: too many entries, or a user or group that does not exist on this machine.
    pub fn of(operators: &[Operator]) -> Result<Self, String> {
        if operators.len() > OPERATORS_MAX {
            return Err(format!(
                "socket.operators has {} users: use {OPERATORS_MAX} at most",
                operators.len()
            ));
        }
        let mut ids = Self::default();
        for operator in operators {
            match operator {
                Operator::Uid(uid) => {
                    ids.uids.insert(*uid);
                }
                Operator::Name(name) => match name.strip_prefix(GROUP) {
                    Some(group) => ids.add_group(group)?,
                    None => {
                        ids.uids.insert(uid(name)?);
                    }
                },
            }
        }
        Ok(ids)
    }

    fn add_group(&mut self, name: &str) -> Result<(), String> {
        let number = name.parse::<u32>().ok();
        let found = match number {
            Some(gid) => Group::from_gid(Gid::from_raw(gid)),
            None => Group::from_name(name),
        };
        match (found, number) {
            (Ok(Some(group)), _) => {
                self.gids.insert(group.gid.as_raw());
                // A member that is no user of this machine any more cannot connect either.
                let members = group.mem.iter().filter_map(|member| uid(member).ok());
                self.uids.extend(members);
                Ok(())
            }
            // A number without a name is a group too.
            (Ok(None), Some(gid)) => {
                self.gids.insert(gid);
                Ok(())
            }
            (Ok(None), None) => Err(unknown("group", name)),
            (Err(errno), _) => Err(not_looked_up("group", name, errno)),
        }
    }
}

fn uid(name: &str) -> Result<u32, String> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(unknown("user", name)),
        Err(errno) => Err(not_looked_up("user", name, errno)),
    }
}

fn unknown(what: &str, name: &str) -> String {
    format!(
        "socket.operators: unknown {what} {name:?}: use the name or the number of a {what} of this machine"
    )
}

fn not_looked_up(what: &str, name: &str, errno: Errno) -> String {
    format!("socket.operators: cannot look up the {what} {name:?} ({errno}): use its number")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Result<OperatorIds, String> {
        OperatorIds::of(&[Operator::Name(name.into())])
    }

    #[test]
    fn users_are_given_by_name_or_number() {
        let operators = [Operator::Name("root".into()), Operator::Uid(1000)];
        let ids = OperatorIds::of(&operators).expect("they exist");
        assert_eq!(ids.uids, BTreeSet::from([0, 1000]));
        let refused = named("no such user").expect_err("no user has this name");
        assert!(refused.contains("no such user"), "{refused}");
        let many = vec![Operator::Uid(1); OPERATORS_MAX + 1];
        let refused = OperatorIds::of(&many).expect_err("too many");
        assert!(refused.contains("101 users"), "{refused}");
    }

    #[test]
    fn groups_are_given_by_name_or_number_after_an_at_sign() {
        for root in ["@root", "@0"] {
            assert_eq!(named(root).expect("it exists").gids, BTreeSet::from([0]));
        }
        let unnamed = named("@4000000000").expect("a number");
        assert_eq!(unnamed.gids, BTreeSet::from([4_000_000_000]));
        for name in ["@no such group", "@", "@-1"] {
            let refused = named(name).expect_err("no group has this name");
            assert!(refused.contains("unknown group"), "{refused}");
        }
    }
}
