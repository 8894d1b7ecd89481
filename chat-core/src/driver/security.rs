//! What is demanded of a peer, by where it is.

use std::sync::Arc;

use crate::{Config, Security};

/// The settings of connections, for those that stay on this machine and for others.
#[derive(Clone, Debug)]
pub(super) struct Configs {
    local: Arc<Config>,
    remote: Arc<Config>,
}

impl Configs {
    /// What the application has not decided is decided here: over a network, `sec`.
    pub(super) fn new(config: Config) -> Self {
        let local = Arc::new(config);
        let remote = match local.min_security {
            None => Arc::new(Config::clone(&local).min_security(Security::Sec)),
            Some(_) => Arc::clone(&local),
        };
        Self { local, remote }
    }

    /// Those for a connection.
    pub(super) fn pick(&self, is_local: bool) -> &Arc<Config> {
        if is_local { &self.local } else { &self.remote }
    }

    /// What all connections have in common.
    pub(super) fn common(&self) -> &Arc<Config> {
        &self.local
    }
}
