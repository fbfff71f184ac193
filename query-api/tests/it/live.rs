//! Subscriptions over real Kafka: the events are published and the rows written by the test, in the order it wants.

use std::time::Duration;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::{Value, json};
use uuid::Uuid;
use weft_log_writer::testing::TestTopics;
use weft_platform::kafka::partition_for;
use weft_platform::testing::until;

use crate::socket::{Client, Seen, serve};
use crate::support::{TENANT_A, TENANT_B, World, id};

const ACCOUNT: &str = "subscription ($id: ID!) { accountChanged(id: $id) { id status stale } }";
const MESSAGES: &str = "subscription ($account: ID, $batch: ID) {
    messageChanged(accountId: $account, batchId: $batch) { id status stale account { name } } }";

struct Feed {
    world: World,
    producer: FutureProducer,
    _topics: TestTopics,
}

impl Feed {
    async fn new() -> Self {
        let kafka = weft_log_writer::testing::kafka();
        let topics = TestTopics::create(&kafka).await;
        let world = World::with(|config| config.kafka = kafka.clone()).await;
        let producer = kafka.producer().create().unwrap();
        let feed = Self {
            world,
            producer,
            _topics: topics,
        };
        feed.is_ready().await;
        feed
    }

    async fn is_ready(&self) {
        until("the live feed starts", async || {
            let parts = self.world.health.parts();
            parts.get("live-feed").filter(|part| part.ready).map(drop)
        })
        .await;
    }

    async fn publish(&self, aggregate: &str, tenant: Uuid, aggregate_id: Uuid, sequence: i64, payload: Value) {
        let topic = self.world.config.kafka.topic(aggregate);
        let key = payload["account_id"]
            .as_str()
            .map_or_else(|| aggregate_id.to_string(), str::to_owned);
        let partition = partition_for(&key, self.world.config.kafka.partition_count(aggregate));
        let pairs = [
            ("content-type", "application/json".to_owned()),
            ("ce_specversion", "1.0".to_owned()),
            ("ce_id", format!("{aggregate_id}:{sequence}")),
            ("ce_source", format!("/weft/{}/{aggregate}", Uuid::nil())),
            ("ce_type", format!("weft.{aggregate}.Something.v1")),
            ("ce_subject", aggregate_id.to_string()),
            ("ce_time", "2026-03-01T08:00:00.000Z".to_owned()),
            ("ce_tenantid", tenant.to_string()),
            ("ce_sequence", sequence.to_string()),
            ("ce_epoch", "1".to_owned()),
            ("ce_logorder", format!("1-{sequence}")),
        ];
        let mut headers = OwnedHeaders::new();
        for (key, value) in &pairs {
            headers = headers.insert(Header {
                key,
                value: Some(value),
            });
        }
        let payload = payload.to_string();
        let record = FutureRecord::to(&topic)
            .partition(partition)
            .key(&key)
            .payload(&payload)
            .headers(headers);
        self.producer.send(record, Duration::from_secs(10)).await.unwrap();
    }

    async fn account_event(&self, sequence: i64) {
        self.publish("account", TENANT_A, id(1), sequence, json!({})).await;
    }

    async fn message_event(&self, message: Uuid, account: Uuid, sequence: i64) {
        self.publish("message", TENANT_A, message, sequence, json!({"account_id": account}))
            .await;
    }

    async fn set_account(&self, status: &str, version: i64) {
        self.world
            .update(&format!(
                "update views_g1.accounts set status = '{status}', version = {version} where id = '{}'",
                id(1)
            ))
            .await;
    }
}

fn account(status: &str, stale: bool) -> Value {
    json!({"accountChanged": {"id": id(1), "status": status, "stale": stale}})
}

fn message(message: Uuid, status: &str) -> Value {
    json!({"messageChanged": {"id": message, "status": status, "stale": false, "account": {"name": "sender"}}})
}

