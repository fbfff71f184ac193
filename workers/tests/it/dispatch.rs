//! Dispatch under outages.

use std::time::Duration;

use serde_json::json;
use weft_domain::message::MessageStatus as M;
use weft_platform::testing::{until, until_within};

use crate::world::{AUTO, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cuts_every_connection_in_the_middle_costs_no_message() {
    let world = World::start(AUTO).await;
    let (account, guid) = world.online_account("断库").await;
    world
        .fault(json!({"guid": guid, "path": "/msg/send_text", "latency_ms": 10}))
        .await;
    let mut ids = Vec::new();
    for n in 0..80 {
        ids.push(world.text(account, &format!("S:1{}", n % 9), &n.to_string()).await);
    }
    for target in [10, 30] {
        until("some are sent", async || {
            (world.ledger().await.len() >= target).then_some(())
        })
        .await;
        sqlx::query(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and usename = 'weft_log' and pid <> pg_backend_pid()",
        )
        .execute(&world.pool)
        .await
        .expect("the owner may");
    }
    until_within(
        "every message is delivered, or rightly unknown",
        Duration::from_mins(1),
        async || {
            for id in &ids {
                if !matches!(world.message(*id).await.status?, M::Delivered) {
                    return None;
                }
            }
            Some(())
        },
    )
    .await;
    assert_eq!(world.effective().await.len(), 80);
}
