//! Statistics over real ClickHouse, in a database of the test's own.

use axum::http::StatusCode;
use clickhouse::Client;
use serde_json::{Value, json};
use uuid::Uuid;
use weft_platform::config::{ClickHouseSection, Config, Secret};

use crate::support::{TENANT_A, TENANT_B, World, id, views_database};

struct Facts {
    client: Client,
    section: ClickHouseSection,
}

impl Facts {
    async fn new() -> Self {
        let mut config = Config::default();
        config.clickhouse.url = weft_platform::testing::clickhouse_url();
        config.clickhouse.database = format!("weft_test_query_{:016x}", rand_word());
        // Which generations are live is told there.
        let views = views_database().await;
        config.views.admin_url = Secret(views.admin_url());
        config.views.projector_url = Secret(views.url("weft_projector"));
        weft_projectors::migrate::clickhouse(&config).await.unwrap();
        let section = config.clickhouse;
        let client = client_of(&section).with_database(format!("{}_g1", section.database));
        Self { client, section }
    }

    async fn run(&self, statement: &str) {
        self.client.query_raw(statement).execute().await.unwrap();
    }

    /// A message as it stands, told `version` times.
    async fn message(&self, tenant: Uuid, account: Uuid, accepted_at: &str, status: &str, response_ms: Option<u64>) {
        let message = Uuid::from_u128(u128::from(rand_word()));
        let response = response_ms.map_or_else(|| "null".to_owned(), |ms| ms.to_string());
        let delivered_at = if status == "delivered" {
            format!("'{accepted_at}'")
        } else {
            "null".to_owned()
        };
        let sent_at = if ["sent", "delivered"].contains(&status) {
            format!("'{accepted_at}'")
        } else {
            "null".to_owned()
        };
        for (version, status) in [(1, "pending"), (2, status)] {
            self.run(&format!(
                "insert into message_facts (tenant_id, account_id, message_id, conversation_id, message_type, priority, \
                   status, version, accepted_at, planned_at, sent_at, delivered_at, read_at, response_time_ms, updated_at) values \
                 ('{tenant}', '{account}', '{message}', 'S:1', 'text', 5, '{status}', {version}, '{accepted_at}', \
                   '{accepted_at}', {sent_at}, {delivered_at}, {delivered_at}, {response}, '{accepted_at}')"
            ))
            .await;
        }
    }

    /// One hour's statistics.
    async fn hour(&self, account: Uuid, hour: &str, counts: [u64; 6], happened: [u64; 4]) {
        let [total, sent, delivered, read, failed, cancelled] = counts;
        let [sent_now, failed_now, response_sum, response_count] = happened;
        for version in [1, 2] {
            self.run(&format!(
                "insert into message_stats_hourly (tenant_id, account_id, hour, total, sent, delivered, read, failed, \
                   cancelled, hour_sent, hour_failed, hour_response_time_ms_sum, hour_response_time_count, version) \
                 values ('{TENANT_A}', '{account}', '{hour}', {total}, {sent}, {delivered}, {read}, {failed}, \
                   {cancelled}, {sent_now}, {failed_now}, {response_sum}, {response_count}, {version})"
            ))
            .await;
        }
    }
}

/// Also when a test panics, so on a thread of its own.
impl Drop for Facts {
    fn drop(&mut self) {
        let section = &self.section;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    // A client of its own: the connections of the test's runtime stand still while this waits.
                    let client = client_of(section);
                    for name in [section.database.clone(), format!("{}_g1", section.database)] {
                        // What cannot be dropped is left behind.
                        let _ = client
                            .query_raw(&format!("drop database if exists {name}"))
                            .execute()
                            .await;
                    }
                });
            });
        });
    }
}

fn client_of(section: &ClickHouseSection) -> Client {
    Client::default()
        .with_url(section.url.as_str())
        .with_user(&section.user)
        .with_password(section.password.expose())
}

fn rand_word() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

async fn world(facts: &Facts) -> World {
    let section = facts.section.clone();
    World::with(|config| config.clickhouse = section).await
}

#[tokio::test]
async fn message_statistics_of_a_span() {
    let facts = Facts::new().await;
    let world = world(&facts).await;
    let account = id(1);
    for (accepted_at, status, response) in [
        ("2026-02-28 10:00:00.000", "sent", Some(100)),
        ("2026-02-28 10:30:00.000", "delivered", Some(300)),
        ("2026-02-28 11:00:00.000", "failed", None),
        ("2026-02-28 11:00:00.000", "pending", None),
        ("2026-02-28 12:00:00.000", "sent", Some(9_000)),
    ] {
        facts.message(TENANT_A, account, accepted_at, status, response).await;
    }
    facts
        .message(TENANT_B, account, "2026-02-28 10:00:00.000", "sent", Some(1))
        .await;
    let span = "start_time=2026-02-28T10:00:00Z&end_time=2026-02-28T12:00:00Z";
    let answer = world.get(&format!("/api/v1/monitor/messages/stats?{span}")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    insta::assert_json_snapshot!("message_stats", answer.body);
    let answer = world
        .get("/api/v1/monitor/messages/stats?start_time=2026-03-01T07:59:00Z")
        .await;
    insta::assert_json_snapshot!("message_stats_empty", answer.body);

    // Times that ClickHouse cannot hold mean all there is.
    let ever = "start_time=0001-01-01T00:00:00Z&end_time=9999-12-31T00:00:00Z";
    let answer = world.get(&format!("/api/v1/monitor/messages/stats?{ever}")).await;
    assert_eq!(answer.body["total_count"], 5, "{}", answer.body);

    let path = "/api/v1/monitor/messages/stats?start_time=2026-03-02T00:00:00Z&end_time=x&page=1";
    let answer = world.get(path).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer.body["errors"].as_array().unwrap().len(), 3, "{}", answer.body);
    let answer = world
        .get(&format!("/api/v1/monitor/messages/stats?tenant_id={TENANT_B}"))
        .await;
    assert_eq!(answer.body["code"], "tenant.mismatch");
    let answer = world.get("/api/v1/monitor/messages/stats?tenant_id=acme").await;
    assert_eq!(answer.body["errors"][0]["pointer"], "?tenant_id");
}

