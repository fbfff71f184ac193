//! A log that lost its end, or came from elsewhere, begins a new epoch.

use sqlx::PgPool;

/// Raises the log's epoch and answers it. Appends carry it at once; every event of before counts as settled. `pool` as the
/// owner of the log's tables.
pub async fn adopt(pool: &PgPool) -> Result<i16, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let epoch: i16 = sqlx::query_scalar("update log_identity set epoch = epoch + 1 returning epoch")
        .fetch_one(&mut *transaction)
        .await?;
    // What stock postgres-es appends.
    sqlx::query(&format!("alter table events alter column epoch set default {epoch}"))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(epoch)
}
