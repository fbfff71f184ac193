//! What another log has recorded becomes history of this one.

use chrono::Days;
use sqlx::{PgPool, Row};
use weft_domain::account::{Account, AccountCommand};
use weft_domain::message::{CancelCause, Message, MessageCommand};
use weft_domain::tenant::{Tenant, TenantCommand, TenantLimits};
use weft_domain::{AccountId, TenantId};
use weft_log_writer::archive::{Archive, Month};
use weft_log_writer::import::{Import, ImportError, Imported, PastEvent};
use weft_log_writer::testing::{TestLog, options};
use weft_log_writer::{ExecuteError, Executor};
use weft_platform::clock::Clock;

use crate::quotas::message;
use crate::support::{create_account, create_tenant, new_account, new_tenant, rename_account};

const MAX_EVENT_BYTES: usize = 512 << 10;

/// All events, in log order.
async fn history(pool: &PgPool) -> Vec<PastEvent> {
    let rows = sqlx::query(
        "select aggregate_type, aggregate_id, sequence, event_type, event_version, payload::text as payload,
                metadata::text as metadata, recorded_at
         from events order by epoch, transaction_id, position",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    rows.iter()
        .map(|row| PastEvent {
            aggregate_type: row.get("aggregate_type"),
            aggregate_id: row.get("aggregate_id"),
            sequence: row.get("sequence"),
            event_type: row.get("event_type"),
            event_version: row.get("event_version"),
            payload: row.get("payload"),
            metadata: row.get("metadata"),
            recorded_at: row.get("recorded_at"),
        })
        .collect()
}

async fn import(pool: &PgPool, events: &[PastEvent]) -> Result<Imported, ImportError> {
    let mut import = Import::begin(pool, Clock::system().now()).await?;
    let mut chunker = import.chunker(MAX_EVENT_BYTES);
    for (event, line) in events.iter().zip(1..) {
        if let Some(chunk) = chunker.push(line, event.clone())? {
            import.add(chunk).await?;
        }
    }
    if let Some(chunk) = chunker.rest() {
        import.add(chunk).await?;
    }
    import.commit().await
}

/// Line, event and reason of a refusal.
fn refusal(ended: Result<Imported, ImportError>) -> (u64, String, String) {
    match ended {
        Err(ImportError::Refused { line, event, what }) => (line, event, what),
        other => panic!("{other:?}"),
    }
}

type Row5 = (String, String, String, String, String);

/// Claims with their owners, and counters of today and later.
async fn holdings(pool: &PgPool) -> (Vec<Row5>, Vec<(String, String, String, i64)>) {
    let claims = sqlx::query_as("select kind, scope, value, aggregate_type, aggregate_id from claims order by 1, 2, 3");
    let counters = sqlx::query_as(
        "select kind, scope, period, used from quota_usage where period = '' or period >= $1 order by 1, 2, 3",
    )
    .bind(local_today().to_string());
    (
        claims.fetch_all(pool).await.unwrap(),
        counters.fetch_all(pool).await.unwrap(),
    )
}

/// In the tenants' zone.
fn local_today() -> chrono::NaiveDate {
    (Clock::system().now() + chrono::TimeDelta::hours(8)).date_naive()
}

fn planned(days: u64) -> String {
    (Clock::system().now() + Days::new(days)).to_rfc3339()
}

struct Source {
    tenant: TenantId,
    accounts: Vec<AccountId>,
}

/// Accounts that took names, changed them, swapped them and gave them up; messages of long ago, of today and of days to
/// come, some of them cancelled.
async fn some_history(executor: &Executor) -> Source {
    let tenant = new_tenant();
    let created = create_tenant(&tenant.to_string());
    executor
        .execute::<Tenant>(&tenant.to_string(), created, &options(tenant))
        .await
        .unwrap();
    let limits = TenantCommand::ChangeLimits {
        limits: TenantLimits {
            max_accounts: 3,
            max_daily_messages: 4,
        },
        now: Clock::system().now(),
    };
    executor
        .execute::<Tenant>(&tenant.to_string(), limits, &options(tenant))
        .await
        .unwrap();
    let accounts: Vec<AccountId> = (0..3).map(|_| new_account()).collect();
    let account = async |account: AccountId, command: AccountCommand| {
        executor
            .execute::<Account>(&account.to_string(), command, &options(tenant))
            .await
            .unwrap();
    };
    let now = || Clock::system().now();
    for (id, name) in accounts.iter().zip(["a", "b", "c"]) {
        account(*id, create_account(tenant, name)).await;
        let guid = id.to_string();
        account(*id, AccountCommand::RecordInstance { guid, now: now() }).await;
    }
    account(accounts[0], rename_account("old")).await;
    account(accounts[1], rename_account("a")).await;
    account(accounts[0], rename_account("b")).await;
    account(accounts[2], AccountCommand::Delete { now: now() }).await;
    for (days, cancelled) in [(0, false), (0, true), (2, false), (2, false), (2, true)] {
        let id = Clock::system().new_id().to_string();
        let accept = message(tenant, accounts[0], &planned(days));
        executor
            .execute::<Message>(&id, accept, &options(tenant))
            .await
            .unwrap();
        if cancelled {
            let (cause, now) = (CancelCause::Requested, now());
            let cancel = MessageCommand::Cancel { cause, now };
            executor
                .execute::<Message>(&id, cancel, &options(tenant))
                .await
                .unwrap();
        }
    }
    let long_ago = message(tenant, accounts[1], "2026-03-02T01:00:00Z");
    let id = Clock::system().new_id().to_string();
    executor
        .execute::<Message>(&id, long_ago, &options(tenant))
        .await
        .unwrap();
    Source { tenant, accounts }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_history_is_what_it_was_and_commands_go_on_from_it() {
    let (from, to) = (TestLog::new().await, TestLog::new().await);
    let source = some_history(&from.executor().await).await;
    let executor = to.executor().await;
    let (theirs, ours) = (from.log.admin_pool().await, executor.pool());
    let events = history(&theirs).await;
    let imported = import(ours, &events).await.unwrap();
    let expected = Imported {
        events: events.len() as u64,
        streams: 1 + 3 + 6,
        present: 0,
    };
    assert_eq!(imported, expected);
    assert_eq!(history(ours).await, events);
    assert_eq!(holdings(ours).await, holdings(&theirs).await);
    let days: Vec<String> =
        sqlx::query_scalar("select period from quota_usage where kind = 'tenant_messages' order by 1")
            .fetch_all(ours)
            .await
            .unwrap();
    assert!(!days.contains(&"2026-03-02".to_owned()) && days.len() == 2, "{days:?}");

    let tenant = source.tenant;
    let refused = executor
        .execute::<Account>(
            &new_account().to_string(),
            create_account(tenant, "a"),
            &options(tenant),
        )
        .await
        .unwrap_err();
    assert!(matches!(refused, ExecuteError::ClaimTaken(_)), "{refused}");
    let freed = executor
        .execute::<Account>(
            &new_account().to_string(),
            create_account(tenant, "c"),
            &options(tenant),
        )
        .await;
    freed.unwrap();
    let full = executor
        .execute::<Account>(
            &new_account().to_string(),
            create_account(tenant, "d"),
            &options(tenant),
        )
        .await
        .unwrap_err();
    assert!(matches!(full, ExecuteError::QuotaExceeded(_)), "{full}");
    let first = source.accounts[0].to_string();
    let renamed = executor
        .execute::<Account>(&first, rename_account("old"), &options(tenant))
        .await
        .unwrap();
    assert_eq!(renamed.version, 5);
    // Two are left of the four of that day.
    for expected in [true, true, false] {
        let id = Clock::system().new_id().to_string();
        let accept = message(tenant, source.accounts[0], &planned(2));
        let ended = executor.execute::<Message>(&id, accept, &options(tenant)).await;
        assert_eq!(ended.is_ok(), expected, "{ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_has_is_not_imported_again_and_what_came_since_is() {
    let (from, to) = (TestLog::new().await, TestLog::new().await);
    let executor = from.executor().await;
    let source = some_history(&executor).await;
    let (theirs, ours) = (from.log.admin_pool().await, to.log.pool("weft_log").await);
    let before = history(&theirs).await;
    // Cut in the middle of streams, and inside a chunk twice.
    let mut doubled = before[..before.len() / 2].to_vec();
    doubled.extend_from_slice(&before[..before.len() / 3]);
    let first = import(&ours, &doubled).await.unwrap();
    assert_eq!(
        (first.events as usize, first.present as usize),
        (before.len() / 2, before.len() / 3)
    );
    let rest = import(&ours, &before).await.unwrap();
    assert_eq!((rest.events + rest.present) as usize, before.len());
    assert_eq!(rest.present as usize, before.len() / 2);

    let transaction = "select max(transaction_id)::text from events";
    let newest: String = sqlx::query_scalar(transaction).fetch_one(&ours).await.unwrap();
    let again = import(&ours, &before).await.unwrap();
    assert_eq!(
        (again.events, again.streams, again.present as usize),
        (0, 0, before.len())
    );
    assert_eq!(
        sqlx::query_scalar::<_, String>(transaction)
            .fetch_one(&ours)
            .await
            .unwrap(),
        newest
    );
    assert_eq!(holdings(&ours).await, holdings(&theirs).await);

    // A name that was given up since, and one that was taken.
    let id = source.accounts[0].to_string();
    executor
        .execute::<Account>(&id, rename_account("later"), &options(source.tenant))
        .await
        .unwrap();
    let after = history(&theirs).await;
    assert_eq!(import(&ours, &after[before.len()..]).await.unwrap().events, 1);
    assert_eq!(history(&ours).await.last(), after.last());
    assert_eq!(holdings(&ours).await, holdings(&theirs).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_by_its_line_and_nothing_is_written() {
    let (from, to) = (TestLog::new().await, TestLog::new().await);
    let source = some_history(&from.executor().await).await;
    let events = history(&from.log.admin_pool().await).await;
    let executor = to.executor().await;
    let ours = executor.pool();
    let place = |id: &str, sequence: i64| {
        let at = events
            .iter()
            .position(|event| event.aggregate_id == id && event.sequence == sequence);
        at.unwrap()
    };
    let id = source.accounts[1].to_string();
    let (created, renamed) = (place(&id, 1), place(&id, 3));
    let changed = |index: usize, change: &dyn Fn(&mut PastEvent)| {
        let mut events = events.clone();
        change(&mut events[index]);
        events
    };
    let mut gap = events.clone();
    gap.remove(place(&id, 2));
    let huge = format!("{{\"type\":\"{}\"}}", "x".repeat(MAX_EVENT_BYTES));
    let cases: Vec<(Vec<PastEvent>, &str)> = vec![
        (gap, "a gap: event 3 comes where 2 should"),
        (
            changed(renamed, &|event| event.event_version = "9".to_owned()),
            "is not known to this program",
        ),
        (
            changed(renamed, &|event| event.event_type = "LoggedOut".to_owned()),
            "is stored as LoggedOut",
        ),
        (
            changed(renamed, &|event| event.metadata = "[]".to_owned()),
            "no map of texts",
        ),
        (
            changed(renamed, &|event| event.payload.clone_from(&huge)),
            "larger than log.max_event_bytes",
        ),
        (
            changed(renamed, &|event| {
                event.metadata = event
                    .metadata
                    .replace(&source.tenant.to_string(), &new_tenant().to_string());
            }),
            "belongs to another tenant than its stream",
        ),
        (
            changed(renamed, &|event| {
                event.payload = event.payload.replace("\"a\"", "\"a\\u0000\"");
            }),
            "the log refuses it: unsupported Unicode escape sequence",
        ),
    ];
    for (wrong, expected) in cases {
        let (line, event, what) = refusal(import(ours, &wrong).await);
        assert!(what.contains(expected), "{expected}: {what}");
        assert_eq!(event, format!("account/{id}:3"));
        let at = wrong
            .iter()
            .position(|event| event.aggregate_id == id && event.sequence == 3);
        assert_eq!(line, at.unwrap() as u64 + 1, "{what}");
        assert_eq!(history(ours).await, [], "{what}");
    }
    let without = changed(created, &|event| event.metadata = "{}".to_owned());
    assert_eq!(refusal(import(ours, &without).await).2, "names no tenant");

    // A name that somebody has here.
    let other = new_account().to_string();
    executor
        .execute::<Account>(&other, create_account(source.tenant, "a"), &options(source.tenant))
        .await
        .unwrap();
    let (before, held) = (history(ours).await, holdings(ours).await);
    let taken = refusal(import(ours, &events).await);
    let expected = format!("its account_name is held by account/{other}");
    assert_eq!(taken, (renamed as u64 + 1, format!("account/{id}:3"), expected));
    assert_eq!((history(ours).await, holdings(ours).await), (before, held));

    // Another past of a stream that is here.
    import(ours, &events[created..=created]).await.unwrap();
    let before = history(ours).await;
    let differs = changed(created, &|event| {
        event.payload = event.payload.replace("\"b\"", "\"x\"");
    });
    let (line, event, what) = refusal(import(ours, &differs).await);
    assert_eq!((line, event), (created as u64 + 1, format!("account/{id}:1")));
    assert_eq!(what, "the log holds another event in its place");
    assert_eq!(history(ours).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_that_comes_between_wins_and_the_import_is_to_be_said_again() {
    let (from, to) = (TestLog::new().await, TestLog::new().await);
    let source = some_history(&from.executor().await).await;
    let events = history(&from.log.admin_pool().await).await;
    let executor = to.executor().await;
    let ours = executor.pool();
    let tenant = source.tenant.to_string();
    let of_tenant: Vec<&PastEvent> = events.iter().filter(|event| event.aggregate_id == tenant).collect();
    import(ours, &[of_tenant[0].clone()]).await.unwrap();

    let mut racing = Import::begin(ours, Clock::system().now()).await.unwrap();
    let mut chunker = racing.chunker(MAX_EVENT_BYTES);
    assert!(chunker.push(1, of_tenant[0].clone()).unwrap().is_none());
    racing.add(chunker.rest().unwrap()).await.unwrap();
    let suspend = TenantCommand::Suspend {
        reason: "r".to_owned(),
        now: Clock::system().now(),
    };
    executor
        .execute::<Tenant>(&tenant, suspend, &options(source.tenant))
        .await
        .unwrap();
    assert!(chunker.push(2, of_tenant[1].clone()).unwrap().is_none());
    let lost = racing.add(chunker.rest().unwrap()).await.map(|()| Imported::default());
    let (line, _, what) = refusal(lost);
    assert!(
        line == 2 && what.starts_with("a stream was appended to meanwhile (Key "),
        "{what}"
    );
    assert_eq!(history(ours).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_that_is_archived_takes_no_imported_messages() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let month = Month::parse("2026-01").unwrap();
    let archive = Archive::begin(log.log.admin_pool().await, month.clone()).await.unwrap();
    let id = format!("{}1", &month.first_id[..month.first_id.len() - 1]);
    let from = TestLog::new().await;
    let accept = message(new_tenant(), new_account(), "2026-03-01T00:00:00Z");
    let accepted = from.executor().await;
    let tenant = new_tenant();
    accepted
        .execute::<Message>(&id, accept, &options(tenant))
        .await
        .unwrap();
    let events = history(accepted.pool()).await;
    archive.close().await.unwrap();
    let (line, _, what) = refusal(import(executor.pool(), &events).await);
    assert!(
        line == 1 && what.starts_with("its month is archived in this log"),
        "{what}"
    );
}
