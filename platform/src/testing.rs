//! How tests wait, and where they find the servers of the development stack: `WEFT_TEST_PG_URL` names a Postgres as somebody who may
//! create databases and roles, `WEFT_TEST_KAFKA` the brokers, `WEFT_TEST_CLICKHOUSE` a ClickHouse.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use url::Url;

use crate::config::Secret;

fn variable(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

/// The address of `database`, as the owner or as one of Weft's roles (whose password is `weft`).
///
/// # Panics
/// When `WEFT_TEST_PG_URL` is no URL of a server.
pub fn postgres_url(role: Option<&str>, database: &str) -> Secret {
    let server = variable("WEFT_TEST_PG_URL", "postgres://postgres:weft@127.0.0.1:15432");
    let mut url = Url::parse(&server).expect("WEFT_TEST_PG_URL is a URL");
    if let Some(role) = role {
        url.set_username(role).expect("a Postgres URL takes a user");
        url.set_password(Some("weft")).expect("a Postgres URL takes a password");
    }
    url.set_path(database);
    Secret(url.into())
}

pub fn kafka_brokers() -> String {
    variable("WEFT_TEST_KAFKA", "127.0.0.1:19092")
}

/// # Panics
/// When `WEFT_TEST_CLICKHOUSE` is no URL.
pub fn clickhouse_url() -> Url {
    Url::parse(&variable("WEFT_TEST_CLICKHOUSE", "http://127.0.0.1:18123")).expect("WEFT_TEST_CLICKHOUSE is a URL")
}

/// Looks until `look` gives something, for at most 30 s; see [`until_within`].
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    until_within(what, Duration::from_secs(30), look).await
}

/// Looks until `look` gives something.
///
/// # Panics
/// With `what` when there is nothing after `within`.
pub async fn until_within<T>(what: &str, within: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < within, "not within {within:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
