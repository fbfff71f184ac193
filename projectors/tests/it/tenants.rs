use uuid::Uuid;
use weft_platform::config::KeysSection;
use weft_platform::keys::KeyStore;
use weft_projectors::account_status_history::AccountStatusHistory;
use weft_projectors::accounts::Accounts;
use weft_projectors::conversations::Conversations;
use weft_projectors::messages::Messages;

use crate::support::history::History;
use crate::support::project;
use crate::support::stores::{Stores, as_tenant};

#[tokio::test]
async fn a_query_without_a_tenant_returns_nothing_and_one_with_a_tenant_only_its_own() {
    let stores = Stores::views().await;
    let history = History::of_everything(&stores.config.kafka, 30, 1_000);
    let keys = KeyStore::without_access(&KeysSection::default()).unwrap();
    project(&stores.engine, &Accounts, &history.of("account"), 500).await;
    project(&stores.engine, &AccountStatusHistory, &history.of("account"), 500).await;
    project(&stores.engine, &Messages::new(keys), &history.of("message"), 500).await;
    project(&stores.engine, &Conversations, &history.of("conversation"), 500).await;
    sqlx::query(
        "insert into account_heartbeats (account_id, tenant_id, sampled_at, alive)
         select id, tenant_id, created_at, true from accounts",
    )
    .execute(&stores.engine.pool)
    .await
    .unwrap();
    let pool = stores.query_pool().await;
    for table in [
        "accounts",
        "account_status_history",
        "messages",
        "conversations",
        "account_heartbeats",
    ] {
        for schema in ["views", "views_g1"] {
            let select = format!("select tenant_id from {schema}.{table}");
            let mut none = as_tenant(&pool, None).await;
            let rows: Vec<Uuid> = sqlx::query_scalar(&select).fetch_all(&mut *none).await.unwrap();
            assert!(rows.is_empty(), "{table} without a tenant");
            none.rollback().await.unwrap();
            for tenant in [0xa, 0xb].map(Uuid::from_u128) {
                let mut own = as_tenant(&pool, Some(tenant)).await;
                let rows: Vec<Uuid> = sqlx::query_scalar(&select).fetch_all(&mut *own).await.unwrap();
                assert!(
                    !rows.is_empty() && rows.iter().all(|row| *row == tenant),
                    "{table} of {tenant}"
                );
                own.rollback().await.unwrap();
            }
            let mut nobody = as_tenant(&pool, Some(Uuid::from_u128(0xc))).await;
            assert!(sqlx::query(&select).fetch_all(&mut *nobody).await.unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn the_query_role_reads_checkpoints() {
    let stores = Stores::views().await;
    let records = History::of_everything(&stores.config.kafka, 31, 100).of("account");
    project(&stores.engine, &Accounts, &records, 500).await;
    let seen: i64 = sqlx::query_scalar("select count(*) from views.checkpoints where log_id is not null")
        .fetch_one(&stores.query_pool().await)
        .await
        .unwrap();
    assert!(seen > 0);
}
