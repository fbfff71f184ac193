//! A database per test, cloned from a migrated template in some 30 ms.

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Executor, PgPool};
use tokio::sync::OnceCell;
use weft_platform::clock::Clock;
use weft_platform::testing::postgres_url;

use super::{run_blocking, unique};

/// Held while a template is built; in the maintenance database, so that parallel test binaries build it once.
const TEMPLATE_LOCK: i64 = 0x7765_6674_7465_7374;
/// Databases of killed test runs are dropped after this.
const LEFT_BEHIND_SECONDS: i64 = 2 * 3_600;

type SetUpError = Box<dyn std::error::Error + Send + Sync>;

/// A database that is dropped with this value, also when its test panics.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
}

impl TestDatabase {
    /// Clones the template of `kind`, which `migrate` builds (given the name of the database to create) where there is
    /// none with this `fingerprint` of the migrations.
    pub async fn clone_of<F>(kind: &str, fingerprint: &str, migrate: impl FnOnce(String) -> F) -> Self
    where
        F: Future<Output = Result<(), SetUpError>>,
    {
        let template = format!("weft_template_{kind}_{fingerprint}");
        let mut admin = connect_admin().await;
        drop_left_behind(&mut admin).await;
        if !exists(&mut admin, &template).await {
            sqlx::query("select pg_advisory_lock($1)")
                .bind(TEMPLATE_LOCK)
                .execute(&mut admin)
                .await
                .expect("the template's lock");
            if !exists(&mut admin, &template).await {
                build(&mut admin, &template, migrate).await;
            }
            sqlx::query("select pg_advisory_unlock($1)")
                .bind(TEMPLATE_LOCK)
                .execute(&mut admin)
                .await
                .expect("the template's lock is held");
        }
        let name = format!("weft_test_{}_{kind}_{}", Clock::system().now().timestamp(), unique());
        run(&mut admin, &format!("create database {name} template {template}")).await;
        Self { name }
    }

    /// A copy of what it holds now, as a backup would have it. Ends every connection to it.
    pub async fn copy(&self) -> Self {
        let mut admin = connect_admin().await;
        let name = format!("weft_test_{}_copy_{}", Clock::system().now().timestamp(), unique());
        sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1")
            .bind(&self.name)
            .execute(&mut admin)
            .await
            .expect("the owner may end sessions");
        run(&mut admin, &format!("create database {name} template {}", self.name)).await;
        Self { name }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// As one of Weft's roles.
    pub fn url(&self, role: &str) -> String {
        postgres_url(Some(role), &self.name).0
    }

    /// As the owner.
    pub fn admin_url(&self) -> String {
        postgres_url(None, &self.name).0
    }

    /// Connections as the owner, for checks that share no code with what they check.
    pub async fn admin_pool(&self) -> PgPool {
        PgPool::connect(&self.admin_url()).await.expect("the test's database")
    }

    /// Connections as one of Weft's roles.
    pub async fn pool(&self, role: &str) -> PgPool {
        PgPool::connect(&self.url(role)).await.expect("the test's database")
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let statement = format!("drop database if exists {} with (force)", self.name);
        run_blocking(|| async move {
            if let Ok(mut admin) = try_connect_admin().await {
                // What cannot be dropped now is left behind for a later run.
                let _ = admin.execute(statement.as_str()).await;
            }
        });
    }
}

/// Under another name until it is complete, so that a killed run leaves no half-built template.
async fn build<F>(admin: &mut PgConnection, template: &str, migrate: impl FnOnce(String) -> F)
where
    F: Future<Output = Result<(), SetUpError>>,
{
    let building = format!("{template}_building");
    run(admin, &format!("drop database if exists {building} with (force)")).await;
    migrate(building.clone()).await.expect("the template's migrations");
    run(admin, &format!("alter database {building} rename to {template}")).await;
}

async fn drop_left_behind(admin: &mut PgConnection) {
    static ONCE: OnceCell<()> = OnceCell::const_new();
    ONCE.get_or_init(|| async {
        let before = Clock::system().now().timestamp() - LEFT_BEHIND_SECONDS;
        let left: Vec<String> = sqlx::query_scalar(
            r"select datname from pg_database where datname ~ '^weft_test_\d{1,12}_'
              and split_part(datname, '_', 3)::bigint < $1",
        )
        .bind(before)
        .fetch_all(&mut *admin)
        .await
        .unwrap_or_default();
        for name in left {
            // Another run may be dropping it too.
            let _ = admin
                .execute(format!("drop database if exists {name} with (force)").as_str())
                .await;
        }
    })
    .await;
}

async fn exists(admin: &mut PgConnection, database: &str) -> bool {
    sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(database)
        .fetch_one(admin)
        .await
        .expect("the list of databases")
}

async fn run(admin: &mut PgConnection, statement: &str) {
    if let Err(error) = admin.execute(statement).await {
        panic!("{statement}: {error}");
    }
}

async fn connect_admin() -> PgConnection {
    try_connect_admin()
        .await
        .unwrap_or_else(|error| panic!("no Postgres for tests at {}: {error}; run infra/dev/up", host()))
}

async fn try_connect_admin() -> Result<PgConnection, sqlx::Error> {
    let options: PgConnectOptions = postgres_url(None, "postgres").expose().parse()?;
    options.application_name("weft tests").connect().await
}

/// Where that is, without its password.
fn host() -> String {
    url::Url::parse(postgres_url(None, "postgres").expose())
        .map(|url| format!("{}:{}", url.host_str().unwrap_or_default(), url.port().unwrap_or(5432)))
        .unwrap_or_default()
}
