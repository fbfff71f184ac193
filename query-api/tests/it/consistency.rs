use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;
use weft_platform::http::{ConsistencyToken, StreamMark};

use crate::support::{World, id};

const LOG: Uuid = Uuid::from_u128(0x10c);

/// A token of an event of `aggregate` at a position of partition 0.
fn token(world: &World, aggregate: &str, stream: Uuid, position: i64) -> String {
    token_of(LOG, world, aggregate, stream, position)
}

fn token_of(log_id: Uuid, world: &World, aggregate: &str, stream: Uuid, position: i64) -> String {
    let mark = StreamMark {
        topic: world.config.kafka.topic(aggregate),
        partition: 0,
        order: (7, position),
        aggregate_id: stream.to_string(),
        version: 1,
    };
    ConsistencyToken {
        log_id,
        epoch: 1,
        marks: vec![mark],
    }
    .encode()
}

/// As a projector commits: the checkpoint, and the word that it moved.
async fn reach(world: &World, projection: &str, aggregate: &str, position: i64) {
    sqlx::query(
        "with moved as (
           insert into views_g1.checkpoints (projection, topic, partition, next_offset, epoch, transaction_id, position,
             generation, log_id)
           values ($1, $2, 0, $3, 1, 7, $3, 1, $4)
           on conflict (projection, topic, partition) do update set position = excluded.position
           returning 1)
         select pg_notify('weft_checkpoints', $1)::text from moved",
    )
    .bind(projection)
    .bind(world.config.kafka.topic(aggregate))
    .bind(position)
    .bind(LOG)
    .execute(&world.admin)
    .await
    .unwrap();
}

const STRICT: (&str, &str) = ("prefer", "handling=strict, wait=0");

#[tokio::test]
async fn an_answer_says_whether_its_view_has_what_the_token_names() {
    let world = World::new().await;
    world.account(id(1), json!({})).await;
    world.message(id(5), json!({})).await;
    reach(&world, "accounts", "account", 10).await;
    reach(&world, "account_status_history", "account", 9).await;
    reach(&world, "messages", "message", 20).await;
    let account = format!("/api/v1/accounts/{}", id(1));
    let message = format!("/api/v1/messages/{}/status", id(5));
    for (path, aggregate, position, met) in [
        (account.clone(), "account", 10, "true"),
        (account.clone(), "account", 11, "false"),
        // What a view does not consume it cannot lack.
        (account.clone(), "message", 99, "true"),
        (format!("{account}/status"), "account", 10, "true"),
        (format!("{account}/status-history"), "account", 10, "false"),
        (format!("{account}/status-history"), "account", 9, "true"),
        ("/api/v1/accounts?status=online".to_owned(), "account", 10, "true"),
        (message.clone(), "message", 20, "true"),
        (message, "message", 21, "false"),
        // No projection has begun there.
        (format!("{account}/conversations"), "conversation", 1, "false"),
        ("/api/v1/monitor/health".to_owned(), "account", 99, "true"),
    ] {
        let token = token(&world, aggregate, id(1), position);
        let lenient = [("weft-consistency", token.as_str()), ("prefer", "wait=0")];
        let answer = world.get_with(&path, "dev-token-a", &lenient).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(
            answer.headers["weft-consistency-met"], met,
            "{path} {aggregate} {position}"
        );
        let strict = [("weft-consistency", token.as_str()), STRICT];
        let answer = world.get_with(&path, "dev-token-a", &strict).await;
        if met == "false" {
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(answer.body["code"], "view.behind");
            assert!(answer.headers.contains_key("retry-after"));
        } else {
            assert_eq!(answer.status, StatusCode::OK);
        }
    }
    // Without a token nothing is said.
    let answer = world.get(&account).await;
    assert!(!answer.headers.contains_key("weft-consistency-met"));
}

#[tokio::test]
async fn a_read_waits_until_the_view_has_it_and_answers_what_the_view_then_shows() {
    let world = World::new().await;
    reach(&world, "accounts", "account", 1).await;
    let (token, path) = (
        token(&world, "account", id(1), 2),
        format!("/api/v1/accounts/{}", id(1)),
    );
    let headers = [("weft-consistency", token.as_str())];
    let began = Instant::now();
    let (answers, ()) = tokio::join!(
        futures::future::join_all((0..20).map(|_| world.get_with(&path, "dev-token-a", &headers))),
        async {
            // Long enough for every reader to have begun to wait.
            while sqlx::query_scalar::<_, i64>(
                "select count(*) from pg_stat_activity where datname = current_database() and query like '%as a (proj%'",
            )
            .fetch_one(&world.admin)
            .await
            .unwrap()
                == 0
            {
                tokio::task::yield_now().await;
            }
            world.account(id(1), json!({})).await;
            reach(&world, "accounts", "account", 2).await;
        }
    );
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    for answer in answers {
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.headers["weft-consistency-met"], "true");
    }
}

#[tokio::test]
async fn what_does_not_come_is_waited_for_as_long_as_the_caller_says() {
    let world = World::new().await;
    reach(&world, "accounts", "account", 1).await;
    let (token, path) = (
        token(&world, "account", id(1), 2),
        format!("/api/v1/accounts/{}", id(1)),
    );
    let began = Instant::now();
    let answer = world
        .get_with(
            &path,
            "dev-token-a",
            &[("weft-consistency", &token), ("prefer", "wait=1")],
        )
        .await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.headers["weft-consistency-met"], "false");
    let waited = began.elapsed();
    assert!(
        waited >= Duration::from_secs(1) && waited < Duration::from_secs(3),
        "{waited:?}"
    );
}

