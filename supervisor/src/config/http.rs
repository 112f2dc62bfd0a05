//! The section `[http]`: where the HTTP door listens, and who may do what there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;

/// Names under which clients ask for the default model, if `http.aliases` is not set: clients of OpenAI's API send
/// the first ones, a chat front end the last.
const ALIASES: [&str; 7] = [
    "dall-e-2",
    "dall-e-3",
    "gpt-image-1",
    "gpt-image-1-mini",
    "gpt-image-1.5",
    "gpt-image-2",
    "sd-cpp-local",
];

/// A right at the HTTP door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HttpRight {
    /// To draw pictures, and to see and cancel the own jobs.
    Generate,
    /// To start and stop models, and to see and cancel the jobs of all users.
    Operate,
    /// To read the metrics.
    Metrics,
}

impl HttpRight {
    /// The names of all rights.
    pub const WORDS: [&str; 3] = ["generate", "operate", "metrics"];

    /// Every right.
    pub const ALL: [Self; 3] = [Self::Generate, Self::Operate, Self::Metrics];

    /// The name of the right in settings and answers.
    pub fn word(self) -> &'static str {
        match self {
            Self::Generate => "generate",
            Self::Operate => "operate",
            Self::Metrics => "metrics",
        }
    }
}

/// The section as the file has it.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSection {
    /// `HOST:PORT` of the TCP socket; without it there is only the Unix socket.
    pub listen: Option<String>,
    /// Host names that requests over TCP may name, besides those of the loopback interface and of `listen`.
    pub hosts: BTreeSet<String>,
    /// Origins of web pages that may send requests.
    pub origins: BTreeSet<String>,
    /// Rights of requests over TCP without a token.
    pub anonymous: BTreeSet<HttpRight>,
    /// Names of the default model.
    pub aliases: Vec<String>,
    /// Whether the routes of A1111's API are served.
    pub a1111: bool,
    /// The tokens for TCP, by name.
    pub tokens: BTreeMap<String, TokenSection>,
}

impl Default for HttpSection {
    fn default() -> Self {
        Self {
            listen: None,
            hosts: BTreeSet::new(),
            origins: BTreeSet::new(),
            anonymous: BTreeSet::new(),
            aliases: ALIASES.map(str::to_owned).into(),
            a1111: true,
            tokens: BTreeMap::new(),
        }
    }
}

/// A section `[http.tokens.NAME]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenSection {
    /// File with the token.
    pub file: Option<PathBuf>,
    /// Name of a systemd credential with the token.
    pub credential: Option<String>,
    /// Rights of requests with the token.
    pub rights: Option<BTreeSet<HttpRight>>,
}

/// The checked section.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// `HOST:PORT` of the TCP socket, or the path of another Unix socket; without it there is only `http.sock`.
    pub address: Option<HttpAddress>,
    /// Host names that requests over TCP may name, in lower case, besides those of the loopback interface.
    pub hosts: BTreeSet<String>,
    /// Origins of web pages that may send requests.
    pub origins: BTreeSet<String>,
    /// Rights of requests over TCP without a token.
    pub anonymous: BTreeSet<HttpRight>,
    /// Names of the default model.
    pub aliases: Vec<String>,
    /// Whether the routes of A1111's API are served.
    pub a1111: bool,
    /// The tokens for TCP.
    pub tokens: Vec<TokenConfig>,
}

/// A token, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenConfig {
    /// Its name, which is the user of its jobs.
    pub name: String,
    /// The token's place.
    pub source: TokenSource,
    /// Rights of requests with the token.
    pub rights: BTreeSet<HttpRight>,
}

/// The place of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// A file.
    File(PathBuf),
    /// A systemd credential with this name. No other process than the service has any, so this is no error before the door
    /// opens.
    MissingCredential(String),
}

/// Where the HTTP door listens besides `http.sock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpAddress {
    /// A Unix socket with this path, in place of `http.sock`.
    Unix(PathBuf),
    /// A TCP socket: `HOST:PORT`.
    Tcp(String),
}

