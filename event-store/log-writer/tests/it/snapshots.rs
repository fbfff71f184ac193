//! Long streams are not folded from their first event every time, and a snapshot is never the truth.

use weft_domain::tenant::Tenant;
use weft_log_writer::testing::{TestLog, options};

use crate::support::{a_tenant, limit_accounts};

#[tokio::test(flavor = "multi_thread")]
async fn a_long_stream_is_loaded_from_its_snapshot_which_may_be_lost_or_of_other_code() {
    let log = TestLog::new().await;
    let executor = log.executor().await;
    let (tenant, _) = a_tenant(&executor).await;
    let id = tenant.to_string();
    let changes = (1..=1_199).map(|n| (id.clone(), limit_accounts(n))).collect();
    executor.execute_all::<Tenant>(changes, &options(tenant)).await.unwrap();
    // Each on its own process, which remembers nothing.
    let load = async || log.executor().await.load::<Tenant>(&id).await.unwrap();
    let folded = load().await;
    assert_eq!((folded.version, folded.state.limits.max_accounts), (1_200, 1_199));
    let pool = executor.pool();
    let version: i64 = sqlx::query_scalar("select version from snapshots")
        .fetch_one(pool)
        .await
        .unwrap();
    assert_eq!(version, 1_200);

    // Shown by a mark that no event made.
    let mark = r#"update snapshots set state = jsonb_set(state::jsonb, '{tenant_name}', '"marked"')::json"#;
    sqlx::query(mark).execute(pool).await.unwrap();
    executor
        .execute::<Tenant>(&id, limit_accounts(5), &options(tenant))
        .await
        .unwrap();
    let short = load().await;
    assert_eq!(short.state.tenant_name, "marked");
    assert_eq!((short.version, short.state.limits.max_accounts), (1_201, 5));
    assert_eq!(
        (short.partition_key, short.head.is_some()),
        (folded.partition_key, true)
    );

    for spoiled in ["update snapshots set fold = 'other code'", "delete from snapshots"] {
        sqlx::query(spoiled).execute(pool).await.unwrap();
        let again = load().await;
        assert_eq!(
            (again.version, again.state.tenant_name),
            (1_201, folded.state.tenant_name.clone()),
            "{spoiled}"
        );
    }
}
