//! All of Kafka re-fed to the workers causes no send.

use std::time::Duration;

use weft_e2e::{Options, World, until};

#[tokio::test(flavor = "multi_thread")]
async fn all_of_kafka_fed_again_to_the_workers_sends_nothing() {
    let mut world = World::start(Options {
        auto_scan: Some("100ms"),
        ..Options::default()
    })
    .await;
    let (account, _) = world.online_account("重放账号").await;
    let mut ids = Vec::new();
    for n in 0..40 {
        ids.push(
            world
                .api
                .send_text(&account, &format!("S:1{}", n % 5), &format!("第 {n} 条"))
                .await,
        );
    }
    for id in &ids {
        world.message_in(id, &["delivered"]).await;
    }
    let before = world.ledger().await.len();
    world.kill_weft();
    let log = world.log_pool().await;
    let forgotten = sqlx::query("delete from workers.checkpoints")
        .execute(&log)
        .await
        .expect("the log answers");
    assert!(forgotten.rows_affected() > 0, "the workers had read something");
    world.start_weft().await;
    // Everything is read again once a message sent now has come through behind it.
    let last = world.api.send_text(&account, "S:1001", "重放之后").await;
    world.message_in(&last, &["delivered"]).await;
    until("the feed has caught up", Duration::from_secs(30), async || {
        let read: i64 = sqlx::query_scalar("select count(*) from workers.checkpoints")
            .fetch_one(&log)
            .await
            .ok()?;
        (read > 0).then_some(())
    })
    .await;
    assert_eq!(world.ledger().await.len(), before + 1);
}
