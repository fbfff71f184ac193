//! What a cluster needs before a database's own migrations: its roles and the database.

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection, Executor};

use crate::config::Secret;

/// Held in the maintenance database, so that of two migrations, also of different databases, one waits.
const LOCK: i64 = 0x7765_6674_6d69_6701;
/// Every cluster has it.
const MAINTENANCE_DATABASE: &str = "postgres";

/// A setting that every role needs: a transaction that its client has forgotten (a task that was cancelled while it began
/// one, for example) ends by itself. Open, it would hold its locks, and hold back every reader of the log's tail.
pub const FORGOTTEN_TRANSACTION: (&str, &str) = ("idle_in_transaction_session_timeout", "10s");

/// A role that a part of Weft connects as.
#[derive(Clone, Copy, Debug)]
pub struct Role<'r> {
    pub name: &'static str,
    /// Its password is taken from here when the role is created.
    pub url: &'r Secret,
    /// Whether row-level security lets everything through for it.
    pub bypasses_rls: bool,
    pub settings: &'r [(&'static str, &'static str)],
    pub member_of: &'r [&'static str],
    /// What it may do with the database: `connect`, `connect, temporary`.
    pub privileges: &'static str,
}

/// Creates the roles and the database that `admin` names, where they are missing. Only the roles may connect.
pub async fn ensure_database(admin: &PgConnectOptions, roles: &[Role<'_>]) -> Result<(), sqlx::Error> {
    let database = admin.get_database().unwrap_or(MAINTENANCE_DATABASE).to_owned();
    let mut connection = admin.clone().database(MAINTENANCE_DATABASE).connect().await?;
    sqlx::query("select pg_advisory_lock($1)")
        .bind(LOCK)
        .execute(&mut connection)
        .await?;
    let done = ensure(&mut connection, &database, roles).await;
    // Closing gives the lock back, whatever happened.
    connection.close().await?;
    done
}

async fn ensure(connection: &mut PgConnection, database: &str, roles: &[Role<'_>]) -> Result<(), sqlx::Error> {
    for role in roles {
        ensure_role(connection, role).await?;
    }
    let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(database)
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        // template0: nobody can be connected to it.
        let create = "create database %I template template0 encoding %L";
        run_formatted(connection, create, &[database, "UTF8"]).await?;
    }
    run_formatted(connection, "revoke all on database %I from public", &[database]).await?;
    for role in roles {
        let grant = format!("grant {} on database %I to %I", role.privileges);
        run_formatted(connection, &grant, &[database, role.name]).await?;
    }
    Ok(())
}

async fn ensure_role(connection: &mut PgConnection, role: &Role<'_>) -> Result<(), sqlx::Error> {
    let bypasses: Option<bool> = sqlx::query_scalar("select rolbypassrls from pg_roles where rolname = $1")
        .bind(role.name)
        .fetch_optional(&mut *connection)
        .await?;
    if bypasses.is_none() {
        let url = url::Url::parse(role.url.expose()).map_err(|error| sqlx::Error::Configuration(error.into()))?;
        match url.password().filter(|_| url.username() == role.name) {
            Some(password) => {
                run_formatted(connection, "create role %I login password %L", &[role.name, password]).await?;
            }
            None => run_formatted(connection, "create role %I login", &[role.name]).await?,
        }
    }
    if role.bypasses_rls && bypasses != Some(true) {
        run_formatted(connection, "alter role %I bypassrls", &[role.name]).await?;
    }
    for (setting, value) in role.settings {
        // Only where it is missing: an operator's own value stays, and two test runs do not fight over the row.
        let set: bool = sqlx::query_scalar(
            "select exists (
               select from pg_db_role_setting s join pg_roles r on r.oid = s.setrole, unnest(s.setconfig) as c (text)
               where r.rolname = $1 and s.setdatabase = 0 and c.text like $2 || '=%')",
        )
        .bind(role.name)
        .bind(setting)
        .fetch_one(&mut *connection)
        .await?;
        if !set {
            run_formatted(
                connection,
                &format!("alter role %I set {setting} = %L"),
                &[role.name, value],
            )
            .await?;
        }
    }
    for group in role.member_of {
        let member: bool = sqlx::query_scalar("select pg_has_role($1, $2, 'member')")
            .bind(role.name)
            .bind(group)
            .fetch_one(&mut *connection)
            .await?;
        if !member {
            run_formatted(connection, "grant %I to %I", &[group, role.name]).await?;
        }
    }
    Ok(())
}

/// Names and passwords cannot be bound to such statements: Postgres itself quotes them.
pub async fn run_formatted(connection: &mut PgConnection, statement: &str, values: &[&str]) -> Result<(), sqlx::Error> {
    let statement: String = sqlx::query_scalar("select format($1, variadic $2::text[])")
        .bind(statement)
        .bind(values)
        .fetch_one(&mut *connection)
        .await?;
    connection.execute(statement.as_str()).await?;
    Ok(())
}
