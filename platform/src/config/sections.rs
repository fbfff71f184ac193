//! One struct per section of the configuration.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use base64::Engine;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

/// A text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl Secret {
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

fn postgres(role: &str, database: &str) -> Secret {
    Secret(format!("postgres://{role}:weft@127.0.0.1:15432/{database}"))
}

/// The log: the truth. There may be more of them: `Config::logs`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSection {
    /// `main`, but for further logs, which have theirs from their key.
    #[serde(skip)]
    pub name: String,
    /// As role `weft_log`.
    pub url: Secret,
    /// As an owner who may create databases and roles; used by `weft migrate` alone.
    pub admin_url: Secret,
    pub max_connections: u32,
    /// Largest payload of one event; an append over it is refused.
    pub max_event_bytes: usize,
    pub statement_timeout_ms: u32,
    /// Tasks that append, each with a connection of its own, tenants shared out among them; as many read.
    pub writers: usize,
    /// Commands that may wait for a writer; more are answered 503 at once.
    pub queue_commands: usize,
    /// Also refused at once: what could not be written within this at the pace of the last batches, beyond one batch.
    pub queue_wait_ms: u32,
    /// How long a command may wait for its writer before it is withdrawn.
    pub append_deadline_ms: u32,
    /// Memory for the folded state of streams.
    pub cache_bytes: u64,
    /// A relay that has not renewed its lease for this long has lost it.
    pub relay_lease_ms: u32,
    /// Longest time between two looks at the log's tail, where nobody wakes the relay.
    pub relay_poll_ms: u32,
    /// Tenants that are born from then on are on other logs.
    pub tenants_until: Option<DateTime<Utc>>,
}

impl Default for LogSection {
    fn default() -> Self {
        Self {
            name: "main".to_owned(),
            url: postgres("weft_log", "weft_log"),
            admin_url: postgres("postgres", "weft_log"),
            max_connections: 24,
            max_event_bytes: 512 * 1024,
            statement_timeout_ms: 10_000,
            writers: 2,
            queue_commands: 4_096,
            queue_wait_ms: 200,
            append_deadline_ms: 5_000,
            cache_bytes: 64 * 1024 * 1024,
            relay_lease_ms: 3_000,
            relay_poll_ms: 100,
            tenants_until: None,
        }
    }
}

/// The key database.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeysSection {
    /// As role `weft_keys`.
    pub url: Secret,
    pub admin_url: Secret,
    pub max_connections: u32,
    /// 32 bytes in base64; wraps every subject's key.
    pub master_key: Secret,
    /// Opened subject keys kept in memory.
    pub cache_entries: u64,
}

impl Default for KeysSection {
    fn default() -> Self {
        Self {
            url: postgres("weft_keys", "weft_keys"),
            admin_url: postgres("postgres", "weft_keys"),
            max_connections: 8,
            master_key: Secret("d2VmdC1kZXZlbG9wbWVudC1tYXN0ZXIta2V5LTMyYi4=".to_owned()),
            cache_entries: 100_000,
        }
    }
}

impl KeysSection {
    /// The master key itself, if it is well-formed.
    pub fn master_key_bytes(&self) -> Option<[u8; 32]> {
        base64::engine::general_purpose::STANDARD
            .decode(self.master_key.expose())
            .ok()?
            .try_into()
            .ok()
    }
}

/// The read models in Postgres.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ViewsSection {
    /// As role `weft_query`: what the query API opens.
    pub url: Secret,
    /// As role `weft_projector`.
    pub projector_url: Secret,
    pub admin_url: Secret,
    pub max_connections: u32,
}

impl Default for ViewsSection {
    fn default() -> Self {
        Self {
            url: postgres("weft_query", "weft_views"),
            projector_url: postgres("weft_projector", "weft_views"),
            admin_url: postgres("postgres", "weft_views"),
            max_connections: 16,
        }
    }
}

/// The facts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClickHouseSection {
    pub url: Url,
    /// Stable names live here; each generation's tables in `<database>_g<n>`.
    pub database: String,
    pub user: String,
    pub password: Secret,
}

impl Default for ClickHouseSection {
    fn default() -> Self {
        Self {
            url: Url::parse("http://127.0.0.1:18123").expect("a constant"),
            database: "weft".to_owned(),
            user: "default".to_owned(),
            password: Secret(String::new()),
        }
    }
}

/// Partitions of each topic that one log has; immutable once the topic exists.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicPartitions {
    pub account: i32,
    pub message: i32,
    pub conversation: i32,
    pub tenant: i32,
}

