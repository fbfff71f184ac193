//! `weft log archive`, as an operator runs it.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use sqlx::PgPool;
use weft_log_writer::archive::{Archive, Contents, Month};
use weft_log_writer::testing::TestLog;
use weft_platform::testing::until;

use crate::support::{SAMPLES, TENANT, run, said, settled};

/// Ended messages of a month, four events each, of long ago.
async fn old_messages(pool: &PgPool, month: &Month, count: i32) {
    let history = ["MessageAccepted", "AttemptStarted", "MessageSent", "MessageDelivered"];
    let payloads = history.map(|event| {
        let file = Path::new(SAMPLES).join(format!("message/{event}.v1.sample.json"));
        serde_json::from_slice::<Value>(&fs::read(file).unwrap()).unwrap()
    });
    sqlx::query(
        "insert into events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata,
                             recorded_at)
         select 'message', left($1, 24) || lpad(m::text, 12, '0'), n, ($3::text[])[n], '1', ($4::jsonb[])[n],
                jsonb_build_object('tenant_id', $5::text, 'partition_key', 'a'),
                clock_timestamp() - interval '90 days'
         from generate_series(1, $2) m cross join generate_series(1, 4) n order by m, n",
    )
    .bind(&month.first_id)
    .bind(count)
    .bind(history.as_slice())
    .bind(payloads.as_slice())
    .bind(TENANT)
    .execute(pool)
    .await
    .unwrap();
}

#[tokio::test]
async fn a_closed_month_is_archived_whatever_was_interrupted_and_weft_log_reads_it_as_before() {
    let log = TestLog::new().await;
    let pool = log.log.admin_pool().await;
    let months = ["2025-01", "2025-02", "2025-03", "2025-04"].map(|name| Month::parse(name).unwrap());
    for month in &months {
        old_messages(&pool, month, 600).await;
    }
    settled(&pool).await;
    let whole = async || run(&log.config, &["log", "export"]).await.stdout;
    let before = whole().await;
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().to_str().unwrap();
    let call = async |month: &Month| {
        said(
            &log.config,
            &["log", "archive", "--month", &month.name, "--output", output],
        )
        .await
    };

    for (steps, month) in months.iter().enumerate() {
        // A run that was killed after so many steps.
        let killed = until("the run before has ended on the server too", async || {
            Archive::begin(pool.clone(), month.clone()).await.ok()
        })
        .await;
        if steps > 0 {
            killed.close().await.unwrap();
        }
        if steps > 1 {
            let contents = Contents {
                streams: 0,
                events: 0,
                sha256: String::new(),
            };
            killed.exported("a file that is gone", &contents).await.unwrap();
        }
        if steps > 2 {
            assert_eq!(killed.detach_some().await.unwrap(), 2_000);
        }
        drop(killed);
        let (code, out, err) = until("the killed run's connection is gone", async || {
            let (code, out, err) = call(month).await;
            (!err.contains("wait until it has ended")).then_some((code, out, err))
        })
        .await;
        assert!(code == 0 && out.contains("2400 events of 600 messages"), "{out}{err}");
        let (code, out, _) = call(month).await;
        assert!(code == 0 && out.contains("archived already"), "{out}");
    }
    let (left, archived): (i64, i64) = sqlx::query_as(
        "select (select count(*) from only events where aggregate_type = 'message'),
                (select sum(events)::bigint from archive.months where state = 'archived')",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!((left, archived), (0, 9_600));

    // The files hold it, and so does the log for whoever reads it.
    let known: HashSet<&str> = std::str::from_utf8(&before).unwrap().lines().collect();
    for file in fs::read_dir(folder.path()).unwrap() {
        let text = zstd::decode_all(fs::File::open(file.unwrap().path()).unwrap()).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.lines().count(), 2_400);
        assert!(text.lines().all(|line| known.contains(line)));
    }
    settled(&pool).await;
    assert!(whole().await == before, "an export of the log is what it was");
    let (code, out, err) = said(&log.config, &["log", "verify", "--log-only"]).await;
    assert_eq!(code, 0, "{out}{err}");
    let stream = format!("message/{}000000000007", &months[0].first_id[..24]);
    let (code, out, _) = said(&log.config, &["log", "show", &stream]).await;
    assert!(code == 0 && out.lines().count() == 4, "{out}");
    let (code, out, _) = said(&log.config, &["log", "tail", "-n", "3"]).await;
    assert!(code == 0 && out.lines().count() == 3, "{out}");

    // One that messages are yet to be born in, also where there is none of it.
    let (code, _, err) = call(&Month::parse("2100-01").unwrap()).await;
    assert!(code == 1 && err.contains("2100-01 is not over"), "{err}");
    let closed: i64 = sqlx::query_scalar("select count(*) from archive.months where month = '2100-01'")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(closed, 0);
    // A month that is needed, and one that takes nothing any more.
    let may = Month::parse("2025-05").unwrap();
    old_messages(&pool, &may, 1).await;
    sqlx::query("delete from events where aggregate_id >= $1 and aggregate_id < $2 and sequence > 2")
        .bind(&may.first_id)
        .bind(&may.end_id)
        .execute(&pool)
        .await
        .unwrap();
    let (code, _, err) = call(&may).await;
    assert!(
        code == 1 && err.contains("1 messages of 2025-05 have not ended"),
        "{err}"
    );
    let late = sqlx::query(
        "insert into events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata)
         values ('message', $1, 1, 'MessageRead', '1', '{}', '{}')",
    )
    .bind(&months[2].first_id)
    .execute(&pool)
    .await;
    assert!(late.unwrap_err().to_string().contains("events_open_2025_03"));
}
