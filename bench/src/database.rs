//! Databases of a benchmark's own, on the configured server, dropped at the end.

use sqlx::{Connection, PgConnection};
use weft_platform::clock::Clock;
use weft_platform::config::{Config, Secret};

use crate::Failure;

pub(crate) struct Databases {
    /// The configuration with a log and a key database of our own.
    pub(crate) config: Config,
    /// With stock postgres-es's own table.
    pub(crate) stock_url: Secret,
    /// The configuration of peers that write the same rows into tables of the same form.
    pub(crate) peer: Config,
    server: Secret,
    names: Vec<String>,
}

/// The table that postgres-es documents.
const STOCK_TABLE: &str = "create table events (
    aggregate_type text not null, aggregate_id text not null, sequence bigint check (sequence >= 0) not null,
    event_type text not null, event_version text not null, payload json not null, metadata json not null,
    timestamp timestamp with time zone default (current_timestamp), primary key (aggregate_type, aggregate_id, sequence))";

fn renamed(url: &Secret, database: &str) -> Secret {
    let base = url.expose().rsplit_once('/').map_or(url.expose(), |(base, _)| base);
    Secret(format!("{base}/{database}"))
}

impl Databases {
    pub(crate) async fn create(config: &Config) -> Result<Self, Failure> {
        let suffix = Clock::system().new_id().simple().to_string();
        let names: Vec<String> = ["log", "keys", "views", "peer", "stock", "peer_views"]
            .map(|kind| format!("bench_{kind}_{suffix}"))
            .to_vec();
        let with = |log: &str, views: &str| {
            let mut config = config.clone();
            config.views.url = renamed(&config.views.url, views);
            config.views.projector_url = renamed(&config.views.projector_url, views);
            config.views.admin_url = renamed(&config.views.admin_url, views);
            views.clone_into(&mut config.clickhouse.database);
            config.log.url = renamed(&config.log.url, log);
            config.log.admin_url = renamed(&config.log.admin_url, log);
            config.keys.url = renamed(&config.keys.url, &names[1]);
            config.keys.admin_url = renamed(&config.keys.admin_url, &names[1]);
            config
        };
        let databases = Self {
            config: with(&names[0], &names[2]),
            peer: with(&names[3], &names[5]),
            stock_url: renamed(&config.log.admin_url, &names[4]),
            server: renamed(&config.log.admin_url, "postgres"),
            names: names.clone(),
        };
        weft_log_writer::migrate::log(&databases.config).await?;
        weft_log_writer::migrate::keys(&databases.config).await?;
        weft_log_writer::migrate::log(&databases.peer).await?;
        let mut server = PgConnection::connect(databases.server.expose()).await?;
        sqlx::query(&format!("create database {}", names[4]))
            .execute(&mut server)
            .await?;
        let mut stock = PgConnection::connect(databases.stock_url.expose()).await?;
        sqlx::query(STOCK_TABLE).execute(&mut stock).await?;
        Ok(databases)
    }

    /// So that no round pays for what an earlier one left behind.
    pub(crate) async fn settle(&self) -> Result<(), Failure> {
        let mut server = PgConnection::connect(self.server.expose()).await?;
        sqlx::query("checkpoint").execute(&mut server).await?;
        Ok(())
    }

    pub(crate) async fn drop(self) -> Result<(), Failure> {
        let mut server = PgConnection::connect(self.server.expose()).await?;
        for name in &self.names {
            sqlx::query(&format!("drop database if exists {name} with (force)"))
                .execute(&mut server)
                .await?;
        }
        Ok(())
    }
}