#[tokio::test]
async fn an_accounts_metrics_hour_by_hour() {
    let facts = Facts::new().await;
    let world = world(&facts).await;
    world.account(id(1), json!({})).await;
    facts
        .hour(id(1), "2026-02-28 09:00:00", [1, 1, 1, 1, 0, 0], [1, 0, 10, 1])
        .await;
    facts
        .hour(id(1), "2026-02-28 10:00:00", [4, 3, 1, 1, 1, 0], [3, 1, 900, 3])
        .await;
    facts
        .hour(id(1), "2026-02-28 12:00:00", [1, 0, 0, 0, 0, 0], [0, 0, 0, 0])
        .await;
    facts
        .hour(id(2), "2026-02-28 10:00:00", [1, 1, 1, 1, 0, 0], [1, 0, 10, 1])
        .await;
    let span = "start_time=2026-02-28T10:15:00Z&end_time=2026-02-28T13:00:00Z";
    let answer = world
        .get(&format!("/api/v1/monitor/accounts/{}/metrics?{span}", id(1)))
        .await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    insta::assert_json_snapshot!("account_metrics", answer.body);
    let ever = "start_time=0001-01-01T00:00:00Z&end_time=9999-12-31T00:00:00Z";
    let answer = world
        .get(&format!("/api/v1/monitor/accounts/{}/metrics?{ever}", id(1)))
        .await;
    assert_eq!(answer.body["metrics"].as_array().unwrap().len(), 3, "{}", answer.body);
}

#[tokio::test]
async fn graphql_statistics_have_every_bucket() {
    let facts = Facts::new().await;
    let world = world(&facts).await;
    facts
        .hour(id(1), "2026-02-28 10:00:00", [4, 3, 1, 1, 1, 0], [0; 4])
        .await;
    facts
        .hour(id(2), "2026-02-28 10:00:00", [1, 1, 1, 1, 0, 0], [0; 4])
        .await;
    facts
        .hour(id(1), "2026-03-01 00:00:00", [2, 0, 0, 0, 0, 2], [0; 4])
        .await;
    // The hour that is only half covered is counted over the facts.
    facts
        .message(TENANT_A, id(1), "2026-02-28 09:45:00.000", "delivered", None)
        .await;
    facts
        .message(TENANT_A, id(1), "2026-02-28 09:15:00.000", "delivered", None)
        .await;
    let query = "query ($from: DateTime!, $to: DateTime!, $interval: StatsInterval!, $account: ID) {
        messageStats(from: $from, to: $to, interval: $interval, accountId: $account) {
          from total sent delivered read failed cancelled } }";
    let ask = async |from: &str, to: &str, interval: &str, account: Value| {
        let variables = json!({"from": from, "to": to, "interval": interval, "account": account});
        world.data(query, variables).await["messageStats"].take()
    };
    let hours = ask("2026-02-28T09:30:00Z", "2026-02-28T12:00:00Z", "HOUR", Value::Null).await;
    insta::assert_json_snapshot!("graphql_stats_hours", hours);
    let days = ask("2026-02-28T08:00:00+08:00", "2026-03-02T00:00:00Z", "DAY", json!(id(1))).await;
    insta::assert_json_snapshot!("graphql_stats_days", days);
    let nothing = ask("2026-02-28T10:00:00Z", "2026-02-28T11:00:00Z", "HOUR", json!("x")).await;
    assert_eq!(nothing[0]["total"], 0);
    assert_eq!(nothing.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn health_asks_every_server() {
    let facts = Facts::new().await;
    let world = world(&facts).await;
    let mut answer = world.get("/api/v1/monitor/health").await;
    assert_eq!(answer.body["uptime"], 0);
    // The live feed has no topics here.
    let services = answer.body["services"].as_array_mut().unwrap();
    let parts = services.split_off(3);
    assert_eq!((parts.len(), &parts[0]["name"]), (1, &json!("live-feed")));
    insta::assert_json_snapshot!("health", answer.body["services"], {"[].latency_ms" => "[measured]"});
    assert!(answer.body["services"][0]["latency_ms"].is_f64());
}

#[tokio::test]
async fn a_part_that_fails_makes_health_degraded() {
    let facts = Facts::new().await;
    let world = world(&facts).await;
    world.health.ready("worker dispatch");
    world.health.ready("worker callbacks");
    world.health.failing("worker callbacks", "the workers' tables: secret");
    let answer = world.get("/api/v1/monitor/health").await;
    assert_eq!(answer.body["status"], "degraded");
    let service = |name: &str| {
        let services = answer.body["services"].as_array().unwrap();
        services.iter().find(|service| service["name"] == name).unwrap().clone()
    };
    assert_eq!(service("worker dispatch")["status"], "healthy");
    assert_eq!(
        service("worker callbacks"),
        json!({
            "name": "worker callbacks", "status": "down", "latency_ms": null,
            "detail": "it fails and is tried again: /readyz and the log say why",
        })
    );
}
