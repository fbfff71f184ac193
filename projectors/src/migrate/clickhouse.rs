//! A generation's ClickHouse database and the stable names over it. ClickHouse has no transactions for this: every
//! statement of a migration is written so that running it twice does nothing more.

use clickhouse::{Client, Row};
use serde::{Deserialize, Serialize};
use weft_platform::config::ClickHouseSection;

use super::MigrateError;
use crate::clickhouse::{ANSWER_TIMEOUT, client};
use crate::generation::Generation;

/// In the order in which they run.
const MIGRATIONS: [(u32, &str); 1] = [(1, include_str!("../../../schemas/clickhouse/0001_facts.sql"))];

/// What the migrations themselves leave behind; not shown under a stable name.
const LEDGER: &str = "migrations";

#[derive(Row, Serialize, Deserialize)]
struct Applied {
    version: u32,
}

#[derive(Row, Deserialize)]
struct Name {
    name: String,
}

pub(super) async fn migrate(section: &ClickHouseSection, generation: Generation) -> Result<(), MigrateError> {
    let stable = &section.database;
    let database = generation.facts_database(stable);
    let server = client(section);
    for database in [stable, &database] {
        run(
            section,
            &server,
            &format!("create database if not exists {}", quoted(database)),
        )
        .await?;
    }
    let inside = server.clone().with_database(&database);
    run(
        section,
        &inside,
        &format!("create table if not exists {LEDGER} (version UInt32) engine = ReplacingMergeTree order by version"),
    )
    .await?;
    let applied: Vec<Applied> = answered(
        section,
        inside.query("select version from migrations final").fetch_all(),
    )
    .await?;
    for (version, file) in MIGRATIONS {
        if applied.iter().any(|applied| applied.version == version) {
            continue;
        }
        for statement in statements(file) {
            run(section, &inside, &statement).await?;
        }
        let mut ledger = answered(section, inside.insert::<Applied>(LEDGER)).await?;
        ledger.write(&Applied { version }).await?;
        answered(section, ledger.end()).await?;
    }
    publish(section, &server, &database).await
}

/// One view per table, which reads it `final`: replaced rows never show.
async fn publish(section: &ClickHouseSection, server: &Client, database: &str) -> Result<(), MigrateError> {
    let tables: Vec<Name> = answered(
        section,
        server
            .query("select name from system.tables where database = ? and engine like '%MergeTree' and name <> ?")
            .bind(database)
            .bind(LEDGER)
            .fetch_all(),
    )
    .await?;
    for Name { name } in tables {
        let (stable, table, database) = (quoted(&section.database), quoted(&name), quoted(database));
        let statement = format!("create or replace view {stable}.{table} as select * from {database}.{table} final");
        run(section, server, &statement).await?;
    }
    Ok(())
}

async fn run(section: &ClickHouseSection, client: &Client, statement: &str) -> Result<(), MigrateError> {
    answered(section, client.query_raw(statement).execute()).await
}

async fn answered<T>(
    section: &ClickHouseSection,
    answer: impl Future<Output = Result<T, clickhouse::error::Error>>,
) -> Result<T, MigrateError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(MigrateError::ClickHouseTimeout(section.url.clone())),
    }
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// The statements of a file: comment lines dropped, split at the semicolons that end a line.
fn statements(file: &str) -> Vec<String> {
    let code: Vec<&str> = file
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"))
        .collect();
    code.join("\n")
        .split(";\n")
        .map(|statement| statement.trim().trim_end_matches(';').to_owned())
        .filter(|statement| !statement.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_split_at_the_ends_of_its_statements_and_comments_are_dropped() {
        let file = "-- a; comment\ncreate a (\n    -- inside;\n    b 'x;y'\n);\n\ncreate c;";
        assert_eq!(statements(file), ["create a (\n    b 'x;y'\n)", "create c"]);
    }

    #[test]
    fn every_migration_has_statements_and_versions_rise() {
        assert!(MIGRATIONS.iter().all(|(_, file)| !statements(file).is_empty()));
        assert!(MIGRATIONS.is_sorted_by_key(|(version, _)| *version));
    }
}
