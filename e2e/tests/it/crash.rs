//! kill −9 of the whole process in the middle of 500 messages, and the checkers shown failing on planted defects.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use weft_e2e::{Options, World, ledger_differences, until, view_differences};

const MESSAGES: usize = 500;
const ACCOUNTS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_every_accepted_message_ends_none_is_sent_twice_and_every_view_equals_a_recount() {
    let options = Options {
        auto_scan: Some("100ms"),
        ..Options::default()
    };
    let mut world = World::start(options).await;
    let mut accounts = Vec::new();
    for n in 0..ACCOUNTS {
        accounts.push(world.online_account(&format!("压测账号{n}")).await);
    }
    // A slow WeCom keeps sends in hand at the moment of the kill.
    assert_eq!(
        world
            .simulator_post("/_sim/faults", json!({"path": "/msg/send_text", "latency_ms": 20}))
            .await,
        201
    );

    let mut texts = Vec::new();
    let log = world.log_pool().await;
    for n in 0..MESSAGES {
        let (account, guid) = &accounts[n % ACCOUNTS];
        let text = format!("第 {n} 条，仅此一次");
        let body = json!({
            "account_id": account, "conversation_id": format!("S:1{}", n % 7), "message_type": "text", "content": {"text": text},
        });
        // The caller repeats with its key until it is answered, across the kill.
        let key = format!("crash-{n}");
        let id = until("the message is accepted", Duration::from_mins(1), async || {
            let headers = [("Idempotency-Key", key.as_str())];
            let answer = world
                .api
                .try_call(Method::POST, "/api/v1/messages/send", Some(&body), &headers)
                .await
                .ok()?;
            answer.body["message_id"].as_str().map(str::to_owned)
        })
        .await;
        texts.push((guid.clone(), id, text));
        if n == MESSAGES / 2 {
            until("some are sent", Duration::from_secs(30), async || {
                let sent: i64 = sqlx::query_scalar("select count(*) from events where event_type = 'MessageSent'")
                    .fetch_one(&log)
                    .await
                    .ok()?;
                (sent > 20).then_some(())
            })
            .await;
            world.kill_weft();
            world.start_weft().await;
        }
    }
    until("every message has ended", Duration::from_mins(2), async || {
        let moving: i64 = sqlx::query_scalar(
            "select count(*) from (
                select distinct on (aggregate_id) aggregate_id, event_type from events
                where aggregate_type = 'message' and event_type <> 'MessageRead' order by aggregate_id, sequence desc
             ) last where event_type not in ('MessageDelivered', 'MessageFailed', 'MessageCancelled', 'OutcomeUnknown')",
        )
        .fetch_one(&log)
        .await
        .ok()?;
        (moving == 0).then_some(())
    })
    .await;
    // Whatever is unknown now has had its time to be settled.
    until("unknown ones had their time", Duration::from_mins(1), async || {
        let young: i64 = sqlx::query_scalar(
            "select count(*) from events where event_type = 'OutcomeUnknown' and recorded_at > clock_timestamp() - interval '9 seconds'",
        )
        .fetch_one(&log)
        .await
        .ok()?;
        (young == 0).then_some(())
    })
    .await;

    let ledger = world.ledger().await;
    let differences = ledger_differences(&log, &ledger, &texts).await;
    assert!(differences.is_empty(), "{differences:#?}");
    let unknown: i64 = sqlx::query_scalar(
        "select count(*) from (
            select distinct on (aggregate_id) event_type from events
            where aggregate_type = 'message' order by aggregate_id, sequence desc) last where event_type = 'OutcomeUnknown'",
    )
    .fetch_one(&log)
    .await
    .expect("the log answers");
    assert!(
        unknown <= ACCOUNTS as i64,
        "{unknown} unknown after one kill of {ACCOUNTS} accounts"
    );

    let (views, clickhouse) = (world.views_pool().await, world.clickhouse());
    until("views equal a recount", Duration::from_secs(30), async || {
        view_differences(&log, &views, &clickhouse)
            .await
            .is_empty()
            .then_some(())
    })
    .await;

    // The checkers can fail: a send that nobody told, one told twice, a row that the projection lost.
    let mut doubled = ledger.clone();
    doubled.push(
        ledger
            .iter()
            .find(|entry| entry["effective"] == true)
            .expect("a send")
            .clone(),
    );
    assert_eq!(
        ledger_differences(&log, &doubled, &texts).await.len(),
        1,
        "a doubled send is noticed"
    );
    let missing: Vec<_> = ledger.iter().skip(1).cloned().collect();
    assert_eq!(
        ledger_differences(&log, &missing, &texts).await.len(),
        1,
        "a missing send is noticed"
    );
    world.kill_weft();
    let row = "(select id from views_g1.messages order by id limit 1)";
    sqlx::query(&format!(
        "update views_g1.messages set status = 'pending' where id = {row}"
    ))
    .execute(&views)
    .await
    .expect("planted");
    assert_eq!(
        view_differences(&log, &views, &clickhouse).await.len(),
        1,
        "a wrong row is noticed"
    );
    sqlx::query(&format!("delete from views_g1.messages where id = {row}"))
        .execute(&views)
        .await
        .expect("planted");
    assert_eq!(
        view_differences(&log, &views, &clickhouse).await.len(),
        1,
        "a lost row is noticed"
    );
}
