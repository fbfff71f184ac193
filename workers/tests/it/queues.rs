//! The durable queues by themselves.

use serde_json::json;
use weft_domain::message::MessageStatus as M;

use crate::wait::until;
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
