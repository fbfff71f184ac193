//! What the cluster needs before the views' own migrations: two roles and the database.

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Executor};
use weft_platform::config::{Secret, ViewsSection};

use super::MigrateError;

/// Held in the maintenance database by every migration of Weft, also of other databases: roles belong to the cluster.
const LOCK: i64 = 0x7765_6674_6d69_6701;
/// Every cluster has it.
const MAINTENANCE_DATABASE: &str = "postgres";

pub(super) const PROJECTOR: &str = "weft_projector";
pub(super) const QUERY: &str = "weft_query";

/// Creates the roles and the database that `admin` names, where they are missing. Only the two roles may connect.
pub(super) async fn ensure(admin: &PgConnectOptions, views: &ViewsSection) -> Result<(), MigrateError> {
    let mut connection = admin.clone().database(MAINTENANCE_DATABASE).connect().await?;
    sqlx::query("select pg_advisory_lock($1)")
        .bind(LOCK)
        .execute(&mut connection)
        .await?;
    let database = admin.get_database().unwrap_or(MAINTENANCE_DATABASE);
    let done = ensure_locked(&mut connection, database, views).await;
    // Closing gives the lock back, whatever happened.
    connection.close().await?;
    done
}

async fn ensure_locked(
    connection: &mut PgConnection,
    database: &str,
    views: &ViewsSection,
) -> Result<(), MigrateError> {
    ensure_role(connection, PROJECTOR, "bypassrls", &views.projector_url).await?;
    ensure_role(connection, QUERY, "nobypassrls", &views.url).await?;
    let bypasses: bool = sqlx::query_scalar("select rolbypassrls from pg_roles where rolname = $1")
        .bind(PROJECTOR)
        .fetch_one(&mut *connection)
        .await?;
    if !bypasses {
        run_formatted(connection, "alter role %I bypassrls", &[PROJECTOR])
            .await
            .map_err(MigrateError::BypassRls)?;
    }
    let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(database)
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        // template0: nobody can be connected to it.
        run_formatted(
            connection,
            "create database %I template template0 encoding %L",
            &[database, "UTF8"],
        )
        .await?;
    }
    run_formatted(connection, "revoke all on database %I from public", &[database]).await?;
    for role in [PROJECTOR, QUERY] {
        run_formatted(connection, "grant connect on database %I to %I", &[database, role]).await?;
    }
    // Partitions are moved through a temporary table.
    run_formatted(
        connection,
        "grant temporary on database %I to %I",
        &[database, PROJECTOR],
    )
    .await?;
    Ok(())
}

/// Creates a role with the password that its own URL has.
async fn ensure_role(
    connection: &mut PgConnection,
    role: &str,
    attribute: &str,
    url: &Secret,
) -> Result<(), MigrateError> {
    let exists: bool = sqlx::query_scalar("select exists (select from pg_roles where rolname = $1)")
        .bind(role)
        .fetch_one(&mut *connection)
        .await?;
    if exists {
        return Ok(());
    }
    let password = url::Url::parse(url.expose())
        .ok()
        .filter(|url| url.username() == role)
        .and_then(|url| url.password().map(str::to_owned));
    match password {
        Some(password) => {
            let statement = format!("create role %I login {attribute} password %L");
            run_formatted(connection, &statement, &[role, &password]).await?;
        }
        None => run_formatted(connection, &format!("create role %I login {attribute}"), &[role]).await?,
    }
    Ok(())
}

/// Names and passwords cannot be bound to such statements: Postgres itself quotes them.
pub(super) async fn run_formatted(
    connection: &mut PgConnection,
    statement: &str,
    values: &[&str],
) -> Result<(), sqlx::Error> {
    let statement: String = sqlx::query_scalar("select format($1, variadic $2::text[])")
        .bind(statement)
        .bind(values)
        .fetch_one(&mut *connection)
        .await?;
    connection.execute(statement.as_str()).await?;
    Ok(())
}