impl HttpAddress {
    /// Parses `unix:PATH` or `HOST:PORT`.
    ///
    /// # Errors
    /// It is neither, as a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(Self::Unix(path.into())),
            None if is_host_and_port(text) => Ok(Self::Tcp(text.to_owned())),
            _ => Err(format!(
                "{text:?} is not an address: use unix:PATH or HOST:PORT, as in 127.0.0.1:7860"
            )),
        }
    }
}

/// Whether a text is a host, a colon and a port. An IPv6 address is in brackets.
pub fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host_is_valid = match inner {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            !host.is_empty() && host.chars().all(plain)
        }
    };
    host_is_valid && port.parse::<u16>().is_ok()
}

impl HttpSection {
    /// Checks values that depend on each other, and on the environment of the daemon.
    ///
    /// # Errors
    /// The setting, its fault and a valid value.
    pub(super) fn check(self) -> Result<HttpConfig, String> {
        let folder = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let tokens = self.tokens.into_iter();
        let tokens = tokens.map(|(name, token)| token.check(name, folder.as_ref()));
        Ok(HttpConfig {
            address: self.listen.map(HttpAddress::Tcp),
            hosts: self.hosts.iter().map(|host| host.to_lowercase()).collect(),
            origins: self.origins,
            anonymous: self.anonymous,
            aliases: self.aliases,
            a1111: self.a1111,
            tokens: tokens.collect::<Result<_, _>>()?,
        })
    }
}

impl TokenSection {
    fn check(self, name: String, credentials: Option<&PathBuf>) -> Result<TokenConfig, String> {
        let place = format!("http.tokens.{name}");
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !name.chars().all(plain) {
            return Err(format!(
                "{place}: {name:?} is not a plain name: use letters, digits, - and _"
            ));
        }
        let source = match (self.file, self.credential) {
            (Some(file), None) => TokenSource::File(file),
            (None, Some(credential)) => match credentials {
                Some(folder) => TokenSource::File(folder.join(credential)),
                None => TokenSource::MissingCredential(credential),
            },
            _ => {
                return Err(format!(
                    "{place} has not one source: use file or credential"
                ));
            }
        };
        let rights = self.rights.unwrap_or_else(|| [HttpRight::Generate].into());
        Ok(TokenConfig {
            name,
            source,
            rights,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn an_address_is_a_socket_path_or_a_host_with_a_port() {
        let unix = HttpAddress::parse("unix:/run/a.sock");
        assert_eq!(unix, Ok(HttpAddress::Unix("/run/a.sock".into())));
        for tcp in [
            "127.0.0.1:7860",
            "[::1]:80",
            "localhost:0",
            "my-host.example:65535",
        ] {
            assert_eq!(HttpAddress::parse(tcp), Ok(HttpAddress::Tcp(tcp.into())));
        }
        for bad in [
            "",
            "unix:",
            "7860",
            ":80",
            "::1:80",
            "[::1",
            "a b:80",
            "a:",
            "a:65536",
            "http://a:80",
        ] {
            let error = HttpAddress::parse(bad).expect_err(bad);
            assert!(error.contains("HOST:PORT"), "{error}");
        }
    }

    #[test]
    fn a_token_has_one_source_and_may_only_draw_by_default() {
        let config = parse("[http.tokens.chat]\nfile = \"/etc/token\"").expect("a token");
        assert_eq!(config.http.tokens[0].name, "chat");
        assert_eq!(config.http.tokens[0].rights, [HttpRight::Generate].into());
        let config = parse("[http.tokens.chat]\ncredential = \"b\"").expect("a token");
        let missing = TokenSource::MissingCredential("b".into());
        assert_eq!(config.http.tokens[0].source, missing);
        for bad in [
            "[http.tokens.chat]",
            "[http.tokens.chat]\nfile = \"a\"\ncredential = \"b\"",
            "[http.tokens.\"a b\"]\nfile = \"a\"",
        ] {
            let error = parse(bad).expect_err(bad);
            assert!(
                error.contains("http.tokens.") && error.contains("use "),
                "{error}"
            );
        }
    }
}
