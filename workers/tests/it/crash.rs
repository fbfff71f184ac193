//! Ended in the middle of anything, started again: never twice, and nothing lost. And everything fed again: no send.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use weft_domain::MessageId;
use weft_domain::message::MessageStatus as M;
use weft_platform::testing::{until, until_within};

use crate::world::{AUTO, Options, World};

/// Texts of effective sends, each with how often WeCom took it.
async fn taken(world: &World) -> BTreeMap<String, usize> {
    let mut taken = BTreeMap::new();
    for entry in world.effective().await {
        *taken
            .entry(entry["content"].as_str().unwrap_or_default().to_owned())
            .or_default() += 1;
    }
    taken
}

/// The checker of "never twice": what WeCom took more than once.
fn taken_twice(taken: &BTreeMap<String, usize>) -> Vec<&String> {
    taken
        .iter()
        .filter(|(_, times)| **times > 1)
        .map(|(text, _)| text)
        .collect()
}

#[test]
fn the_checker_of_never_twice_finds_a_planted_double() {
    let taken = BTreeMap::from([("一".to_owned(), 1), ("二".to_owned(), 2)]);
    assert_eq!(taken_twice(&taken), ["二"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_twice_in_the_middle_of_four_hundred_messages_nothing_is_sent_twice_or_lost() {
    let mut world = World::start(Options {
        configure: Some(|config| config.dispatch.unknown_timeout_seconds = 6),
        ..AUTO
    })
    .await;
    let mut accounts = Vec::new();
    for n in 0..4 {
        accounts.push(world.online_account(&format!("崩溃账号{n}")).await.0);
    }
    world.fault(json!({"path": "/msg/send_text", "latency_ms": 20})).await;
    let mut messages: Vec<(MessageId, String)> = Vec::new();
    for n in 0..400 {
        let text = format!("第 {n} 条");
        let id = world.text(accounts[n % 4], &format!("S:1{}", n % 7), &text).await;
        messages.push((id, text));
    }
    for target in [80, 200] {
        until("some are sent", async || {
            (world.ledger().await.len() >= target).then_some(())
        })
        .await;
        world.kill_workers();
        world.start_workers();
    }
    let kills = 2;
    let ended = until_within("every message has ended", Duration::from_mins(2), async || {
        let mut statuses = Vec::new();
        for (id, text) in &messages {
            let status = world.message(*id).await.status?;
            if !matches!(status, M::Delivered | M::Unknown) {
                return None;
            }
            statuses.push((status, text.clone()));
        }
        let taken = taken(&world).await;
        // An unknown one that WeCom took is settled by its callback.
        let open = statuses
            .iter()
            .any(|(status, text)| *status == M::Unknown && taken.contains_key(text));
        (!open).then_some(statuses)
    })
    .await;
    let taken = taken(&world).await;
    assert_eq!(taken_twice(&taken), Vec::<&String>::new());
    let unknown: BTreeSet<&String> = ended
        .iter()
        .filter(|(s, _)| *s == M::Unknown)
        .map(|(_, text)| text)
        .collect();
    assert!(
        unknown.len() <= accounts.len() * kills,
        "at most one per account and kill: {unknown:?}"
    );
    for (status, text) in &ended {
        assert_eq!(*status == M::Delivered, taken.contains_key(text), "{text}: {status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_at_once_send_each_message_once() {
    let world = World::start(AUTO).await;
    let other = world.more_workers();
    let mut accounts = Vec::new();
    for n in 0..3 {
        accounts.push(world.online_account(&format!("双进程{n}")).await.0);
    }
    let mut ids = Vec::new();
    for n in 0..120 {
        ids.push(
            world
                .text(accounts[n % 3], &format!("S:1{}", n % 5), &format!("{n}"))
                .await,
        );
    }
    for id in &ids {
        world.message_in(*id, &[M::Delivered]).await;
    }
    assert_eq!(world.ledger().await.len(), 120);
    drop(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_kafka_fed_again_sends_nothing() {
    let mut world = World::start(AUTO).await;
    let (account, _) = world.online_account("重放").await;
    let mut ids = Vec::new();
    for n in 0..60 {
        ids.push(world.text(account, &format!("S:1{}", n % 5), &format!("{n}")).await);
    }
    for id in &ids {
        world.message_in(*id, &[M::Delivered]).await;
    }
    world.kill_workers();
    // Offsets at their beginning: everything is read again into queues that know it all, and into empty ones.
    for forget in [
        "update workers.checkpoints set next_offset = 0",
        "delete from workers.checkpoints",
    ] {
        sqlx::query(forget).execute(&world.pool).await.unwrap();
        if forget.starts_with("delete") {
            for table in ["messages", "account_lanes", "receipts", "jobs"] {
                sqlx::query(&format!("delete from workers.{table}"))
                    .execute(&world.pool)
                    .await
                    .unwrap();
            }
        }
        world.start_workers();
        // What is sent now comes through behind everything else.
        let last = world.text(account, "S:1001", forget).await;
        world.message_in(last, &[M::Delivered]).await;
        until("everything was read again", async || {
            let read: Option<i64> = sqlx::query_scalar(
                "select sum(next_offset)::bigint from workers.checkpoints where topic like '%message'",
            )
            .fetch_one(&world.pool)
            .await
            .ok()?;
            let written: i64 = sqlx::query_scalar("select count(*) from events where aggregate_type = 'message'")
                .fetch_one(&world.pool)
                .await
                .ok()?;
            (read? >= written).then_some(())
        })
        .await;
        world.kill_workers();
    }
    assert_eq!(world.ledger().await.len(), 62);
    let queued: i64 = sqlx::query_scalar("select count(*) from workers.messages")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(queued, 0, "whatever has ended is out of the queue");
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_rebuilt_from_the_log_are_those_that_were_fed() {
    let mut world = World::start(AUTO).await;
    let (account, guid) = world.online_account("重建").await;
    let sent = world.text(account, "S:1001", "已送").await;
    world.message_in(sent, &[M::Delivered]).await;
    world
        .fault(json!({"guid": guid, "path": "/msg/send_text", "close": "before_reading", "count": 1}))
        .await;
    let unknown = world.text(account, "S:1001", "未知").await;
    world.message_in(unknown, &[M::Unknown]).await;
    let offline = world.create_account("未登录").await;
    world.text(offline, "S:1002", "等待").await;
    let rows = "select message_id::text, conversation_id, priority, due_at, version, state, attempt, retry_count,
                  unknown_since, correlation_id from workers.messages order by message_id";
    let accounts = "select account_id::text, version, status, guid, send_interval_ms from workers.account_lanes
                    order by account_id";
    let receipts = "select message_id::text, wework_msg_id, appinfo from workers.receipts order by message_id";
    let dump = async |sql: &str| -> String {
        let dump = format!("select coalesce(jsonb_agg(to_jsonb(t)), '[]')::text from ({sql}) t");
        sqlx::query_scalar(&dump).fetch_one(&world.pool).await.unwrap()
    };
    let fed = until("the feed has caught up", async || {
        let fed = (dump(rows).await, dump(accounts).await, dump(receipts).await);
        let told = fed.0.matches("message_id").count() == 2 && fed.0.contains("\"unknown\"");
        // The second account gets its instance meanwhile.
        (told && fed.1.matches("account_id").count() == 2 && !fed.1.contains("null")).then_some(fed)
    })
    .await;
    world.kill_workers();
    let rebuilt = weft_workers::rebuild(&world.config, &world.executor)
        .await
        .expect("the log answers");
    assert_eq!((rebuilt.accounts, rebuilt.messages), (2, 2));
    let dump = async |sql: &str| -> String {
        let dump = format!("select coalesce(jsonb_agg(to_jsonb(t)), '[]')::text from ({sql}) t");
        sqlx::query_scalar(&dump).fetch_one(&world.pool).await.unwrap()
    };
    assert_eq!((dump(rows).await, dump(accounts).await, dump(receipts).await), fed);
}
