//! `weft projections list|check`: where the read models stand, and whether they are what the log says.

use std::sync::Arc;

use clap::{Args, Subcommand};
use comfy_table::Table;
use weft_platform::config::Config;
use weft_platform::health::Health;
use weft_platform::keys::KeyStore;
use weft_projectors::generation::Generation;
use weft_projectors::replay::{Purpose, Replay, drop_beside};
use weft_projectors::status;
use weft_projectors::world::World;

use crate::log::place::shown;
use crate::replay::{Which, fill, print_diffs};
use crate::{Failure, database};

#[derive(Args)]
pub(crate) struct ProjectionsArgs {
    #[command(subcommand)]
    command: ProjectionsCall,
}

#[derive(Subcommand)]
enum ProjectionsCall {
    /// Every projection: generation, position, lag, rows, parked streams; and the generations beside
    List,
    /// Rebuilds projections beside the live ones and compares them; changes nothing. Exit code 3 when rows differ
    Check(Which),
    /// Drops a generation beside the live ones: filled to be looked at, begun and not wanted any more, or kept to go back to
    Drop {
        /// Its number, as `list` shows it
        generation: i32,
    },
}

pub(crate) async fn run(args: ProjectionsArgs, config: Config) -> Result<(), Failure> {
    match args.command {
        ProjectionsCall::List => {
            let world = world(config).await?;
            list(&world).await
        }
        ProjectionsCall::Drop { generation } => {
            let world = world(config).await?;
            drop_beside(&world, Generation::new(generation))
                .await
                .map_err(Failure::new)?;
            outln!("generation {generation} is dropped");
            Ok(())
        }
        ProjectionsCall::Check(which) => {
            let projections = which.projections()?;
            let world = world_to_rebuild(config).await?;
            let replay = Replay::begin(world, projections, Purpose::Check)
                .await
                .map_err(Failure::new)?;
            fill(&replay).await?;
            let diffs = replay.diff().await.map_err(Failure::new)?;
            replay.abandon().await.map_err(Failure::new)?;
            if print_diffs(&diffs) {
                return Ok(());
            }
            Err(Failure::with_code(
                "the read models are not what the log says: `weft replay` makes them anew",
                3,
            ))
        }
    }
}

/// The stores of the projections.
pub(crate) async fn world(config: Config) -> Result<Arc<World>, Failure> {
    database::reach("views.projector_url", config.views.projector_url.expose()).await?;
    let keys = KeyStore::new(&config.keys).map_err(Failure::new)?;
    World::new(Arc::new(config), keys, Health::default()).map_err(Failure::new)
}

/// The stores of a rebuild: also the log, and the right to make tables.
pub(crate) async fn world_to_rebuild(config: Config) -> Result<Arc<World>, Failure> {
    database::reach("views.admin_url", config.views.admin_url.expose()).await?;
    for log in config.by_log() {
        database::reach("log.url", log.log.url.expose()).await?;
    }
    world(config).await
}

async fn list(world: &World) -> Result<(), Failure> {
    let all = status::projections(world).await.map_err(Failure::new)?;
    let members = status::members(world).await.map_err(Failure::new)?;
    let mut table = Table::new();
    table.set_header(["projection", "generation", "position", "lag", "moved", "rows", "state"]);
    for one in all {
        let rows: Vec<String> = one
            .rows
            .iter()
            .map(|(table, count)| match count {
                Some(count) => format!("{table} {count}"),
                None => format!("{table}: ClickHouse does not tell"),
            })
            .collect();
        let state = match (one.parked, one.discarded) {
            (0, 0) if members == 0 => "no process projects".to_owned(),
            (0, 0) => "live".to_owned(),
            (parked, 0) => format!("{parked} streams parked"),
            (parked, discarded) => format!("{parked} streams parked, {discarded} discarded"),
        };
        let state = match one.incomplete_rows {
            0 => state,
            rows => format!("{state}; {rows} rows incomplete"),
        };
        table.add_row([
            one.projection.to_owned(),
            one.previous.map_or_else(
                || one.generation.number().to_string(),
                |previous| format!("{}, before it {previous}", one.generation.number()),
            ),
            one.positions.into_iter().map(shown).collect::<Vec<_>>().join("\n"),
            one.lag
                .map_or_else(|| "Kafka does not tell".to_owned(), |lag| lag.to_string()),
            one.moved_at
                .map_or_else(|| "never".to_owned(), |at| at.format("%F %T").to_string()),
            rows.join("\n"),
            state,
        ]);
    }
    outln!("{table}");
    outln!("{members} processes project");
    for beside in status::beside(world).await.map_err(Failure::new)? {
        let what = match (beside.state.as_str(), beside.is_check) {
            ("filling", true) => "check that has not ended",
            ("filling", false) => "replay that has not ended: the same call goes on with it",
            ("filled", _) => "filled to be looked at",
            _ => "handed over, to go back to",
        };
        outln!(
            "generation {} of {}, begun {}: {what}",
            beside.generation,
            beside.projections.join(", "),
            beside.started_at.format("%F %T")
        );
    }
    Ok(())
}
