//! A generation's ClickHouse database and the stable names over it. ClickHouse has no transactions for this: every
//! statement of a migration is written so that running it twice does nothing more.

use std::collections::BTreeMap;

use clickhouse::{Client, Row};
use serde::{Deserialize, Serialize};
use weft_platform::config::ClickHouseSection;

use super::MigrateError;
use crate::clickhouse::{ANSWER_TIMEOUT, client};
use crate::engine::Tables;
use crate::generation::Generation;

/// In the order in which they run.
const MIGRATIONS: [(u32, &str); 1] = [(1, include_str!("../../../schemas/clickhouse/0001_facts.sql"))];

/// What the migrations themselves leave behind.
const LEDGER: &str = "migrations";

#[derive(Row, Serialize, Deserialize)]
struct Applied {
    version: u32,
}

pub(super) async fn migrate(
    section: &ClickHouseSection,
    live: &BTreeMap<String, Generation>,
) -> Result<(), MigrateError> {
    create_database(section, &section.database).await?;
    generation(section, Generation::FIRST).await?;
    for projection in crate::projections() {
        let Tables::Facts(tables) = projection.tables() else {
            continue;
        };
        let live = live.get(projection.name()).copied().unwrap_or(Generation::FIRST);
        if live != Generation::FIRST {
            generation(section, live).await?;
        }
        publish(section, tables, &live.facts_database(&section.database)).await?;
    }
    Ok(())
}

pub(super) async fn drop_generation(section: &ClickHouseSection, generation: Generation) -> Result<(), MigrateError> {
    let database = quoted(&generation.facts_database(&section.database));
    run(
        section,
        &client(section),
        &format!("drop database if exists {database} sync"),
    )
    .await
}

async fn create_database(section: &ClickHouseSection, database: &str) -> Result<(), MigrateError> {
    let statement = format!("create database if not exists {}", quoted(database));
    run(section, &client(section), &statement).await
}

/// Makes the tables of one generation, or brings them up to date.
pub(super) async fn generation(section: &ClickHouseSection, generation: Generation) -> Result<(), MigrateError> {
    let database = generation.facts_database(&section.database);
    create_database(section, &database).await?;
    let inside = client(section).with_database(&database);
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
    Ok(())
}

/// One view per table, which reads it `final`: replaced rows never show.
async fn publish(section: &ClickHouseSection, tables: &[&str], database: &str) -> Result<(), MigrateError> {
    for table in tables {
        let (stable, table, database) = (quoted(&section.database), quoted(table), quoted(database));
        let statement = format!("create or replace view {stable}.{table} as select * from {database}.{table} final");
        run(section, &client(section), &statement).await?;
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
