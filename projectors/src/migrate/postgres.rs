//! A generation's schema and the stable names over it.

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use weft_platform::config::ViewsSection;
use weft_platform::database::{FORGOTTEN_TRANSACTION, Role, ensure_database, run_formatted};

use super::MigrateError;
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

pub(super) async fn migrate(views: &ViewsSection, generation: Generation) -> Result<(), MigrateError> {
    let admin: PgConnectOptions = views
        .admin_url
        .expose()
        .parse()
        .map_err(|error: sqlx::Error| MigrateError::Url {
            key: "views.admin_url",
            reason: error.to_string(),
        })?;
    let admin = admin.application_name("weft migrate");
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
    let mut connection = admin.connect().await?;
    sqlx::query("select pg_advisory_lock($1)")
        .bind(LOCK)
        .execute(&mut connection)
        .await?;
    let done = migrate_locked(&mut connection, generation).await;
    connection.close().await?;
    done
}

async fn migrate_locked(connection: &mut PgConnection, generation: Generation) -> Result<(), MigrateError> {
    let schema = generation.schema();
    for schema in [schema.as_str(), "views"] {
        run_formatted(
            connection,
            "create schema if not exists %I authorization %I",
            &[schema, PROJECTOR],
        )
        .await?;
        run_formatted(connection, "grant usage on schema %I to %I", &[schema, QUERY]).await?;
    }
    // Everything belongs to the projector, which makes partitions later.
    run_formatted(connection, "set role %I", &[PROJECTOR]).await?;
    run_formatted(connection, "set search_path to views", &[]).await?;
    STABLE.run(&mut *connection).await?;
    run_formatted(connection, "set search_path to %I", &[&schema]).await?;
    VIEWS.run(&mut *connection).await?;
    sqlx::query("select ensure_message_partitions(clock_timestamp(), $1, $2)")
        .bind(MONTHS.0)
        .bind(MONTHS.1)
        .execute(&mut *connection)
        .await?;
    publish(connection, &schema).await
}

/// Shows under the stable names what the query role may read of this generation; leaves alone what is already right.
async fn publish(connection: &mut PgConnection, schema: &str) -> Result<(), MigrateError> {
    let tables: Vec<(String, bool)> = sqlx::query_as(
        "select t.relname,
                -- A view shows the columns that its table had when it was made.
                (select array_agg(a.attname order by a.attnum) from pg_attribute a
                 where a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped)
                is not distinct from
                (select array_agg(a.attname order by a.attnum) from pg_attribute a
                 where a.attrelid = v.oid and a.attnum > 0 and not a.attisdropped)
                and exists (
                  select from pg_depend d join pg_rewrite r on r.oid = d.objid
                  where r.ev_class = v.oid and d.refclassid = 'pg_class'::regclass and d.refobjid = t.oid) as published
         from pg_class t
         left join pg_class v on v.relname = t.relname and v.relnamespace = 'views'::regnamespace
         where t.relnamespace = to_regnamespace($1) and t.relkind in ('r', 'p') and not t.relispartition
           and has_table_privilege($2, t.oid, 'select')",
    )
    .bind(schema)
    .bind(QUERY)
    .fetch_all(&mut *connection)
    .await?;
    for (table, _) in tables.iter().filter(|(_, published)| !published) {
        let mut transaction = connection.begin().await?;
        run_formatted(&mut transaction, "drop view if exists views.%I", &[table]).await?;
        run_formatted(
            &mut transaction,
            "create view views.%I with (security_invoker = true) as select * from %I.%I",
            &[table, schema, table],
        )
        .await?;
        run_formatted(&mut transaction, "grant select on views.%I to %I", &[table, QUERY]).await?;
        transaction.commit().await?;
    }
    Ok(())
}
