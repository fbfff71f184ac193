//! `weft dead-letters list|show|retry|discard`: streams that a projection could not go on with.

use std::collections::BTreeMap;

use chrono::Utc;
use clap::{Args, Subcommand};
use comfy_table::Table;
use uuid::Uuid;
use weft_platform::clock::Clock;
use weft_platform::config::Config;
use weft_projectors::parked::{self, DeadLetter, Retried};
use weft_projectors::world::{AnyProjection, World};

use crate::Failure;
use crate::projections::world;
use crate::replay::no_projection;

#[derive(Args)]
pub(crate) struct DeadLettersArgs {
    #[command(subcommand)]
    command: DeadLettersCall,
}

#[derive(Subcommand)]
enum DeadLettersCall {
    /// Dead letters by projection and fingerprint of their error, with counts and age
    List,
    /// The streams of one kind of error
    Show(Chosen),
    /// Tries again to apply what was put aside; a stream that succeeds goes on. Exit code 3 when one fails again
    Retry(Chosen),
    /// Gives up the events from the one that fails on: the view stays without them until it is rebuilt
    Discard(Chosen),
}

#[derive(Args)]
struct Chosen {
    /// A fingerprint, as `list` shows it, or a stream's id
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    which: Option<String>,
    /// Everything that is parked
    #[arg(long)]
    all: bool,
    /// Of this projection alone
    #[arg(long)]
    projection: Option<String>,
}

impl Chosen {
    fn takes(&self, letter: &DeadLetter) -> bool {
        let named = |which: &String| *which == letter.fingerprint || which.parse() == Ok(letter.aggregate_id);
        self.projection.as_ref().is_none_or(|name| *name == letter.projection)
            && self.which.as_ref().map_or(!letter.is_discarded, named)
    }
}

pub(crate) async fn run(args: DeadLettersArgs, config: Config) -> Result<(), Failure> {
    let world = world(config).await?;
    let projections = weft_projectors::projections();
    match args.command {
        DeadLettersCall::List => list(&world, &projections).await,
        DeadLettersCall::Show(chosen) => {
            show(&chosen_of(&world, &projections, &chosen).await?);
            Ok(())
        }
        DeadLettersCall::Retry(chosen) => retry(&world, &projections, &chosen).await,
        DeadLettersCall::Discard(chosen) => discard(&world, &projections, &chosen).await,
    }
}

async fn letters_of(world: &World, projection: &dyn AnyProjection) -> Result<Vec<DeadLetter>, Failure> {
    let engine = world.live(projection.name()).await.map_err(Failure::new)?;
    parked::list(&engine.pool, projection.name())
        .await
        .map_err(Failure::new)
}

async fn chosen_of(
    world: &World,
    projections: &[Box<dyn AnyProjection>],
    chosen: &Chosen,
) -> Result<Vec<DeadLetter>, Failure> {
    if let Some(wrong) = &chosen.projection
        && projections.iter().all(|projection| projection.name() != wrong)
    {
        return Err(no_projection(wrong, projections));
    }
    let mut letters = Vec::new();
    for projection in projections {
        let all = letters_of(world, projection.as_ref()).await?;
        letters.extend(all.into_iter().filter(|letter| chosen.takes(letter)));
    }
    if letters.is_empty() {
        return Err(Failure::new(match &chosen.which {
            Some(which) => {
                format!("no dead letter has the fingerprint or stream {which}: `weft dead-letters list` shows them")
            }
            None => "nothing is parked: `weft dead-letters list` shows what is discarded".to_owned(),
        }));
    }
    Ok(letters)
}

