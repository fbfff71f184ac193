use sqlx::Row;
use uuid::Uuid;
use weft_domain::TenantId;
use weft_domain::account::AccountCommand;
use weft_projectors::account_status_history::AccountStatusHistory;

use crate::support::history::History;
use crate::support::stores::Stores;
use crate::support::{project, same_rows_in_any_batches};

#[tokio::test]
async fn the_history_is_the_same_rows_in_any_batches_and_an_unbroken_chain() {
    let stores = Stores::views().await;
    let fresh = stores.twin().await;
    let history = History::of_everything(&stores.config.kafka, 2, 3_000);
    let records = history.of("account");
    let projection = AccountStatusHistory;
    same_rows_in_any_batches(
        &stores.engine,
        &fresh.engine,
        &projection,
        "account_status_history",
        &records,
    )
    .await;

    let rows = sqlx::query("select * from account_status_history order by account_id, sequence")
        .fetch_all(&stores.engine.pool)
        .await
        .unwrap();
    let mut last: Option<(Uuid, String)> = None;
    for row in &rows {
        let (account, old): (Uuid, Option<String>) = (row.get("account_id"), row.get("old_status"));
        let before = last
            .take()
            .filter(|(before, _)| *before == account)
            .map(|(_, status)| status);
        assert_eq!(old, before, "each change begins where the one before it ended");
        last = Some((account, row.get("new_status")));
    }
    for (id, account) in &history.accounts {
        let newest = rows
            .iter()
            .rfind(|row| row.get::<Uuid, _>("account_id") == *id)
            .unwrap();
        assert_eq!(newest.get::<String, _>("new_status"), account.status.unwrap().as_str());
    }
}

#[tokio::test]
async fn a_change_tells_who_made_it_and_why() {
    let stores = Stores::views().await;
    let mut history = History::new(&stores.config.kafka, 3);
    let tenant = TenantId(Uuid::from_u128(0xa));
    let id = history.new_account(tenant);
    let now = history.now;
    history.account(
        id,
        tenant,
        AccountCommand::Disable {
            reason: "合同到期".to_owned(),
            now,
        },
    );
    project(&stores.engine, &AccountStatusHistory, &history.records, 10).await;
    let row = sqlx::query("select * from account_status_history where account_id = $1 order by sequence desc limit 1")
        .bind(id)
        .fetch_one(&stores.engine.pool)
        .await
        .unwrap();
    assert_eq!(row.get::<String, _>("id"), format!("{id}:2"));
    assert_eq!(row.get::<Option<String>, _>("old_status").as_deref(), Some("created"));
    assert_eq!(row.get::<String, _>("new_status"), "disabled");
    assert_eq!(row.get::<Option<String>, _>("reason").as_deref(), Some("合同到期"));
    assert_eq!(row.get::<Option<String>, _>("operator_id").as_deref(), Some("tester"));
    assert_eq!(row.get::<String, _>("operator_type"), "user");
    assert_eq!(
        row.get::<serde_json::Value, _>("extra_data"),
        serde_json::json!({"event": "AccountDisabled"})
    );
}