#[tokio::test]
async fn the_current_state_comes_first_and_a_change_when_the_view_shows_it() {
    let feed = Feed::new().await;
    feed.world.account(id(1), json!({})).await;
    let mut client = Client::open(serve(&feed.world).await, "dev-token-a").await;
    client.subscribe("a", ACCOUNT, json!({"id": id(1)})).await;
    assert_eq!(client.next_data().await, account("CREATED", false));

    // The view before the event.
    feed.set_account("logging_in", 2).await;
    feed.account_event(2).await;
    assert_eq!(client.next_data().await, account("LOGGING_IN", false));

    // The event before the view: nothing is pushed until the view shows it.
    feed.account_event(3).await;
    feed.account_event(4).await;
    feed.set_account("online", 4).await;
    assert_eq!(client.next_data().await, account("ONLINE", false));

    // An event that was seen already pushes nothing; the next change does.
    feed.account_event(4).await;
    feed.set_account("offline", 5).await;
    feed.account_event(5).await;
    assert_eq!(client.next_data().await, account("OFFLINE", false));
}

#[tokio::test]
async fn a_view_that_stays_behind_is_shown_as_stale_and_again_when_it_has_caught_up() {
    let feed = Feed::new().await;
    feed.world.account(id(1), json!({})).await;
    let mut client = Client::open(serve(&feed.world).await, "dev-token-a").await;
    client.subscribe("a", ACCOUNT, json!({"id": id(1)})).await;
    assert_eq!(client.next_data().await, account("CREATED", false));
    feed.account_event(2).await;
    assert_eq!(client.next_data().await, account("CREATED", true));
    feed.set_account("logging_in", 2).await;
    assert_eq!(client.next_data().await, account("LOGGING_IN", false));
}

#[tokio::test]
async fn an_account_that_is_not_there_is_null_until_it_is() {
    let feed = Feed::new().await;
    let mut client = Client::open(serve(&feed.world).await, "dev-token-a").await;
    client.subscribe("unknown", ACCOUNT, json!({"id": id(1)})).await;
    assert_eq!(client.next_data().await, json!({"accountChanged": null}));
    feed.world.account(id(1), json!({})).await;
    feed.account_event(1).await;
    assert_eq!(client.next_data().await, account("CREATED", false));
    client.subscribe("odd", ACCOUNT, json!({"id": "7"})).await;
    assert_eq!(client.next_data().await, json!({"accountChanged": null}));
}

#[tokio::test]
async fn the_current_state_comes_also_while_kafka_is_away() {
    let world = World::with(|config| config.kafka.brokers = "127.0.0.1:1".to_owned()).await;
    world.account(id(1), json!({})).await;
    let mut client = Client::open(serve(&world).await, "dev-token-a").await;
    client.subscribe("a", ACCOUNT, json!({"id": id(1)})).await;
    assert_eq!(client.next_data().await, account("CREATED", false));
    assert!(!world.health.parts()["live-feed"].ready);
}

#[tokio::test]
async fn after_a_gap_of_the_feed_the_current_state_comes_again() {
    // Without topics the feed has no place to start at, and misses what is published until it has one.
    let kafka = weft_log_writer::testing::kafka();
    let world = World::with(|config| config.kafka = kafka.clone()).await;
    let row = json!({"account_name": "sender"});
    world.account(id(1), row).await;
    world
        .message(id(10), json!({"updated_at": "2026-03-01T07:00:00Z"}))
        .await;
    let mut client = Client::open(serve(&world).await, "dev-token-a").await;
    client.subscribe("a", ACCOUNT, json!({"id": id(1)})).await;
    assert_eq!(client.next_data().await, account("CREATED", false));
    client.subscribe("m", MESSAGES, json!({"account": id(1)})).await;
    client.send(json!({"type": "ping"})).await;
    assert_eq!(client.next().await, Seen::Frame(json!({"type": "pong"})));

    world
        .update("update views_g1.accounts set status = 'online', version = 5")
        .await;
    let changed = json!({"created_at": "2026-03-01T08:00:01Z", "updated_at": "2026-03-01T08:00:02Z", "status": "sent"});
    world.message(id(11), changed).await;
    let _topics = TestTopics::create(&kafka).await;
    let mut seen = vec![client.next_data().await, client.next_data().await];
    seen.sort_by_key(Value::to_string);
    assert_eq!(seen, [account("ONLINE", false), message(id(11), "SENT")]);
}

