//! Kafka loses everything while the log is kept: docs/operations/kafka-lost.md, step by step.

use std::time::Duration;

use weft_e2e::{Options, World, until, view_differences};

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_kafka_is_noticed_and_the_views_recover_from_the_log() {
    let mut world = World::start(Options {
        auto_scan: Some("100ms"),
        ..Options::default()
    })
    .await;
    let (account, _) = world.online_account("断流账号").await;
    let mut ids = Vec::new();
    for n in 0..20 {
        let text = format!("第 {n} 条");
        ids.push(world.api.send_text(&account, &format!("S:1{}", n % 5), &text).await);
    }
    for id in &ids {
        world.message_in(id, &["delivered"]).await;
    }
    let sends = world.ledger().await.len();

    world.wipe_kafka().await;
    let unseen = world.api.send_text(&account, "S:1001", "丢失之后").await;
    until("the relay says what is wrong", Duration::from_secs(30), async || {
        let health = world.api.get("/readyz").await;
        health.body.to_string().contains("weft relay --from").then_some(())
    })
    .await;

    // What the relay published before it noticed goes with topics that are made anew while none runs.
    world.kill_weft();
    world.wipe_kafka().await;
    let (code, said) = world.tool(&["relay", "--from", "start"]);
    assert!(code == Some(0) && said.contains("publication 2"), "{said}");
    world.start_weft().await;
    world.message_in(&unseen, &["delivered"]).await;
    let last = world.api.send_text(&account, "S:1001", "恢复之后").await;
    world.message_in(&last, &["delivered"]).await;
    assert_eq!(
        world.ledger().await.len(),
        sends + 2,
        "something was sent twice or not at all"
    );
    let (log, views) = (world.log_pool().await, world.views_pool().await);
    until("the views equal the log", Duration::from_secs(30), async || {
        view_differences(&log, &views, &world.clickhouse())
            .await
            .is_empty()
            .then_some(())
    })
    .await;
    let (code, said) = world.tool(&["log", "verify"]);
    assert_eq!(code, Some(0), "{said}");
}
