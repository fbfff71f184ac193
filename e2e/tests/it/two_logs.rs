//! A log is added to a running Weft, and a tenant is placed on it: docs/operations/logs.md, step by step.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;
use weft_e2e::{Options, World, until};
use weft_platform::clock::Clock;
use weft_platform::config::AuthSection;
use weft_platform::http::ConsistencyToken;

/// Of the events of a log.
async fn tenants(log: &PgPool) -> BTreeSet<String> {
    let tenants: Vec<String> = sqlx::query_scalar("select distinct tenant_id from events")
        .fetch_all(log)
        .await
        .expect("the log answers");
    tenants.into_iter().collect()
}

async fn log_id(log: &PgPool) -> Uuid {
    sqlx::query_scalar("select log_id from log_identity")
        .fetch_one(log)
        .await
        .expect("the log answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_log_is_added_and_serves_its_tenant_through_relay_projections_queries_and_workers() {
    let mut world = World::start(Options {
        auto_scan: Some("100ms"),
        ..Options::default()
    })
    .await;
    let (first_account, _) = world.online_account("第一个日志").await;
    let before = world.api.send_text(&first_account, "S:1001", "加日志之前").await;
    world.message_in(&before, &["delivered"]).await;

    // A further log, with a tenant of its own.
    world.kill_weft();
    let big = Clock::system().new_id();
    world.add_log("b", 1, big);
    let token = |token: &str, tenant: Uuid| format!("{{token=\"{token}\",tenant_id=\"{tenant}\",role=\"admin\"}}");
    let tokens = [
        token("dev-token-a", AuthSection::DEV_TENANT_A),
        token("dev-token-b", big),
    ];
    world.set("WEFT__AUTH__STATIC", format!("[{}]", tokens.join(",")));
    world.start_weft().await;
    let (code, said) = world.tool(&["tenant", "create", "big", "大租户", "--id", &big.to_string()]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = world.tool(&[
        "tenant",
        "create",
        "dev-a",
        "同名",
        "--id",
        &Clock::system().new_id().to_string(),
    ]);
    assert!(code == Some(1) && said.contains("taken on the log main"), "{said}");

    // The first log goes on where it was.
    let after = world.api.send_text(&first_account, "S:1001", "加日志之后").await;
    world.message_in(&after, &["delivered"]).await;

    // Read your writes on the second log, by REST and GraphQL.
    let body = json!({"account_name": "第二个日志"});
    let created = world.other_tenant.post("/api/v1/accounts", body).await;
    assert_eq!(created.status, 201, "{}", created.body);
    let id = created.body["account_id"].as_str().unwrap().to_owned();
    let text = created.headers["weft-consistency"].to_str().unwrap();
    let (first, second) = (world.log_pool().await, world.further_log_pool("b").await);
    let token = ConsistencyToken::decode(text).unwrap();
    assert_eq!(token.log_id, log_id(&second).await);
    assert!(
        token.marks.iter().all(|mark| (2..4).contains(&mark.partition)),
        "{token:?}"
    );
    let headers = [("weft-consistency", text), ("prefer", "wait=5, handling=strict")];
    let query = json!({"query": "query ($id: ID!) { account(id: $id) { name } }", "variables": {"id": id}});
    for (method, path, body) in [
        (Method::GET, format!("/api/v1/accounts/{id}"), None),
        (Method::POST, "/graphql".to_owned(), Some(&query)),
    ] {
        let read = world
            .other_tenant
            .try_call(method, &path, body, &headers)
            .await
            .unwrap();
        assert_eq!(read.status, 200, "{}", read.body);
        assert_eq!(read.headers["weft-consistency-met"], "true");
        assert!(read.body.to_string().contains("第二个日志"), "{}", read.body);
    }

    // Its workers log accounts in and send, woken by callbacks that name no log.
    let api = world.api.clone();
    world.api = world.other_tenant.clone();
    world.views = world.other_tenant.clone();
    let (second_account, _) = world.online_account("第二个日志发送").await;
    let sent = world.api.send_text(&second_account, "S:1001", "第二个日志的消息").await;
    world.message_in(&sent, &["delivered"]).await;
    assert_eq!(api.get(&format!("/api/v1/messages/{sent}")).await.status, 404);

    // Each log has its own tenants, and its own partitions in the checkpoints of every view.
    assert_eq!(tenants(&second).await, BTreeSet::from([big.to_string()]));
    assert!(!tenants(&first).await.contains(&big.to_string()));
    let ids = [log_id(&first).await, log_id(&second).await];
    let places: Vec<(i32, Uuid)> = sqlx::query_as(
        "select distinct partition, log_id from views.checkpoints
         where log_id is not null and (topic like '%.account' or topic like '%.message')",
    )
    .fetch_all(&world.views_pool().await)
    .await
    .unwrap();
    assert!(
        places
            .iter()
            .all(|(partition, id)| *id == ids[usize::from(*partition >= 2)]),
        "{places:?}"
    );
    assert!(
        ids.iter().all(|id| places.iter().any(|(_, known)| known == id)),
        "{places:?}"
    );

    // What operators ask knows both.
    until("both logs and all views agree", Duration::from_secs(30), async || {
        let (code, said) = world.tool(&["log", "verify"]);
        (code == Some(0) && said.contains("log main: ") && said.contains("log b: ")).then_some(())
    })
    .await;
    let (code, said) = world.tool(&["log", "show", &format!("message/{sent}")]);
    assert!(code == Some(0) && said.contains("MessageDelivered"), "{said}");
    let (code, said) = world.tool(&["log", "tail"]);
    assert!(code == Some(1) && said.contains("--log main or b"), "{said}");
    let (code, said) = world.tool(&["log", "tail", "--log", "b"]);
    assert!(code == Some(0) && said.contains(&second_account), "{said}");
    for rebuild in [["projections", "check", "--all"].as_slice(), &["replay", "--all"]] {
        let (code, said) = world.tool(rebuild);
        assert_eq!(code, Some(0), "{rebuild:?}: {said}");
    }
    world.kill_weft();
    let (code, said) = world.tool(&["workers", "rebuild"]);
    assert!(
        code == Some(0) && said.contains("log main: ") && said.contains("log b: "),
        "{said}"
    );
    world.start_weft().await;
    let again = world.api.send_text(&second_account, "S:1001", "重建之后").await;
    world.message_in(&again, &["delivered"]).await;

    // A configuration that would look for the tenant elsewhere is refused.
    world.set("WEFT__LOGS__B__TENANTS", "[]".to_owned());
    let (code, said) = world.tool(&["tenant", "list"]);
    assert!(code == Some(1) && said.contains("which is placed on main"), "{said}");
}
