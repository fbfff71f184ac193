//! Limits of the tenant and of its accounts.

use axum::body::Body;
use serde_json::{Value, json};
use uuid::Uuid;
use weft_domain::TenantId;
use weft_domain::tenant::{Tenant, TenantCommand, TenantLimits};
use weft_log_writer::testing::options;
use weft_platform::clock::Clock;
use weft_platform::config::AuthSection;

use crate::support::{Answer, Api, TOKEN_A, changed, request, send, text_message};

const SEND: &str = "/api/v1/messages/send";
const BATCH: &str = "/api/v1/messages/batch-send";

/// The caller's tenant, with these limits.
async fn limited(max_accounts: u32, max_daily_messages: u32) -> Api {
    let api = Api::start().await;
    let id = TenantId(AuthSection::DEV_TENANT_A);
    let create = TenantCommand::Create {
        tenant_code: "limited".to_owned(),
        tenant_name: "有限".to_owned(),
        limits: TenantLimits {
            max_accounts,
            max_daily_messages,
        },
        time_zone: "Asia/Shanghai".to_owned(),
        now: Clock::system().now(),
    };
    api.executor
        .execute::<Tenant>(&id.to_string(), create, &options(id))
        .await
        .unwrap();
    api
}

fn number(answer: &Answer, name: &str) -> i64 {
    answer.header(name).unwrap().parse().unwrap()
}

#[tokio::test]
async fn over_the_tenants_messages_a_day_a_send_is_refused_until_the_next_day_or_a_cancel() {
    let api = limited(10, 2).await;
    let account = api.account("一号").await;
    let first = api.text(account, "一").await;
    api.text(account, "二").await;
    let refused = api.call("POST", SEND, text_message(account, "三")).await;
    assert_eq!(refused.problem(), (429, "quota.exceeded".to_owned()));
    assert!(refused.body()["detail"].as_str().unwrap().contains("2 messages a day"));
    let left = number(&refused, "retry-after");
    assert!((1..=86_400).contains(&left), "{left}");
    assert_eq!(
        refused.header("ratelimit"),
        Some(format!("\"tenant_messages\";r=0;t={left}").as_str())
    );
    assert_eq!(
        refused.header("ratelimit-policy"),
        Some("\"tenant_messages\";q=2;w=86400")
    );

    let cancel = api
        .call("POST", &format!("/api/v1/messages/{first}/cancel"), json!({}))
        .await;
    assert_eq!(cancel.status, 202);
    api.text(account, "三").await;
    assert_eq!(api.call("POST", SEND, text_message(account, "四")).await.status, 429);
}

#[tokio::test]
async fn over_the_accounts_own_limit_a_send_is_refused_and_another_account_sends() {
    let api = limited(10, 100).await;
    let (small, other) = (api.account("一号").await, api.account("二号").await);
    let path = format!("/api/v1/accounts/{small}");
    let update = api.call("PUT", &path, json!({"config": {"daily_limit": 1}})).await;
    assert_eq!(update.status, 200);
    api.text(small, "一").await;
    let refused = api.call("POST", SEND, text_message(small, "二")).await;
    assert_eq!(refused.problem(), (429, "quota.exceeded".to_owned()));
    assert!(refused.header("ratelimit").unwrap().starts_with("\"account_messages\""));
    api.text(other, "二").await;
}

fn batch(account: Uuid, messages: Vec<Value>) -> Value {
    json!({"account_id": account, "messages": messages})
}

fn good(send_time: Option<String>) -> Value {
    json!({"conversation_id": "S:1", "message_type": "text", "content": {"text": "早"}, "send_time": send_time})
}

