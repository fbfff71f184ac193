//! What holds for every route: tokens, ids, media types, bodies, query strings, methods, request ids, idempotency keys.

use axum::body::Body;
use axum::http::header;
use insta::assert_json_snapshot;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use crate::support::{Answer, Api, TOKEN_A, TOKEN_B, changed, request, text_message};

/// Every route with a body that it takes.
struct Route {
    method: &'static str,
    path: String,
    body: Option<Value>,
    /// A body may be left out.
    may_be_empty: bool,
    code: &'static str,
}

fn routes(account: Uuid, message: Uuid) -> Vec<Route> {
    let route = |method, path: String, body: Option<Value>, code| Route {
        method,
        path,
        may_be_empty: body.is_none(),
        body,
        code,
    };
    let on_account = |method, rest: &str, body| {
        route(
            method,
            format!("/api/v1/accounts/{account}{rest}"),
            body,
            "account.not_found",
        )
    };
    let on_message = |rest: &str, body| {
        route(
            "POST",
            format!("/api/v1/messages/{message}{rest}"),
            body,
            "message.not_found",
        )
    };
    vec![
        route(
            "POST",
            "/api/v1/accounts".to_owned(),
            Some(json!({"account_name": "新"})),
            "",
        ),
        on_account("PUT", "", Some(json!({"account_name": "新名"}))),
        on_account("DELETE", "", None),
        on_account("PUT", "/login", None),
        on_account(
            "POST",
            "/login/verify",
            Some(json!({"login_token": account, "code": "1234"})),
        ),
        on_account("POST", "/login/cancel", None),
        on_account("PUT", "/logout", None),
        on_account("POST", "/disable", Some(json!({"reason": "x"}))),
        on_account("POST", "/enable", None),
        route(
            "POST",
            "/api/v1/messages/send".to_owned(),
            Some(text_message(account, "你好")),
            "account.not_found",
        ),
        route(
            "POST",
            "/api/v1/messages/batch-send".to_owned(),
            Some(
                json!({"account_id": account, "messages": [changed(&text_message(account, "a"), json!({"account_id": null}))]}),
            ),
            "account.not_found",
        ),
        on_message("/cancel", None),
        on_message("/resolve", Some(json!({"outcome": "sent", "reason": "x"}))),
    ]
}

async fn send(
    api: &Api,
    route: &Route,
    media_type: Option<&str>,
    body: impl Into<Body>,
    token: Option<&str>,
) -> Answer {
    let mut request = request(route.method, &route.path);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, token);
    }
    if let Some(media_type) = media_type {
        request = request.header(header::CONTENT_TYPE, media_type);
    }
    api.send(request.body(body.into()).unwrap()).await
}

