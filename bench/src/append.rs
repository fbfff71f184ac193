//! Accepting messages: the whole command path in process (load, decide, append) beside the stock postgres-es store, on
//! the same server, in databases of their own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cqrs_es::CqrsFramework;
use cqrs_es::persist::PersistedEventStore;
use futures::{StreamExt, TryStreamExt};
use postgres_es::PostgresEventRepository;
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection};
use weft_domain::message::{AcceptMessage, Message, MessageCommand, MessageType};
use weft_domain::{AccountId, ActorType, Metadata, Sealed, TenantId};
use weft_log_writer::{CallOptions, Executor};
use weft_platform::clock::Clock;
use weft_platform::config::{Config, Secret};

use crate::report::{Benchmark, Side};

type Failure = Box<dyn std::error::Error>;
type Round = (Duration, Vec<Duration>);

/// The table that postgres-es documents.
const STOCK_TABLE: &str = "create table events (
    aggregate_type text not null, aggregate_id text not null, sequence bigint check (sequence >= 0) not null,
    event_type text not null, event_version text not null, payload json not null, metadata json not null,
    timestamp timestamp with time zone default (current_timestamp), primary key (aggregate_type, aggregate_id, sequence))";

fn renamed(url: &Secret, database: &str) -> Secret {
    let base = url.expose().rsplit_once('/').map_or(url.expose(), |(base, _)| base);
    Secret(format!("{base}/{database}"))
}

pub(crate) async fn accepting_messages(
    config: &Config,
    rounds: usize,
    commands: usize,
    in_flight: usize,
) -> Result<Benchmark, Failure> {
    let clock = Clock::system();
    let suffix = clock.new_id().simple().to_string();
    let (log, keys, stock) = (
        format!("bench_log_{suffix}"),
        format!("bench_keys_{suffix}"),
        format!("bench_stock_{suffix}"),
    );
    let mut bench = config.clone();
    bench.log.url = renamed(&config.log.url, &log);
    bench.log.admin_url = renamed(&config.log.admin_url, &log);
    bench.log.max_connections = in_flight as u32;
    bench.keys.url = renamed(&config.keys.url, &keys);
    bench.keys.admin_url = renamed(&config.keys.admin_url, &keys);
    let outcome = measure(&bench, &stock, &clock, rounds, commands, in_flight).await;
    let mut server = PgConnection::connect(renamed(&config.log.admin_url, "postgres").expose()).await?;
    for database in [log, keys, stock] {
        sqlx::query(&format!("drop database if exists {database} with (force)"))
            .execute(&mut server)
            .await?;
    }
    let (ours, peer) = outcome?;
    Ok(Benchmark {
        id: "append",
        what: "accept one message per command, in process, with envelope and sealed content",
        ours: Side::of(&ours),
        peer_what: "stock postgres-es 0.5.0",
        peer: Side::of(&peer),
    })
}

async fn measure(
    config: &Config,
    stock: &str,
    clock: &Clock,
    rounds: usize,
    commands: usize,
    in_flight: usize,
) -> Result<(Vec<Round>, Vec<Round>), Failure> {
    weft_log_writer::migrate::log(config).await?;
    weft_log_writer::migrate::keys(config).await?;
    let executor = Executor::connect(config, clock.clone()).await?;
    let mut server = PgConnection::connect(renamed(&config.log.admin_url, "postgres").expose()).await?;
    sqlx::query(&format!("create database {stock}"))
        .execute(&mut server)
        .await?;
    let pool = PgPoolOptions::new()
        .max_connections(in_flight as u32)
        .connect(renamed(&config.log.admin_url, stock).expose())
        .await?;
    sqlx::query(STOCK_TABLE).execute(&pool).await?;
    let store = PersistedEventStore::<_, Message>::new_event_store(PostgresEventRepository::new(pool.clone()));
    let framework = Arc::new(CqrsFramework::new(store, vec![], ()));
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    // One warm-up round of each, then alternating.
    for round in 0..=rounds {
        let our_round = timed(commands, in_flight, |_| async {
            let options = CallOptions::new(metadata(clock));
            let id = clock.new_id().to_string();
            executor
                .execute::<Message>(&id, accept(clock), &options)
                .await
                .map(|_| ())
                .map_err(Failure::from)
        })
        .await?;
        let peer_round = timed(commands, in_flight, |_| async {
            let metadata: HashMap<String, String> = metadata(clock).to_map("bench");
            let id = clock.new_id().to_string();
            framework
                .execute_with_metadata(&id, accept(clock), metadata)
                .await
                .map_err(Failure::from)
        })
        .await?;
        if round > 0 {
            ours.push(our_round);
            peer.push(peer_round);
        }
    }
    pool.close().await;
    Ok((ours, peer))
}

async fn timed<F, Fut>(commands: usize, in_flight: usize, mut one: F) -> Result<Round, Failure>
where
    F: FnMut(usize) -> Fut,
    Fut: Future<Output = Result<(), Failure>>,
{
    let started = Instant::now();
    let latencies = futures::stream::iter(0..commands)
        .map(|n| {
            let command = one(n);
            async move {
                let asked = Instant::now();
                command.await?;
                Ok::<_, Failure>(asked.elapsed())
            }
        })
        .buffer_unordered(in_flight)
        .try_collect()
        .await?;
    Ok((started.elapsed(), latencies))
}

fn metadata(clock: &Clock) -> Metadata {
    Metadata {
        tenant_id: TenantId(clock.new_id()),
        actor: "bench".to_owned(),
        actor_type: ActorType::System,
        request_id: clock.new_id().to_string(),
        correlation_id: clock.new_id().to_string(),
        causation_id: None,
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
        occurred_at: clock.now(),
    }
}

fn accept(clock: &Clock) -> MessageCommand {
    MessageCommand::Accept(Box::new(AcceptMessage {
        account_id: AccountId(clock.new_id()),
        tenant_id: TenantId(clock.new_id()),
        conversation_id: "S:1688850000000001".parse().expect("a constant"),
        message_type: MessageType::Text,
        content: Sealed::new(
            "conversation:bench".to_owned(),
            "month:bench:2026-11".to_owned(),
            "bm9uY2Vub25jZW5v".to_owned(),
            "c2VhbGVk".repeat(20),
        ),
        priority: 5,
        scheduled_time: None,
        batch_id: None,
        batch_index: None,
        callback_url: None,
        client_reference: None,
        now: clock.now(),
    }))
}