#[tokio::test]
async fn a_batch_is_accepted_as_far_as_the_limits_have_room() {
    let api = limited(10, 3).await;
    let account = api.account("一号").await;
    let tomorrow = || Some((Clock::system().now() + chrono::TimeDelta::days(2)).to_rfc3339());
    let bad = json!({"conversation_id": "X:1", "message_type": "text", "content": {"text": "早"}});
    let messages = vec![
        good(None),
        bad,
        good(None),
        good(tomorrow()),
        good(None),
        good(None),
        good(Some("1999-01-01T00:00:00Z".to_owned())),
    ];
    let key = [("idempotency-key", "b-1")];
    let answer = api
        .call_with("POST", BATCH, Some(batch(account, messages.clone())), &key)
        .await;
    assert_eq!(answer.status, 202, "{}", answer.body());
    let body = answer.body();
    let accepted: Vec<bool> = body["message_ids"]
        .as_array()
        .unwrap()
        .iter()
        .map(Value::is_string)
        .collect();
    assert_eq!(accepted, [true, false, true, true, true, false, false]);
    assert_eq!((&body["total_count"], &body["success_count"]), (&json!(7), &json!(4)));
    let errors: Vec<(i64, &str)> = body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (error["index"].as_i64().unwrap(), error["code"].as_str().unwrap()))
        .collect();
    // What was planned for the past counts today.
    assert_eq!(
        errors,
        [(1, "request.invalid"), (5, "quota.exceeded"), (6, "quota.exceeded")]
    );
    assert!(
        body["errors"][1]["detail"]
            .as_str()
            .unwrap()
            .contains("3 messages a day"),
        "{body}"
    );
    for (id, accepted) in body["message_ids"].as_array().unwrap().iter().zip(accepted) {
        if accepted {
            let id: Uuid = id.as_str().unwrap().parse().unwrap();
            assert!(api.message_state(id).await.accepted.is_some());
        }
    }
    let again = api.call_with("POST", BATCH, Some(batch(account, messages)), &key).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.bytes, answer.bytes);
    // No room at all.
    let refused = api.call("POST", BATCH, batch(account, vec![good(None)])).await;
    assert_eq!(refused.problem(), (429, "quota.exceeded".to_owned()));
    assert!(refused.header("retry-after").is_some());
}

#[tokio::test]
async fn batches_racing_on_two_processes_fill_a_limit_and_never_pass_it() {
    let api = limited(10, 250).await;
    let processes = [api.router(), api.other_process().await];
    let account = api.account("一号").await;
    let body = batch(account, vec![good(None); 40]).to_string();
    let racers = (0..10).map(|n| {
        let request = request("POST", BATCH)
            .header("authorization", format!("Bearer {TOKEN_A}"))
            .header("content-type", "application/json")
            .body(Body::from(body.clone()));
        send(processes[n % 2].clone(), request.unwrap())
    });
    let answers = futures::future::join_all(racers).await;
    let (mut accepted, mut refused) = (0, 0);
    for answer in answers {
        match answer.status.as_u16() {
            202 => {
                let body = answer.body();
                let counted = body["success_count"].as_u64().unwrap();
                assert_eq!(counted + body["errors"].as_array().unwrap().len() as u64, 40);
                accepted += counted;
            }
            429 => refused += 1,
            status => panic!("{status}: {}", answer.body()),
        }
    }
    assert!(refused <= 3, "{refused} batches got nothing");
    let stored: i64 = sqlx::query_scalar("select count(*) from events where event_type = 'MessageAccepted'")
        .fetch_one(api.executor.pool())
        .await
        .unwrap();
    assert_eq!((accepted, stored), (250, 250));
}

#[tokio::test]
async fn a_message_planned_for_another_day_counts_on_that_day() {
    let api = limited(10, 1).await;
    let account = api.account("一号").await;
    api.text(account, "今天").await;
    let in_two_days = Clock::system().now() + chrono::TimeDelta::days(2);
    let planned = || {
        changed(
            &text_message(account, "后天"),
            json!({"send_time": in_two_days.to_rfc3339()}),
        )
    };
    assert_eq!(api.call("POST", SEND, planned()).await.status, 202);
    assert_eq!(api.call("POST", SEND, planned()).await.status, 429);
}

#[tokio::test]
async fn over_the_tenants_accounts_none_is_created() {
    let api = limited(1, 10).await;
    let create = |name: &str| -> Value { json!({"account_name": name}) };
    assert_eq!(api.call("POST", "/api/v1/accounts", create("一号")).await.status, 201);
    let refused = api.call("POST", "/api/v1/accounts", create("二号")).await;
    assert_eq!(refused.problem(), (429, "quota.exceeded".to_owned()));
    assert_eq!(refused.header("retry-after"), None, "time brings no account back");
    assert_eq!(refused.header("ratelimit-policy"), Some("\"tenant_accounts\";q=1"));
}
