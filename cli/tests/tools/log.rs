//! `weft log` and `weft relay --from`, as an operator runs them.

use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use weft_log_writer::testing::{TestLog, TestTopics};
use weft_platform::config::{Config, Secret};
use weft_platform::testing::until;

use crate::support::{SAMPLES, TENANT, append, log_and_views, run, said, settled, weft};

/// Aggregate, event, version and payload of every golden sample that ever landed.
fn samples() -> Vec<(String, String, String, Value)> {
    let mut samples = Vec::new();
    for folder in fs::read_dir(SAMPLES).unwrap() {
        let folder = folder.unwrap();
        let aggregate = folder.file_name().into_string().unwrap();
        for file in fs::read_dir(folder.path()).unwrap() {
            let file = file.unwrap();
            let name = file.file_name().into_string().unwrap();
            let Some(name) = name.strip_suffix(".sample.json") else {
                continue;
            };
            let mut parts = name.split('.');
            let (event, version) = (parts.next().unwrap(), parts.next().unwrap().strip_prefix('v').unwrap());
            let payload = serde_json::from_slice(&fs::read(file.path()).unwrap()).unwrap();
            samples.push((aggregate.clone(), event.to_owned(), version.to_owned(), payload));
        }
    }
    samples.sort_by_key(|(aggregate, event, version, _)| (aggregate.clone(), event.clone(), version.clone()));
    samples
}

/// A stream per aggregate that holds every sample.
pub(crate) async fn every_sample(pool: &PgPool) -> usize {
    let samples = samples();
    let mut sequences = std::collections::BTreeMap::<&str, i64>::new();
    for (aggregate, event, version, payload) in &samples {
        let sequence = sequences.entry(aggregate).or_default();
        *sequence += 1;
        append(
            pool,
            &format!("{aggregate}/samples"),
            *sequence,
            (event, version),
            payload,
            TENANT,
        )
        .await;
    }
    settled(pool).await;
    samples.len()
}

