//! `weft migrate` for the log's database and the key database: roles, databases, tables. Idempotent, and safe when two
//! run at once.

use sqlx::migrate::Migrator;
use sqlx::postgres::PgPoolOptions;
use weft_platform::config::{Config, Secret};
use weft_platform::database::{FORGOTTEN_TRANSACTION, Role, ensure_database};

static LOG: Migrator = Migrator {
    ignore_missing: true,
    ..sqlx::migrate!("../../schemas/postgres/log")
};
static KEYS: Migrator = Migrator {
    ignore_missing: true,
    ..sqlx::migrate!("../../schemas/postgres/keys")
};

/// Why a database could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error("{key}: {error}")]
    Url { key: &'static str, error: sqlx::Error },
    #[error("{0}")]
    Database(#[from] sqlx::Error),
    #[error("{0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
}

/// The log's database, with every table that lives in it.
pub async fn log(config: &Config) -> Result<(), MigrateError> {
    let role = Role {
        name: "weft_log",
        url: &config.log.url,
        // Also for sessions that are not ours, such as stock postgres-es.
        settings: &[
            ("synchronous_commit", "on"),
            ("statement_timeout", "10s"),
            FORGOTTEN_TRANSACTION,
        ],
        member_of: &["pg_read_all_stats"],
        bypasses_rls: false,
        privileges: "connect",
    };
    run(&LOG, "log.admin_url", &config.log.admin_url, &role).await
}

/// The key database.
pub async fn keys(config: &Config) -> Result<(), MigrateError> {
    let role = Role {
        name: "weft_keys",
        url: &config.keys.url,
        settings: &[("statement_timeout", "10s"), FORGOTTEN_TRANSACTION],
        member_of: &[],
        bypasses_rls: false,
        privileges: "connect",
    };
    run(&KEYS, "keys.admin_url", &config.keys.admin_url, &role).await
}

/// Names the state that all migrations lead to: of the log's database and the key database.
#[cfg(feature = "testing")]
pub(crate) fn fingerprints() -> (String, String) {
    let fingerprint = |migrator: &Migrator| {
        use sha2::Digest;
        let mut hash = sha2::Sha256::new();
        for migration in migrator.iter() {
            hash.update(&migration.checksum);
        }
        let mut bytes = [0; 8];
        bytes[2..].copy_from_slice(&hash.finalize()[..6]);
        format!("{:012x}", u64::from_be_bytes(bytes))
    };
    (fingerprint(&LOG), fingerprint(&KEYS))
}

async fn run(migrator: &Migrator, key: &'static str, url: &Secret, role: &Role<'_>) -> Result<(), MigrateError> {
    let options = url.expose().parse::<sqlx::postgres::PgConnectOptions>();
    let options = options
        .map_err(|error| MigrateError::Url { key, error })?
        .application_name("weft migrate");
    ensure_database(&options, std::slice::from_ref(role)).await?;
    // A pool of one: the migrator takes it where futures must be `Send`.
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await?;
    migrator.run(&pool).await?;
    pool.close().await;
    Ok(())
}
