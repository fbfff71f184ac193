//! Connections that may append.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{Connection, Postgres};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use weft_platform::config::LogSection;

/// How long a call waits for its turn on a server that is there: far above any queue that is not an overload.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(8);
/// How long it waits before it asks whether the server is there at all.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest a server may take to accept a connection.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection that worked this recently is used without asking whether it still does.
const TRUSTED_FOR: Duration = Duration::from_micros(500);
/// How long a probe's answer holds, for all who wait.
const PROBE_HOLDS: Duration = Duration::from_millis(500);

/// A pool that connects when first used. Every connection is made fit to append before it is handed out.
pub(crate) fn log_pool(log: &LogSection, name: &str, max_connections: u32) -> Result<PgPool, sqlx::Error> {
    let options = PgConnectOptions::from_str(log.url.expose())?.application_name(name);
    let statement_timeout_ms = log.statement_timeout_ms;
    Ok(PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(Duration::from_mins(5))
        .after_connect(move |connection, _| Box::pin(make_fit(connection, statement_timeout_ms)))
        .connect_lazy_with(options))
}

/// Sets what an append relies on, and refuses a server where the log's order would not hold.
async fn make_fit(connection: &mut PgConnection, statement_timeout_ms: u32) -> Result<(), sqlx::Error> {
    // A lock is given up a little earlier than the statement, so that the error names what was waited for.
    let lock_timeout_ms = statement_timeout_ms / 5 * 4;
    let (prepared,): (String,) = sqlx::query_as(
        "select current_setting('max_prepared_transactions') from (
           select set_config('synchronous_commit', 'on', false),
                  set_config('statement_timeout', $1, false),
                  set_config('lock_timeout', $2, false)) settings",
    )
    .bind(format!("{statement_timeout_ms}ms"))
    .bind(format!("{lock_timeout_ms}ms"))
    .fetch_one(connection)
    .await?;
    if prepared != "0" {
        return Err(sqlx::Error::Configuration(PREPARED_TRANSACTIONS.into()));
    }
    Ok(())
}

/// One connection, kept by a task that works without a pause; looked at before it is used after one.
pub(crate) struct Line {
    probe: Arc<Probe>,
    kept: Option<(PoolConnection<Postgres>, Instant)>,
}

impl Line {
    pub(crate) const fn new(probe: Arc<Probe>) -> Self {
        Self { probe, kept: None }
    }

    /// Soon an error when the server is away.
    pub(crate) async fn connection(&mut self) -> Result<&mut PoolConnection<Postgres>, sqlx::Error> {
        let fit = match self.kept.take() {
            Some((connection, used)) if used.elapsed() < TRUSTED_FOR => Some(connection),
            Some((mut connection, _)) => {
                let answers = matches!(timeout(PROBE_TIMEOUT, connection.ping()).await, Ok(Ok(())));
                if answers {
                    Some(connection)
                } else {
                    let _ = connection.close().await;
                    None
                }
            }
            None => None,
        };
        let connection = match fit {
            Some(connection) => connection,
            None => self.probe.connection().await?,
        };
        Ok(&mut self.kept.insert((connection, Instant::now())).0)
    }

    /// The connection has just been used, and well.
    pub(crate) fn used(&mut self) {
        if let Some((_, used)) = &mut self.kept {
            *used = Instant::now();
        }
    }

    /// The connection is not to be used again.
    pub(crate) fn cut(&mut self) {
        if let Some((connection, _)) = self.kept.take() {
            // Closes the socket without a farewell that a broken line would swallow.
            drop(connection.leak());
        }
    }
}

/// Tells a server that is away from one that is busy: a pool alone waits as long for either.
pub(crate) struct Probe {
    pool: PgPool,
    host: String,
    port: u16,
    last: Mutex<Option<(Instant, bool)>>,
}

impl Probe {
    pub(crate) fn new(pool: PgPool) -> Self {
        let options = pool.connect_options();
        let (host, port) = (options.get_host().to_owned(), options.get_port());
        Self {
            pool,
            host,
            port,
            last: Mutex::new(None),
        }
    }

    /// A connection: soon an error when the server is away, else when its turn comes.
    pub(crate) async fn connection(&self) -> Result<PoolConnection<Postgres>, sqlx::Error> {
        self.guard(self.pool.acquire()).await
    }

    /// Runs `work`, which waits for a connection of the pool; gives it up when the server is away. Only for work that
    /// may be given up at any point: reads.
    pub(crate) async fn guard<T, E: From<sqlx::Error>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.gone() => Err(sqlx::Error::PoolTimedOut.into()),
        }
    }

    /// Returns when the server does not accept connections.
    async fn gone(&self) {
        sleep(PATIENCE).await;
        while self.accepts().await {
            sleep(PATIENCE).await;
        }
    }

    async fn accepts(&self) -> bool {
        // A socket in the file system is a server on this machine: its pool fails at once.
        if self.host.starts_with('/') {
            return true;
        }
        let mut last = self.last.lock().await;
        match *last {
            Some((at, accepts)) if at.elapsed() < PROBE_HOLDS => accepts,
            _ => {
                let connected = timeout(PROBE_TIMEOUT, TcpStream::connect((self.host.as_str(), self.port))).await;
                let accepts = matches!(connected, Ok(Ok(_)));
                *last = Some((Instant::now(), accepts));
                accepts
            }
        }
    }
}

const PREPARED_TRANSACTIONS: &str = "max_prepared_transactions must be 0: a forgotten prepared transaction would hold back \
     every reader of the log's tail for ever";

/// Looks once whether the server is fit. `Ok(false)` when it cannot be reached: that may pass.
pub(crate) async fn check(log: &LogSection) -> Result<bool, String> {
    use sqlx::ConnectOptions;
    let options = PgConnectOptions::from_str(log.url.expose()).map_err(|error| error.to_string())?;
    let mut connection = match options.connect().await {
        Ok(connection) => connection,
        // No such database, role or password: that does not pass by itself.
        Err(sqlx::Error::Database(error)) if matches!(error.code().as_deref(), Some("3D000" | "28000" | "28P01")) => {
            return Err(format!("{error}; run weft migrate"));
        }
        Err(error) => {
            tracing::warn!(%error, "the log cannot be reached yet");
            return Ok(false);
        }
    };
    match make_fit(&mut connection, log.statement_timeout_ms).await {
        Ok(()) => Ok(true),
        Err(sqlx::Error::Configuration(problem)) => Err(problem.to_string()),
        Err(error) => {
            tracing::warn!(%error, "the log cannot be asked yet");
            Ok(false)
        }
    }
}