#[tokio::test]
async fn messages_are_pushed_to_those_who_want_them() {
    let feed = Feed::new().await;
    feed.world.account(id(1), json!({"account_name": "sender"})).await;
    feed.world.account(id(2), json!({"account_name": "sender"})).await;
    let address = serve(&feed.world).await;
    let mut of_account = Client::open(address, "dev-token-a").await;
    of_account.subscribe("m", MESSAGES, json!({"account": id(1)})).await;
    let mut of_batch = Client::open(address, "dev-token-a").await;
    of_batch.subscribe("m", MESSAGES, json!({"batch": id(500)})).await;
    let mut of_all = Client::open(address, "dev-token-a").await;
    of_all.subscribe("m", MESSAGES, json!({})).await;
    let mut foreign = Client::open(address, "dev-token-b").await;
    foreign.subscribe("m", MESSAGES, json!({})).await;
    // No current state comes, so that a pong says that each has subscribed.
    for client in [&mut of_account, &mut of_batch, &mut of_all, &mut foreign] {
        client.send(json!({"type": "ping"})).await;
        assert_eq!(client.next().await, Seen::Frame(json!({"type": "pong"})));
    }

    feed.world.message(id(11), json!({})).await;
    feed.message_event(id(11), id(1), 1).await;
    assert_eq!(of_account.next_data().await, message(id(11), "PENDING"));
    assert_eq!(of_all.next_data().await, message(id(11), "PENDING"));

    feed.world
        .message(
            id(12),
            json!({"account_id": id(2), "batch_id": id(500), "batch_index": 0}),
        )
        .await;
    feed.message_event(id(12), id(2), 1).await;
    assert_eq!(of_batch.next_data().await, message(id(12), "PENDING"));
    assert_eq!(of_all.next_data().await, message(id(12), "PENDING"));

    feed.world
        .update("update views_g1.messages set status = 'sent', version = 3")
        .await;
    feed.message_event(id(11), id(1), 3).await;
    assert_eq!(of_account.next_data().await, message(id(11), "SENT"));
    assert_eq!(of_all.next_data().await, message(id(11), "SENT"));

    let row = json!({"tenant_id": TENANT_B, "account_name": "sender"});
    feed.world.account(id(3), row).await;
    feed.world
        .message(id(13), json!({"tenant_id": TENANT_B, "account_id": id(3)}))
        .await;
    feed.publish("message", TENANT_B, id(13), 1, json!({"account_id": id(3)}))
        .await;
    assert_eq!(foreign.next_data().await, message(id(13), "PENDING"));

    // Completed: nothing more comes, also not what changed meanwhile.
    of_account.send(json!({"type": "complete", "id": "m"})).await;
    feed.world
        .update("update views_g1.messages set status = 'delivered', version = 4")
        .await;
    feed.message_event(id(11), id(1), 4).await;
    assert_eq!(of_all.next_data().await, message(id(11), "DELIVERED"));
    of_account.send(json!({"type": "ping"})).await;
    assert_eq!(of_account.next().await, Seen::Frame(json!({"type": "pong"})));
}

#[tokio::test]
async fn nothing_is_missed_when_many_messages_change_at_once() {
    let feed = Feed::new().await;
    feed.world.account(id(1), json!({"account_name": "sender"})).await;
    let mut client = Client::open(serve(&feed.world).await, "dev-token-a").await;
    client
        .subscribe("m", "subscription { messageChanged { id status } }", json!({}))
        .await;
    client.send(json!({"type": "ping"})).await;
    assert_eq!(client.next().await, Seen::Frame(json!({"type": "pong"})));
    let messages: Vec<Uuid> = (0..300).map(|n| id(1_000 + n)).collect();
    for message in &messages {
        feed.world
            .message(*message, json!({"status": "sent", "version": 3}))
            .await;
    }
    for sequence in 1..=3 {
        let published = messages
            .iter()
            .map(|message| feed.message_event(*message, id(1), sequence));
        futures::future::join_all(published).await;
    }
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < messages.len() {
        let data = client.next_data().await;
        assert_eq!(data["messageChanged"]["status"], "SENT");
        seen.insert(data["messageChanged"]["id"].as_str().unwrap().to_owned());
    }
}
