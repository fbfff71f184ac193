//! `weft log import`, as an operator runs it.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use sqlx::PgPool;
use weft_domain::TenantId;
use weft_domain::account::{Account, AccountCommand, AccountConfig, GatewayKind};
use weft_log_writer::testing::{TestLog, options};
use weft_platform::clock::Clock;
use weft_platform::config::Config;
use weft_platform::testing::until;

use crate::log::every_sample;
use crate::support::{TENANT, run, said, settled, weft};

async fn export(config: &Config, path: &Path) {
    let (code, _, err) = said(config, &["log", "export", "--output", path.to_str().unwrap()]).await;
    assert_eq!(code, 0, "{err}");
}

/// Every line but for where it stands.
async fn lines(log: &TestLog) -> Vec<Value> {
    settled(&log.log.pool("weft_log").await).await;
    let text = run(&log.config, &["log", "export"]).await.stdout;
    let mut lines: Vec<Value> = text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    for line in &mut lines {
        assert!(line.as_object_mut().unwrap().remove("order").is_some());
    }
    lines
}

async fn count(pool: &PgPool) -> i64 {
    sqlx::query_scalar("select count(*) from events")
        .fetch_one(pool)
        .await
        .unwrap()
}

/// A log of another log's every sample.
async fn imported(log: &TestLog, arguments: &[&str]) -> (i32, String, String) {
    said(&log.config, &[&["log", "import"], arguments].concat()).await
}

#[tokio::test]
async fn a_history_of_every_sample_goes_from_log_to_log_and_is_sound_there() {
    let (from, to) = (TestLog::new().await, TestLog::new().await);
    let events = every_sample(&from.log.pool("weft_log").await).await;
    let pool = to.log.pool("weft_log").await;
    let folder = tempfile::tempdir().unwrap();
    let [plain, compressed] = ["log.ndjson", "log.ndjson.zst"].map(|name| folder.path().join(name));
    export(&from.config, &plain).await;
    export(&from.config, &compressed).await;
    let [plain, compressed] = [&plain, &compressed].map(|path| path.to_str().unwrap());

    let (code, out, err) = imported(&to, &[compressed]).await;
    assert_eq!((code, out.as_str()), (3, ""), "{err}");
    assert!(
        err.contains("is sealed under") && err.contains("bring the keys first"),
        "{err}"
    );
    assert_eq!(count(&pool).await, 0);

    let (code, out, err) = imported(&to, &["--without-keys", compressed]).await;
    assert_eq!(code, 0, "{err}");
    assert!(
        out.starts_with(&format!("imported {events} events, 4 new streams; 0 ")),
        "{out}"
    );
    assert!(err.contains(&format!("{events} events, sha256 ")), "{err}");
    assert!(err.contains("keys are missing, such as "), "{err}");
    assert_eq!(lines(&to).await, lines(&from).await);
    let (code, out, _) = said(&to.config, &["log", "verify", "--log-only"]).await;
    assert!(code == 0 && out.contains(": sound"), "{out}");

    // Twice, from the other file, and with both at once.
    for files in [&[plain][..], &[plain, compressed]] {
        let (code, out, err) = imported(&to, &[&["--without-keys"], files].concat()).await;
        let all = events * files.len();
        let expected = format!("nothing was imported: the log has all {all} events already\n");
        assert_eq!((code, out), (0, expected), "{err}");
    }
    assert_eq!(count(&pool).await, events as i64);
}

