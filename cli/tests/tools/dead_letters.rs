//! `weft dead-letters`.

use serde_json::Value;
use uuid::Uuid;
use weft_platform::testing::until;

use crate::support::Stack;

/// Takes a field that the event needs out of its payload, or gives it back.
async fn set_attempt(stack: &Stack, message: Uuid, attempt: Option<i64>) {
    sqlx::query(
        "update events set payload = case when $2::bigint is null then payload - 'attempt'
                                          else payload || jsonb_build_object('attempt', $2::bigint) end
         where aggregate_id = $1 and sequence = 2",
    )
    .bind(message.to_string())
    .bind(attempt)
    .execute(&stack.pool)
    .await
    .unwrap();
}

#[tokio::test]
async fn a_failing_event_is_listed_shown_tried_again_and_given_up() {
    let stack = Stack::start().await;
    let (code, out, _) = stack.said(&["dead-letters", "list"]).await;
    assert_eq!((code, out.trim()), (0, "no dead letters"));
    let (account, ids) = stack.accepted(5).await;
    let (mended, given_up) = (ids[1], ids[3]);
    let mut open = stack.pool.begin().await.unwrap();
    // Nothing is published before both are broken.
    sqlx::query("select pg_current_xact_id()")
        .execute(&mut *open)
        .await
        .unwrap();
    stack.every(account, &ids, 2, "AttemptStarted").await;
    stack.every(account, &ids, 3, "MessageSent").await;
    for id in [mended, given_up] {
        set_attempt(&stack, id, None).await;
    }
    open.rollback().await.unwrap();
    let parked = "select count(*) from views_g1.dead_letters where last_sequence = 3";
    until("three projections have parked two streams", async || {
        (stack.number(parked).await == 6).then_some(())
    })
    .await;
    stack.projected().await;

    let fingerprint: String = sqlx::query_scalar("select distinct fingerprint from views_g1.dead_letters")
        .fetch_one(&stack.views)
        .await
        .unwrap();
    let (code, out, _) = stack.said(&["dead-letters", "list"]).await;
    let of = |projection: &str| {
        let line = out.lines().find(|line| line.contains(projection));
        line.unwrap_or_else(|| panic!("{projection} is not in\n{out}"))
            .to_owned()
    };
    assert_eq!(code, 0);
    for projection in ["messages", "conversations", "message_facts"] {
        let line = of(projection);
        for told in [fingerprint.as_str(), "parked", " 2 ", "missing field `attempt`"] {
            assert!(line.contains(told), "{told} is not in\n{out}");
        }
    }
    let (_, out, _) = stack.said(&["projections", "list"]).await;
    assert!(
        out.contains("2 streams parked") && out.contains("1 rows incomplete"),
        "{out}"
    );
    assert_eq!(
        stack
            .number("select count(*) from views.messages where status = 'sent'")
            .await,
        3
    );

    let (code, out, _) = stack
        .said(&["dead-letters", "show", &fingerprint, "--projection", "messages"])
        .await;
    assert_eq!(code, 0, "{out}");
    for told in [mended.to_string(), given_up.to_string(), "2 AttemptStarted".to_owned()] {
        assert!(out.contains(&told), "{told} is not in\n{out}");
    }
    // What it says to look at can be looked at.
    let hint = out
        .lines()
        .find_map(|line| line.strip_prefix("the events: weft "))
        .unwrap();
    let (code, out, err) = stack.said(&hint.split(' ').collect::<Vec<_>>()).await;
    assert!(code == 0 && out.contains("MessageSent"), "{out}{err}");

    let of_none = ["dead-letters", "retry", "--all", "--projection", "nothing"];
    let (code, _, err) = stack.said(&of_none).await;
    assert!(
        code == 1 && err.contains("nothing is no projection: there are"),
        "{err}"
    );
    let (code, out, err) = stack.said(&["dead-letters", "retry", "--all"]).await;
    assert_eq!(code, 3, "{out}{err}");
    assert!(out.contains("0 streams go on, 6 stay parked"), "{out}");
    set_attempt(&stack, mended, Some(1)).await;
    let (code, out, err) = stack.said(&["dead-letters", "retry", &mended.to_string()]).await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("3 streams go on, 0 stay parked"), "{out}");
    assert_eq!(
        stack
            .number("select count(*) from views.messages where status = 'sent'")
            .await,
        4
    );
    // It goes on, beside the projectors at work.
    stack.every(account, &[mended], 4, "MessageDelivered").await;
    let delivered = format!("select count(*) from views.messages where id = '{mended}' and status = 'delivered'");
    until("its next event", async || {
        (stack.number(&delivered).await == 1).then_some(())
    })
    .await;

    let (code, out, _) = stack.said(&["dead-letters", "discard", &given_up.to_string()]).await;
    assert!(code == 0 && out.contains("3 streams given up"), "{out}");
    let (_, out, _) = stack.said(&["dead-letters", "list"]).await;
    assert!(out.contains("discarded") && !out.contains("parked"), "{out}");
    let (_, out, _) = stack.said(&["projections", "list"]).await;
    assert!(out.contains("1 discarded"), "{out}");
    let (code, _, err) = stack.said(&["dead-letters", "retry", &Uuid::nil().to_string()]).await;
    assert!(
        code == 1 && err.contains("no dead letter has the fingerprint or stream"),
        "{err}"
    );

    // All is what waits, not what was given up.
    let (code, _, err) = stack.said(&["dead-letters", "retry", "--all"]).await;
    assert!(code == 1 && err.contains("nothing is parked"), "{err}");

    // A rebuild meets the same event and parks it anew: the rows are the same.
    let stored: Value = sqlx::query_scalar("select to_jsonb(m) from views.messages m where id = $1")
        .bind(given_up)
        .fetch_one(&stack.views)
        .await
        .unwrap();
    assert_eq!(stored["version"], 1);
    let (code, out, err) = stack.said(&["replay", "messages"]).await;
    assert_eq!(code, 0, "{out}{err}");
    let (_, out, _) = stack
        .said(&[
            "dead-letters",
            "show",
            &given_up.to_string(),
            "--projection",
            "messages",
        ])
        .await;
    assert!(out.contains("parked"), "{out}");
}
