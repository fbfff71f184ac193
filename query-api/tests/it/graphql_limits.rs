use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use weft_platform::config::Profile;

use crate::support::World;

async fn code_of(world: &World, query: &str) -> Value {
    let answer = world.ask(query, json!({})).await;
    let errors = answer["errors"]
        .as_array()
        .unwrap_or_else(|| panic!("{query} is answered: {answer}"));
    assert!(
        errors.iter().all(|error| error["extensions"]["code"].is_string()),
        "{answer}"
    );
    errors[0]["extensions"]["code"].clone()
}

#[tokio::test]
async fn pages_outside_the_contract_are_bad_pages() {
    let world = World::new().await;
    for page in [
        "first: 0",
        "first: 101",
        "last: 0",
        "last: 101",
        "first: 1, last: 1",
        "first: -1",
        "after: \"x\"",
    ] {
        for list in [
            format!("accounts({page})"),
            format!("messages({page})"),
            format!("conversations(accountId: \"x\", {page})"),
        ] {
            let code = code_of(&world, &format!("{{ {list} {{ nodes {{ id }} }} }}")).await;
            assert_eq!(code, "BAD_PAGE", "{list}");
        }
    }
}

#[tokio::test]
async fn errors_have_codes() {
    let world = World::new().await;
    let deep = format!("{{ messages {{ nodes {} }} }}", nested(7));
    let wide = "{ accounts(first: 100) { nodes { messages(first: 100) { nodes { id status } } } } }".to_owned();
    let aliases = (0..51)
        .map(|n| format!("a{n}: __typename"))
        .collect::<Vec<_>>()
        .join(" ");
    for (query, code) in [
        ("{ accounts {".to_owned(), "GRAPHQL_PARSE_FAILED"),
        ("{ colour }".to_owned(), "GRAPHQL_VALIDATION_FAILED"),
        ("{ account { id } }".to_owned(), "GRAPHQL_VALIDATION_FAILED"),
        (
            "{ messages(filter: {status: ASLEEP}) { nodes { id } } }".to_owned(),
            "GRAPHQL_VALIDATION_FAILED",
        ),
        (deep, "GRAPHQL_VALIDATION_FAILED"),
        (wide, "GRAPHQL_VALIDATION_FAILED"),
        (format!("{{ {aliases} }}"), "GRAPHQL_VALIDATION_FAILED"),
        (
            "{ messageStats(from: \"2026-02-01T00:00:00Z\", to: \"2026-01-01T00:00:00Z\", interval: DAY) { total } }"
                .to_owned(),
            "BAD_RANGE",
        ),
        (
            "{ messageStats(from: \"2016-02-01T00:00:00Z\", to: \"2026-01-01T00:00:00Z\", interval: HOUR) { total } }"
                .to_owned(),
            "BAD_RANGE",
        ),
        (
            "subscription { messageChanged { id } again: messageChanged { id } }".to_owned(),
            "GRAPHQL_VALIDATION_FAILED",
        ),
    ] {
        assert_eq!(code_of(&world, &query).await, code, "{query}");
    }
}

fn nested(depth: usize) -> String {
    if depth == 0 {
        "{ id }".to_owned()
    } else {
        format!("{{ account {{ messages {{ nodes {} }} }} }}", nested(depth - 1))
    }
}

#[tokio::test]
async fn introspection_is_open_in_development_only() {
    let query = "{ __schema { queryType { name } } }";
    let world = World::new().await;
    assert_eq!(
        world.data(query, json!({})).await["__schema"]["queryType"]["name"],
        "Query"
    );
    let world = World::with(|config| config.profile = Profile::Production).await;
    let answer = world.ask(query, json!({})).await;
    assert!(answer["data"].get("__schema").is_none_or(Value::is_null), "{answer}");
}

#[tokio::test]
async fn a_body_that_is_no_request_is_refused_as_a_problem() {
    let world = World::new().await;
    for (content_type, body, status, code) in [
        (
            "application/json",
            "{\"query\": ",
            StatusCode::BAD_REQUEST,
            "request.malformed",
        ),
        (
            "text/plain",
            "{}",
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "request.media_type",
        ),
        (
            "application/json",
            "[]",
            StatusCode::UNPROCESSABLE_ENTITY,
            "request.invalid",
        ),
        (
            "application/json",
            "{}",
            StatusCode::UNPROCESSABLE_ENTITY,
            "request.invalid",
        ),
        (
            "application/json",
            "{\"query\": 7, \"variables\": [], \"operationName\": {}, \"colour\": 1}",
            StatusCode::UNPROCESSABLE_ENTITY,
            "request.invalid",
        ),
        (
            "application/json",
            "{\"query\": \"{ __typename }\", \"colour\": 1}",
            StatusCode::UNPROCESSABLE_ENTITY,
            "request.invalid",
        ),
        (
            "application/json",
            "{\"query\": \"{ __typename }\", \"query\": \"{ __typename }\"}",
            StatusCode::BAD_REQUEST,
            "request.malformed",
        ),
    ] {
        let request = Request::post("/graphql")
            .header("authorization", "Bearer dev-token-a")
            .header("content-type", content_type)
            .body(Body::from(body))
            .unwrap();
        let answer = world.call(request).await;
        assert_eq!((answer.status, &answer.body["code"]), (status, &json!(code)), "{body}");
    }
}

#[tokio::test]
async fn a_body_over_one_mebibyte_is_too_large() {
    let world = World::new().await;
    let query = format!("{{ __typename }} # {}", "x".repeat(1024 * 1024));
    let headers = [("authorization", "Bearer dev-token-a")];
    let answer = world.graphql_with(json!({"query": query}), &headers).await;
    assert_eq!(
        (answer.status, &answer.body["code"]),
        (StatusCode::PAYLOAD_TOO_LARGE, &json!("request.too_large"))
    );
    assert_eq!(answer.headers["content-type"], "application/problem+json");
}

#[tokio::test]
async fn a_query_may_come_in_the_query_string() {
    let world = World::new().await;
    let answer = world
        .get("/graphql?query=query+Q($n:Int){accounts(first:$n){totalCount}}&variables=%7B%22n%22:1%7D&operationName=Q")
        .await;
    assert_eq!(answer.body, json!({"data": {"accounts": {"totalCount": 0}}}));
    let answer = world.get("/graphql?query=subscription{messageChanged{id}}").await;
    assert_eq!(
        (answer.status, answer.headers["allow"].to_str().unwrap()),
        (StatusCode::METHOD_NOT_ALLOWED, "POST")
    );
    let answer = world
        .get("/graphql?query=%7B__typename%7D&variables=%7B%22n%22:1,%22n%22:2%7D")
        .await;
    assert_eq!(answer.body["errors"][0]["pointer"], "?variables");
    let answer = world.get("/graphql?variables=1&colour=red").await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer.body["errors"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_browser_gets_the_explorer_which_needs_no_other_server() {
    let world = World::new().await;
    let request = Request::get("/graphql")
        .header("accept", "text/html,*/*")
        .body(Body::empty())
        .unwrap();
    let answer = world.call(request).await;
    assert_eq!(answer.status, StatusCode::OK);
    let page = answer.body.as_str().unwrap();
    assert!(page.contains("graphql-transport-ws"));
    assert!(!page.contains("https://") && !page.contains("http://"));
    assert!(answer.headers.contains_key("content-security-policy"));
}
