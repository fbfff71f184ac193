//! `weft.toml` and `WEFT__SECTION__KEY`: a struct per section, every key with a working development default, checked at
//! start with an error that names the key.

mod logs;
mod sections;

use std::collections::BTreeMap;
use std::path::Path;

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};

pub use logs::FurtherLog;
pub use sections::{
    AccountsSection, AdminSection, AuthSection, ClickHouseSection, CooldownRange, DispatchSection, HeartbeatSection,
    HttpSection, KafkaSection, KeysSection, LogSection, LoginSection, NotReady, Secret, Share, StaticToken,
    TopicPartitions, ViewsSection, WecomSection,
};

/// Development answers conveniences (static tokens, migrations at start); production refuses them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    #[default]
    Development,
    Production,
}

/// The whole configuration.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub profile: Profile,
    /// How far the clock is set wrong, for drills.
    pub clock_offset_seconds: i32,
    pub log: LogSection,
    /// Logs beside `log`, by name.
    pub logs: BTreeMap<String, FurtherLog>,
    pub keys: KeysSection,
    pub views: ViewsSection,
    pub clickhouse: ClickHouseSection,
    pub kafka: KafkaSection,
    pub http: HttpSection,
    pub admin: AdminSection,
    pub auth: AuthSection,
    pub accounts: AccountsSection,
    pub wecom: WecomSection,
    pub login: LoginSection,
    pub heartbeat: HeartbeatSection,
    pub dispatch: DispatchSection,
}

/// Why a configuration cannot be used; the text names the key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("configuration: {0}")]
    Read(Box<figment::Error>),
    #[error("configuration: {key}: {problem}")]
    Invalid { key: &'static str, problem: String },
}

impl Config {
    /// Defaults, then `file` where it exists, then the environment.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = file {
            figment = figment.merge(Toml::file_exact(file));
        } else {
            figment = figment.merge(Toml::file("weft.toml"));
        }
        let mut config: Self = figment
            .merge(Env::prefixed("WEFT__").split("__"))
            .extract()
            .map_err(|error| ConfigError::Read(Box::new(error)))?;
        config.count_shares();
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let invalid = |key, problem: &str| {
            Err(ConfigError::Invalid {
                key,
                problem: problem.to_owned(),
            })
        };
        if self.keys.master_key_bytes().is_none() {
            return invalid("keys.master_key", "must be 32 bytes in base64");
        }
        if self.profile == Profile::Production {
            if self.keys.master_key == KeysSection::default().master_key {
                return invalid("keys.master_key", "the development key must not be used in production");
            }
            if !self.auth.r#static.is_empty() {
                return invalid(
                    "auth.static",
                    "static tokens must not be used in production: set it to []",
                );
            }
        }
        if self.profile == Profile::Production && self.clock_offset_seconds != 0 {
            return invalid("clock_offset_seconds", "is for drills, not for production");
        }
        if [self.kafka.partitions.account, self.kafka.partitions.message].contains(&0) {
            return invalid("kafka.partitions", "every topic needs at least one partition");
        }
        self.check_logs()?;
        if self.wecom.cooldown_seconds.is_empty() {
            return invalid("wecom.cooldown_seconds", "needs at least one cool-down");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert!(Config::default().check().is_ok());
    }

    #[test]
    fn production_refuses_the_development_key_by_name() {
        let config = Config {
            profile: Profile::Production,
            ..Config::default()
        };
        assert!(config.check().unwrap_err().to_string().contains("keys.master_key"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", Config::default());
        assert!(!shown.contains("dev-token-a"), "{shown}");
        assert!(!shown.contains("weft:weft@"), "{shown}");
    }
}
