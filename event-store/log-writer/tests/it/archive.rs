//! A closed month leaves the table that is written to.

use weft_domain::LogOrder;
use weft_domain::message::{CancelCause, Message, MessageCommand};
use weft_log_reader::Tail;
use weft_log_writer::archive::{Archive, ArchiveError, Contents, Month, State};
use weft_log_writer::testing::{TestLog, options};
use weft_platform::clock::Clock;
use weft_platform::testing::until;

use crate::quotas::message;
use crate::support::{new_account, new_tenant};

const ID: &str = "019b7a00-0000-7000-8000-000000000001";

async fn count(pool: &sqlx::PgPool, table: &str) -> i64 {
    let statement = format!("select count(*) from {table} where aggregate_type = 'message'");
    sqlx::query_scalar(&statement).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn an_archived_month_takes_nothing_from_a_process_that_remembers_its_messages_and_loses_nothing() {
    let log = TestLog::new().await;
    let (remembers, other) = (log.executor().await, log.executor().await);
    let admin = log.log.admin_pool().await;
    let (tenant, account) = (new_tenant(), new_account());
    let accept = message(tenant, account, "2026-03-01T00:00:00Z");
    remembers
        .execute::<Message>(ID, accept, &options(tenant))
        .await
        .unwrap();

    let month = Month::parse("2026-01").unwrap();
    let long_ago = "update events set recorded_at = recorded_at - interval '90 days'";
    sqlx::query(long_ago).execute(&admin).await.unwrap();
    let archive = Archive::begin(admin.clone(), month.clone()).await.unwrap();
    let busy = Archive::begin(admin.clone(), month.clone()).await.unwrap_err();
    assert!(matches!(busy, ArchiveError::Busy));
    let pending = archive.close().await.unwrap_err();
    assert!(matches!(pending, ArchiveError::NotClosed { open: 1, .. }), "{pending}");
    assert_eq!(archive.state().await.unwrap(), State::Open);

    let cancel = MessageCommand::Cancel {
        cause: CancelCause::Requested,
        now: Clock::system().now(),
    };
    let cancelled = other
        .execute::<Message>(ID, cancel.clone(), &options(tenant))
        .await
        .unwrap();
    let recent = archive.close().await.unwrap_err();
    assert!(matches!(recent, ArchiveError::NotClosed { .. }), "{recent}");
    sqlx::query(long_ago).execute(&admin).await.unwrap();
    archive.close().await.unwrap();
    let contents = Contents {
        streams: 1,
        events: 2,
        sha256: "of the file".to_owned(),
    };
    archive.exported("a file", &contents).await.unwrap();
    assert_eq!(archive.detach_some().await.unwrap(), 2);
    assert_eq!(archive.detach_some().await.unwrap(), 0);
    archive.finish().await.unwrap();
    assert_eq!(archive.state().await.unwrap(), State::Archived);

    // Decided on what it remembers: a pending message, whose next sequence is free in the table.
    let again = remembers
        .execute::<Message>(ID, cancel, &options(tenant))
        .await
        .unwrap();
    assert_eq!((again.version, again.events.len()), (cancelled.version, 0));
    assert_eq!(count(&admin, "only events").await, 0);
    assert_eq!(count(&admin, "archive.events_2026_01").await, 2);
    until("the tail has both, once", async || {
        let mut tail = Tail::new(log.log.pool("weft_log").await, LogOrder::default()).of(&["message"]);
        let page = tail.next_raw_page(10).await.unwrap();
        (page.len() == 2).then_some(())
    })
    .await;
    // What was born later goes on.
    let id = Clock::system().new_id().to_string();
    let accept = message(tenant, account, "2026-03-01T00:00:00Z");
    remembers
        .execute::<Message>(&id, accept, &options(tenant))
        .await
        .unwrap();
}
