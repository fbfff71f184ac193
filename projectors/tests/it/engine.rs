use weft_platform::config::Secret;
use weft_platform::testing::until;

use crate::support::history::History;
use crate::support::running::{Running, applied, count, publish};
use crate::support::stores::Stores;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_kafka_to_every_view_across_a_restart() {
    let stores = Stores::with_topics().await;
    let history = History::of_everything(&stores.config.kafka, 50, 2_000);
    let half = history.records.len() / 2;
    let messages = history.of("message").len() as i64;

    let running = Running::start(stores.config.clone());
    publish(&stores, &history.records[..half]).await;
    until("the first messages", async || {
        (count(&stores, "messages").await > 0).then_some(())
    })
    .await;
    // Stopped wherever it is.
    running.stop().await;
    publish(&stores, &history.records[half..]).await;
    let running = Running::start(stores.config.clone());
    let (messages_topic, accounts) = (messages, history.of("account").len() as i64);
    let conversations = messages + history.of("conversation").len() as i64;
    for (projection, events) in [
        ("accounts", accounts),
        ("account_status_history", accounts),
        ("account_status_facts", accounts),
        ("messages", messages_topic),
        ("message_facts", messages_topic),
        ("conversations", conversations),
    ] {
        until(projection, async || {
            (applied(&stores, projection).await == events).then_some(())
        })
        .await;
    }
    assert_eq!(count(&stores, "accounts").await, history.accounts.len() as i64);
    assert_eq!(count(&stores, "messages").await, history.messages.len() as i64);
    until("the statistics", async || {
        (count(&stores, "dirty_hours").await == 0).then_some(())
    })
    .await;
    let total: u64 = stores
        .clickhouse()
        .query("select sum(total) from message_stats_hourly")
        .fetch_one()
        .await
        .unwrap();
    assert_eq!(total, history.messages.len() as u64);
    until("everything ready", async || (running.health.is_ready()).then_some(())).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clickhouse_away_stops_no_view_in_postgres() {
    let stores = Stores::with_topics().await;
    let mut config = stores.config.clone();
    // Nobody listens there.
    config.clickhouse.url = "http://127.0.0.1:1".parse().unwrap();
    let history = History::of_everything(&config.kafka, 51, 500);
    publish(&stores, &history.records).await;
    let running = Running::start(config);
    until("the views", async || {
        let seen = (count(&stores, "messages").await, count(&stores, "accounts").await);
        (seen == (history.messages.len() as i64, history.accounts.len() as i64)).then_some(())
    })
    .await;
    until("a named fault", async || {
        let parts = running.health.parts();
        let facts = &parts["projection message_facts"];
        let told = !facts.ready && facts.detail.starts_with("ClickHouse") && parts["projection messages"].ready;
        told.then_some(())
    })
    .await;
    running.stop().await;
    // Back again, nothing is missing.
    let running = Running::start(stores.config.clone());
    until("the facts", async || {
        let facts: u64 = stores
            .clickhouse()
            .query("select count() from message_facts")
            .fetch_one()
            .await
            .unwrap();
        (facts == history.messages.len() as u64).then_some(())
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_away_is_waited_out() {
    let stores = Stores::with_topics().await;
    let mut config = stores.config.clone();
    let url = config
        .views
        .projector_url
        .expose()
        .replace("/weft_test", "/missing_weft_test");
    config.views.projector_url = Secret(url);
    let running = Running::start(config);
    until("a named fault", async || {
        let parts = running.health.parts();
        let accounts = parts.get("projection accounts")?;
        accounts.detail.starts_with("the views' database").then_some(())
    })
    .await;
    assert!(!running.task.is_finished());
    running.stop().await;
}