async fn list(world: &World, projections: &[Box<dyn AnyProjection>]) -> Result<(), Failure> {
    let mut groups: BTreeMap<(String, String, bool), Vec<DeadLetter>> = BTreeMap::new();
    for projection in projections {
        for letter in letters_of(world, projection.as_ref()).await? {
            let key = (
                letter.projection.clone(),
                letter.fingerprint.clone(),
                letter.is_discarded,
            );
            groups.entry(key).or_default().push(letter);
        }
    }
    if groups.is_empty() {
        outln!("no dead letters");
        return Ok(());
    }
    let mut table = Table::new();
    table.set_header([
        "projection",
        "fingerprint",
        "state",
        "streams",
        "events",
        "oldest",
        "tried",
        "error",
    ]);
    for ((projection, fingerprint, is_discarded), letters) in groups {
        let events: i64 = letters
            .iter()
            .map(|letter| letter.last_sequence - letter.sequence + 1)
            .sum();
        let oldest = letters.iter().map(|letter| letter.parked_at).min().unwrap_or_default();
        let tried = letters.iter().map(|letter| letter.attempts).max().unwrap_or_default();
        table.add_row([
            projection,
            fingerprint,
            state(is_discarded).to_owned(),
            letters.len().to_string(),
            format!("at least {events}"),
            age(oldest),
            tried.to_string(),
            letters[0].error.clone(),
        ]);
    }
    outln!("{table}");
    Ok(())
}

fn show(letters: &[DeadLetter]) {
    let mut by_error: BTreeMap<(&str, &str), Vec<&DeadLetter>> = BTreeMap::new();
    for letter in letters {
        let error = (letter.fingerprint.as_str(), letter.error.as_str());
        by_error.entry(error).or_default().push(letter);
    }
    for ((fingerprint, error), letters) in by_error {
        outln!("{fingerprint}: {error}");
        show_streams(&letters);
        outln!(
            "the events: weft log show {}/{}",
            letters[0].aggregate_type,
            letters[0].aggregate_id
        );
    }
}

fn show_streams(letters: &[&DeadLetter]) {
    let mut table = Table::new();
    table.set_header([
        "projection",
        "stream",
        "fails at",
        "put aside to",
        "tenant",
        "state",
        "age",
        "tried",
    ]);
    for letter in letters {
        table.add_row([
            letter.projection.clone(),
            format!("{}/{}", letter.aggregate_type, letter.aggregate_id),
            format!("{} {}", letter.sequence, letter.event_type),
            letter.last_sequence.to_string(),
            letter.tenant_id.to_string(),
            state(letter.is_discarded).to_owned(),
            age(letter.parked_at),
            letter.attempts.to_string(),
        ]);
    }
    outln!("{table}");
}

async fn retry(world: &World, projections: &[Box<dyn AnyProjection>], chosen: &Chosen) -> Result<(), Failure> {
    let (mut applied, mut failed) = (0, 0);
    for letter in chosen_of(world, projections, chosen).await? {
        let Some(projection) = projections
            .iter()
            .find(|projection| projection.name() == letter.projection)
        else {
            continue;
        };
        let stream: (&str, Uuid) = (&letter.aggregate_type, letter.aggregate_id);
        match projection.retry(world, stream).await.map_err(Failure::new)? {
            Retried::Applied(events) => {
                applied += 1;
                outln!("{} {}: {events} events applied", letter.projection, letter.aggregate_id);
            }
            Retried::Failed(fault) => {
                failed += 1;
                outln!("{} {}: {}", letter.projection, letter.aggregate_id, fault.error);
            }
            Retried::NotParked => {}
        }
    }
    outln!("{applied} streams go on, {failed} stay parked");
    if failed > 0 {
        return Err(Failure::with_code(format!("{failed} streams failed again"), 3));
    }
    Ok(())
}

async fn discard(world: &World, projections: &[Box<dyn AnyProjection>], chosen: &Chosen) -> Result<(), Failure> {
    let mut discarded = 0;
    for letter in chosen_of(world, projections, chosen).await? {
        let engine = world.live(&letter.projection).await.map_err(Failure::new)?;
        let stream = (letter.aggregate_type.as_str(), letter.aggregate_id);
        let was_parked = parked::discard(&engine.pool, &letter.projection, stream)
            .await
            .map_err(Failure::new)?;
        discarded += usize::from(was_parked);
    }
    outln!("{discarded} streams given up: their rows stay as they are until the view is rebuilt");
    Ok(())
}

const fn state(is_discarded: bool) -> &'static str {
    if is_discarded { "discarded" } else { "parked" }
}

fn age(since: chrono::DateTime<Utc>) -> String {
    let age = Clock::system().now() - since;
    match age.num_seconds() {
        seconds @ ..=119 => format!("{} s", seconds.max(0)),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds @ 7_200..=172_799 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}