#[tokio::test]
async fn sealed_data_comes_with_its_keys() {
    let (from, to) = (TestLog::new().await, TestLog::new().await);
    let executor = from.executor().await;
    let (clock, tenant) = (Clock::system(), TenantId(TENANT.parse().unwrap()));
    let id = clock.new_id().to_string();
    let phone = executor
        .sealer()
        .seal(&format!("account:{id}"), &"+86 138".to_owned())
        .await;
    let create = AccountCommand::Create {
        tenant_id: tenant,
        account_name: "a".to_owned(),
        phone: Some(phone.unwrap()),
        email: None,
        user_id: None,
        gateway: GatewayKind::default(),
        config: AccountConfig::default(),
        now: clock.now(),
    };
    executor
        .execute::<Account>(&id, create, &options(tenant))
        .await
        .unwrap();
    settled(executor.pool()).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.ndjson");
    export(&from.config, &path).await;
    let path = path.to_str().unwrap();
    let (code, _, err) = imported(&to, &[path]).await;
    assert_eq!(code, 3);
    let expected =
        format!("{path}:1: account/{id}:1: is sealed under account:{id}, which the key database does not have");
    assert!(err.contains(&expected), "{err}");

    let keys: (String, Vec<u8>) = sqlx::query_as("select name, wrapped from keys")
        .fetch_one(&from.keys.admin_pool().await)
        .await
        .unwrap();
    sqlx::query("insert into keys (name, wrapped) values ($1, $2)")
        .bind(keys.0)
        .bind(keys.1)
        .execute(&to.keys.admin_pool().await)
        .await
        .unwrap();
    let (code, out, err) = imported(&to, &[path]).await;
    assert!(
        code == 0 && out.starts_with("imported 1 events, 1 new streams"),
        "{err}"
    );
    let executor = to.executor().await;
    let phone = executor.load::<Account>(&id).await.unwrap().state.phone.unwrap();
    assert_eq!(
        executor.sealer().open(&phone).await.unwrap().open().as_deref(),
        Some("+86 138")
    );
}

/// A line of an export, of a tenant's stream.
fn line(id: &str, sequence: i64, event: &str) -> Value {
    let mut payload = json!({"type": event, "at": "2026-01-01T00:00:00Z"});
    if event == "TenantSuspended" {
        payload["reason"] = json!("secret");
    }
    json!({
        "order": "1/7-7", "recorded_at": "2026-01-01T00:00:00Z", "tenant_id": TENANT, "aggregate_type": "tenant",
        "aggregate_id": id, "sequence": sequence, "event_type": event, "event_version": "1", "partition_key": id,
        "metadata": {"tenant_id": TENANT, "partition_key": id}, "payload": payload,
    })
}

