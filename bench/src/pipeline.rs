//! P3, P4, P5 and P9: from the log to Kafka, to the read models, and anew from the log. All of them carry the same
//! history, which is long enough that starting and stopping hardly count.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use weft_domain::LogOrder;
use weft_log_writer::testing::TestTopics;
use weft_log_writer::{Executor, relay};
use weft_platform::clock::Clock;
use weft_platform::config::{Config, KafkaSection};
use weft_platform::health::Health;
use weft_projectors::clickhouse::message_facts::MessageFacts;
use weft_projectors::engine::Projection;
use weft_projectors::generation::Generation;
use weft_projectors::members::Shares;
use weft_projectors::messages::Messages;
use weft_projectors::replay::{Purpose, Replay};
use weft_projectors::world::World;
use weft_projectors::{migrate, projections};

use crate::database::Databases;
use crate::history::History;
use crate::peers::{self, Consumed};
use crate::report::{Benchmark, Round, Side};
use crate::{Arguments, Failure};

/// Events of the history for each second of a round's length: about what the slowest of these gets done.
const EVENTS_PER_SECOND: usize = 30_000;
const PAGE: i64 = 5_000;

/// Topics of one round, deleted with this.
pub(crate) struct Topics {
    pub(crate) kafka: KafkaSection,
    _topics: TestTopics,
}

impl Topics {
    pub(crate) async fn create(kafka: &KafkaSection) -> Self {
        let mut kafka = kafka.clone();
        kafka.topic_prefix = format!("bench_{}.events.", Clock::system().new_id().simple());
        Self {
            _topics: TestTopics::create(&kafka).await,
            kafka,
        }
    }
}

/// A log that is full, and what reads it.
pub(crate) struct Pipeline {
    pub(crate) config: Config,
    pub(crate) log: PgPool,
    pub(crate) executor: Executor,
    /// That a round carries.
    pub(crate) events: usize,
}

pub(crate) async fn run(arguments: &Arguments, databases: &Databases) -> Result<Vec<Benchmark>, Failure> {
    let config = databases.config.clone();
    let executor = Executor::connect(&config, Clock::system()).await?;
    let log = PgPool::connect(config.log.admin_url.expose()).await?;
    let history = History::prepare(&executor).await?;
    let events = arguments.seconds as usize * EVENTS_PER_SECOND;
    let events = history.fill(&log, events).await?;
    sqlx::query("vacuum analyze events").execute(&log).await?;
    let pipeline = Pipeline {
        config,
        log,
        executor,
        events,
    };
    let mut benchmarks = Vec::new();
    let (relay, topics) = pipeline.relay(arguments, databases).await?;
    if arguments.wants(&["P3"]) {
        benchmarks.push(relay);
    }
    if arguments.wants(&["P4", "P5", "P9"]) {
        let consumed = peers::consume(&topics.kafka, pipeline.events).await?;
        benchmarks.extend(pipeline.views(arguments, databases, &topics, &consumed).await?);
    }
    Ok(benchmarks)
}

impl Pipeline {
    fn rate(&self, began: Instant) -> Round {
        Round {
            per_second: self.events as f64 / began.elapsed().as_secs_f64(),
            latencies: Vec::new(),
        }
    }

    /// P3, and the topics that its last round filled.
    async fn relay(&self, arguments: &Arguments, databases: &Databases) -> Result<(Benchmark, Topics), Failure> {
        let mut rounds: [Vec<Round>; 3] = Default::default();
        let mut last: Option<Topics> = None;
        let rounds_wanted = if arguments.wants(&["P3"]) { arguments.rounds } else { 0 };
        for round in 0..=rounds_wanted {
            drop(last.take());
            let topics = Topics::create(&self.config.kafka).await;
            let ours = self.relay_all(&topics).await?;
            if round > 0 {
                let consumed = peers::consume(&topics.kafka, self.events).await?;
                let other = Topics::create(&self.config.kafka).await;
                let began = Instant::now();
                peers::produce(&other.kafka, consumed).await?;
                let produced = self.rate(began);
                drop(other);
                let began = Instant::now();
                self.read_pages().await?;
                let read = self.rate(began);
                for (all, one) in rounds.iter_mut().zip([ours, read, produced]) {
                    all.push(one);
                }
                databases.settle().await?;
            }
            last = Some(topics);
        }
        let [ours, read, produced] = rounds.map(|rounds| Side::of(&rounds));
        let (peer, peer_what) = if read.per_second < produced.per_second {
            (
                read,
                "raw page reads of the log (the slower of that and raw produce of the same bytes)",
            )
        } else {
            (
                produced,
                "raw rdkafka produce of the same bytes (the slower of that and raw page reads)",
            )
        };
        let benchmark = Benchmark {
            id: "P3",
            what: "the relay, log to acknowledged by Kafka",
            ours,
            peer_what,
            peer,
            goal: 0.7,
            least: None,
            most_p99_ms: None,
            unit: "events/s",
        };
        let topics = last.ok_or("no round of the relay")?;
        Ok((benchmark, topics))
    }

