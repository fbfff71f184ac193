//! `weft replay`: makes read models anew from the log.

use std::time::Duration;

use clap::Args;
use comfy_table::Table;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use weft_platform::config::Config;
use weft_projectors::replay::{FillProgress, Purpose, Replay, TableDiff, prefix_until};
use weft_projectors::world::AnyProjection;

use crate::log::place::Place;
use crate::projections::world_to_rebuild;
use crate::{Failure, log};

/// Which projections.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// Projections by name, as `weft projections list` shows them
    projections: Vec<String>,
    /// Every projection
    #[arg(long)]
    all: bool,
}

impl Which {
    pub(crate) fn projections(&self) -> Result<Vec<Box<dyn AnyProjection>>, Failure> {
        let all = weft_projectors::projections();
        let is_known = |name: &str| all.iter().any(|projection| projection.name() == name);
        if let Some(wrong) = self.projections.iter().find(|name| !is_known(name)) {
            return Err(no_projection(wrong, &all));
        }
        let wanted = |name: &str| self.all || self.projections.iter().any(|wanted| wanted == name);
        Ok(all.into_iter().filter(|projection| wanted(projection.name())).collect())
    }
}

pub(crate) fn no_projection(wrong: &str, all: &[Box<dyn AnyProjection>]) -> Failure {
    let known: Vec<&str> = all.iter().map(|projection| projection.name()).collect();
    Failure::new(format!("{wrong} is no projection: there are {}", known.join(", ")))
}

#[derive(Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    which: Which,
    /// Only up to a place: a log order (77-9) or a time (2026-03-01T08:00:00Z: all that was recorded by then). The
    /// generation stays beside the live one, to be looked at
    #[arg(long, conflicts_with = "roll_back")]
    until: Option<Place>,
    /// Back to the generation before the live one, which is caught up first
    #[arg(long)]
    roll_back: bool,
}

pub(crate) async fn run(args: ReplayArgs, config: Config) -> Result<(), Failure> {
    let projections = args.which.projections()?;
    let until = match args.until {
        None => None,
        Some(_) if !config.logs.is_empty() => {
            return Err(Failure::new(
                "--until names a place of one log, and the read models are made from several: leave it out",
            ));
        }
        Some(place) => {
            let pool = log::pool(&config).await?;
            Some(match (place.order(&pool).await?, place) {
                (Some(order), _) => order,
                (None, Place::Time(time)) => prefix_until(&pool, time).await.map_err(Failure::new)?,
                (None, _) => return Err(Failure::new("--until takes a log order or a time")),
            })
        }
    };
    let facts = config.clickhouse.database.clone();
    let world = world_to_rebuild(config).await?;
    if args.roll_back {
        let mut equal = true;
        for projection in projections {
            let name = projection.name();
            let replay = Replay::back(world.clone(), projection).await.map_err(Failure::new)?;
            outln!("{name}: back to generation {}", replay.generation.number());
            equal &= rebuild(replay).await?;
        }
        return verdict(equal, "the generation gone back to is not what the one before it was");
    }
    let purpose = until.map_or(Purpose::HandOver, Purpose::Until);
    let replay = Replay::begin(world, projections, purpose).await.map_err(Failure::new)?;
    let generation = replay.generation;
    outln!(
        "{} generation {}",
        if replay.resumed { "going on with" } else { "filling" },
        generation.number()
    );
    if let Some(until) = until {
        fill(&replay).await?;
        replay.keep().await.map_err(Failure::new)?;
        outln!(
            "generation {0} is as of {1}/{until}: look at it in the schema {2} and the ClickHouse database {3}, then \
             weft projections drop {0}",
            generation.number(),
            until.epoch,
            generation.schema(),
            generation.facts_database(&facts)
        );
        return Ok(());
    }
    let equal = rebuild(replay).await?;
    verdict(equal, "rows differed from the live ones, which were replaced")
}

fn verdict(equal: bool, otherwise: &str) -> Result<(), Failure> {
    if equal {
        Ok(())
    } else {
        Err(Failure::with_code(otherwise, 3))
    }
}

/// Fills, compares and hands over; answers whether nothing differed.
async fn rebuild(replay: Replay) -> Result<bool, Failure> {
    let generation = replay.generation;
    fill(&replay).await?;
    let diffs = replay.diff().await.map_err(Failure::new)?;
    let equal = print_diffs(&diffs);
    replay.hand_over().await.map_err(Failure::new)?;
    outln!("generation {} is live", generation.number());
    Ok(equal)
}

/// Between two lines of progress where standard error is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Shows how far it is, how fast, and how long it will take: as a bar, or line by line where there is no terminal.
pub(crate) async fn fill(replay: &Replay) -> Result<(), Failure> {
    let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr_with_hz(4));
    let style = ProgressStyle::with_template("{bar:40} {percent:>3} %  {msg}  ETA {eta}");
    bar.set_style(style.map_err(Failure::new)?);
    let began = std::time::Instant::now();
    let mut told: Option<std::time::Instant> = None;
    let rate = |progress: FillProgress, took: Duration| progress.events as f64 / took.as_secs_f64().max(0.001);
    let filled = replay.fill(|progress| {
        bar.set_length(progress.last_position.max(1).cast_unsigned());
        bar.set_position(progress.position.max(0).cast_unsigned());
        let rate = rate(progress, began.elapsed());
        let message = format!("{} events, {rate:.0}/s", progress.events);
        if bar.is_hidden() && told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            told = Some(std::time::Instant::now());
            let percent = 100 * progress.position / progress.last_position.max(1);
            eprintln!(
                "{message}, {percent} % of the log, ETA {:.0} s",
                bar.eta().as_secs_f64()
            );
        }
        bar.set_message(message);
    });
    let filled = filled.await.map_err(Failure::new)?;
    bar.finish_and_clear();
    let took = began.elapsed();
    outln!(
        "{} events in {:.1} s, {:.0}/s",
        filled.events,
        took.as_secs_f64(),
        rate(filled, took)
    );
    Ok(())
}

/// Answers whether nothing differs.
pub(crate) fn print_diffs(diffs: &[TableDiff]) -> bool {
    let mut table = Table::new();
    table.set_header([
        "projection",
        "table",
        "live rows",
        "rebuilt rows",
        "only live",
        "only rebuilt",
        "changed",
    ]);
    for diff in diffs {
        table.add_row([
            diff.projection.to_owned(),
            diff.table.to_owned(),
            diff.live_rows.to_string(),
            diff.rows.to_string(),
            diff.only_live.to_string(),
            diff.only_here.to_string(),
            diff.changed.to_string(),
        ]);
    }
    outln!("{table}");
    for diff in diffs {
        for row in &diff.sample {
            outln!("{} {}: {}", diff.table, row.key, row.what);
        }
    }
    diffs.iter().all(TableDiff::is_equal)
}
