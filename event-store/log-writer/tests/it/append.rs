//! The append's statement, as the writers send it.

use chrono::{DateTime, Utc};
use serde_json::json;
use weft_domain::{Claim, ClaimChange};
use weft_log_writer::append::{AppendError, Appended, Command, NewClaim, NewEvent, Outcome, Terms};
use weft_log_writer::testing::TestLog;
use weft_platform::clock::Clock;

/// A batch on its own terms, of a log whose epoch is not known.
async fn append(
    connection: &mut sqlx::PgConnection,
    now: DateTime<Utc>,
    commands: &[Command],
) -> Result<Vec<Outcome>, AppendError> {
    let appended = weft_log_writer::append::append(connection, now, commands, Terms::default()).await?;
    let Appended::Done(_, outcomes) = appended else {
        panic!("{appended:?}")
    };
    Ok(outcomes)
}

fn event(id: &str, sequence: i64) -> NewEvent {
    NewEvent {
        aggregate_type: "tenant",
        aggregate_id: id.to_owned(),
        sequence,
        event_type: "TenantSuspended".to_owned(),
        event_version: "1".to_owned(),
        payload: json!({"type": "TenantSuspended", "reason": "r", "at": "2026-01-01T00:00:00Z"}).to_string(),
        metadata: json!({"tenant_id": "t"}).to_string(),
    }
}

fn claim(id: &str, change: ClaimChange) -> NewClaim {
    NewClaim {
        aggregate_type: "tenant",
        aggregate_id: id.to_owned(),
        change,
    }
}

fn take(id: &str, code: &str) -> NewClaim {
    claim(id, ClaimChange::Take(Claim::tenant_code(code)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_losing_command_takes_nothing_of_its_batch_with_it() {
    let log = TestLog::new().await;
    let pool = log.log.pool("weft_log").await;
    let now = Clock::system().now();
    let with = |id: &str, claims: Vec<NewClaim>| Command {
        claims,
        events: vec![event(id, 1)],
        ..Command::default()
    };
    let batch = [
        with("s3", vec![take("s3", "x")]),
        with("s1", vec![take("s1", "y"), take("s1", "x")]),
        // Free again: the command before, which took it too, lost.
        with("s2", vec![take("s2", "y")]),
    ];
    let outcomes = append(&mut pool.acquire().await.unwrap(), now, &batch).await.unwrap();
    assert!(matches!(&outcomes[0], Outcome::Committed(orders) if orders.len() == 1));
    assert_eq!(outcomes[1], Outcome::ClaimTaken(Claim::tenant_code("x")));
    assert!(matches!(&outcomes[2], Outcome::Committed(_)));
    let stored: Vec<(String, i64)> = sqlx::query_as("select aggregate_id, position from events order by position")
        .fetch_all(&pool)
        .await
        .unwrap();
    let position = |outcome: &Outcome| match outcome {
        Outcome::Committed(orders) => orders[0].position,
        _ => panic!("{outcome:?}"),
    };
    assert_eq!(
        stored,
        [
            ("s2".to_owned(), position(&outcomes[2])),
            ("s3".to_owned(), position(&outcomes[0]))
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_sequence_fails_the_whole_batch() {
    let log = TestLog::new().await;
    let pool = log.log.pool("weft_log").await;
    let now = Clock::system().now();
    let only = |id: &str, sequence| Command {
        events: vec![event(id, sequence)],
        ..Command::default()
    };
    append(&mut pool.acquire().await.unwrap(), now, &[only("s1", 1)])
        .await
        .unwrap();
    assert_eq!(
        append(&mut pool.acquire().await.unwrap(), now, &[only("s2", 1), only("s1", 1)]).await,
        Err(AppendError::Conflict)
    );
    let streams: i64 = sqlx::query_scalar("select count(*) from events")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(streams, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_released_by_its_owner_only() {
    let log = TestLog::new().await;
    let pool = log.log.pool("weft_log").await;
    let now = Clock::system().now();
    let claims = |claims| {
        [Command {
            claims,
            ..Command::default()
        }]
    };
    append(&mut pool.acquire().await.unwrap(), now, &claims(vec![take("s1", "x")]))
        .await
        .unwrap();
    let release = |id| claim(id, ClaimChange::Release(Claim::tenant_code("x")));
    append(&mut pool.acquire().await.unwrap(), now, &claims(vec![release("s2")]))
        .await
        .unwrap();
    let lost = append(&mut pool.acquire().await.unwrap(), now, &claims(vec![take("s2", "x")]))
        .await
        .unwrap();
    assert_eq!(lost, [Outcome::ClaimTaken(Claim::tenant_code("x"))]);
    append(&mut pool.acquire().await.unwrap(), now, &claims(vec![release("s1")]))
        .await
        .unwrap();
    assert_eq!(
        append(&mut pool.acquire().await.unwrap(), now, &claims(vec![take("s2", "x")]))
            .await
            .unwrap(),
        [Outcome::Committed(vec![])]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_postgres_cannot_store_is_refused_for_good() {
    let log = TestLog::new().await;
    let pool = log.log.pool("weft_log").await;
    let payload = r#"{"text": "\u0000"}"#.to_owned();
    let command = Command {
        events: vec![NewEvent {
            payload,
            ..event("s1", 1)
        }],
        ..Command::default()
    };
    let refused = append(&mut pool.acquire().await.unwrap(), Clock::system().now(), &[command]).await;
    assert!(matches!(refused, Err(AppendError::Refused(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_epoch_is_that_of_the_log() {
    let log = TestLog::new().await;
    let pool = log.log.pool("weft_log").await;
    sqlx::query("update log_identity set epoch = 3")
        .execute(&log.log.admin_pool().await)
        .await
        .unwrap();
    let command = Command {
        events: vec![event("s1", 1)],
        ..Command::default()
    };
    let outcomes = append(&mut pool.acquire().await.unwrap(), Clock::system().now(), &[command])
        .await
        .unwrap();
    assert!(matches!(&outcomes[0], Outcome::Committed(orders) if orders[0].epoch == 3));
    let stored: i16 = sqlx::query_scalar("select epoch from events")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(stored, 3);
}
