//! P1, P1_32, P1_full and P1_stock: durable commands, each with its event, idempotency key, quotas and, where it creates,
//! its claim, beside peers that write the same rows without group commit.

use std::sync::Arc;
use std::time::Duration;

use cqrs_es::CqrsFramework;
use cqrs_es::persist::PersistedEventStore;
use postgres_es::PostgresEventRepository;
use sqlx::postgres::PgPoolOptions;
use weft_domain::account::Account;
use weft_domain::message::Message;
use weft_log_writer::Executor;
use weft_platform::clock::Clock;

use crate::database::Databases;
use crate::load::closed_loop;
use crate::pgbench::{self, Texts};
use crate::report::{Benchmark, Round, Side};
use crate::workload::{Work, Workload};
use crate::{Arguments, Failure};

/// Connections of the stock store: more make it slower on two cores.
const STOCK_CONNECTIONS: u32 = 32;

pub(crate) async fn run(arguments: &Arguments, databases: &Databases) -> Result<Vec<Benchmark>, Failure> {
    let length = Duration::from_secs(arguments.seconds);
    let executor = Executor::connect(&databases.config, Clock::system()).await?;
    let workload = Arc::new(Workload::prepare(&executor).await?);
    let ours = |callers: usize, length| {
        let (executor, workload) = (executor.clone(), Arc::clone(&workload));
        closed_loop(callers, length, move || {
            let (executor, workload) = (executor.clone(), Arc::clone(&workload));
            async move { workload.execute(&executor).await }
        })
    };
    let stock_pool = PgPoolOptions::new()
        .max_connections(STOCK_CONNECTIONS)
        .connect(databases.stock_url.expose())
        .await?;
    let stock = Arc::new((framework::<Account>(&stock_pool), framework::<Message>(&stock_pool)));
    let stock = |length| {
        let (stock, workload) = (Arc::clone(&stock), Arc::clone(&workload));
        closed_loop(256, length, move || {
            let (stock, workload) = (Arc::clone(&stock), Arc::clone(&workload));
            async move {
                let (work, metadata) = workload.next();
                let metadata = metadata.to_map("bench");
                match work {
                    Work::Create(id, command) => stock.0.execute_with_metadata(&id, *command, metadata).await?,
                    Work::Accept(id, command) => stock.1.execute_with_metadata(&id, command, metadata).await?,
                }
                Ok(())
            }
        })
    };

    ours(256, length.min(Duration::from_secs(2))).await?;
    let texts = Texts::of(&databases.config.log.url).await?;
    let mut rounds: [Vec<Round>; 5] = Default::default();
    // One round of each that does not count, then alternating.
    for round in 0..=arguments.rounds {
        let length = if round == 0 {
            length.min(Duration::from_secs(2))
        } else {
            length
        };
        let measured = [
            ours(256, length).await?,
            pgbench::run(&databases.peer.log.url, pgbench::BARE, &texts, length).await?,
            ours(32, length).await?,
            pgbench::run(&databases.peer.log.url, pgbench::FULL, &texts, length).await?,
            stock(length).await?,
        ];
        databases.settle().await?;
        if round > 0 {
            for (all, one) in rounds.iter_mut().zip(measured) {
                all.push(one);
            }
        }
    }
    stock_pool.close().await;
    let [p1, bare, p1_32, full, stock] = rounds.map(|rounds| Side::of(&rounds));
    let unit = "commands/s";
    let bench = |id, what, ours: &Side, peer_what, peer: &Side, goal| Benchmark {
        id,
        what,
        ours: ours.clone(),
        peer_what,
        peer: peer.clone(),
        goal,
        least: None,
        most_p99_ms: None,
        unit,
    };
    Ok(vec![
        Benchmark {
            most_p99_ms: Some(25.0),
            ..bench(
                "P1",
                "commands through the Executor, 256 in flight",
                &p1,
                "pgbench, one bare insert of the event's row per commit, 32 clients",
                &bare,
                2.2,
            )
        },
        bench(
            "P1_32",
            "the same, 32 in flight",
            &p1_32,
            "pgbench, one bare insert of the event's row per commit, 32 clients",
            &bare,
            1.25,
        ),
        bench(
            "P1_full",
            "commands through the Executor, 256 in flight",
            &p1,
            "pgbench, the same rows (key, claim, quotas, event) per commit in one statement, 32 clients",
            &full,
            4.5,
        ),
        bench(
            "P1_stock",
            "commands through the Executor, 256 in flight",
            &p1,
            "stock postgres-es 0.5.0, the same commands, no key, claim or quota",
            &stock,
            6.0,
        ),
    ])
}

type Stock<A> = CqrsFramework<A, PersistedEventStore<PostgresEventRepository, A>>;

fn framework<A: cqrs_es::Aggregate<Services = ()>>(pool: &sqlx::PgPool) -> Stock<A> {
    let store = PersistedEventStore::new_event_store(PostgresEventRepository::new(pool.clone()));
    CqrsFramework::new(store, vec![], ())
}