#[tokio::test]
async fn what_does_not_fit_is_named_by_file_line_and_stream_without_its_values_and_nothing_is_imported() {
    let log = TestLog::new().await;
    let pool = log.log.pool("weft_log").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.ndjson");
    let name = path.to_str().unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut line = line("a", 2, "TenantSuspended");
        change(&mut line);
        line.to_string()
    };
    let cases = [
        ("rubbish".to_owned(), "is no line of weft log export: expected value"),
        (String::new(), "is no line of weft log export: EOF"),
        (with(&|line| line["more"] = json!(1)), "unknown field `more`"),
        (
            with(&|line| drop(line.as_object_mut().unwrap().remove("sequence"))),
            "missing field `sequence`",
        ),
        (
            with(&|line| line["sequence"] = json!(3)),
            "tenant/a:3: a gap: event 3 comes where 2 should",
        ),
        (
            with(&|line| line["event_version"] = json!("9")),
            "tenant/a:2: no schema has landed for TenantSuspended v9",
        ),
        (
            with(&|line| line["payload"]["at"] = json!("secret")),
            "tenant/a:2: does not fit the schema of TenantSuspended v1: /at format",
        ),
        (
            with(&|line| line["metadata"]["n"] = json!(1)),
            "tenant/a:2: its metadata is no map of texts",
        ),
        (
            with(&|line| line["partition_key"] = json!("b")),
            "tenant/a:2: names one partition key in its metadata",
        ),
        (
            with(&|line| line["tenant_id"] = json!("b")),
            "tenant/a:2: names one tenant in its metadata",
        ),
        (
            with(&|line| line["aggregate_type"] = json!("robot")),
            "robot/a:2: no schema has landed",
        ),
    ];
    for (wrong, expected) in cases {
        let lines = [
            line("a", 1, "TenantReactivated").to_string(),
            wrong,
            line("b", 1, "TenantReactivated").to_string(),
        ];
        fs::write(&path, lines.join("\n")).unwrap();
        let (code, out, err) = imported(&log, &[name]).await;
        assert_eq!((code, out.as_str(), err.lines().count()), (3, "", 1), "{err}");
        assert!(
            err.starts_with(&format!("weft: {name}:2: ")) && err.contains(expected),
            "{expected}: {err}"
        );
        assert!(
            err.ends_with("; nothing was imported\n") && !err.contains("secret"),
            "{err}"
        );
        assert_eq!(count(&pool).await, 0);
    }

    // The second file does not go on from what the log has: the first is not imported either.
    let first = folder.path().join("first.ndjson");
    fs::write(&first, line("c", 1, "TenantReactivated").to_string()).unwrap();
    let sound = |event: &str| fs::write(&path, format!("{}\n", line("a", 1, event)));
    sound("TenantReactivated").unwrap();
    let (code, _, err) = imported(&log, &[name]).await;
    assert_eq!(code, 0, "{err}");
    sound("TenantSuspended").unwrap();
    let (code, _, err) = imported(&log, &[first.to_str().unwrap(), name]).await;
    let expected =
        format!("weft: {name}:1: tenant/a:1: the log holds another event in its place; nothing was imported\n");
    assert_eq!((code, err), (3, expected));
    assert_eq!(count(&pool).await, 1);

    // A file that was cut.
    let cut = zstd::encode_all(line("d", 1, "TenantReactivated").to_string().as_bytes(), 3).unwrap();
    fs::write(&path, &cut[..cut.len() - 4]).unwrap();
    let (code, _, err) = imported(&log, &[name]).await;
    assert!(code == 1 && err.starts_with(&format!("weft: {name}: ")), "{err}");
    let (code, _, err) = imported(&log, &["/nowhere"]).await;
    assert!(code == 1 && err.starts_with("weft: /nowhere: "), "{err}");
    assert_eq!(count(&pool).await, 1);
}

#[tokio::test]
async fn a_killed_import_leaves_nothing_and_the_next_one_imports_everything_once() {
    const STREAMS: usize = 15_000;
    let log = TestLog::new().await;
    let pool = log.log.pool("weft_log").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.ndjson");
    let mut text = String::new();
    for event in ["TenantReactivated", "TenantSuspended"] {
        for number in 0..STREAMS {
            let sequence = if event == "TenantReactivated" { 1 } else { 2 };
            writeln!(text, "{}", line(&format!("{number:05}"), sequence, event)).unwrap();
        }
    }
    fs::write(&path, text).unwrap();
    let arguments = ["log", "import", path.to_str().unwrap()];
    let mut import = weft(&log.config, &arguments).stderr(Stdio::null()).spawn().unwrap();
    // Positions are drawn for good, also before a commit.
    until("something was written", async || {
        let drawn: i64 = sqlx::query_scalar("select last_value from events_position_seq")
            .fetch_one(&log.log.admin_pool().await)
            .await
            .unwrap();
        (drawn > 5_000).then_some(())
    })
    .await;
    import.kill().await.unwrap();
    assert_eq!(count(&pool).await, 0, "it was committed before it was killed");

    let (code, out, err) = said(&log.config, &arguments).await;
    assert_eq!(code, 0, "{err}");
    let expected = format!(
        "imported {} events, {STREAMS} new streams; 0 events were there already",
        2 * STREAMS
    );
    assert!(out.starts_with(&expected), "{out}");
    let order: Vec<String> =
        sqlx::query_scalar("select aggregate_id from events order by epoch, transaction_id, position")
            .fetch_all(&pool)
            .await
            .unwrap();
    let expected = (0..2).flat_map(|_| (0..STREAMS).map(|number| format!("{number:05}")));
    assert!(
        order.into_iter().eq(expected),
        "not every event once, in the order of the file"
    );
}
