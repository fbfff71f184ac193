//! A generation's schema and the stable names over it.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use weft_platform::config::ViewsSection;
use weft_platform::database::{FORGOTTEN_TRANSACTION, Role, ensure_database, run_formatted};

use super::MigrateError;
use crate::clickhouse::message_facts::MessageFacts;
use crate::engine::{Projection, Tables};
use crate::generation::Generation;

static VIEWS: Migrator = Migrator {
    // An older program finds a newer program's migrations: additive ones do not disturb it.
    ignore_missing: true,
    // Taken by this module, around everything.
    locking: false,
    ..sqlx::migrate!("../schemas/postgres/views")
};

/// What is there once, beside the generations.
static STABLE: Migrator = Migrator {
    ignore_missing: true,
    locking: false,
    ..sqlx::migrate!("../schemas/postgres/views_stable")
};

const PROJECTOR: &str = "weft_projector";
const QUERY: &str = "weft_query";

/// Held in the views' database while it is migrated.
const LOCK: i64 = 0x7765_6674_7669_6577;

/// Months before and after this one that have their partition from the start.
const MONTHS: (i32, i32) = (1, 2);

pub(super) async fn migrate(views: &ViewsSection) -> Result<(), MigrateError> {
    let admin = admin(views)?;
    let role = |name, url| Role {
        name,
        url,
        bypasses_rls: false,
        settings: &[FORGOTTEN_TRANSACTION],
        member_of: &[],
        privileges: "connect",
    };
    // Partitions are moved through a temporary table.
    let privileges = "connect, temporary";
    let projector = Role {
        bypasses_rls: true,
        privileges,
        ..role(PROJECTOR, &views.projector_url)
    };
    let query = Role {
        // A request's transaction may wait for ClickHouse or the keys as long as a request may take.
        settings: &[(FORGOTTEN_TRANSACTION.0, "35s")],
        ..role(QUERY, &views.url)
    };
    ensure_database(&admin, &[projector, query]).await?;
    let mut connection = connect_locked(&admin).await?;
    let done = migrate_locked(&mut connection).await;
    connection.close().await?;
    done
}

/// Makes the tables of one generation, or brings them up to date.
pub(super) async fn generation(views: &ViewsSection, generation: Generation) -> Result<(), MigrateError> {
    let mut connection = connect_locked(&admin(views)?).await?;
    let done = migrate_generation(&mut connection, generation).await;
    connection.close().await?;
    done
}

pub(super) async fn drop_generation(views: &ViewsSection, generation: Generation) -> Result<(), MigrateError> {
    let mut connection = connect_locked(&admin(views)?).await?;
    run_formatted(
        &mut connection,
        "drop schema if exists %I cascade",
        &[&generation.schema()],
    )
    .await?;
    connection.close().await?;
    Ok(())
}

/// The live generation of every projection that is not in its first.
pub(super) async fn live(views: &ViewsSection) -> Result<BTreeMap<String, Generation>, MigrateError> {
    let mut connection = admin(views)?.connect().await?;
    let live = live_generations(&mut connection).await?;
    connection.close().await?;
    Ok(live)
}

fn admin(views: &ViewsSection) -> Result<PgConnectOptions, MigrateError> {
    let options = views.admin_url.expose().parse::<PgConnectOptions>();
    let options = options.map_err(|error| MigrateError::Url {
        key: "views.admin_url",
        reason: error.to_string(),
    })?;
    Ok(options.application_name("weft migrate"))
}

