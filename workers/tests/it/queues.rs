//! The durable queues by themselves.

use serde_json::json;
use uuid::Uuid;
use weft_domain::message::{Message, MessageCommand, MessageStatus as M, Receipt};
use weft_log_writer::testing::options;
use weft_platform::clock::Clock;
use weft_platform::config::Secret;
use weft_platform::testing::until;
use weft_workers::testing;

use crate::world::{AUTO, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_owners_lane_is_taken_over_before_its_lease_ends() {
    let mut world = World::start(AUTO).await;
    let (account, guid) = world.online_account("接管").await;
    world
        .fault(json!({"guid": guid, "path": "/msg/send_text", "latency_ms": 1500, "count": 1}))
        .await;
    let id = world.text(account, "S:1001", "慢").await;
    until("it is being sent", async || {
        (world.message(id).await.status == Some(M::Sending)).then_some(())
    })
    .await;
    world.kill_workers();
    let held: (Option<i64>, bool) = sqlx::query_as(
        "select lease_owner, lease_until > now() + interval '1 second' from workers.account_lanes where account_id = $1",
    )
    .bind(account.0)
    .fetch_one(&world.pool)
    .await
    .unwrap();
    assert!(held.0.is_some() && held.1, "the lease has time left: {held:?}");
    world.start_workers();
    // Found in `sending` by another process: unknown, then settled by the callback of the slow send.
    world.message_in(id, &[M::Delivered]).await;
    let events: Vec<String> =
        sqlx::query_scalar("select event_type from events where aggregate_id = $1 order by sequence")
            .bind(id.to_string())
            .fetch_all(&world.pool)
            .await
            .unwrap();
    assert_eq!(
        events,
        [
            "MessageAccepted",
            "AttemptStarted",
            "OutcomeUnknown",
            "OutcomeResolved",
            "MessageDelivered"
        ]
    );
    assert_eq!(world.effective().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workers_say_when_they_are_ready() {
    let world = World::start(AUTO).await;
    let workers = world.workers.as_ref().expect("they run");
    until("all parts are ready", async || {
        let parts = workers.health.parts();
        (parts.len() >= 5 && workers.health.is_ready()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_kafka_has_dropped_are_taken_from_the_log() {
    let mut world = World::start(AUTO).await;
    let (account, _) = world.online_account("断档").await;
    let before = world.text(account, "S:1001", "之前").await;
    world.message_in(before, &[M::Delivered]).await;
    world.kill_workers();
    let missed = world.text(account, "S:1001", "错过的").await;
    // As if retention had run over what was not read yet: its records are deleted from the topic.
    until("the relay has published it", async || {
        let behind: i64 = sqlx::query_scalar(
            "select count(*) from events e, relay_checkpoints c
             where (e.epoch, e.transaction_id, e.position) > (c.epoch, c.transaction_id, c.position)",
        )
        .fetch_one(&world.pool)
        .await
        .ok()?;
        (behind == 0).then_some(())
    })
    .await;
    world.drop_records("message").await;
    world.start_workers();
    // The gap shows with the next event of the partition.
    let after = world.text(account, "S:1001", "之后").await;
    world.message_in(after, &[M::Delivered]).await;
    world.message_in(missed, &[M::Delivered]).await;
    assert_eq!(world.effective().await.len(), 3);
}

/// An index row of Postgres holds some kilobytes.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_no_row_can_hold_does_not_stop_the_queues() {
    let world = World::start(AUTO).await;
    let offline = world.create_account("离线").await;
    let (account, _) = world.online_account("在线").await;
    let poison = world.text(offline, "S:1001", "毒").await;
    let now = Clock::system().now();
    let appinfo: String = (0..1_000).map(|_| Clock::system().new_id().to_string()).collect();
    let receipt = Receipt {
        wework_msg_id: "1".to_owned(),
        appinfo: Some(appinfo),
        wework_send_time: None,
    };
    for command in [
        MessageCommand::StartAttempt { now },
        MessageCommand::RecordSent {
            attempt: 1,
            receipt,
            now,
        },
    ] {
        let done = world
            .executor
            .execute::<Message>(&poison.to_string(), command, &options(world.tenant))
            .await;
        done.expect("the message was sent");
    }
    let after = world.text(account, "S:1001", "之后").await;
    world.message_in(after, &[M::Delivered]).await;
    // The same from the log.
    weft_workers::rebuild(&world.config, &world.executor)
        .await
        .expect("the queues are rebuilt");
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_are_shared_between_tenants_not_between_accounts() {
    let world = World::without_workers(AUTO).await;
    // A tenant with many accounts and one with a single one, all with something to do; the big one is older.
    let (big, small) = (uuid::Uuid::from_u128(1), uuid::Uuid::from_u128(2));
    for n in 0..9_u128 {
        let (tenant, served) = if n == 8 { (small, "now()") } else { (big, "'epoch'") };
        sqlx::query(&format!(
            "insert into workers.account_lanes (account_id, tenant_id, version, status, wake_at, served_at)
             values ($1, $2, 1, 'online', now() - interval '1 second', {served})"
        ))
        .bind(uuid::Uuid::from_u128(100 + n))
        .bind(tenant)
        .execute(&world.pool)
        .await
        .unwrap();
    }
    let lanes = testing::claim_lanes(&world.config, 7, 2).await.unwrap();
    let tenants: std::collections::BTreeSet<_> = lanes.iter().map(|lane| lane.1).collect();
    assert_eq!(
        (lanes.len(), tenants.len()),
        (2, 2),
        "each tenant got one of the two: {lanes:?}"
    );
    // Somebody else's leases hold; the small tenant has nothing left, the big one has.
    let lanes = testing::claim_lanes(&world.config, 7, 3).await.unwrap();
    assert!(lanes.len() == 3 && lanes.iter().all(|lane| lane.1 == big), "{lanes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_take_the_same_messages_out_do_not_deadlock_whatever_their_plans() {
    let world = World::without_workers(AUTO).await;
    let planned = |settings: &str| {
        let mut config = (*world.config).clone();
        config.log.url = Secret(format!("{}?{settings}", config.log.url.expose()));
        config
    };
    let by_key = planned("options[enable_seqscan]=off&options[enable_bitmapscan]=off");
    let as_it_lies = planned("options[enable_indexscan]=off&options[enable_bitmapscan]=off");
    let ids = [1, 2, 3].map(Uuid::from_u128);
    for lane_owner in [false, true] {
        sqlx::query(
            "insert into workers.account_lanes (account_id, tenant_id, version, status, wake_at)
             values ($1, $1, 1, 'online', 'epoch') on conflict do nothing",
        )
        .bind(ids[0])
        .execute(&world.pool)
        .await
        .unwrap();
        // They lie in the opposite order of their keys.
        for id in ids.iter().rev() {
            sqlx::query(
                "insert into workers.messages (message_id, tenant_id, account_id, conversation_id, priority, due_at,
                   accepted_epoch, accepted_transaction, accepted_position, version, state, correlation_id, traceparent)
                 values ($1, $2, $2, 'S:1', 5, now(), 1, 1, 1, 1, 'pending', '', '')",
            )
            .bind(id)
            .bind(ids[0])
            .execute(&world.pool)
            .await
            .unwrap();
        }
        // Held in the middle, so that each has what it takes first.
        let mut middle = world.pool.begin().await.unwrap();
        sqlx::query("select from workers.messages where message_id = $1 for update")
            .bind(ids[1])
            .execute(&mut *middle)
            .await
            .unwrap();
        let feed = tokio::spawn(testing::remove_messages(by_key.clone(), ids.to_vec()));
        let other = if lane_owner {
            tokio::spawn(testing::end_messages(as_it_lies.clone(), 7, ids.to_vec()))
        } else {
            tokio::spawn(testing::remove_messages(as_it_lies.clone(), ids.to_vec()))
        };
        until("both wait", async || {
            let waiting: i64 = sqlx::query_scalar(
                "select count(*) from pg_stat_activity
                 where datname = current_database() and application_name = 'weft workers' and wait_event_type = 'Lock'",
            )
            .fetch_one(&world.pool)
            .await
            .ok()?;
            (waiting == 2).then_some(())
        })
        .await;
        middle.rollback().await.unwrap();
        feed.await.unwrap().expect("the feed took them out");
        other.await.unwrap().expect("the other one did not mind");
        let left: i64 = sqlx::query_scalar("select count(*) from workers.messages")
            .fetch_one(&world.pool)
            .await
            .unwrap();
        assert_eq!(left, 0);
    }
}