#[tokio::test]
async fn a_parked_stream_and_another_logs_token_are_not_waited_for() {
    let world = World::new().await;
    world.account(id(1), json!({})).await;
    reach(&world, "accounts", "account", 10).await;
    sqlx::query(
        "insert into views_g1.dead_letters (projection, aggregate_type, aggregate_id, tenant_id, topic, partition,
           sequence, last_sequence, event_type, epoch, transaction_id, position, fingerprint, error)
         values ('accounts', 'account', $1, $2, 't', 0, 2, 2, 'LoggedOut', 1, 7, 8, 'f', 'e')",
    )
    .bind(id(1))
    .bind(crate::support::TENANT_A)
    .execute(&world.admin)
    .await
    .unwrap();
    let path = format!("/api/v1/accounts/{}", id(1));
    let parked = token(&world, "account", id(1), 9);
    let another = token_of(Uuid::from_u128(1), &world, "account", id(2), 9);
    for token in [parked, another] {
        let began = Instant::now();
        let answer = world
            .get_with(&path, "dev-token-a", &[("weft-consistency", &token)])
            .await;
        assert_eq!(answer.headers["weft-consistency-met"], "false");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    let other = token(&world, "account", id(2), 9);
    let answer = world
        .get_with(&path, "dev-token-a", &[("weft-consistency", &other)])
        .await;
    assert_eq!(answer.headers["weft-consistency-met"], "true");
}

#[tokio::test]
async fn several_tokens_must_all_be_met_and_rubbish_is_malformed() {
    let world = World::new().await;
    world.account(id(1), json!({})).await;
    reach(&world, "accounts", "account", 3).await;
    let path = format!("/api/v1/accounts/{}", id(1));
    for (second, met) in [(3, "true"), (4, "false")] {
        let both = format!(
            "{}, {}",
            token(&world, "account", id(1), 2),
            token(&world, "account", id(1), second)
        );
        let headers = [("weft-consistency", both.as_str()), ("prefer", "wait=0")];
        let answer = world.get_with(&path, "dev-token-a", &headers).await;
        assert_eq!(answer.headers["weft-consistency-met"], met);
    }
    let answer = world
        .get_with(&path, "dev-token-a", &[("weft-consistency", "rubbish")])
        .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.body["code"], "consistency.token_malformed");
}

#[tokio::test]
async fn hourly_statistics_are_waited_for_until_what_the_facts_hold_is_computed() {
    let world = World::new().await;
    reach(&world, "message_facts", "message", 5).await;
    let met = async |wait: &str| {
        let token = token(&world, "message", id(7), 5);
        let headers = [
            ("authorization", "Bearer dev-token-a"),
            ("weft-consistency", token.as_str()),
            ("prefer", wait),
        ];
        let query =
            "{ messageStats(from: \"2026-02-01T00:00:00Z\", to: \"2026-02-01T01:00:00Z\", interval: HOUR) { total } }";
        let answer = world.graphql_with(json!({"query": query}), &headers).await;
        answer.headers["weft-consistency-met"].to_str().unwrap().to_owned()
    };
    assert_eq!(met("wait=0").await, "true", "no hour is dirty");
    let dirty = |tenant| {
        format!(
            "insert into views_g1.dirty_hours (tenant_id, account_id, hour)
             values ('{tenant}', '{}', '2026-02-01T00:00:00Z')",
            id(1)
        )
    };
    world.update(&dirty(crate::support::TENANT_B)).await;
    assert_eq!(met("wait=0").await, "true", "another tenant's hour is dirty");
    world.update(&dirty(crate::support::TENANT_A)).await;
    world
        .update("update views_g1.statistics_passes set began = 4, ended = 3")
        .await;
    assert_eq!(met("wait=0").await, "false");
    // A computation that had begun may not have seen it; one that begins later has.
    world
        .update("update views_g1.statistics_passes set ended = began")
        .await;
    assert_eq!(met("wait=0").await, "false");
    let waited = met("wait=5");
    tokio::pin!(waited);
    let pass = "with ended as (update views_g1.statistics_passes set began = began + 1, ended = began + 1)
                select pg_notify('weft_checkpoints', 'message_stats_hourly')::text";
    let met = loop {
        tokio::select! {
            met = &mut waited => break met,
            ended = sqlx::query(pass).execute(&world.admin) => drop(ended.unwrap()),
        }
    };
    assert_eq!(met, "true");
}

#[tokio::test]
async fn graphql_waits_for_what_its_fields_read_and_says_it_in_its_extensions() {
    let world = World::new().await;
    world.account(id(1), json!({})).await;
    reach(&world, "accounts", "account", 3).await;
    let account = format!("account(id: \"{}\")", id(1));
    for (query, position, met) in [
        (format!("{{ {account} {{ id }} }}"), 3, true),
        (format!("{{ {account} {{ id }} }}"), 4, false),
        (
            format!("{{ {account} {{ ...f }} }} fragment f on Account {{ statusHistory {{ totalCount }} }}"),
            3,
            false,
        ),
        ("{ messages { totalCount } }".to_owned(), 9, true),
    ] {
        let token = token(&world, "account", id(1), position);
        let headers = [
            ("authorization", "Bearer dev-token-a"),
            ("weft-consistency", token.as_str()),
            ("prefer", "wait=0"),
        ];
        let answer = world.graphql_with(json!({"query": query}), &headers).await;
        assert_eq!(answer.body["extensions"]["consistencyMet"], met, "{query}");
        assert_eq!(
            answer.headers["weft-consistency-met"],
            if met { "true" } else { "false" }
        );
    }
}
