//! An older copy of the log is restored under running views: docs/operations/restore.md, step by step.

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use uuid::Uuid;
use weft_platform::clock::Clock;
use weft_platform::kafka::AGGREGATES;
use weft_platform::testing::until;

use crate::support::Stack;

async fn make_topics_anew(stack: &Stack) {
    let kafka = &stack.log.config.kafka;
    let topics: Vec<String> = AGGREGATES.iter().map(|aggregate| kafka.topic(aggregate)).collect();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let admin: AdminClient<DefaultClientContext> = kafka.client().create().unwrap();
    for deleted in admin.delete_topics(&topics, &AdminOptions::new()).await.unwrap() {
        deleted.unwrap();
    }
    until("the topics are made anew", async || {
        let (code, out, _) = stack.said(&["topics"]).await;
        (code == 0 && topics.iter().all(|topic| out.contains(topic))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn views_that_hold_what_a_restored_log_has_lost_stop_and_are_rebuilt() {
    let mut stack = Stack::start().await;
    let (account, ids) = stack.accepted(20).await;
    stack.every(account, &ids, 2, "AttemptStarted").await;
    stack.projected().await;
    stack.kill_roles().await;
    let backup = stack.log.log.copy().await;
    stack.start_roles();
    // What will be lost: events of streams that stay, and whole streams.
    stack.every(account, &ids[..5], 3, "MessageSent").await;
    stack.accepted(3).await;
    stack.projected().await;
    let count = "select count(*) from views.messages";
    assert_eq!(stack.number(count).await, 23);

    stack.kill_roles().await;
    stack.restore(backup).await;
    let (code, out, _) = stack.said(&["log", "verify"]).await;
    assert!(code == 3 && out.contains("beyond the log"), "{out}");
    let (code, out, err) = stack.said(&["log", "adopt", "--yes"]).await;
    assert!(code == 0 && out.contains("epoch 2 has begun"), "{out}{err}");
    make_topics_anew(&stack).await;
    let (code, out, err) = stack.said(&["relay", "--from", "start"]).await;
    assert!(code == 0 && out.contains("publication 2"), "{out}{err}");

    // Views that were not rebuilt take nothing of the new epoch.
    stack.start_roles();
    let new: Vec<Uuid> = (0..2).map(|_| Clock::system().new_id()).collect();
    stack.every(account, &new, 1, "MessageAccepted").await;
    for projection in ["messages", "conversations", "message_facts"] {
        until("the projections stop", async || {
            let told = stack.told("projectors");
            let mut lines = told.lines().filter(|line| line.contains("log adopted"));
            lines
                .any(|line| line.contains(&format!("\"{projection}\"")))
                .then_some(())
        })
        .await;
    }
    assert_eq!(stack.number(count).await, 23);

    let (code, out, err) = stack.said(&["replay", "--all"]).await;
    assert_eq!(code, 3, "{out}{err}");
    // Those at work go on by themselves, with what comes, too.
    stack.accepted(1).await;
    until("the views are the log", async || {
        let sending = stack
            .number("select count(*) from views.messages where status = 'sending'")
            .await;
        (stack.number(count).await == 23 && sending == 20).then_some(())
    })
    .await;
    let stable = format!(
        "select count() from {}.message_facts",
        stack.log.config.clickhouse.database
    );
    until("the facts are the log", async || {
        (stack.fact(1, &stable).await == 23).then_some(())
    })
    .await;
    let (code, out, err) = stack.said(&["workers", "rebuild"]).await;
    assert!(
        code == 0 && out.contains(" 23 messages that have not ended"),
        "{out}{err}"
    );
    let waiting: i64 = sqlx::query_scalar("select count(*) from workers.messages")
        .fetch_one(&stack.pool)
        .await
        .unwrap();
    assert_eq!(waiting, 23);
    let (code, out, err) = stack.said(&["log", "verify"]).await;
    assert!(code == 0 && out.contains(": sound"), "{out}{err}");
    let (code, out, err) = stack.said(&["projections", "check", "--all"]).await;
    assert_eq!(code, 0, "{out}{err}");

    // Nobody goes back to what was made before.
    let (code, _, err) = stack.said(&["replay", "--roll-back", "messages"]).await;
    assert!(
        code == 1 && err.contains("log adopted: the view was made in epoch 1"),
        "{err}"
    );
    // The log can be published again whichever generations are live.
    let (code, out, err) = stack.said(&["relay", "--from", "start"]).await;
    assert!(code == 0 && out.contains("publication 3"), "{out}{err}");
    stack.accepted(1).await;
    until("the next message", async || {
        (stack.number(count).await == 24).then_some(())
    })
    .await;
}
