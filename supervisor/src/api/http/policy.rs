//! The rights of requests at the HTTP door, and their names for things, which a reload replaces.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use super::tokens::{TokenError, TokenTable};
use crate::api::jobs::store::ResultLimits;
use crate::config::Config;
use crate::config::http::{HttpAddress, HttpConfig};

/// The settings that apply to a request.
#[derive(Debug, Clone)]
pub struct HttpPolicy {
    /// The section `[http]`; its hosts include the one that the TCP socket is bound to.
    pub config: HttpConfig,
    /// The tokens for TCP.
    pub tokens: TokenTable,
    /// Name of the model for requests that name none.
    pub default_model: String,
    /// Most pixels of a file.
    pub max_pixels: u64,
    /// Whether previews have the mark.
    pub metadata: bool,
    /// How long a picture with an address is kept, and how many.
    pub results: ResultLimits,
}

/// The policy in use. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct SharedPolicy {
    current: Arc<RwLock<Arc<HttpPolicy>>>,
    /// The hosts of the addresses that TCP sockets are bound to; `None` without such sockets.
    bound: Option<BTreeSet<String>>,
}

impl HttpPolicy {
    /// The policy of settings, with a section `[http]` in place of theirs.
    pub(super) fn of(settings: &Config, config: HttpConfig, tokens: TokenTable) -> Self {
        Self {
            config,
            tokens,
            default_model: settings.pool.default_model.clone(),
            max_pixels: settings.pool.max_pixels,
            metadata: settings.metadata,
            results: ResultLimits {
                keep: settings.result_keep,
                memory_mb: settings.result_mb,
            },
        }
    }

    /// The model's name for a request that names `asked`: an alias, or nothing, means the default model.
    pub fn model_name(&self, asked: Option<&str>) -> String {
        match asked {
            Some(name) if !self.config.aliases.iter().any(|alias| alias == name) => name.into(),
            Some(_) | None => self.default_model.clone(),
        }
    }
}

impl SharedPolicy {
    /// Makes a policy the one in use, for a door with TCP sockets at these addresses.
    pub(super) fn new(mut policy: HttpPolicy, addresses: &[SocketAddr]) -> Self {
        let hosts = addresses.iter().copied().filter_map(bound_host).collect();
        let bound = (!addresses.is_empty()).then_some(hosts);
        add_own_hosts(&mut policy.config, bound.as_ref());
        Self {
            current: Arc::new(RwLock::new(Arc::new(policy))),
            bound,
        }
    }

    /// The policy in use.
    pub fn now(&self) -> Arc<HttpPolicy> {
        // A holder of this lock only copies.
        let policy = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&policy)
    }

    /// Reads the policy of new settings. The sockets stay as they are. Without tokens in the settings, the daemon's own
    /// token stays valid; `folder` is where one is made.
    ///
    /// # Errors
    /// A token cannot be used.
    pub fn next(&self, new: &Config, folder: &Path) -> Result<HttpPolicy, TokenError> {
        let current = self.now();
        let mut config = HttpConfig {
            address: current.config.address.clone(),
            a1111: current.config.a1111,
            ..new.http.clone()
        };
        let keeps_own = current.config.tokens.is_empty() && config.tokens.is_empty();
        let tokens = match self.bound.is_some() && !keeps_own {
            true => TokenTable::load(&config.tokens, folder)?,
            false => current.tokens.clone(),
        };
        add_own_hosts(&mut config, self.bound.as_ref());
        Ok(HttpPolicy::of(new, config, tokens))
    }

    /// Replaces the policy for all requests from now on.
    pub fn replace(&self, policy: HttpPolicy) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(policy);
    }
}

/// Adds the hosts that TCP sockets are bound to, in lower case. "Any address" is not a name of this machine.
fn add_own_hosts(config: &mut HttpConfig, bound: Option<&BTreeSet<String>>) {
    config.hosts.extend(bound.into_iter().flatten().cloned());
    let Some(HttpAddress::Tcp(address)) = &config.address else {
        return;
    };
    let name = name(address).to_ascii_lowercase();
    if !matches!(name.as_str(), "0.0.0.0" | "[::]") {
        config.hosts.insert(name);
    }
}

/// The host of a socket's address, as requests name it.
fn bound_host(address: SocketAddr) -> Option<String> {
    let name = name(&address.to_string()).to_owned();
    (!address.ip().is_unspecified()).then_some(name)
}

/// A host without its port.
pub(super) fn name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}
