//! `weft replay` and `weft projections`.

use std::process::Stdio;
use std::time::Duration;

use weft_platform::testing::{until, until_within};

use crate::support::{Stack, weft};

const MESSAGES: usize = 5_000;
const EVENTS: usize = 4 * MESSAGES;

/// The line of a table of `weft` that begins with these cells.
fn row(out: &str, cells: &[&str]) -> Vec<String> {
    let rows = out.lines().map(|line| {
        let cells = line.split(['│', '┆', '|']).map(str::trim);
        cells
            .filter(|cell| !cell.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    });
    let mut found =
        rows.filter(|row| row.iter().zip(cells).all(|(cell, wanted)| cell == wanted) && row.len() > cells.len());
    found.next().unwrap_or_else(|| panic!("no row {cells:?} in\n{out}"))
}

#[tokio::test]
async fn a_killed_replay_goes_on_where_it_was_names_what_differed_takes_over_and_goes_back() {
    let stack = Stack::start().await;
    let (account, ids) = stack.accepted(MESSAGES).await;
    let all_accepted = stack.log_time().await;
    for (sequence, event) in [(2, "AttemptStarted"), (3, "MessageSent"), (4, "MessageDelivered")] {
        stack.every(account, &ids, sequence, event).await;
    }
    stack.projected().await;
    let (code, out, err) = stack.said(&["projections", "check", "messages", "message_facts"]).await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(!out.contains(&ids[0].to_string()), "{out}");

    // Planted: a changed and a missing row, and a fact that is another.
    let (changed, missing) = (ids[7], ids[9]);
    for planted in [
        format!("update views_g1.messages set retry_count = 9, priority = 1 where id = '{changed}'"),
        format!("delete from views_g1.messages where id = '{missing}'"),
    ] {
        sqlx::query(&planted).execute(&stack.views).await.unwrap();
    }
    let facts = stack.facts(1);
    let planted = format!(
        "insert into {facts}.message_facts select * replace ('failed' as status, 77 as attempts)
         from {facts}.message_facts final where message_id = '{changed}'"
    );
    stack.clickhouse().query(&planted).execute().await.unwrap();

    let arguments = ["replay", "messages", "message_facts"];
    let mut killed = weft(&stack.log.config, &arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = "select count(distinct projection) from views_g2.checkpoints where position > 0";
    until_within("both have begun", Duration::from_mins(1), async || {
        let schema = "select count(*) from pg_tables where schemaname = 'views_g2' and tablename = 'checkpoints'";
        (stack.number(schema).await == 1 && stack.number(begun).await == 2).then_some(())
    })
    .await;
    killed.kill().await.unwrap();
    let filled = (
        stack.number("select count(*) from views_g2.messages").await,
        stack.fact(2, "select count() from {}.message_transitions final").await,
    );
    let done = stack
        .number("select count(*) from views_g2.messages where status = 'delivered'")
        .await;
    assert!(done < MESSAGES as i64, "it had ended before it was killed");
    assert!(filled.0 > 0 && filled.1 > 0 && filled.1 < EVENTS as u64, "{filled:?}");
    until("its lock is free", async || {
        let locks = "select count(*) from pg_locks where locktype = 'advisory'
                     and database = (select oid from pg_database where datname = current_database())
                     and pid in (select pid from pg_stat_activity where application_name not like 'weft projectors%')";
        (stack.number(locks).await == 0).then_some(())
    })
    .await;
    let (code, out, _) = stack.said(&["projections", "list"]).await;
    assert!(
        code == 0 && out.contains("generation 2 of messages, message_facts"),
        "{out}"
    );
    assert!(
        out.contains("replay that has not ended: the same call goes on with it"),
        "{out}"
    );

    let (code, out, err) = stack.said(&arguments).await;
    assert_eq!(code, 3, "{out}{err}");
    assert!(
        err.contains("rows differed from the live ones, which were replaced"),
        "{err}"
    );
    assert!(
        out.contains("going on with generation 2") && out.contains("generation 2 is live"),
        "{out}"
    );
    let read: usize = out
        .lines()
        .find_map(|line| line.split_once(" events in ")?.0.parse().ok())
        .unwrap();
    assert!(read > 0 && read < EVENTS, "{read} events were read again");
    assert!(
        err.contains(" events, ") && err.contains(" % of the log"),
        "no progress was told: {err}"
    );
    // Live rows, rebuilt rows, only live, only rebuilt, changed.
    assert_eq!(
        row(&out, &["messages", "messages"])[2..],
        ["4999", "5000", "0", "1", "1"]
    );
    assert_eq!(
        row(&out, &["message_facts", "message_facts"])[2..],
        ["5000", "5000", "0", "0", "1"]
    );
    assert_eq!(
        row(&out, &["message_facts", "message_transitions"])[4..],
        ["0", "0", "0"]
    );
    let sample = |table: &str, id: &str| {
        let line = out.lines().find(|line| line.starts_with(table) && line.contains(id));
        line.unwrap_or_else(|| panic!("no sample of {table} {id} in\n{out}"))
            .to_owned()
    };
    assert!(
        sample("messages ", &changed.to_string()).ends_with(": priority, retry_count"),
        "{out}"
    );
    assert!(
        sample("messages ", &missing.to_string()).ends_with(": not in the live one"),
        "{out}"
    );
    assert!(
        sample("message_facts ", &changed.to_string()).ends_with(": attempts, status"),
        "{out}"
    );
    // No key opens the samples' contents, which is told once.
    let unopened: Vec<&str> = err
        .lines()
        .filter(|line| line.contains("open with this process's keys"))
        .collect();
    assert!(unopened.len() == 1 && unopened[0].contains("messages"), "{err}");

    // What was filled twice is there once.
    for (table, rows) in [("message_facts", MESSAGES), ("message_transitions", EVENTS)] {
        let counted = stack.fact(2, &format!("select count() from {{}}.{table} final")).await;
        assert_eq!(counted, rows as u64, "{table}");
    }
    assert_eq!(
        stack
            .fact(2, "select toUInt64(sum(total)) from {}.message_stats_hourly final")
            .await,
        MESSAGES as u64
    );
    let mended =
        format!("select count(*) from views.messages where id in ('{changed}', '{missing}') and retry_count = 0");
    assert_eq!(stack.number(&mended).await, 2);

    // The projectors at work went over to it.
    stack.accepted(1).await;
    let count = "select count(*) from views.messages";
    until("the next message", async || {
        (stack.number(count).await == 5_001).then_some(())
    })
    .await;
    let (code, out, _) = stack.said(&["projections", "list"]).await;
    assert_eq!(
        (code, row(&out, &["messages"])[1].as_str()),
        (0, "2, before it 1"),
        "{out}"
    );
    assert!(
        out.contains("generation 1") || row(&out, &["accounts"])[1] == "1",
        "{out}"
    );

    let (code, out, err) = stack.said(&["replay", "--roll-back", "messages"]).await;
    assert_eq!(code, 3, "{out}{err}");
    assert!(
        out.contains("messages: back to generation 1") && out.contains("generation 1 is live"),
        "{out}"
    );
    assert_eq!(
        stack
            .number("select count(*) from views.messages where retry_count = 9")
            .await,
        1
    );
    // Caught up, with the planted hole.
    assert_eq!(stack.number(count).await, 5_000);

    let (code, out, err) = stack
        .said(&["replay", "messages", "--until", &all_accepted.to_rfc3339()])
        .await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("generation 3 is as of"), "{out}");
    let order: String = sqlx::query_scalar(
        "select epoch || '/' || transaction_id || '-' || position from events
         where event_type = 'MessageAccepted' and aggregate_id = $1",
    )
    .bind(ids[99].to_string())
    .fetch_one(&stack.pool)
    .await
    .unwrap();
    let (code, out, err) = stack.said(&["replay", "messages", "--until", &order]).await;
    assert!(
        code == 0 && out.contains(&format!("generation 4 is as of {order}")),
        "{out}{err}"
    );
    for (generation, rows) in [(3, 5_000), (4, 100)] {
        let pending = format!("select count(*) from views_g{generation}.messages where status = 'pending'");
        assert_eq!(stack.number(&pending).await, rows);
        assert_eq!(
            stack
                .number(&format!("select count(*) from views_g{generation}.messages"))
                .await,
            rows
        );
    }

    // What was looked at, and what is not wanted to be gone back to, is dropped; what is shown is not.
    let (code, _, err) = stack.said(&["projections", "drop", "2"]).await;
    assert!(
        code == 1 && err.contains("generation 2 is what message_facts show"),
        "{err}"
    );
    let (code, _, err) = stack.said(&["projections", "drop", "3"]).await;
    assert_eq!(code, 0, "{err}");
    let (_, out, _) = stack.said(&["projections", "list"]).await;
    assert!(
        !out.contains("generation 3 of") && out.contains("generation 4 of messages"),
        "{out}"
    );
    let (code, _, err) = stack.said(&["projections", "drop", "3"]).await;
    assert!(code == 1 && err.contains("there is no generation 3"), "{err}");
    let (code, out, err) = stack.said(&["replay", "--roll-back", "message_facts"]).await;
    assert_eq!(code, 3, "{out}{err}");
    let (code, _, err) = stack.said(&["projections", "drop", "2"]).await;
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = stack.said(&["replay", "--roll-back", "messages"]).await;
    assert!(code == 1 && err.contains("has no generation to go back to"), "{err}");
}

#[tokio::test]
async fn a_projection_that_there_is_not_is_refused() {
    let stack = crate::support::log_and_views().await;
    for (arguments, told) in [
        (["replay", "nothing"], "there are accounts"),
        (["replay", "--roll-back"], "--all"),
        (["projections", "check"], "--all"),
    ] {
        let (code, _, err) = crate::support::said(&stack.0.config, &arguments).await;
        assert!(code != 0 && code != 3 && err.contains(told), "{err}");
    }
    let (code, _, err) = crate::support::said(&stack.0.config, &["replay", "--roll-back", "accounts"]).await;
    assert!(
        code == 1 && err.contains("accounts has no generation to go back to"),
        "{err}"
    );
}
