//! The sections `[users.NAME]`: the quotas of users.

use std::str::FromStr;

use ipc_protocol::request::Priority;
use nix::unistd::User;
use pool::{Quotas, UserQuota};

use super::file::{SettingsFile, UserSection};
use super::names;

/// The name of the section that is the quota of all users without one.
const OTHERS: &str = "*";
/// The prefix of the names of tokens.
const TOKEN: &str = "token:";

/// Converts the sections of all users.
///
/// # Errors
/// The message: a section of an unknown user or token, two sections of one user, or an unknown model.
pub fn quotas(file: &SettingsFile) -> Result<Quotas, String> {
    let mut quotas = Quotas::default();
    for (name, section) in &file.users {
        let quota = quota(file, name, section)?;
        if name == OTHERS {
            quotas.others = Some(quota);
            continue;
        }
        let account = account(file, name)?;
        if account != *name {
            quotas.names.insert(name.clone(), account.clone());
        }
        if quotas.accounts.insert(account.clone(), quota).is_some() {
            return Err(format!(
                "[users.{name:?}] is a second section of {account}: use one section"
            ));
        }
    }
    Ok(quotas)
}

fn quota(file: &SettingsFile, name: &str, section: &UserSection) -> Result<UserQuota, String> {
    let unknown = |model: &&String| !names::is_name(&file.models, model);
    if let Some(model) = section.models.iter().flatten().find(unknown) {
        let known = names::keys(&file.models).join(", ");
        return Err(format!(
            "users.{name}.models: {model:?} is not the name of a model: use names of {known}"
        ));
    }
    let priority = section.priority_max.as_deref().map(Priority::from_str);
    let priority = priority
        .transpose()
        .map_err(|why| format!("users.{name}.priority_max: {why}"))?;
    Ok(UserQuota {
        jobs_per_hour: section.jobs_per_hour,
        models: section.models.clone(),
        priority_max: priority.unwrap_or(Priority::High),
    })
}

/// The account of a section's name: `uid:N` of a user of this machine, or `token:NAME`.
fn account(file: &SettingsFile, name: &str) -> Result<String, String> {
    if let Some(token) = name.strip_prefix(TOKEN) {
        return match file.http.tokens.contains_key(token) {
            true => Ok(name.to_owned()),
            false => Err(format!(
                "[users.{name:?}] names a token that is not there: add [http.tokens.{token}]"
            )),
        };
    }
    if let Ok(uid) = name.parse::<u32>() {
        return Ok(format!("uid:{uid}"));
    }
    match User::from_name(name) {
        Ok(Some(user)) => Ok(format!("uid:{}", user.uid)),
        Ok(None) => Err(format!(
            "[users.{name:?}] names an unknown user: use a user of this machine by name or number, \
             \"token:NAME\" of a token, or \"*\" for all others"
        )),
        Err(errno) => Err(format!(
            "[users.{name:?}]: cannot look up the user ({errno}): use its number"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn users_and_tokens_have_quotas_under_the_names_of_their_jobs() {
        let text = "[users.root]\njobs_per_hour = 5\npriority_max = \"low\"\n\
                    [users.\"1000\"]\nmodels = [\"pocket-flux\"]\n\
                    [users.\"token:chat\"]\njobs_per_hour = 7\n[users.\"*\"]\njobs_per_hour = 1\n\
                    [http.tokens.chat]\nfile = \"/etc/imagepool/chat.token\"\nrights = [\"generate\"]\n";
        let quotas = parse(text).expect("valid settings").pool.quotas;
        assert_eq!(quotas.accounts["uid:0"].jobs_per_hour, Some(5));
        assert_eq!(quotas.accounts["uid:0"].priority_max, Priority::Low);
        assert_eq!(quotas.names["root"], "uid:0");
        let models = quotas.accounts["uid:1000"].models.as_deref();
        assert_eq!(models, Some(&["pocket-flux".to_owned()][..]));
        assert_eq!(quotas.accounts["token:chat"].jobs_per_hour, Some(7));
        assert_eq!(quotas.others.and_then(|quota| quota.jobs_per_hour), Some(1));
    }

    #[test]
    fn unknown_users_tokens_and_models_are_refused_by_name() {
        for (text, what) in [
            ("[users.\"no such user\"]\n", "no such user"),
            ("[users.\"token:none\"]\n", "[http.tokens.none]"),
            ("[users.root]\nmodels = [\"fluxx\"]\n", "\"fluxx\""),
            ("[users.root]\n[users.\"0\"]\n", "second section of uid:0"),
            ("[users.root]\njobs_per_hours = 5\n", "`jobs_per_hour`"),
            (
                "[users.root]\npriority_max = \"urgent\"\n",
                "users.root.priority_max",
            ),
            (
                "[users.root]\njobs_per_hour = 0\n",
                "users.root.jobs_per_hour",
            ),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(what), "{error}");
        }
    }
}
