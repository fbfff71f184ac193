//! The logs that a process writes to, and which of them a tenant is on.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;
use weft_domain::TenantId;
use weft_platform::clock::Clock;
use weft_platform::config::Config;
use weft_platform::keys::KeyStore;

use crate::{ConnectError, Executor};

/// An Executor per log. Everything that a command touches is on its tenant's log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Logs {
    config: Arc<Config>,
    /// By share.
    executors: Arc<[Executor]>,
}

impl Logs {
    /// Refuses logs that are not fit to be written to, and logs whose tenants the configuration looks for elsewhere. One
    /// that cannot be reached is taken, unlooked at.
    pub async fn connect(config: Arc<Config>, clock: Clock) -> Result<Self, ConnectError> {
        let keys = KeyStore::new(&config.keys)?;
        let mut executors = Vec::new();
        for log in config.by_log() {
            executors.push(Executor::open(&log, keys.clone(), clock.clone()).await?);
        }
        let logs = Self {
            config,
            executors: executors.into(),
        };
        if logs.all().len() > 1 {
            logs.check().await?;
        }
        Ok(logs)
    }

    /// Of the log that the tenant is on.
    pub fn of(&self, tenant: TenantId) -> &Executor {
        &self.executors[self.config.log_of(tenant.0)]
    }

    /// By share.
    pub fn all(&self) -> &[Executor] {
        &self.executors
    }

    pub fn keys(&self) -> &KeyStore {
        self.executors[0].keys()
    }

    /// That the logs are different ones, and that every tenant is on the log where it is looked for.
    async fn check(&self) -> Result<(), ConnectError> {
        let mut ids: HashMap<Uuid, &str> = HashMap::new();
        for (share, executor) in self.executors.iter().enumerate() {
            let name = executor.name();
            let unreachable = |error: &dyn std::fmt::Display| {
                tracing::warn!(log = name, %error, "the log cannot be asked for its tenants yet");
            };
            match executor.log_id().await {
                Ok(id) => {
                    if let Some(other) = ids.insert(id, name) {
                        return Err(ConnectError::Unfit {
                            log: name.to_owned(),
                            problem: format!("{other} is the same log"),
                        });
                    }
                }
                Err(error) => {
                    unreachable(&error);
                    continue;
                }
            }
            let tenants = executor.tenants().await;
            let tenants = tenants.inspect_err(|error| unreachable(error)).unwrap_or_default();
            if let Some(lost) = tenants.into_iter().find(|tenant| self.config.log_of(*tenant) != share) {
                return Err(ConnectError::Unfit {
                    log: name.to_owned(),
                    problem: format!(
                        "it has the tenant {lost}, which is placed on {}: place it by name (logs.<name>.tenants), or set \
                         tenants_since and tenants_until to what they were when it was created",
                        self.executors[self.config.log_of(lost)].name()
                    ),
                });
            }
        }
        Ok(())
    }
}

/// One log that has everything.
impl From<Executor> for Logs {
    fn from(executor: Executor) -> Self {
        Self {
            config: Arc::default(),
            executors: Arc::new([executor]),
        }
    }
}