#[tokio::test]
async fn a_history_of_every_sample_that_ever_landed_is_sound() {
    let log = TestLog::new().await;
    let pool = log.log.pool("weft_log").await;
    let count = every_sample(&pool).await;
    let (code, out, err) = said(&log.config, &["log", "verify", "--log-only"]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(
        out.contains(&format!("{count} events of 4 streams")) && out.contains(": sound"),
        "{out}"
    );
}

#[tokio::test]
async fn everything_that_is_wrong_with_a_log_is_found_and_told_without_values() {
    let log = TestLog::new().await;
    let pool = log.log.pool("weft_log").await;
    let suspended = serde_json::json!({"type": "TenantSuspended", "reason": "secret", "at": "2026-01-01T00:00:00Z"});
    let reactivated = serde_json::json!({"type": "TenantReactivated", "at": "2026-01-01T00:00:00Z"});
    let event = ("TenantSuspended", "1");
    append(&pool, "tenant/gap", 1, event, &suspended, TENANT).await;
    append(&pool, "tenant/gap", 3, event, &suspended, TENANT).await;
    append(
        &pool,
        "tenant/late",
        2,
        ("TenantReactivated", "1"),
        &reactivated,
        TENANT,
    )
    .await;
    append(&pool, "tenant/late", 1, event, &suspended, TENANT).await;
    append(&pool, "tenant/moved", 1, event, &suspended, TENANT).await;
    append(
        &pool,
        "tenant/moved",
        2,
        event,
        &suspended,
        "01930000-0000-7000-8000-00000000000b",
    )
    .await;
    append(&pool, "tenant/other", 1, event, &reactivated, TENANT).await;
    append(&pool, "tenant/new", 1, ("TenantSuspended", "9"), &suspended, TENANT).await;
    append(&pool, "robot/1", 1, event, &suspended, TENANT).await;
    let mut misfit = suspended.clone();
    misfit["at"] = serde_json::json!("secret");
    append(&pool, "tenant/misfit", 1, event, &misfit, TENANT).await;
    sqlx::query("insert into relay_checkpoints (relay, owner_epoch, epoch, transaction_id, position) values ('r', 1, 7, '1', 1)")
        .execute(&pool)
        .await
        .unwrap();
    settled(&pool).await;
    let (code, out, err) = said(&log.config, &["log", "verify", "--log-only"]).await;
    assert_eq!(code, 3, "{out}{err}");
    for (event, what) in [
        ("tenant/gap:3", "a gap: event 3 comes where 2 should"),
        ("tenant/late:2", "before its predecessor"),
        ("tenant/moved:2", "another tenant"),
        ("tenant/other:1", "its payload is a TenantReactivated"),
        ("tenant/other:1", "does not fit the schema"),
        ("tenant/new:1", "version 9 is not known"),
        ("tenant/new:1", "no schema has landed for TenantSuspended v9"),
        ("robot/1:1", "knows no aggregate robot"),
        (
            "tenant/misfit:1",
            "does not fit the schema of TenantSuspended v1: /at format",
        ),
        ("relay r", "7/1-1 is beyond the log"),
        ("relay r", "no lease knows"),
    ] {
        let found = out
            .lines()
            .any(|line| line.starts_with(&format!("{event}: ")) && line.contains(what));
        assert!(found, "{event}: {what} is not in\n{out}");
    }
    assert!(err.contains("10 events of 7 streams"), "{err}");
    assert!(
        !out.contains("secret") && !err.contains("secret"),
        "a value was printed:\n{out}"
    );
}

#[tokio::test]
async fn the_read_models_checkpoints_are_compared_with_the_log() {
    let (log, views) = log_and_views().await;
    let pool = log.log.pool("weft_log").await;
    every_sample(&pool).await;
    let (code, out, err) = said(&log.config, &["log", "verify"]).await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");

    let log_id: uuid::Uuid = sqlx::query_scalar("select log_id from log_identity")
        .fetch_one(&pool)
        .await
        .unwrap();
    for (projection, log_id, epoch) in [
        ("strange", uuid::Uuid::nil(), 1_i16),
        ("ahead", log_id, 7),
        ("lost", log_id, 1),
    ] {
        sqlx::query(
            "insert into views.checkpoints
               (projection, topic, partition, next_offset, epoch, transaction_id, position, generation, log_id)
             values ($1, 't', 0, 1, $2, 1, 1, 1, $3)",
        )
        .bind(projection)
        .bind(epoch)
        .bind(log_id)
        .execute(&views.admin_pool().await)
        .await
        .unwrap();
    }
    let (code, out, _) = said(&log.config, &["log", "verify"]).await;
    assert_eq!(code, 3);
    for what in [
        "projection strange, t/0: made from the log 00000000",
        "projection ahead, t/0: its high-water 7/1-1 is beyond the log",
        "projection lost, t/0: its high-water 1/1-1 is no event of the log",
    ] {
        assert!(out.contains(what), "{what} is not in\n{out}");
    }
}

fn lines(text: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn an_export_is_the_log_as_it_is_stored_in_log_order() {
    let log = TestLog::new().await;
    let pool = log.log.pool("weft_log").await;
    let count = every_sample(&pool).await;
    let other = "01930000-0000-7000-8000-00000000000b";
    let reactivated = serde_json::json!({"type": "TenantReactivated", "at": "2026-01-01T00:00:00Z"});
    append(&pool, "tenant/b", 1, ("TenantReactivated", "1"), &reactivated, other).await;
    settled(&pool).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.ndjson.zst");
    let name = path.to_str().unwrap();
    let (code, _, err) = said(&log.config, &["log", "export", "--output", name]).await;
    assert_eq!(code, 0, "{err}");
    let exported = lines(&zstd::decode_all(fs::File::open(&path).unwrap()).unwrap());
    let stored: Vec<(String, Value, Value)> = sqlx::query_as(
        "select epoch || '/' || transaction_id || '-' || position, payload, metadata from events
         order by epoch, transaction_id, position",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    assert_eq!((exported.len(), stored.len()), (count + 1, count + 1));
    for (line, (order, payload, metadata)) in exported.iter().zip(&stored) {
        assert_eq!(
            (&line["order"], &line["payload"], &line["metadata"]),
            (&Value::from(order.as_str()), payload, metadata)
        );
    }
    let sealed = exported
        .iter()
        .find(|line| line["event_type"] == "MessageAccepted")
        .unwrap();
    assert!(
        sealed["payload"]["content"]["ciphertext"].is_string(),
        "sealed fields stay sealed"
    );

    let of = async |arguments: &[&str]| {
        let output = run(&log.config, &[&["log", "export"], arguments].concat()).await;
        assert!(output.status.success(), "{output:?}");
        lines(&output.stdout)
    };
    assert_eq!(of(&["--tenant", other]).await.len(), 1);
    let cancelled = samples()
        .iter()
        .filter(|(_, event, ..)| event == "MessageCancelled")
        .count();
    assert_eq!(of(&["--type", "MessageCancelled"]).await.len(), cancelled);
    let (from, to) = (&stored[3].0, &stored[5].0);
    let between = of(&["--from", from, "--to", to]).await;
    assert_eq!(
        between.iter().map(|line| &line["order"]).collect::<Vec<_>>(),
        [from, &stored[4].0, to]
    );
    assert_eq!(of(&["--to", "2020-01-01T00:00:00Z"]).await.len(), 0);
    for (from, to) in [
        (to, from),
        (&"2026-01-02T00:00:00Z".into(), &"2026-01-01T00:00:00Z".into()),
    ] {
        let (code, out, err) = said(&log.config, &["log", "export", "--from", from, "--to", to]).await;
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(err.contains("--from is behind --to"), "{err}");
    }
    assert_eq!(of(&["--from", "2020-01-01T00:00:00Z"]).await.len(), count + 1);
}

#[tokio::test]
async fn a_killed_export_leaves_no_file_under_its_name_and_goes_on_where_it_was() {
    let log = TestLog::new().await;
    sqlx::query(
        "insert into events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata)
         select 'tenant', n::text, 1, 'E', '1', jsonb_build_object('note', repeat('x', 500)), '{}'
         from generate_series(1, 100000) n",
    )
    .execute(&log.log.admin_pool().await)
    .await
    .unwrap();
    settled(&log.log.pool("weft_log").await).await;
    let folder = tempfile::tempdir().unwrap();
    for name in ["log.ndjson", "log.ndjson.zst"] {
        let path = folder.path().join(name);
        let arguments = ["log", "export", "--output", path.to_str().unwrap()];
        let mut export = weft(&log.config, &arguments).stderr(Stdio::null()).spawn().unwrap();
        let [part, marked] = [".part", ".part.at"].map(|end| folder.path().join(format!("{name}{end}")));
        until("a part is settled", async || marked.exists().then_some(())).await;
        export.kill().await.unwrap();
        assert!(!path.exists());
        // Something that was written behind the settled part.
        fs::OpenOptions::new()
            .append(true)
            .open(&part)
            .unwrap()
            .write_all(b"torn")
            .unwrap();
        let (code, _, err) = said(&log.config, &arguments).await;
        assert!(code == 0 && err.contains("100000 events, sha256 "), "{err}");
        let gone_on = err
            .lines()
            .find_map(|line| line.strip_prefix("going on after "))
            .unwrap();
        let before: u64 = gone_on.split(' ').next().unwrap().parse().unwrap();
        assert!((20_000..100_000).contains(&before), "{err}");
        assert!(!part.exists() && !marked.exists());
        let written = fs::read(&path).unwrap();
        let sha256: String = Sha256::digest(&written)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert!(err.contains(&sha256), "{err}");
        let text = match name {
            "log.ndjson" => written,
            _ => zstd::decode_all(written.as_slice()).unwrap(),
        };
        let ids = lines(&text)
            .into_iter()
            .map(|line| line["aggregate_id"].as_str().unwrap().to_owned());
        assert!(
            ids.eq((1..=100_000).map(|n| n.to_string())),
            "not every event once, in order"
        );
    }
}

#[tokio::test]
async fn an_export_replaces_nothing_but_a_file_and_does_not_mix_with_another() {
    let log = TestLog::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.ndjson");
    let export = ["log", "export", "--output", path.to_str().unwrap()];
    // As /dev/stdout is.
    let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let (code, _, err) = said(&log.config, &export).await;
    assert!(code == 1 && err.contains("is no file"), "{err}");
    drop(socket);
    fs::remove_file(&path).unwrap();
    let part = fs::File::create(folder.path().join("log.ndjson.part")).unwrap();
    part.try_lock().unwrap();
    let (code, _, err) = said(&log.config, &export).await;
    assert!(code == 1 && err.contains("another export writes it"), "{err}");
    drop(part);
    let (code, _, err) = said(&log.config, &export).await;
    assert!(code == 0 && path.is_file(), "{err}");
}

#[tokio::test]
async fn a_stream_is_shown_in_todays_versions_and_the_tail_as_it_is_stored() {
    let log = TestLog::new().await;
    let pool = log.log.pool("weft_log").await;
    let count = every_sample(&pool).await;
    let (code, out, _) = said(&log.config, &["log", "show", "tenant/samples", "--json"]).await;
    let shown = lines(out.as_bytes());
    let of_tenants = samples().iter().filter(|(aggregate, ..)| aggregate == "tenant").count();
    assert_eq!((code, shown.len()), (0, of_tenants));
    let (code, _, err) = said(&log.config, &["log", "show", "tenant/nobody"]).await;
    assert!(code == 1 && err.contains("there is no stream tenant/nobody"), "{err}");

    let (_, out, _) = said(&log.config, &["log", "tail", "-n", "3"]).await;
    assert_eq!(out.lines().count(), 3);
    let (_, out, _) = said(&log.config, &["log", "tail", "--from", "start", "--json"]).await;
    assert_eq!(lines(out.as_bytes()).len(), count);

    // It follows what comes.
    let mut tail = weft(&log.config, &["log", "tail", "-n", "0", "--follow"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = tokio::io::BufReader::new(tail.stdout.take().unwrap());
    let reactivated = serde_json::json!({"type": "TenantReactivated", "at": "2026-01-01T00:00:00Z"});
    let mut line = String::new();
    let mut sequence = 0;
    until("a line comes", async || {
        // It may not have found the end of the log yet.
        sequence += 1;
        append(
            &pool,
            "tenant/b",
            sequence,
            ("TenantReactivated", "1"),
            &reactivated,
            TENANT,
        )
        .await;
        let read = tokio::io::AsyncBufReadExt::read_line(&mut out, &mut line);
        tokio::time::timeout(Duration::from_secs(1), read).await.ok()?.ok()
    })
    .await;
    assert!(
        line.contains("tenant b:") && line.contains("TenantReactivated v1"),
        "{line}"
    );
}

#[tokio::test]
async fn the_topics_are_given_everything_again_by_one_command() {
    let (log, _views) = log_and_views().await;
    let _topics = TestTopics::create(&log.config.kafka).await;
    let pool = log.log.pool("weft_log").await;
    every_sample(&pool).await;
    for publication in ["publication 1", "publication 2"] {
        let (code, out, err) = said(&log.config, &["relay", "--from", "start"]).await;
        assert!(
            code == 0 && out.contains(publication) && out.contains("is published"),
            "{out}{err}"
        );
    }
    let (code, _, err) = said(&log.config, &["relay", "--from", "2026-01-01T00:00:00Z"]).await;
    assert!(code == 1 && err.contains("no time"), "{err}");
    // A relay that stood there would publish nothing any more.
    let (code, _, err) = said(&log.config, &["relay", "--from", "9/1-1"]).await;
    assert!(code == 1 && err.contains("is behind the newest event"), "{err}");
    let (code, out, err) = said(&log.config, &["relay", "--from", "start"]).await;
    assert!(code == 0 && out.contains("publication 3"), "{out}{err}");
}

#[tokio::test]
async fn adopting_a_log_has_to_be_meant_and_begins_the_next_epoch() {
    let log = TestLog::new().await;
    let pool = log.log.pool("weft_log").await;
    every_sample(&pool).await;
    let (code, _, err) = said(&log.config, &["log", "adopt"]).await;
    assert!(code == 1 && err.contains("epoch 1") && err.contains("--yes"), "{err}");
    let (code, out, err) = said(&log.config, &["log", "adopt", "--yes"]).await;
    assert!(code == 0 && out.contains("epoch 2 has begun"), "{out}{err}");
    let (code, out, _) = said(&log.config, &["log", "verify", "--log-only"]).await;
    assert!(code == 0 && out.contains(": sound"), "{out}");
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_ends_a_command_quietly() {
    let log = TestLog::new().await;
    let pool = log.log.pool("weft_log").await;
    every_sample(&pool).await;
    for arguments in [
        &["log", "show", "message/samples"][..],
        &["log", "tail", "-n", "500"],
        &["log", "tail", "-n", "500", "--json"],
        &["log", "export"],
        &["tenant", "list"],
    ] {
        let mut command = weft(&log.config, arguments);
        // A pipe whose reader is gone from the first byte on.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = output.wait_with_output().await.unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[tokio::test]
async fn the_newest_events_are_counted_after_the_filter_and_unknown_types_are_refused() {
    let log = TestLog::new().await;
    let pool = log.log.pool("weft_log").await;
    let suspended = serde_json::json!({"type": "TenantSuspended", "reason": "r", "at": "2026-01-01T00:00:00Z"});
    let reactivated = serde_json::json!({"type": "TenantReactivated", "at": "2026-01-01T00:00:00Z"});
    for n in 0..3 {
        append(
            &pool,
            &format!("tenant/s{n}"),
            1,
            ("TenantSuspended", "1"),
            &suspended,
            TENANT,
        )
        .await;
    }
    for n in 0..20 {
        append(
            &pool,
            &format!("tenant/r{n}"),
            1,
            ("TenantReactivated", "1"),
            &reactivated,
            TENANT,
        )
        .await;
    }
    settled(&pool).await;
    let lines = async |arguments: &[&str]| said(&log.config, arguments).await.1.lines().count();
    assert_eq!(lines(&["log", "tail", "--type", "TenantSuspended", "-n", "2"]).await, 2);
    assert_eq!(lines(&["log", "tail", "--type", "TenantSuspended", "-n", "5"]).await, 3);
    assert_eq!(
        lines(&["log", "tail", "--type", "tenant", "--tenant", TENANT, "-n", "5"]).await,
        5
    );
    for command in ["tail", "export"] {
        let (code, out, err) = said(&log.config, &["log", command, "--type", "Nope"]).await;
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.contains("no event and no aggregate has this name"), "{err}");
    }
}

#[tokio::test]
async fn a_database_that_is_away_is_named_with_what_to_do() {
    let mut config = Config::default();
    config.log.url = Secret("postgres://weft_log:weft@127.0.0.1:1/weft_log".to_owned());
    for arguments in [
        &["log", "tail"][..],
        &["log", "export"],
        &["tenant", "list"],
        &["log", "show", "message/1"],
        &["log", "verify", "--log-only"],
    ] {
        let (code, out, err) = said(&config, arguments).await;
        assert_eq!((code, out.as_str(), err.lines().count()), (1, "", 1), "{err}");
        assert!(
            err.starts_with("weft: the database weft_log at 127.0.0.1:1 (log.url) cannot be reached: ")
                && err.contains("or set WEFT__LOG__URL"),
            "{err}"
        );
    }
}

#[tokio::test]
async fn a_tenants_code_and_name_hold_nothing_that_a_terminal_obeys() {
    let log = TestLog::new().await;
    for (code, name) in [
        ("a b", "n"),
        ("a\u{1b}[2J", "n"),
        ("甲", "n"),
        ("", "n"),
        ("ok", "a\nb"),
        ("ok", "\u{1b}"),
        ("ok", " "),
    ] {
        let (status, out, err) = said(&log.config, &["tenant", "create", code, name]).await;
        assert_eq!((status, out.as_str()), (2, ""), "{code:?} {name:?}: {err}");
    }
    let (status, _, err) = said(&log.config, &["tenant", "create", "Acme_1.cn-north", "华东 一号"]).await;
    assert_eq!(status, 0, "{err}");
}
