//! A figure, not a test: `cargo test -p weft-workers -- --ignored --nocapture throughput`.

use std::time::{Duration, Instant};

use serde_json::json;
use weft_domain::message::{AcceptMessage, Message, MessageCommand, MessageContent, MessageType};
use weft_domain::{AccountId, ConversationId, MessageId, WecomConversationId};
use weft_log_writer::testing::options;
use weft_platform::clock::Clock;

use crate::wait::until_within;
use crate::world::{AUTO, Options, World};

const ACCOUNTS: usize = 50;
const MESSAGES: usize = 5_000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints a figure"]
async fn messages_a_second_over_fifty_accounts() {
    let mut world = World::start(Options {
        configure: Some(|config| {
            config.log.max_connections = 24;
            config.heartbeat.interval_seconds = 30;
        }),
        ..AUTO
    })
    .await;
    let mut accounts = Vec::new();
    for n in 0..ACCOUNTS {
        let id = world.create_account(&format!("压测{n}")).await;
        world.start_login(id).await;
        accounts.push(id);
    }
    for id in &accounts {
        world
            .account_in(*id, &[weft_domain::account::AccountStatus::Online])
            .await;
    }
    world.kill_workers();
    accept(&world, &accounts).await;
    let count = async |event: &str| -> i64 {
        sqlx::query_scalar("select count(*) from events where event_type = $1")
            .bind(event)
            .fetch_one(&world.pool)
            .await
            .unwrap()
    };
    let workers = world.more_workers();
    let started = Instant::now();
    let (cpu, transactions) = (cpu_seconds(), transactions(&world).await);
    let first = until_within("the first is sent", Duration::from_secs(30), async || {
        pause().await;
        (count("MessageSent").await > 0).then(Instant::now)
    })
    .await;
    let sent = until_within("all are sent", Duration::from_mins(5), async || {
        pause().await;
        (count("MessageSent").await >= MESSAGES as i64).then(Instant::now)
    })
    .await;
    let delivered = until_within("all are delivered", Duration::from_mins(5), async || {
        pause().await;
        (count("MessageDelivered").await >= MESSAGES as i64).then(Instant::now)
    })
    .await;
    println!(
        "start to first {:?}; sent {:.0}/s; delivered {:.0}/s",
        first - started,
        MESSAGES as f64 / (sent - first).as_secs_f64(),
        MESSAGES as f64 / (delivered - first).as_secs_f64()
    );
    println!(
        "a message: {:.2} ms of CPU here (with simulator and relay), {:.1} transactions",
        (cpu_seconds() - cpu) * 1e3 / MESSAGES as f64,
        (self::transactions(&world).await - transactions) as f64 / MESSAGES as f64
    );
    drop(workers);
}

/// User and system time of this process so far.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a process").split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

async fn transactions(world: &World) -> i64 {
    sqlx::query_scalar("select xact_commit from pg_stat_database where datname = current_database()")
        .fetch_one(&world.pool)
        .await
        .expect("the log answers")
}

/// Looking is work for the log, too.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn accept(world: &World, accounts: &[AccountId]) {
    let now = Clock::system().now();
    let content =
        MessageContent::from_value(MessageType::Text, json!({"text": "压测消息"})).expect("the test stack answers");
    let mut commands = Vec::new();
    for n in 0..MESSAGES {
        let account_id = accounts[n % accounts.len()];
        let conversation_id: WecomConversationId = format!("S:1{}", n % 97).parse().expect("the test stack answers");
        let conversation = ConversationId::of(account_id, &conversation_id);
        let sealed = world
            .executor
            .sealer()
            .seal_content(world.tenant, conversation, now, &content)
            .await
            .expect("the test stack answers");
        let command = MessageCommand::Accept(Box::new(AcceptMessage {
            account_id,
            tenant_id: world.tenant,
            conversation_id,
            message_type: MessageType::Text,
            content: sealed,
            priority: 5,
            scheduled_time: None,
            batch_id: None,
            batch_index: None,
            callback_url: None,
            client_reference: None,
            now,
        }));
        commands.push((MessageId(Clock::system().new_id()).to_string(), command));
    }
    for chunk in commands.chunks(250) {
        world
            .executor
            .execute_all::<Message>(chunk.to_vec(), &options(world.tenant))
            .await
            .expect("the test stack answers");
    }
}
