//! Processes come and go, and every event counts once.

use sqlx::{Connection, PgConnection};
use uuid::Uuid;
use weft_platform::testing::until;
use weft_projectors::account_status_history::AccountStatusHistory;
use weft_projectors::accounts::Accounts;
use weft_projectors::conversations::Conversations;
use weft_projectors::messages::Messages;

use crate::support::history::History;
use crate::support::running::{Running, applied, publish};
use crate::support::stores::Stores;
use crate::support::{keyless, project, rows};

const TABLES: [&str; 4] = ["accounts", "account_status_history", "messages", "conversations"];

async fn project_all(stores: &Stores, history: &History) {
    let engine = &stores.engine;
    project(engine, &Accounts, &history.of("account"), 500).await;
    project(engine, &AccountStatusHistory, &history.of("account"), 500).await;
    project(engine, &Messages::new(keyless()), &history.of("message"), 500).await;
    let others: Vec<_> = history
        .records
        .iter()
        .filter(|r| r.aggregate_type != "account")
        .cloned()
        .collect();
    project(engine, &Conversations, &others, 500).await;
}

async fn until_all_is_projected(stores: &Stores, history: &History) {
    let of = |aggregate| history.of(aggregate).len() as i64;
    for (projection, events) in [
        ("accounts", of("account")),
        ("account_status_history", of("account")),
        ("messages", of("message")),
        ("conversations", of("message") + of("conversation")),
    ] {
        until(projection, async || {
            (applied(stores, projection).await == events).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_that_join_and_leave_twenty_times_lose_and_double_nothing() {
    let stores = Stores::with_topics().await;
    let expected = stores.twin().await;
    let history = History::of_everything(&stores.config.kafka, 80, 8_000);
    project_all(&expected, &history).await;

    let always = Running::start(stores.config.clone());
    let mut other = None;
    let slices = history.records.chunks(history.records.len().div_ceil(20));
    for slice in slices {
        other = match other {
            None => Some(Running::start(stores.config.clone())),
            Some(running) => {
                Running::stop(running).await;
                None
            }
        };
        // Under way, not at rest: the next change comes while this slice is projected.
        let before = applied(&stores, "messages").await;
        publish(&stores, slice).await;
        until("progress", async || {
            (applied(&stores, "messages").await > before).then_some(())
        })
        .await;
    }
    until_all_is_projected(&stores, &history).await;
    for table in TABLES {
        assert_eq!(
            rows(&stores.engine, table).await,
            rows(&expected.engine, table).await,
            "{table}"
        );
    }
    if let Some(running) = other {
        running.stop().await;
    }
    always.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_share_of_a_process_that_stands_still_goes_to_the_others() {
    let stores = Stores::with_topics().await;
    let expected = stores.twin().await;
    let history = History::of_everything(&stores.config.kafka, 81, 1_000);
    project_all(&expected, &history).await;
    publish(&stores, &history.records).await;
    // Its connection stands, as that of a process under SIGSTOP does; it only tells nothing any more.
    let mut still = PgConnection::connect(stores.config.views.projector_url.expose())
        .await
        .unwrap();
    sqlx::query(
        "insert into views.members (member, pid, backend_start, seen_at)
         select $1, pid, backend_start, clock_timestamp() from pg_stat_activity where pid = pg_backend_pid()",
    )
    .bind(Uuid::max())
    .execute(&mut still)
    .await
    .unwrap();
    let running = Running::start(stores.config.clone());
    until_all_is_projected(&stores, &history).await;
    for table in TABLES {
        assert_eq!(
            rows(&stores.engine, table).await,
            rows(&expected.engine, table).await,
            "{table}"
        );
    }
    running.stop().await;
}
