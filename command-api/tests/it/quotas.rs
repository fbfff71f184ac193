//! Limits of the tenant and of its accounts.

use serde_json::{Value, json};
use weft_domain::TenantId;
use weft_domain::tenant::{Tenant, TenantCommand, TenantLimits};
use weft_log_writer::testing::options;
use weft_platform::clock::Clock;
use weft_platform::config::AuthSection;

use crate::support::{Answer, Api, changed, text_message};

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

#[tokio::test]
async fn a_batch_over_the_limit_is_refused_whole() {
    let api = limited(10, 2).await;
    let account = api.account("一号").await;
    let messages = |count: usize| {
        let one = json!({"conversation_id": "S:1", "message_type": "text", "content": {"text": "早"}});
        json!({"account_id": account, "messages": vec![one; count]})
    };
    assert_eq!(
        api.call("POST", BATCH, messages(3)).await.problem(),
        (429, "quota.exceeded".to_owned())
    );
    assert_eq!(api.call("POST", BATCH, messages(2)).await.status, 202);
    assert_eq!(api.call("POST", BATCH, messages(1)).await.status, 429);
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