    /// From the relay's start to the checkpoint behind the last event.
    pub(crate) async fn relay_all(&self, topics: &Topics) -> Result<Round, Failure> {
        let mut config = self.config.clone();
        config.kafka = topics.kafka.clone();
        let last = head(&self.log).await?.position;
        let shutdown = CancellationToken::new();
        let began = Instant::now();
        let relay = tokio::spawn(relay::run(
            Arc::new(config),
            Clock::system(),
            Health::default(),
            Arc::new(Notify::new()),
            shutdown.clone(),
        ));
        loop {
            let at: Option<i64> = sqlx::query_scalar("select position from relay_checkpoints where relay = $1")
                .bind(&topics.kafka.topic_prefix)
                .fetch_optional(&self.log)
                .await?;
            if at == Some(last) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let round = self.rate(began);
        shutdown.cancel();
        relay.await??;
        Ok(round)
    }

    /// What reading the log costs at least: its columns, in log order, page by page.
    async fn read_pages(&self) -> Result<(), Failure> {
        let (mut transaction_id, mut position, mut read) = ("0".to_owned(), 0_i64, 0);
        while read < self.events {
            let rows: Vec<_> = sqlx::query(
                "select aggregate_type, aggregate_id, sequence, event_type, event_version, payload::text, metadata::text,
                        epoch, transaction_id::text, position, recorded_at, tenant_id
                 from events where (epoch, transaction_id, position) > (1, $1::xid8, $2)
                 order by events.epoch, events.transaction_id, events.position limit $3",
            )
            .bind(&transaction_id)
            .bind(position)
            .bind(PAGE)
            .fetch(&self.log)
            .try_collect()
            .await?;
            let last = rows.last().ok_or("the log ended early")?;
            read += rows.len();
            transaction_id = sqlx::Row::try_get(last, "transaction_id")?;
            position = sqlx::Row::try_get(last, "position")?;
        }
        Ok(())
    }

    async fn views(
        &self,
        arguments: &Arguments,
        databases: &Databases,
        topics: &Topics,
        consumed: &Consumed,
    ) -> Result<Vec<Benchmark>, Failure> {
        let mut config = self.config.clone();
        config.kafka = topics.kafka.clone();
        migrate::views(&config).await?;
        migrate::clickhouse(&config).await?;
        let world = World::new(Arc::new(config), self.executor.keys().clone(), Health::default())?;
        let mut benchmarks = Vec::new();
        if arguments.wants(&["P4"]) {
            benchmarks.push(self.messages(arguments, databases, &world).await?);
        }
        if arguments.wants(&["P5"]) {
            benchmarks.push(self.facts(arguments, databases, &world, consumed).await?);
        }
        if arguments.wants(&["P9"]) {
            benchmarks.push(self.replay(arguments, databases, &world).await?);
        }
        Ok(benchmarks)
    }

    /// P4.
    async fn messages(
        &self,
        arguments: &Arguments,
        databases: &Databases,
        world: &Arc<World>,
    ) -> Result<Benchmark, Failure> {
        let raw = peers::RawView::prepare(databases).await?;
        let (mut ours, mut peer) = (Vec::new(), Vec::new());
        for round in 0..=arguments.rounds {
            reset(world, "messages").await?;
            let messages = Messages::new(world.keys.clone());
            let one = self.project(world, &messages, self.events).await?;
            raw.reset().await?;
            let began = Instant::now();
            raw.run(&world.config.kafka, self.events, Messages::MAX_BATCH).await?;
            let other = self.rate(began);
            databases.settle().await?;
            if round > 0 {
                ours.push(one);
                peer.push(other);
            }
        }
        Ok(Benchmark {
            id: "P4",
            what: "the projection messages, from Kafka to committed rows",
            ours: Side::of(&ours),
            peer_what: "consume, upsert the same rows by unnest, commit; nothing decoded, no checkpoint",
            peer: Side::of(&peer),
            goal: 0.5,
            least: Some(25_000.0),
            most_p99_ms: None,
            unit: "events/s",
        })
    }

    /// P5.
    async fn facts(
        &self,
        arguments: &Arguments,
        databases: &Databases,
        world: &Arc<World>,
        consumed: &Consumed,
    ) -> Result<Benchmark, Failure> {
        let clickhouse = peers::ClickHouse::new(&world.config.clickhouse);
        let (mut ours, mut peer) = (Vec::new(), Vec::new());
        for round in 0..=arguments.rounds {
            clickhouse.reset().await?;
            reset(world, "message_facts").await?;
            let before = clickhouse.inserted().await?;
            // A new one each time: it remembers what it has written.
            let projection = MessageFacts::new(world.facts(Generation::FIRST));
            let one = self.project(world, &projection, self.events).await?;
            let rows = (clickhouse.inserted().await? - before) as usize;
            let facts = rows.checked_sub(self.events).ok_or("fewer rows than events")?;
            let one = Round {
                per_second: one.per_second * rows as f64 / self.events as f64,
                ..one
            };
            clickhouse.reset().await?;
            let began = Instant::now();
            clickhouse.insert(consumed, facts).await?;
            let other = Round {
                per_second: rows as f64 / began.elapsed().as_secs_f64(),
                latencies: Vec::new(),
            };
            databases.settle().await?;
            if round > 0 {
                ours.push(one);
                peer.push(other);
            }
        }
        Ok(Benchmark {
            id: "P5",
            what: "the projection message_facts, from Kafka to rows in ClickHouse with the checkpoint",
            ours: Side::of(&ours),
            peer_what: "the clickhouse crate's inserter, the same rows",
            peer: Side::of(&peer),
            goal: 0.3,
            least: None,
            most_p99_ms: None,
            unit: "rows/s",
        })
    }

    /// P9. The live generation is brought to the log's end first: a rebuild goes as far as that.
    async fn replay(
        &self,
        arguments: &Arguments,
        databases: &Databases,
        world: &Arc<World>,
    ) -> Result<Benchmark, Failure> {
        self.project_all(world).await?;
        let (mut ours, mut peer) = (Vec::new(), Vec::new());
        for round in 0..=arguments.rounds {
            let began = Instant::now();
            let replay = Replay::begin(Arc::clone(world), projections(), Purpose::HandOver).await?;
            let filled = replay.fill(|_| {}).await?;
            let one = self.rate(began);
            if filled.events < self.events as u64 {
                return Err(format!("the replay read {} of {} events", filled.events, self.events).into());
            }
            replay.abandon().await?;
            let began = Instant::now();
            self.read_pages().await?;
            let other = self.rate(began);
            databases.settle().await?;
            if round > 0 {
                ours.push(one);
                peer.push(other);
            }
        }
        Ok(Benchmark {
            id: "P9",
            what: "weft replay --all: every projection of both stores, from the log",
            ours: Side::of(&ours),
            peer_what: "raw page reads of the log",
            peer: Side::of(&peer),
            goal: 0.0,
            least: Some(50_000.0),
            most_p99_ms: None,
            unit: "events/s",
        })
    }

    /// From the projection's start to its checkpoints behind the last of all that the topics hold.
    pub(crate) async fn project<P: Projection>(
        &self,
        world: &Arc<World>,
        projection: &P,
        all: usize,
    ) -> Result<Round, Failure> {
        let engine = world.engine(Generation::FIRST)?;
        let shutdown = CancellationToken::new();
        let began = Instant::now();
        let done = async {
            while applied(&engine.pool, P::NAME).await? < all as i64 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok::<_, Failure>(self.rate(began))
        };
        tokio::select! {
            _ = engine.run(projection, Shares::alone(), shutdown.clone()) => Err("the projection ended early".into()),
            round = done => round,
        }
    }

    async fn project_all(&self, world: &Arc<World>) -> Result<(), Failure> {
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(weft_projectors::run(
            Arc::clone(&world.config),
            world.keys.clone(),
            Health::default(),
            shutdown.clone(),
        ));
        let pool = world.engine(Generation::FIRST)?.pool;
        let readers = projections()
            .into_iter()
            .filter(|one| one.aggregates().contains(&"message"));
        for projection in readers {
            while applied(&pool, projection.name()).await? < self.events as i64 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        shutdown.cancel();
        Ok(running.await??)
    }
}

/// The newest event of a log.
pub(crate) async fn head(log: &PgPool) -> Result<LogOrder, Failure> {
    let (epoch, transaction_id, position) = sqlx::query_as(
        "select epoch, transaction_id::text::bigint, position from events
         order by epoch desc, events.transaction_id desc, position desc limit 1",
    )
    .fetch_one(log)
    .await?;
    Ok(LogOrder {
        epoch,
        transaction_id,
        position,
    })
}

/// Events of the message topics that a projection is behind.
async fn applied(pool: &PgPool, projection: &str) -> Result<i64, Failure> {
    let applied = sqlx::query_scalar(
        "select coalesce(sum(next_offset), 0)::bigint from checkpoints where projection = $1 and topic like '%message'",
    );
    Ok(applied.bind(projection).fetch_one(pool).await?)
}

/// Empties a projection and forgets how far it was.
async fn reset(world: &Arc<World>, projection: &str) -> Result<(), Failure> {
    let pool = PgPool::connect(world.config.views.admin_url.expose()).await?;
    let schema = Generation::FIRST.schema();
    if projection == "messages" {
        sqlx::query(&format!("truncate {schema}.messages"))
            .execute(&pool)
            .await?;
    }
    sqlx::query(&format!("delete from {schema}.checkpoints where projection = $1"))
        .bind(projection)
        .execute(&pool)
        .await?;
    pool.close().await;
    Ok(())
}
