//! The hub's token: never printed.

use std::fmt;
use std::path::Path;

/// A token. It has no `Display`; `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Finds the token in the order of the hub's own tools: `$HF_TOKEN`, the file `$HF_TOKEN_PATH`, the file that a
    /// login left in `home`. `None` if `$HF_HUB_DISABLE_IMPLICIT_TOKEN` is set.
    pub fn find(environment: impl Fn(&str) -> Option<String>, home: &Path) -> Option<Self> {
        let given = |name: &str| environment(name).filter(|value| !value.is_empty());
        if given("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some() {
            return None;
        }
        let in_file = |path: &Path| std::fs::read_to_string(path).ok();
        given("HF_TOKEN")
            .or_else(|| in_file(Path::new(&given("HF_TOKEN_PATH")?)))
            .or_else(|| in_file(&home.join("token")))
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty())
            .map(Self)
    }

    /// The token, for the client that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Replaces the token in `text`: a mirror may quote what it was sent.
    pub fn conceal(&self, text: &str) -> String {
        text.replace(&self.0, "[token]")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token([hidden])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)], home: &Path) -> Option<Token> {
        Token::find(
            |name| {
                variables
                    .iter()
                    .find(|(variable, _)| *variable == name)
                    .map(|(_, value)| (*value).to_owned())
            },
            home,
        )
    }

    #[test]
    fn a_token_is_never_shown() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let token = found(&[("HF_TOKEN", "hf_abc")], home.path()).expect("given");
        assert!(!format!("{token:?} {:?}", Some(&token)).contains("hf_abc"));
        assert_eq!(
            token.conceal("Bearer hf_abc is bad"),
            "Bearer [token] is bad"
        );
    }

    #[test]
    fn the_environment_comes_before_the_login_file() {
        let home = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(found(&[], home.path()), None);
        std::fs::write(home.path().join("token"), "hf_login\n").expect("ours");
        assert_eq!(found(&[], home.path()), Some(Token("hf_login".into())));
        assert_eq!(
            found(&[("HF_TOKEN", "hf_env")], home.path()),
            Some(Token("hf_env".into()))
        );
        let off = [("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"), ("HF_TOKEN", "x")];
        assert_eq!(found(&off, home.path()), None);
    }
}
