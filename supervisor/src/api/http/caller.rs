//! The sender of a request, and its rights.

use std::collections::BTreeSet;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::error::ApiError;
use super::tokens::AccessToken;
use crate::api::rights::ClientRights;
use crate::config::http::HttpRight;
use crate::driver::handle::Caller;

/// The user of jobs that came over TCP without a token.
const ANONYMOUS: &str = "anonymous";
/// Most bytes of the name of a user that a request gives.
const NAME_BYTES_MAX: usize = 128;

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// A process on this machine, with the rights of its user.
    Unix(ClientRights),
    /// A client over TCP.
    Tcp,
}

/// The sender of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HttpCaller {
    /// The user of its jobs.
    user: String,
    rights: BTreeSet<HttpRight>,
}

impl HttpCaller {
    /// A user of this machine, who may draw and read the metrics.
    pub fn on_unix(client: ClientRights) -> Self {
        let mut rights = BTreeSet::from([HttpRight::Generate, HttpRight::Metrics]);
        if client.operator {
            rights.insert(HttpRight::Operate);
        }
        Self {
            user: client.user(),
            rights,
        }
    }

    /// The holder of a token.
    pub fn with_token(token: &AccessToken) -> Self {
        Self {
            user: format!("token:{}", token.name),
            rights: token.rights.clone(),
        }
    }

    /// A client over TCP without a token.
    pub fn anonymous(rights: BTreeSet<HttpRight>) -> Self {
        Self {
            user: ANONYMOUS.into(),
            rights,
        }
    }

    /// Its rights.
    pub fn rights(&self) -> &BTreeSet<HttpRight> {
        &self.rights
    }

    /// Refuses a request without this right.
    ///
    /// # Errors
    /// 403, or 401 for a client without a token.
    pub fn may(&self, right: HttpRight) -> Result<(), ApiError> {
        if self.rights.contains(&right) {
            return Ok(());
        }
        let word = right.word();
        if self.user == ANONYMOUS {
            let message = format!(
                "this needs a token with the right {word}: send Authorization: Bearer TOKEN"
            );
            return Err(ApiError::new(
                StatusCode::UNAUTHORIZED,
                "missing_token",
                message,
            ));
        }
        let message = format!("{} has no right {word}", self.user);
        Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "not_permitted",
            message,
        ))
    }

    /// As the loop knows it.
    pub fn caller(&self) -> Caller {
        Caller {
            user: self.user.clone(),
            operator: self.rights.contains(&HttpRight::Operate),
        }
    }

    /// The user of its jobs. A name that the request gives gets a fair share of its own, and no rights.
    ///
    /// # Errors
    /// The name is too long.
    pub fn user(&self, name: Option<&str>) -> Result<String, ApiError> {
        match name.filter(|name| !name.is_empty()) {
            None => Ok(self.user.clone()),
            Some(name) if name.len() <= NAME_BYTES_MAX => {
                let plain = name.chars().map(|c| if c.is_control() { '?' } else { c });
                Ok(format!("{}/{}", self.user, plain.collect::<String>()))
            }
            Some(name) => {
                let message = format!(
                    "user has {} bytes: send {NAME_BYTES_MAX} at most",
                    name.len()
                );
                Err(ApiError::bad_value("user", message))
            }
        }
    }
}

/// The guard has put it into the request.
impl<S: Sync> FromRequestParts<S> for HttpCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| {
            let message = "the request came to its route without a check: report this defect";
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(rights: &[HttpRight]) -> HttpCaller {
        HttpCaller {
            user: "token:chat".into(),
            rights: rights.iter().copied().collect(),
        }
    }

    #[test]
    fn a_missing_right_is_refused_by_name_and_a_missing_token_otherwise() {
        let refused = with(&[HttpRight::Generate]).may(HttpRight::Operate);
        let refused = refused.expect_err("it has not this right");
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        let refused = HttpCaller::anonymous(BTreeSet::new()).may(HttpRight::Generate);
        let refused = refused.expect_err("no token");
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(with(&HttpRight::ALL).may(HttpRight::Operate), Ok(()));
    }

    #[test]
    fn jobs_of_a_named_user_belong_to_its_caller() {
        let caller = with(&[HttpRight::Generate]);
        let user = caller.user(Some("ann\n")).expect("a short name");
        assert_eq!(user, "token:chat/ann?");
        assert!(caller.caller().owns(&user) && caller.caller().owns("token:chat"));
        assert!(!caller.caller().owns("token:chatter") && !caller.caller().owns("uid:0"));
        assert_eq!(caller.user(Some("")), caller.user(None));
        assert!(caller.user(Some(&"a".repeat(200))).is_err());
    }
}
