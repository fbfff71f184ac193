//! Lists are read in the order of an index, also under row-level security.

use serde_json::Value;

use crate::support::{TENANT_A, World, id};

/// Every list of the views, each by what it filters and how it is ordered.
const LISTS: [&str; 13] = [
    "accounts a where a.tenant_id = $1 and a.status <> 'deleted' order by a.created_at desc, a.id desc",
    "accounts a where a.tenant_id = $1 and a.status = 'online' order by a.created_at desc, a.id desc",
    "accounts a where a.tenant_id = $1 and a.status <> 'deleted' order by a.account_name, a.id",
    "messages m where m.tenant_id = $1 order by m.created_at desc, m.id desc",
    "messages m where m.tenant_id = $1 and m.account_id = $2 order by m.created_at desc, m.id desc",
    "messages m where m.tenant_id = $1 and m.conversation_id = 'S:1' order by m.created_at desc, m.id desc",
    "messages m where m.tenant_id = $1 and m.status = 'failed' order by m.created_at desc, m.id desc",
    "messages m where m.tenant_id = $1 and m.client_reference = 'r' order by m.created_at desc, m.id desc",
    "messages m where m.tenant_id = $1 and m.created_at < now() order by m.created_at desc, m.id desc",
    "messages m where m.tenant_id = $1 and m.batch_id = $2 order by m.batch_index",
    "conversations c where c.account_id = $2 order by c.created_at desc, c.id desc",
    "conversations c where c.account_id = $2 order by c.created_at, c.id",
    "account_status_history h where h.account_id = $2 order by h.sequence desc",
];

fn nodes<'p>(plan: &'p Value, found: &mut Vec<&'p str>) {
    found.extend(plan["Node Type"].as_str());
    for child in plan["Plans"].as_array().into_iter().flatten() {
        nodes(child, found);
    }
}

#[tokio::test]
async fn no_list_is_sorted() {
    let world = World::new().await;
    let mut transaction = world.views.pool("weft_query").await.begin().await.unwrap();
    // A small table is read whole and sorted, whatever its indexes are: not while there is another way.
    sqlx::query(
        "select set_config('weft.tenant', $1, true), set_config('enable_seqscan', 'off', true),
                set_config('enable_bitmapscan', 'off', true), set_config('enable_sort', 'off', true)",
    )
    .bind(TENANT_A.to_string())
    .execute(&mut *transaction)
    .await
    .unwrap();
    for list in LISTS {
        let explain = format!("explain (format json) select * from views.{list} limit 20")
            .replace("$1", &format!("'{TENANT_A}'::uuid"))
            .replace("$2", &format!("'{}'::uuid", id(1)));
        let plan: Value = sqlx::query_scalar(&explain).fetch_one(&mut *transaction).await.unwrap();
        let mut found = Vec::new();
        nodes(&plan[0]["Plan"], &mut found);
        assert!(found.contains(&"Index Scan"), "{list}: {plan:#}");
        assert!(!found.contains(&"Sort"), "{list}: {plan:#}");
    }
}