impl Default for TopicPartitions {
    fn default() -> Self {
        Self {
            account: 6,
            message: 6,
            conversation: 6,
            tenant: 1,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaSection {
    pub brokers: String,
    /// Whether the brokers speak TLS; needs a build with the feature `tls`.
    pub tls: bool,
    /// PEM file of the authorities that sign the brokers' certificates; without one, this machine's own.
    pub ca_file: Option<PathBuf>,
    /// What stands before the aggregate's name in a topic.
    pub topic_prefix: String,
    pub partitions: TopicPartitions,
    pub replication_factor: i32,
    pub retention_hours: u32,
    /// Of the log that this configuration is seen from.
    #[serde(skip)]
    pub share: Share,
}

/// Which part of every topic's partitions: as many for each log, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    pub index: usize,
    /// How many logs there are.
    pub count: usize,
}

impl Default for Share {
    fn default() -> Self {
        Self { index: 0, count: 1 }
    }
}

impl Default for KafkaSection {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:19092".to_owned(),
            tls: false,
            ca_file: None,
            topic_prefix: "weft.events.".to_owned(),
            partitions: TopicPartitions::default(),
            replication_factor: 1,
            retention_hours: 7 * 24,
            share: Share::default(),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSection {
    /// `weft all`.
    pub listen: SocketAddr,
    /// `weft command-api` alone.
    pub command_listen: SocketAddr,
    /// `weft query-api` alone.
    pub query_listen: SocketAddr,
    /// Where WeCom reaches the callback ingress.
    pub public_url: Url,
    pub request_timeout_seconds: u64,
    pub max_body_bytes: usize,
    pub max_batch_body_bytes: usize,
}

impl Default for HttpSection {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 8080).into(),
            command_listen: ([127, 0, 0, 1], 8081).into(),
            query_listen: ([127, 0, 0, 1], 8082).into(),
            public_url: Url::parse("http://127.0.0.1:8080").expect("a constant"),
            request_timeout_seconds: 30,
            max_body_bytes: 1024 * 1024,
            max_batch_body_bytes: 8 * 1024 * 1024,
        }
    }
}

/// Metrics and health, apart from the API.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminSection {
    pub listen: SocketAddr,
}

impl Default for AdminSection {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 9100).into(),
        }
    }
}

/// One static bearer token of the development profile.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticToken {
    pub token: Secret,
    pub tenant_id: Uuid,
    /// `admin`: every permission.
    pub role: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSection {
    pub r#static: Vec<StaticToken>,
}

impl AuthSection {
    /// The development tenants, by the letter that their token ends with.
    pub const DEV_TENANT_A: Uuid = Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_000a);
    pub const DEV_TENANT_B: Uuid = Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_000b);
}

impl Default for AuthSection {
    fn default() -> Self {
        let token = |token: &str, tenant_id| StaticToken {
            token: Secret(token.to_owned()),
            tenant_id,
            role: "admin".to_owned(),
        };
        Self {
            r#static: vec![
                token("dev-token-a", Self::DEV_TENANT_A),
                token("dev-token-b", Self::DEV_TENANT_B),
            ],
        }
    }
}

/// What a new account's settings default to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountsSection {
    pub send_interval_ms: u32,
    pub daily_limit: u32,
}

impl Default for AccountsSection {
    fn default() -> Self {
        Self {
            send_interval_ms: 0,
            daily_limit: 1_000,
        }
    }
}

/// Shortest and longest of the first and later cool-downs: the n-th cool-down takes the n-th value, the last repeats.
pub type CooldownRange = Vec<u64>;

/// How a runtime that is not ready (1014) is retried.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotReady {
    pub every: u64,
    #[serde(rename = "for")]
    pub for_seconds: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WecomSection {
    /// Base of the instance protocol.
    pub instance_url: Url,
    /// Set both for the hosted variant (`/open/GuidRequest`).
    pub app_key: Option<Secret>,
    pub app_secret: Option<Secret>,
    pub connect_timeout_seconds: u64,
    pub answer_timeout_seconds: u64,
    pub cooldown_seconds: CooldownRange,
    pub not_ready_seconds: NotReady,
    /// `/client/create_client`'s `client_type`.
    pub client_type: i32,
    /// `/cloud/cdn_c2c_upload`'s `file_type` numbers differ between vendors.
    pub image_file_type: i32,
    pub file_file_type: i32,
}

impl Default for WecomSection {
    fn default() -> Self {
        Self {
            instance_url: Url::parse("http://127.0.0.1:8090").expect("a constant"),
            app_key: None,
            app_secret: None,
            connect_timeout_seconds: 3,
            answer_timeout_seconds: 5,
            cooldown_seconds: vec![3, 10],
            not_ready_seconds: NotReady {
                every: 1,
                for_seconds: 10,
            },
            client_type: 1,
            image_file_type: 1,
            file_file_type: 5,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoginSection {
    /// How long a login code lives; WeCom's own time.
    pub qrcode_seconds: u64,
    /// How long a scanned code may wait for its confirmation, or a verification code to be typed.
    pub confirm_timeout_seconds: u64,
    /// Polling of `/login/check_login_qrcode` while waiting.
    pub poll_seconds: u64,
    /// How long `PUT …/login` waits for the code.
    pub wait_for_code_seconds: u64,
}

impl Default for LoginSection {
    fn default() -> Self {
        Self {
            qrcode_seconds: 120,
            confirm_timeout_seconds: 120,
            poll_seconds: 3,
            wait_for_code_seconds: 10,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeartbeatSection {
    pub interval_seconds: u64,
    /// Accounts asked at once.
    pub in_flight: usize,
    /// Polls without an answer in a row that mean the network is lost.
    pub failures: u32,
}

impl Default for HeartbeatSection {
    fn default() -> Self {
        Self {
            interval_seconds: 5,
            in_flight: 200,
            failures: 3,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DispatchSection {
    /// How long an unknown attempt blocks its conversation.
    pub unknown_timeout_seconds: u64,
    /// Account lanes worked on at once.
    pub lanes: usize,
    /// A lane not renewed for this long may be taken over.
    pub lease_seconds: u64,
    /// First and longest wait before a retry.
    pub retry_min_ms: u64,
    pub retry_max_ms: u64,
}

impl Default for DispatchSection {
    fn default() -> Self {
        Self {
            unknown_timeout_seconds: 30,
            lanes: 64,
            lease_seconds: 15,
            retry_min_ms: 200,
            retry_max_ms: 30_000,
        }
    }
}
