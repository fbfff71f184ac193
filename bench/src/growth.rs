//! P11: P1, P3 and P4 on a log of ten million events beside one of a million, on the same server, by turns.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use weft_domain::LogOrder;
use weft_log_writer::{Executor, relay};
use weft_platform::clock::Clock;
use weft_platform::config::Config;
use weft_platform::health::Health;
use weft_projectors::generation::Generation;
use weft_projectors::messages::Messages;
use weft_projectors::migrate;
use weft_projectors::world::World;

use crate::copy::{copy, encode};
use crate::database::Databases;
use crate::history::{EVENTS_PER_MESSAGE, History, TOGETHER};
use crate::load::closed_loop;
use crate::pipeline::{Pipeline, Topics, head};
use crate::report::{Benchmark, Round, Side};
use crate::workload::Workload;
use crate::{Arguments, Failure};

const SMALL: usize = 1_000_000;
/// Beyond this only what reads or writes the log itself is measured: filling the read models takes too long.
const LOG_ONLY_BEYOND: usize = 10_000_000;
/// What an event takes on the disk: 980 bytes with its indexes (ADR 12), and a share of a key and of a read model's row.
const BYTES_PER_EVENT: u64 = 1_300;
/// For the log's WAL and Kafka's topics.
const BYTES_BESIDE: u64 = 4 << 30;
/// The longest round: what grows shows in a short one.
const SECONDS: u64 = 5;
/// Events for each second of a round.
const EVENTS_PER_SECOND: usize = 20_000;
/// More make it no faster on two cores.
const FILLERS: usize = 2;

/// Refuses to begin what the disk could not hold.
pub(crate) async fn check_space(config: &Config, events: usize) -> Result<(), Failure> {
    let server = PgPool::connect(config.log.admin_url.expose()).await?;
    let folder: String = sqlx::query_scalar("show data_directory").fetch_one(&server).await?;
    server.close().await;
    // A server on another machine, or in a container, has its files where we cannot look.
    let Ok(disk) = rustix::fs::statvfs(Path::new(&folder)) else {
        return Ok(());
    };
    let (free, needed) = (
        disk.f_bavail * disk.f_frsize,
        (SMALL + events) as u64 * BYTES_PER_EVENT + BYTES_BESIDE,
    );
    if free < needed {
        let (free, needed) = (free >> 30, needed >> 30);
        return Err(format!(
            "P11 needs {needed} GiB of disk for {events} events, and {folder} has {free} GiB left: free some, or name \
             the benchmarks to be run with --only"
        )
        .into());
    }
    Ok(())
}

pub(crate) async fn run(arguments: &Arguments, databases: &Databases) -> Result<Vec<Benchmark>, Failure> {
    let began = Instant::now();
    let large = Grown::prepare(&databases.config, arguments, arguments.log_events).await?;
    let small = Grown::prepare(&databases.peer, arguments, SMALL).await?;
    databases.settle().await?;
    println!(
        "P11: logs and read models are filled after {} s",
        began.elapsed().as_secs()
    );
    let mut measured = [const { (Vec::new(), Vec::new()) }; 3];
    // All of the relay's and the projection's rounds come first: what P1 appends is not for them.
    for round in 0..=arguments.rounds {
        let (ours, peer) = (large.carry().await?, small.carry().await?);
        databases.settle().await?;
        if round > 0 {
            for (number, (one, other)) in ours.into_iter().zip(peer).enumerate() {
                measured[number + 1].0.push(one);
                measured[number + 1].1.push(other);
            }
        }
    }
    for round in 0..=arguments.rounds {
        let length = Duration::from_secs(if round == 0 { 2 } else { seconds(arguments) });
        let (ours, peer) = (large.append(length).await?, small.append(length).await?);
        databases.settle().await?;
        if round > 0 {
            measured[0].0.push(ours);
            measured[0].1.push(peer);
        }
    }
    println!("P11: all of it took {} s", began.elapsed().as_secs());
    let rows = [
        (
            "P11_P1",
            "P1 on a log of ten million events (--log-events)",
            "commands/s",
        ),
        ("P11_P3", "P3 of new events on that log", "events/s"),
        ("P11_P4", "P4 of new events, with read models of that size", "events/s"),
    ];
    let benchmarks = rows
        .into_iter()
        .zip(measured)
        .filter(|(_, (ours, _))| !ours.is_empty())
        .map(|((id, what, unit), (ours, peer))| Benchmark {
            id,
            what,
            ours: Side::of(&ours),
            peer_what: "the same on a log of one million events",
            peer: Side::of(&peer),
            goal: 0.85,
            least: None,
            most_p99_ms: None,
            unit,
        });
    Ok(benchmarks.collect())
}

fn seconds(arguments: &Arguments) -> u64 {
    arguments.seconds.min(SECONDS)
}

/// A log of some size with all that works on it.
struct Grown {
    pipeline: Pipeline,
    topics: Topics,
    history: Arc<History>,
    workload: Arc<Workload>,
    /// With read models as large as the log.
    world: Option<Arc<World>>,
    /// Events in the topics.
    carried: AtomicUsize,
}