#[tokio::test]
async fn no_route_answers_without_a_token_it_knows() {
    let api = Api::start().await;
    for route in routes(Uuid::nil(), Uuid::nil()) {
        let body = route.body.clone().unwrap_or(json!({})).to_string();
        for (token, code) in [
            (None, "auth.required"),
            (Some("Bearer nonsense"), "auth.invalid"),
            (Some("Basic ZGV2OmRldg=="), "auth.invalid"),
            (Some("dev-token-a"), "auth.invalid"),
            (Some("Bearer dev-token-a x"), "auth.invalid"),
            (Some(""), "auth.invalid"),
        ] {
            let answer = send(&api, &route, Some("application/json"), body.clone(), token).await;
            assert_eq!(
                answer.problem(),
                (401, code.to_owned()),
                "{} {}",
                route.method,
                route.path
            );
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    let first = &routes(Uuid::nil(), Uuid::nil())[0];
    assert_json_snapshot!("without_a_token", send(&api, first, None, "", None).await.shown());
}

#[tokio::test]
async fn ids_that_are_unknown_foreign_or_no_ids_are_not_found() {
    let api = Api::start().await;
    let foreign_account = api.foreign_account().await;
    let own = api.account("一号").await;
    let own_message = api.text(own, "你好").await;
    // Tenant B asks for tenant A's.
    for route in routes(own, own_message)
        .into_iter()
        .filter(|route| !route.code.is_empty())
    {
        let body = route.body.clone().unwrap_or(json!({})).to_string();
        let answer = send(
            &api,
            &route,
            Some("application/json"),
            body,
            Some(&format!("Bearer {TOKEN_B}")),
        )
        .await;
        assert_eq!(
            answer.problem(),
            (404, route.code.to_owned()),
            "{} {}",
            route.method,
            route.path
        );
        assert!(!String::from_utf8_lossy(&answer.bytes).contains(&own.to_string()));
    }
    // Tenant A asks for tenant B's, and for what nobody has.
    for id in [foreign_account, Uuid::from_u128(7), Uuid::max()] {
        for route in routes(id, id).into_iter().filter(|route| !route.code.is_empty()) {
            let body = route.body.clone().unwrap_or(json!({})).to_string();
            let answer = send(
                &api,
                &route,
                Some("application/json"),
                body,
                Some(&format!("Bearer {TOKEN_A}")),
            )
            .await;
            assert_eq!(
                answer.problem(),
                (404, route.code.to_owned()),
                "{} {}",
                route.method,
                route.path
            );
        }
    }
    for id in [
        "7",
        "not-an-id",
        &own.simple().to_string(),
        "%FF",
        &format!("{{{own}}}").replace('{', "%7B").replace('}', "%7D"),
    ] {
        for (method, path, code) in [
            ("PUT", format!("/api/v1/accounts/{id}/login"), "account.not_found"),
            ("GET", format!("/api/v1/accounts/{id}/qrcode.png"), "account.not_found"),
            ("DELETE", format!("/api/v1/accounts/{id}"), "account.not_found"),
            ("POST", format!("/api/v1/messages/{id}/cancel"), "message.not_found"),
        ] {
            let answer = api.call_with(method, &path, None, &[]).await;
            assert_eq!(answer.problem(), (404, code.to_owned()), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn bodies_that_cannot_be_taken_are_refused_by_every_route() {
    let api = Api::start().await;
    let account = api.account("一号").await;
    let message = api.text(account, "你好").await;
    let before = api.event_count().await;
    let token = format!("Bearer {TOKEN_A}");
    for route in routes(account, message) {
        let check = async |media_type: Option<&str>, body: Vec<u8>, expected: (u16, &str)| {
            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            let answer = send(&api, &route, media_type, body, Some(&token)).await;
            let expected = (expected.0, expected.1.to_owned());
            assert_eq!(answer.problem(), expected, "{} {}: {shown}", route.method, route.path);
            answer
        };
        let json_type = Some("application/json");
        let good = route.body.clone().unwrap_or(json!({})).to_string();
        for malformed in [
            "{",
            "{}}",
            "{'a': 1}",
            "\u{feff}{}",
            "{\"a\":1,\"a\":2}",
            "{\"x\":{\"a\":1,\"a\":1}}",
            "\"\t\"",
        ] {
            check(json_type, malformed.into(), (400, "request.malformed")).await;
        }
        check(json_type, b"{\"a\":\"\xff\"}".to_vec(), (400, "request.malformed")).await;
        for no_object in ["[]", "null", "7", "\"x\"", "true"] {
            assert_eq!(
                check(json_type, no_object.into(), (422, "request.invalid"))
                    .await
                    .errors(),
                [" type"]
            );
        }
        for media_type in [
            None,
            Some("text/plain"),
            Some("application/x-www-form-urlencoded"),
            Some("application/json; charset=gbk"),
        ] {
            check(media_type, good.clone().into(), (415, "request.media_type")).await;
        }
        let unknown = changed(&serde_json::from_str(&good).unwrap(), json!({"nonsense": 1}));
        assert!(
            check(json_type, unknown.to_string().into(), (422, "request.invalid"))
                .await
                .errors()
                .contains(&"/nonsense unknown".to_owned())
        );
        let limit = if route.path.ends_with("batch-send") { 8 } else { 1 };
        let padded = |bytes: usize| [good.as_bytes(), &vec![b' '; bytes - good.len()]].concat();
        check(json_type, padded(limit * 1024 * 1024 + 1), (413, "request.too_large")).await;
        if !route.may_be_empty {
            check(None, Vec::new(), (400, "request.malformed")).await;
        }
    }
    assert_eq!(api.event_count().await, before);
}

#[tokio::test]
async fn a_body_of_two_mebibytes_is_refused_and_one_at_the_limit_taken() {
    let api = Api::start().await;
    let account = api.account("一号").await;
    let body = text_message(account, "你好").to_string();
    let send_padded = async |bytes: usize| {
        let padded = [body.as_bytes(), &vec![b' '; bytes - body.len()]].concat();
        let request = request("POST", "/api/v1/messages/send")
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN_A}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(padded))
            .unwrap();
        api.send(request).await
    };
    assert_eq!(send_padded(1024 * 1024).await.status, 202);
    assert_json_snapshot!(send_padded(2 * 1024 * 1024).await.shown());
}

#[tokio::test]
async fn a_sender_of_too_much_gets_to_read_the_refusal() {
    let api = Api::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, api.router()).into_future());
    let mut connection = TcpStream::connect(address).await.unwrap();
    let length = 2 * 1024 * 1024;
    let head = format!(
        "POST /api/v1/accounts HTTP/1.1\r\nhost: weft\r\nauthorization: Bearer {TOKEN_A}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(&vec![b' '; length]).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    server.abort();
}

#[tokio::test]
async fn texts_without_meaning_are_refused_by_pointer() {
    let api = Api::start().await;
    let account = api.account("一号").await;
    for escape in [r"\u0000", r"\ud800", r"\udc00", r"\ud800\u0041", r"\ude00\ud83d"] {
        let body = format!(
            r#"{{"account_id":"{account}","conversation_id":"S:1","message_type":"text","content":{{"text":"a{escape}"}}}}"#
        );
        let request = request("POST", "/api/v1/messages/send")
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN_A}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .unwrap();
        let answer = api.send(request).await;
        assert_eq!(answer.problem().0, 422, "{escape}");
        assert_eq!(answer.errors(), ["/content/text characters"], "{escape}");
    }
}

#[tokio::test]
async fn query_parameters_are_unknown_to_commands() {
    let api = Api::start().await;
    let account = api.account("一号").await;
    let answer = api
        .call_with(
            "POST",
            &format!("/api/v1/accounts/{account}/enable?force=true&x"),
            None,
            &[],
        )
        .await;
    assert_eq!(answer.errors(), ["?force unknown", "?x unknown"]);
    let picture = api
        .call_with(
            "GET",
            &format!("/api/v1/accounts/{account}/qrcode.png?size=9"),
            None,
            &[],
        )
        .await;
    assert_eq!(picture.errors(), ["?size unknown"]);
}

#[tokio::test]
async fn what_no_route_takes_is_told_so() {
    let api = Api::start().await;
    let id = Uuid::nil();
    for (method, path, allow) in [
        ("PATCH", "/api/v1/accounts".to_owned(), "POST"),
        ("DELETE", "/api/v1/messages/send".to_owned(), "POST"),
        ("POST", format!("/api/v1/accounts/{id}/login"), "PUT"),
        ("POST", format!("/api/v1/accounts/{id}/qrcode.png"), "GET,HEAD"),
        ("GET", "/api/v1/callbacks/instance/x".to_owned(), "POST"),
    ] {
        let answer = api.call_with(method, &path, None, &[]).await;
        assert_eq!(answer.problem(), (405, "route.method".to_owned()), "{method} {path}");
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
    }
    let both = api.call_with("GET", &format!("/api/v1/accounts/{id}"), None, &[]).await;
    let mut allowed: Vec<&str> = both.header("allow").unwrap().split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["DELETE", "PUT"]);
    for path in [
        "/",
        "/api/v1",
        "/api/v1/accounts/",
        "/api/v2/accounts",
        &format!("/api/v1/messages/{id}/revoke"),
    ] {
        let answer = api.call_with("POST", path, None, &[]).await;
        assert_eq!(answer.problem(), (404, "route.not_found".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn requests_and_traces_are_named() {
    let api = Api::start().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [("x-request-id", "order-7.retry_1"), ("traceparent", trace)];
    let answer = api
        .call_with(
            "POST",
            "/api/v1/accounts",
            Some(json!({"account_name": "一号"})),
            &headers,
        )
        .await;
    assert_eq!(answer.header("x-request-id"), Some("order-7.retry_1"));
    let (request_id, traceparent, actor): (String, String, String) =
        sqlx::query_as("select metadata->>'request_id', metadata->>'traceparent', metadata->>'actor_type' from events")
            .fetch_one(&api.log.log.admin_pool().await)
            .await
            .unwrap();
    assert_eq!((request_id.as_str(), actor.as_str()), ("order-7.retry_1", "user"));
    assert!(
        traceparent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && traceparent != trace,
        "{traceparent}"
    );
    // A refusal names its request too; an unusable name is replaced.
    let refused = api
        .call_with("PUT", "/api/v1/accounts/x/login", None, &[("x-request-id", "r-2")])
        .await;
    assert_eq!(refused.body()["instance"], "/requests/r-2");
    let replaced = api
        .call_with("PUT", "/api/v1/accounts/x/login", None, &[("x-request-id", "a b")])
        .await;
    assert_eq!(replaced.header("x-request-id").unwrap().len(), 36);
}

#[tokio::test]
async fn an_idempotency_key_replays_the_first_answer() {
    let api = Api::start().await;
    let create = async |name: &str, key: &str| {
        let body = json!({"account_name": name});
        api.call_with("POST", "/api/v1/accounts", Some(body), &[("idempotency-key", key)])
            .await
    };
    let first = create("一号", "k-1").await;
    let again = create("一号", "k-1").await;
    assert_json_snapshot!("replayed", again.shown());
    assert_eq!(
        (again.status, again.bytes.clone(), again.etag()),
        (first.status, first.bytes.clone(), first.etag())
    );
    assert_eq!(again.header("location"), first.header("location"));
    assert_eq!(again.header("weft-consistency"), first.header("weft-consistency"));
    assert!(first.header("idempotent-replayed").is_none());
    assert_json_snapshot!("key_reused", create("二号", "k-1").await.shown());
    assert_eq!(api.event_count().await, 1);
    for malformed in ["", "a b", "é", &"k".repeat(256)] {
        let answer = create("三号", malformed).await;
        assert_eq!(
            answer.problem(),
            (400, "idempotency.key_malformed".to_owned()),
            "{malformed}"
        );
    }
    assert_eq!(create("三号", &"k".repeat(255)).await.status, 201);
}

#[tokio::test]
async fn a_key_belongs_to_one_tenant_and_path_and_a_refusal_is_not_kept() {
    let api = Api::start().await;
    let (first, second) = (api.account("一号").await, api.account("二号").await);
    let key = [("idempotency-key", "k-1")];
    let post = async |id: Uuid, rest: &str, body: Value| {
        api.call_with("POST", &format!("/api/v1/accounts/{id}{rest}"), Some(body), &key)
            .await
    };
    assert_eq!(post(first, "/login/cancel", json!({})).await.problem().0, 409);
    assert_eq!(post(first, "/disable", json!({"reason": "x"})).await.status, 202);
    let other_path = post(second, "/disable", json!({"reason": "y"})).await;
    assert_eq!(
        (other_path.status.as_u16(), other_path.header("idempotent-replayed")),
        (202, None)
    );
    let other_route = post(first, "/enable", json!({})).await;
    assert_eq!(
        (other_route.status.as_u16(), other_route.header("idempotent-replayed")),
        (202, None)
    );
    // The refused one may be tried again with its key.
    assert_eq!(post(first, "/login/cancel", json!({})).await.problem().0, 409);
    let foreign = request("POST", &format!("/api/v1/accounts/{first}/disable"))
        .header(header::AUTHORIZATION, format!("Bearer {TOKEN_B}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header("idempotency-key", "k-1")
        .body(Body::from(json!({"reason": "x"}).to_string()))
        .unwrap();
    assert_eq!(api.send(foreign).await.problem(), (404, "account.not_found".to_owned()));
}

#[tokio::test]
async fn an_earlier_answer_wins_over_what_happened_since() {
    let api = Api::start().await;
    let account = api.account("一号").await;
    let key = [("idempotency-key", "k-1")];
    let send = async |text: &str| {
        api.call_with("POST", "/api/v1/messages/send", Some(text_message(account, text)), &key)
            .await
    };
    let disable = async || {
        api.call_with(
            "POST",
            &format!("/api/v1/accounts/{account}/disable"),
            Some(json!({"reason": "x"})),
            &key,
        )
        .await
    };
    let first = send("你好").await;
    assert_eq!(disable().await.etag(), "\"2\"");
    let again = send("你好").await;
    assert_eq!(
        (again.status.as_u16(), again.id("message_id")),
        (202, first.id("message_id"))
    );
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(send("别的").await.problem(), (422, "idempotency.key_reused".to_owned()));
    api.delete(account).await;
    assert_eq!(send("你好").await.header("idempotent-replayed"), Some("true"));
    let disabled = disable().await;
    assert_eq!(
        (disabled.header("idempotent-replayed"), disabled.etag()),
        (Some("true"), "\"2\"")
    );
    // Without the key the account is gone.
    let fresh = api
        .call("POST", "/api/v1/messages/send", text_message(account, "你好"))
        .await;
    assert_eq!(fresh.problem(), (404, "account.not_found".to_owned()));
}

#[tokio::test]
async fn stored_answers_hold_no_personal_data() {
    let api = Api::start().await;
    let body = json!({"account_name": "机密名字", "phone": "13800138000"});
    api.call_with("POST", "/api/v1/accounts", Some(body), &[("idempotency-key", "k-1")])
        .await;
    let rows: Vec<String> = sqlx::query_scalar("select idempotency_keys::text from idempotency_keys")
        .fetch_all(&api.log.log.admin_pool().await)
        .await
        .unwrap();
    assert_eq!(rows.len(), 1);
    assert!(
        !rows[0].contains("机密") && !rows[0].contains("13800138000"),
        "{rows:?}"
    );
}
