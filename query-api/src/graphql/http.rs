//! POST and GET `/graphql`.

use async_graphql::parser::types::Selection;
use async_graphql::{Request, Variables};
use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::Value;
use weft_platform::http::{Node, Problem, QueryParams, json_body, parse_json, read_body, read_object};

use super::error::finish;
use crate::state::QueryState;
use crate::views::View;

/// The explorer: one page of our own, so that it works without a network.
const EXPLORER: &str = include_str!("explorer.html");

/// POST `/graphql`: a JSON object with `query`, `variables`, `operationName`.
pub(crate) async fn post(State(state): State<QueryState>, headers: HeaderMap, body: Body) -> Response {
    // Before the body is looked at, so that strangers learn nothing of how it is read.
    if let Err(problem) = state.authenticator().authenticate(&headers) {
        return problem.into_response();
    }
    let request = read_body(&headers, body, state.max_body_bytes()).await;
    match request.and_then(|body| read_request(&headers, &body)) {
        Ok(request) => answer(&state, &headers, request, false).await,
        Err(problem) => problem.into_response(),
    }
}

/// GET `/graphql`: a query in the query string, or the explorer for a browser.
pub(crate) async fn get(State(state): State<QueryState>, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    let mut params = QueryParams::parse(query.as_deref());
    let text = params.text("query");
    if text.is_none() && accepts_html(&headers) {
        return explorer();
    }
    if let Err(problem) = state.authenticator().authenticate(&headers) {
        return problem.into_response();
    }
    let operation = params.text("operationName");
    let variables = params.parsed("variables", "type", "a JSON object", |text| {
        parse_json(text.as_bytes()).ok().filter(Value::is_object)
    });
    let _ = params.text("extensions");
    if text.is_none() {
        params.error("query", "missing", "is missing");
    }
    if let Err(problem) = params.finish() {
        return problem.into_response();
    }
    let mut request = Request::new(text.unwrap_or_default());
    request.operation_name = operation;
    request.variables = variables.map(Variables::from_json).unwrap_or_default();
    answer(&state, &headers, request, true).await
}

async fn answer(state: &QueryState, headers: &HeaderMap, mut request: Request, only_queries: bool) -> Response {
    let read = match state.read(headers) {
        Ok(read) => read,
        Err(problem) => return problem.into_response(),
    };
    if only_queries && !is_query(&mut request) {
        let problem = Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "route.method",
            "GET takes queries only; subscriptions are served at /graphql/ws",
        );
        return ([(header::ALLOW, "POST")], problem).into_response();
    }
    let views = views_of(&mut request);
    let (session, kafka) = (&read.session, state.kafka());
    let met = match read.consistency.wait(session, &views, kafka, state.watcher()).await {
        Ok(met) => met,
        Err(error) => return Problem::from(error).into_response(),
    };
    let request = state.prepare_read(request, &read);
    let mut response = finish(state.schema().execute(request).await);
    if let Some(met) = met {
        response.extensions.insert("consistencyMet".to_owned(), met.into());
    }
    read.consistency.apply(met, Json(response).into_response())
}

/// What the fields of a request are read from; nothing where its text does not parse.
fn views_of(request: &mut Request) -> Vec<View> {
    let Ok(document) = request.parsed_query() else {
        return Vec::new();
    };
    let operations = document
        .operations
        .iter()
        .map(|(_, operation)| &operation.node.selection_set.node);
    let fragments = document
        .fragments
        .values()
        .map(|fragment| &fragment.node.selection_set.node);
    let mut views: Vec<View> = Vec::new();
    let mut sets: Vec<_> = operations.chain(fragments).collect();
    while let Some(set) = sets.pop() {
        for selection in &set.items {
            match &selection.node {
                Selection::Field(field) => {
                    let name = field.node.name.node.as_str();
                    for view in views_of_field(name) {
                        if !views.contains(view) {
                            views.push(*view);
                        }
                    }
                    sets.push(&field.node.selection_set.node);
                }
                Selection::InlineFragment(fragment) => sets.push(&fragment.node.selection_set.node),
                // Its set is among the fragments.
                Selection::FragmentSpread(_) => {}
            }
        }
    }
    views
}

fn views_of_field(name: &str) -> &'static [View] {
    match name {
        "account" | "accounts" => &[View::Accounts],
        "statusHistory" => &[View::StatusHistory],
        "message" | "messages" => &[View::Messages],
        // The newest message's content is the message's own row.
        "conversations" => &[View::Conversations, View::Messages],
        "messageStats" => &[View::MessageStats],
        _ => &[],
    }
}

/// Whether the text (if it parses: else the schema says what is wrong) holds queries alone.
fn is_query(request: &mut Request) -> bool {
    use async_graphql::parser::types::OperationType;
    request.parsed_query().is_ok_and(|document| {
        document
            .operations
            .iter()
            .all(|(_, operation)| operation.node.ty == OperationType::Query)
    }) || request.parsed_query().is_err()
}

/// The request of a body: `query`, `variables`, `operationName`, and `extensions`, which mean nothing here.
fn read_request(headers: &HeaderMap, body: &[u8]) -> Result<Request, Problem> {
    let body = json_body(headers, body)?.unwrap_or_default();
    let (query, variables, operation_name) = read_object(body, |fields| {
        let query = fields.required("query", |node| node.text(1..=usize::MAX));
        let variables = fields.optional("variables", object);
        let operation_name = fields.optional("operationName", |node| node.text(0..=usize::MAX));
        fields.optional("extensions", object);
        Some((query?, variables, operation_name))
    })
    .map_err(Problem::invalid)?;
    let mut request = Request::new(query).variables(variables.map(Variables::from_json).unwrap_or_default());
    request.operation_name = operation_name;
    Ok(request)
}

fn object(node: Node) -> Option<Value> {
    if node.value().is_object() {
        Some(node.into_value())
    } else {
        node.refuse("type", "must be an object")
    }
}

fn accepts_html(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

fn explorer() -> Response {
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self' ws: wss:; \
                  frame-ancestors 'none'; base-uri 'none'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(EXPLORER)).into_response()
}
