//! The users that may operate the pool, by name or number.

use std::collections::BTreeSet;

use nix::unistd::User;
use serde::Deserialize;

/// Most users of `socket.operators`.
pub const OPERATORS_MAX: usize = 100;

/// One user of `socket.operators`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Operator {
    /// By number.
    Uid(u32),
    /// By name.
    Name(String),
}

/// The numbers of these users.
///
/// # Errors
/// A sentence: there are too many, or this machine knows no such user.
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
            "socket.operators: there is no user {name:?} on this machine: use names or numbers of users"
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
    fn users_are_named_or_numbered() {
        let operators = [Operator::Name("root".into()), Operator::Uid(1000)];
        assert_eq!(uids(&operators), Ok(BTreeSet::from([0, 1000])));
        let unknown = [Operator::Name("no such user".into())];
        let refused = uids(&unknown).expect_err("nobody is called so");
        assert!(refused.contains("no such user"), "{refused}");
        let many = vec![Operator::Uid(1); OPERATORS_MAX + 1];
        assert!(uids(&many).expect_err("too many").contains("101 users"));
    }
}