/// The lock goes with the connection.
async fn connect_locked(admin: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let mut connection = admin.connect().await?;
    sqlx::query("select pg_advisory_lock($1)")
        .bind(LOCK)
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

async fn migrate_locked(connection: &mut PgConnection) -> Result<(), MigrateError> {
    own_schema(connection, "views").await?;
    run_formatted(connection, "set search_path to views", &[]).await?;
    STABLE.run(&mut *connection).await?;
    let replayed: Vec<i32> = sqlx::query_scalar("select generation from views.replays")
        .fetch_all(&mut *connection)
        .await?;
    migrate_generation(connection, Generation::FIRST).await?;
    for number in replayed {
        migrate_generation(connection, Generation::new(number)).await?;
    }
    Ok(publish(connection).await?)
}

/// Everything belongs to the projector, which makes partitions later.
async fn own_schema(connection: &mut PgConnection, schema: &str) -> Result<(), sqlx::Error> {
    run_formatted(connection, "reset role", &[]).await?;
    run_formatted(
        connection,
        "create schema if not exists %I authorization %I",
        &[schema, PROJECTOR],
    )
    .await?;
    run_formatted(connection, "grant usage on schema %I to %I", &[schema, QUERY]).await?;
    run_formatted(connection, "set role %I", &[PROJECTOR]).await
}

async fn migrate_generation(connection: &mut PgConnection, generation: Generation) -> Result<(), MigrateError> {
    let schema = generation.schema();
    own_schema(connection, &schema).await?;
    run_formatted(connection, "set search_path to %I", &[&schema]).await?;
    VIEWS.run(&mut *connection).await?;
    sqlx::query("select ensure_message_partitions(clock_timestamp(), $1, $2)")
        .bind(MONTHS.0)
        .bind(MONTHS.1)
        .execute(&mut *connection)
        .await?;
    Ok(())
}

async fn live_generations(connection: &mut PgConnection) -> Result<BTreeMap<String, Generation>, sqlx::Error> {
    let rows: Vec<(String, i32)> = sqlx::query_as("select projection, generation from views.generations")
        .fetch_all(connection)
        .await?;
    Ok(rows
        .into_iter()
        .map(|(name, number)| (name, Generation::new(number)))
        .collect())
}

/// Shows under the stable names what the query role may read, each table of its projection's live generation; leaves
/// alone what is already right.
pub(super) async fn publish(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let live = live_generations(connection).await?;
    let tables: Vec<String> = sqlx::query_scalar(
        "select relname::text from pg_class
         where relnamespace = to_regnamespace($1) and relkind in ('r', 'p') and not relispartition
           and has_table_privilege($2, oid, 'select')",
    )
    .bind(Generation::FIRST.schema())
    .bind(QUERY)
    .fetch_all(&mut *connection)
    .await?;
    for table in tables {
        let definition = definition(&table, &live);
        let columns: String = sqlx::query_scalar(COLUMNS)
            .bind(format!("{}.{table}", Generation::FIRST.schema()))
            .fetch_one(&mut *connection)
            .await?;
        // What it is made from is kept with it: a view shows the columns that its table had when it was made.
        let source = format!("{definition} [{columns}]");
        let known: Option<String> = sqlx::query_scalar("select obj_description(to_regclass($1), 'pg_class')")
            .bind(format!("views.{table}"))
            .fetch_one(&mut *connection)
            .await?;
        if known.as_ref() == Some(&source) {
            continue;
        }
        let mut transaction = connection.begin().await?;
        let view = format!("create view views.%I with (security_invoker = true) as {definition}");
        run_formatted(&mut transaction, "drop view if exists views.%I", &[&table]).await?;
        run_formatted(&mut transaction, &view, &[&table]).await?;
        run_formatted(&mut transaction, "grant select on views.%I to %I", &[&table, QUERY]).await?;
        run_formatted(&mut transaction, "comment on view views.%I is %L", &[&table, &source]).await?;
        transaction.commit().await?;
    }
    Ok(())
}

const COLUMNS: &str = "
select string_agg(attname, ' ' order by attnum) from pg_attribute
where attrelid = to_regclass($1) and attnum > 0 and not attisdropped";

/// What a stable name shows. What every projection writes a part of is put together from the generations that are live.
fn definition(table: &str, live: &BTreeMap<String, Generation>) -> String {
    let mut schemas: BTreeSet<(i32, String)> = live.values().map(|live| (live.number(), live.schema())).collect();
    schemas.insert((Generation::FIRST.number(), Generation::FIRST.schema()));
    let parts: Vec<String> = schemas
        .iter()
        .filter_map(|(number, schema)| match table {
            "checkpoints" => Some(format!(
                "select * from {schema}.checkpoints where generation = {number}"
            )),
            "dead_letters" => Some(format!(
                "select * from {schema}.dead_letters letter where exists (select from {schema}.checkpoints c \
                 where c.projection = letter.projection and c.generation = {number})"
            )),
            _ => None,
        })
        .collect();
    if !parts.is_empty() {
        return parts.join(" union all ");
    }
    let owner = match table {
        "dirty_hours" | "statistics_passes" => Some(MessageFacts::NAME),
        _ => crate::projections()
            .iter()
            .find(|projection| matches!(projection.tables(), Tables::Postgres(tables) if tables.contains(&table)))
            .map(|projection| projection.name()),
    };
    let generation = owner
        .and_then(|owner| live.get(owner))
        .copied()
        .unwrap_or(Generation::FIRST);
    format!("select * from {}.{table}", generation.schema())
}
