//! The users that may operate the pool, by name or user id.

use std::collections::BTreeSet;

use nix::unistd::User;
use serde::Deserialize;

/// Most users in `socket.operators`.
pub const OPERATORS_MAX: usize = 100;

/// One user in `socket.operators`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Operator {
    /// A user id.
    Uid(u32),
    /// A user name.
    Name(String),
}

/// Looks up the user ids of `operators`.
///
/// # Errors
/// The message: too many users, or a user that does not exist on this machine.
pub fn uids(operators: &[Operator]) -> Result<BTreeSet<u32>, String> {
    if operators.len() > OPERATORS_MAX {
        return Err(format!(
            "socket.operators has {} users: use {OPERATORS_MAX} at most",
            operators.len()
        ));
    }
    operators.iter().map(uid).collect()
}

fn uid(operator: &Operator) -> Result<u32, String> {
    let name = match operator {
        Operator::Uid(uid) => return Ok(*uid),
        Operator::Name(name) => name,
    };
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(format!(
            "socket.operators: unknown user {name:?}: use the name or the number of a user of this machine"
        )),
        Err(errno) => Err(format!(
            "socket.operators: cannot look up the user {name:?} ({errno}): use its number"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_given_by_name_or_number() {
        let operators = [Operator::Name("root".into()), Operator::Uid(1000)];
        assert_eq!(uids(&operators), Ok(BTreeSet::from([0, 1000])));
        let unknown = [Operator::Name("no such user".into())];
        let refused = uids(&unknown).expect_err("no user has this name");
        assert!(refused.contains("no such user"), "{refused}");
        let many = vec![Operator::Uid(1); OPERATORS_MAX + 1];
        assert!(uids(&many).expect_err("too many").contains("101 users"));
    }
}