impl Grown {
    async fn prepare(config: &Config, arguments: &Arguments, events: usize) -> Result<Self, Failure> {
        let executor = Executor::connect(config, Clock::system()).await?;
        let log = PgPool::connect(config.log.admin_url.expose()).await?;
        let history = Arc::new(History::prepare(&executor).await?);
        let workload = Arc::new(Workload::prepare(&executor).await?);
        workload.execute(&executor).await?;
        fill(&log, &history, events).await?;
        // As if all had come within the day that a key is kept. The answers are those of a real one.
        sqlx::query(
            "insert into idempotency_keys (digest, body_hash, answer, expires_at)
             select gen_random_uuid(), sha256(int8send(number)), real.answer, now() + number * interval '1 day' / $1
             from (select answer from idempotency_keys limit 1) real, generate_series(1, $1) number",
        )
        .bind((events / EVENTS_PER_MESSAGE) as i64)
        .execute(&log)
        .await?;
        sqlx::query("vacuum analyze events, idempotency_keys")
            .execute(&log)
            .await?;
        let topics = Topics::create(&config.kafka).await;
        // Everything so far was published long ago.
        let head = head(&log).await?;
        let next = LogOrder {
            position: head.position + 1,
            ..head
        };
        relay::rewind(&log, &topics.kafka.topic_prefix, next).await?;
        let mut config = config.clone();
        config.kafka = topics.kafka.clone();
        let world = if arguments.log_events > LOG_ONLY_BEYOND {
            None
        } else {
            migrate::views(&config).await?;
            fill_views(&config, &history, events / EVENTS_PER_MESSAGE).await?;
            let (keys, config) = (executor.keys().clone(), Arc::new(config.clone()));
            Some(World::new(config, keys, Health::default())?)
        };
        Ok(Self {
            pipeline: Pipeline {
                config,
                log,
                executor,
                events: seconds(arguments) as usize * EVENTS_PER_SECOND,
            },
            topics,
            history,
            workload,
            world,
            carried: AtomicUsize::new(0),
        })
    }

    /// P3, and P4 where there are read models: of events that are new.
    async fn carry(&self) -> Result<Vec<Round>, Failure> {
        let pipeline = &self.pipeline;
        let new = self.history.fill(&pipeline.log, pipeline.events).await?;
        let mut rounds = vec![pipeline.relay_all(&self.topics).await?];
        let carried = self.carried.fetch_add(new, Ordering::Relaxed) + new;
        if let Some(world) = &self.world {
            let messages = Messages::new(world.keys.clone());
            rounds.push(pipeline.project(world, &messages, carried).await?);
        }
        Ok(rounds)
    }

    /// P1.
    async fn append(&self, length: Duration) -> Result<Round, Failure> {
        let (executor, workload) = (self.pipeline.executor.clone(), Arc::clone(&self.workload));
        closed_loop(256, length, move || {
            let (executor, workload) = (executor.clone(), Arc::clone(&workload));
            async move { workload.execute(&executor).await }
        })
        .await
    }
}

/// As `History::fill`, by several at once.
async fn fill(log: &PgPool, history: &Arc<History>, events: usize) -> Result<(), Failure> {
    let left = Arc::new(AtomicUsize::new(events.div_ceil(TOGETHER * EVENTS_PER_MESSAGE)));
    let fillers = (0..FILLERS).map(|_| {
        let (log, history, left) = (log.clone(), Arc::clone(history), Arc::clone(&left));
        tokio::spawn(async move {
            let take = |left: usize| left.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                copy(&log, encode(&history.rows(TOGETHER))).await?;
            }
            Ok::<_, Failure>(())
        })
    });
    for filler in fillers.collect::<Vec<_>>() {
        filler.await??;
    }
    Ok(())
}

/// A delivered message for every four events, by the senders of the history, with ids in the order of their birth.
async fn fill_views(config: &Config, history: &History, messages: usize) -> Result<(), Failure> {
    let views = PgPool::connect(config.views.admin_url.expose()).await?;
    let (tenants, accounts): (Vec<_>, Vec<_>) =
        history.senders().map(|(tenant, account)| (tenant.0, account.0)).unzip();
    let table = format!("{}.messages", Generation::FIRST.schema());
    sqlx::query(&format!(
        "insert into {table} (id, tenant_id, account_id, conversation_id, message_type, content, priority, created_at,
           status, wework_msg_id, send_time, callback_time, attempt, updated_at, version, epoch, transaction_id, position)
         select uuidv7(), ($1::uuid[])[1 + number % cardinality($1)], ($2::uuid[])[1 + number % cardinality($2)],
           'S:1688850000000001', 'text', $3, 5, clock_timestamp(), 'delivered', md5(number::text), now(), now(), 1, now(),
           4, 1, number, number
         from generate_series(1, $4) number",
    ))
    .bind(tenants)
    .bind(accounts)
    .bind(serde_json::json!({"text": "您好，您预订的沙发已经到店，明天上午九点到十一点送货，请保持电话畅通。"}))
    .bind(messages as i64)
    .execute(&views)
    .await?;
    sqlx::query(&format!("vacuum analyze {table}")).execute(&views).await?;
    views.close().await;
    Ok(())
}
