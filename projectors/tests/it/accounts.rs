use std::collections::HashMap;

use sqlx::Row;
use uuid::Uuid;
use weft_domain::TenantId;
use weft_domain::account::{Account, AccountCommand};
use weft_platform::clock::Clock;
use weft_projectors::accounts::Accounts;

use crate::support::history::History;
use crate::support::stores::Stores;
use crate::support::{project, same_rows_in_any_batches};

#[tokio::test]
async fn accounts_are_the_same_rows_in_any_batches_and_agree_with_the_aggregate() {
    let stores = Stores::views().await;
    let fresh = stores.twin().await;
    let history = History::of_everything(&stores.config.kafka, 1, 3_000);
    let records = history.of("account");
    same_rows_in_any_batches(&stores.engine, &fresh.engine, &Accounts, "accounts", &records).await;

    let rows = sqlx::query("select * from accounts")
        .fetch_all(&stores.engine.pool)
        .await
        .unwrap();
    assert_eq!(rows.len(), history.accounts.len());
    let statuses: HashMap<String, usize> = rows.iter().fold(HashMap::new(), |mut seen, row| {
        *seen.entry(row.get("status")).or_default() += 1;
        seen
    });
    assert!(
        statuses.len() > 1,
        "a history that ends in one status tests little: {statuses:?}"
    );
    for row in rows {
        let account: &Account = &history.accounts[&row.get::<Uuid, _>("id")];
        let running = account.running_attempt().map(|attempt| attempt.0);
        assert_eq!(row.get::<String, _>("status"), account.status.unwrap().as_str());
        assert_eq!(row.get::<String, _>("account_name"), account.account_name);
        assert_eq!(row.get::<Option<String>, _>("guid"), account.guid);
        assert_eq!(row.get::<Option<String>, _>("reason"), account.reason);
        assert_eq!(row.get::<Option<String>, _>("error_message"), account.error_message);
        assert_eq!(row.get::<Option<Uuid>, _>("login_token"), running);
        assert_eq!(
            row.get::<i32, _>("login_retry_count"),
            account.login_retry_count.cast_signed()
        );
        assert_eq!(
            row.get::<Option<chrono::DateTime<chrono::Utc>>, _>("online_since"),
            account.online_since
        );
        assert_eq!(
            row.get::<Option<chrono::DateTime<chrono::Utc>>, _>("restricted_until"),
            account.restricted_until
        );
        assert_eq!(
            row.get::<Option<chrono::DateTime<chrono::Utc>>, _>("last_login_time"),
            account.last_login_time
        );
        assert_eq!(
            row.get::<Option<chrono::DateTime<chrono::Utc>>, _>("updated_at"),
            account.updated_at
        );
        assert_eq!(
            row.get::<Option<serde_json::Value>, _>("email"),
            json(account.email.as_ref())
        );
        assert_eq!(
            row.get::<Option<serde_json::Value>, _>("phone"),
            json(account.phone.as_ref())
        );
        assert_eq!(
            row.get::<Option<serde_json::Value>, _>("user_info"),
            json(account.user_info.as_ref())
        );
        assert_eq!(
            row.get::<Option<serde_json::Value>, _>("config"),
            json(Some(&account.config))
        );
        let attempts = account
            .login
            .as_ref()
            .map_or(0, |login| i32::from(login.verification_failures));
        assert_eq!(row.get::<i32, _>("verification_attempts"), attempts);
    }
}

#[tokio::test]
async fn an_account_whose_instance_is_made_after_all_shows_no_failure() {
    let stores = Stores::views().await;
    let mut history = History::new(&stores.config.kafka, 1);
    let (tenant, now) = (TenantId(Uuid::from_u128(0xa)), Clock::system().now());
    let id = history.new_account(tenant);
    let shown = async || -> (Option<String>, Option<String>) {
        sqlx::query_as("select reason, error_message from accounts where id = $1")
            .bind(id)
            .fetch_one(&stores.engine.pool)
            .await
            .unwrap()
    };
    let error_message = "no capacity".to_owned();
    history.account(id, tenant, AccountCommand::RecordInstanceFailure { error_message, now });
    project(&stores.engine, &Accounts, &history.of("account"), 1).await;
    assert_eq!(
        shown().await,
        (Some("instance_failed".to_owned()), Some("no capacity".to_owned()))
    );
    let guid = "guid-1".to_owned();
    history.account(id, tenant, AccountCommand::RecordInstance { guid, now });
    project(&stores.engine, &Accounts, &history.of("account"), 1).await;
    assert_eq!(shown().await, (None, None));
}

fn json<T: serde::Serialize>(value: Option<&T>) -> Option<serde_json::Value> {
    value.map(|value| serde_json::to_value(value).unwrap())
}
