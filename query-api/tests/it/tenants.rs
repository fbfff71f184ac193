use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};

use crate::support::{TENANT_A, TENANT_B, World, id};

const TABLES: [&str; 5] = [
    "accounts",
    "account_heartbeats",
    "account_status_history",
    "messages",
    "conversations",
];

async fn world_of_two() -> World {
    let world = World::new().await;
    for (n, tenant) in [(1, TENANT_A), (2, TENANT_B)] {
        world.account(id(n), json!({"tenant_id": tenant})).await;
        let beat = json!({
            "account_id": id(n), "tenant_id": tenant, "sampled_at": "2026-03-01T07:59:30Z", "alive": true,
        });
        world.insert("account_heartbeats", json!({}), beat).await;
        world.history(id(n), 1, json!({"tenant_id": tenant})).await;
        world
            .message(id(n + 10), json!({"tenant_id": tenant, "account_id": id(n)}))
            .await;
        world
            .conversation(id(n + 20), json!({"tenant_id": tenant, "account_id": id(n)}))
            .await;
    }
    world
}

#[tokio::test]
async fn a_connection_without_a_tenant_sees_nothing() {
    let world = world_of_two().await;
    let pool = world.views.pool("weft_query").await;
    for table in TABLES {
        let statement = format!("select count(*) from views.{table}");
        let count: i64 = sqlx::query_scalar(&statement).fetch_one(&pool).await.unwrap();
        assert_eq!(count, 0, "{table}");
        let mut transaction = pool.begin().await.unwrap();
        sqlx::query("select set_config('weft.tenant', $1, true)")
            .bind(TENANT_B.to_string())
            .execute(&mut *transaction)
            .await
            .unwrap();
        let count: i64 = sqlx::query_scalar(&statement)
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
        assert_eq!(count, 1, "{table}");
    }
}

#[tokio::test]
async fn the_query_role_can_write_nothing() {
    let world = world_of_two().await;
    let pool = world.views.pool("weft_query").await;
    for table in TABLES {
        let error = sqlx::query(&format!("delete from views.{table}"))
            .execute(&pool)
            .await
            .unwrap_err();
        assert_eq!(error.as_database_error().unwrap().code().unwrap(), "42501", "{table}");
    }
}

#[tokio::test]
async fn the_other_tenant_sees_his_own_rows_alone() {
    let world = world_of_two().await;
    for (token, own, foreign) in [("dev-token-a", 1, 2), ("dev-token-b", 2, 1)] {
        for (path, items, key) in [
            ("/api/v1/accounts", "accounts", "account_id"),
            ("/api/v1/messages", "messages", "account_id"),
        ] {
            let answer = world.get_with(path, token, &[]).await;
            let seen: Vec<&Value> = answer.body[items]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| &item[key])
                .collect();
            assert_eq!(seen, [&json!(id(own))], "{path}");
        }
        let query = format!(
            "{{ own: account(id: \"{0}\") {{ id messages {{ totalCount nodes {{ id }} }} statusHistory {{ totalCount }} }}
               foreign: account(id: \"{1}\") {{ id }}
               message(id: \"{2}\") {{ id }}
               conversations(accountId: \"{1}\") {{ totalCount nodes {{ id }} }}
               messages(filter: {{accountId: \"{1}\"}}) {{ totalCount nodes {{ id }} }} }}",
            id(own),
            id(foreign),
            id(foreign + 10),
        );
        let bearer = format!("Bearer {token}");
        let answer = world
            .graphql_with(json!({"query": query}), &[("authorization", &bearer)])
            .await;
        let nothing = json!({"totalCount": 0, "nodes": []});
        let wanted = json!({
            "own": {
                "id": id(own),
                "messages": {"totalCount": 1, "nodes": [{"id": id(own + 10)}]},
                "statusHistory": {"totalCount": 1},
            },
            "foreign": null, "message": null, "conversations": nothing, "messages": nothing,
        });
        assert_eq!(answer.body, json!({"data": wanted}));
    }
}

#[tokio::test]
async fn without_a_token_there_is_no_answer() {
    let world = World::new().await;
    for path in [
        "/api/v1/accounts",
        "/api/v1/accounts/7",
        "/api/v1/messages",
        "/api/v1/monitor/health",
        "/api/v1/monitor/messages/stats",
        "/graphql?query={__typename}",
    ] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = world.call(request).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        assert_eq!(answer.body["code"], "auth.required");
        let answer = world.get_with(path, "wrong", &[]).await;
        assert_eq!(
            (answer.status, &answer.body["code"]),
            (StatusCode::UNAUTHORIZED, &json!("auth.invalid"))
        );
    }
    let answer = world.graphql_with(json!({"query": "{ __typename }"}), &[]).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}
