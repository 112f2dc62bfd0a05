//! The section `[truce]`: how other programs are asked for the memory of GPUs.

use std::time::Duration;

use pool::TruceTerms;
use serde::Deserialize;

/// How long an agreement lasts if no worker starts.
const HOLD: Duration = Duration::from_secs(60);
/// An answer that comes later than its own limit counts as none after this time more.
const LATE: Duration = Duration::from_secs(2);

/// The section as the file has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TruceSection {
    /// Program and arguments, run before a worker starts on a GPU without one.
    pub before_load: Vec<String>,
    /// Http or https URL that is called instead, or as well.
    pub before_load_url: Option<String>,
    /// JSON body of that call; without it the call has none.
    pub before_load_body: Option<String>,
    /// Program and arguments, run after the last worker of a GPU has left.
    pub after_last: Vec<String>,
    /// Http or https URL that is called instead, or as well.
    pub after_last_url: Option<String>,
    /// JSON body of that call.
    pub after_last_body: Option<String>,
    /// How long each program and call may take, in seconds.
    pub patience_seconds: f64,
}

impl Default for TruceSection {
    fn default() -> Self {
        Self {
            before_load: Vec::new(),
            before_load_url: None,
            before_load_body: None,
            after_last: Vec::new(),
            after_last_url: None,
            after_last_body: None,
            patience_seconds: 10.0,
        }
    }
}

/// One thing to do for an agreement with other programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    /// Run a program with arguments.
    Program(Vec<String>),
    /// Send a POST request to an address, with a JSON body if there is one.
    Call {
        /// Http or https URL.
        url: String,
        /// JSON.
        body: Option<String>,
    },
}

/// The checked section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TruceConfig {
    /// The hooks that ask other programs for the memory of a GPU.
    pub before_load: Vec<Hook>,
    /// The hooks that report to them that it is theirs again.
    pub after_last: Vec<Hook>,
    /// How long each may take.
    pub patience: Duration,
}

impl TruceSection {
    /// Converts the section.
    ///
    /// # Errors
    /// The message: a body without an address.
    pub fn check(self) -> Result<TruceConfig, String> {
        let hooks =
            |name: &str, program: Vec<String>, url: Option<String>, body: Option<String>| {
                if url.is_none() && body.is_some() {
                    return Err(format!(
                        "truce.{name}_body has no address: set truce.{name}_url"
                    ));
                }
                let program = (!program.is_empty()).then_some(Hook::Program(program));
                let call = url.map(|url| Hook::Call { url, body });
                Ok(program.into_iter().chain(call).collect::<Vec<Hook>>())
            };
        Ok(TruceConfig {
            before_load: hooks(
                "before_load",
                self.before_load,
                self.before_load_url,
                self.before_load_body,
            )?,
            after_last: hooks(
                "after_last",
                self.after_last,
                self.after_last_url,
                self.after_last_body,
            )?,
            patience: Duration::from_secs_f64(self.patience_seconds),
        })
    }
}

impl TruceConfig {
    /// The times of an agreement; `None` if other programs are not asked.
    pub fn terms(&self) -> Option<TruceTerms> {
        if self.before_load.is_empty() && self.after_last.is_empty() {
            return None;
        }
        let hooks = u32::try_from(self.before_load.len()).unwrap_or(u32::MAX);
        Some(TruceTerms {
            answer: self.patience * hooks + LATE,
            hold: HOLD,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn a_section_names_programs_and_calls() {
        let text = "[truce]\nbefore_load = [\"/usr/bin/true\", \"x\"]\npatience_seconds = 3\n\
                    after_last_url = \"http://127.0.0.1:11434/api/generate\"\nafter_last_body = \"{}\"\n";
        let config = parse(text).expect("valid settings");
        let program = Hook::Program(vec!["/usr/bin/true".into(), "x".into()]);
        assert_eq!(config.truce.before_load, [program]);
        let call = Hook::Call {
            url: "http://127.0.0.1:11434/api/generate".into(),
            body: Some("{}".into()),
        };
        assert_eq!(config.truce.after_last, [call]);
        let terms = config.pool.truce.expect("others are asked");
        assert_eq!(terms.answer, Duration::from_secs(5));
        assert_eq!(parse("").expect("the defaults").pool.truce, None);
    }

    #[test]
    fn a_body_needs_an_address() {
        let error = parse("[truce]\nbefore_load_body = \"{}\"\n").expect_err("no address");
        assert!(error.contains("set truce.before_load_url"), "{error}");
    }
}
