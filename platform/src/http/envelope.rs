//! What surrounds every route of both APIs: a request id, a span and metrics, a time-out, an answer even after a panic,
//! problems for what no route takes, and the pages that explain them.

use std::any::Any;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{MatchedPath, Path, Request};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;

use super::call::{REQUEST_ID, request_context};
use super::codes;
use super::problem::Problem;
use crate::clock::Clock;
use crate::config::HttpSection;

/// Requests answered, by method, route and status.
const REQUESTS: &str = "weft_http_requests_total";
/// Seconds until a request was answered, by method and route.
const DURATION: &str = "weft_http_request_duration_seconds";

/// What the envelope needs.
#[derive(Clone, Debug)]
pub struct EnvelopeConfig {
    pub clock: Clock,
    pub http: HttpSection,
}

/// `router` with everything around it. Applied once, to the merged routes of a process.
pub fn envelope(router: Router, config: EnvelopeConfig) -> Router {
    let EnvelopeConfig { clock, http } = config;
    let time_out = Duration::from_secs(http.request_timeout_seconds);
    router
        .route("/problems/{code}", get(problem_page))
        .fallback(route_not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(move |request, next| within(time_out, request, next)))
        .layer(from_fn(observed))
        .layer(from_fn(move |request, next| {
            request_context(clock.clone(), request, next)
        }))
}

async fn route_not_found() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "route.not_found",
        "no route has this path; see /docs",
    )
}

/// The router adds `Allow`.
async fn method_not_allowed(method: Method) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "route.method",
        format!("this path does not take {method}; the Allow header lists what it takes"),
    )
}

/// A defect: the panic's text is logged, never answered.
#[allow(clippy::needless_pass_by_value, reason = "the layer's signature")]
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    tracing::error!(
        panic = text.as_deref().unwrap_or("of another type"),
        "a handler panicked"
    );
    Problem::internal().into_response()
}

/// Answers 503 after `time_out`. What ran is dropped: an append is then either committed or rolled back as a whole.
async fn within(time_out: Duration, request: Request, next: Next) -> Response {
    match tokio::time::timeout(time_out, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "request.timeout",
            format!(
                "no answer within {} s; whether it had an effect is not known",
                time_out.as_secs()
            ),
        )
        .with_retry_after(1)
        .into_response(),
    }
}

/// One span per request, and its metrics.
async fn observed(request: Request, next: Next) -> Response {
    // Neither paths nor made-up methods: labels must be few.
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("none", MatchedPath::as_str)
        .to_owned();
    let method = match *request.method() {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    };
    let id = request
        .headers()
        .get(REQUEST_ID)
        .and_then(|id| id.to_str().ok())
        .unwrap_or_default();
    let span = tracing::info_span!("http.request", method, route, request.id = id);
    let started = Instant::now();
    let response = next.run(request).instrument(span).await;
    metrics::histogram!(DURATION, "method" => method, "route" => route.clone()).record(started.elapsed());
    metrics::counter!(REQUESTS, "method" => method, "route" => route, "status" => response.status().as_u16().to_string())
        .increment(1);
    response
}

/// `/problems/<code>`: what a problem's `type` points to.
async fn problem_page(name: Result<Path<String>, PathRejection>) -> Result<Html<String>, Problem> {
    let Some(code) = name.ok().and_then(|Path(name)| codes::find(&name)) else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "route.not_found",
            "there is no such problem code",
        ));
    };
    Ok(Html(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{name} · Weft</title>\n\
         <style>body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem }}</style>\n\
         </head>\n<body>\n<h1>{title}</h1>\n<p><code>{name}</code></p>\n<p>{advice}</p>\n</body>\n</html>\n",
        name = code.name,
        title = code.title,
        advice = code.advice,
    )))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{HeaderMap, header};
    use axum::routing::post;
    use http_body_util::BodyExt;
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;

    fn app() -> Router {
        let router = Router::new()
            .route(
                "/panics",
                get(async || -> &'static str { panic!("secret of the house") }),
            )
            .route("/never", get(std::future::pending::<&'static str>))
            .route("/post", post(async || "posted"));
        let http = HttpSection {
            request_timeout_seconds: 0,
            ..HttpSection::default()
        };
        envelope(
            router,
            EnvelopeConfig {
                clock: Clock::system(),
                http,
            },
        )
    }

    async fn call(method: Method, path: &str, id: Option<&str>) -> (StatusCode, HeaderMap, String) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(id) = id {
            request = request.header(REQUEST_ID, id);
        }
        let response = app().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn code(body: &str) -> String {
        serde_json::from_str::<Value>(body).unwrap()["code"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    #[tokio::test]
    async fn a_path_that_no_route_has_is_a_problem_that_names_the_request() {
        let (status, headers, body) = call(Method::GET, "/nowhere", Some("abc-1")).await;
        assert_eq!(
            (status, headers[REQUEST_ID].to_str().unwrap()),
            (StatusCode::NOT_FOUND, "abc-1")
        );
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["code"], "route.not_found");
        assert_eq!(body["instance"], "/requests/abc-1");
        assert_eq!(body["type"], "/problems/route.not_found");
    }

    #[tokio::test]
    async fn a_method_that_the_route_does_not_take_is_told_which_it_takes() {
        let (status, headers, body) = call(Method::DELETE, "/post", None).await;
        assert_eq!(
            (status, code(&body).as_str()),
            (StatusCode::METHOD_NOT_ALLOWED, "route.method")
        );
        assert_eq!(headers[header::ALLOW], "POST");
    }

    #[tokio::test]
    async fn a_panic_is_answered_without_its_text() {
        let (status, _, body) = call(Method::GET, "/panics", None).await;
        assert_eq!(
            (status, code(&body).as_str()),
            (StatusCode::INTERNAL_SERVER_ERROR, "internal")
        );
        assert!(!body.contains("secret"), "{body}");
    }

    #[tokio::test]
    async fn a_request_that_takes_too_long_is_answered() {
        let (status, headers, body) = call(Method::GET, "/never", None).await;
        assert_eq!(
            (status, code(&body).as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "request.timeout")
        );
        assert_eq!(headers[header::RETRY_AFTER], "1");
    }

    #[tokio::test]
    async fn a_request_id_of_another_form_is_replaced() {
        for given in ["", "a b", "ü", &"x".repeat(129)] {
            let (_, headers, _) = call(Method::POST, "/post", Some(given)).await;
            assert_eq!(headers[REQUEST_ID].len(), 36, "{given}");
        }
        let longest = "x".repeat(128);
        let (_, headers, _) = call(Method::POST, "/post", Some(&longest)).await;
        assert_eq!(headers[REQUEST_ID], longest.as_str());
    }

    #[tokio::test]
    async fn every_code_has_a_page() {
        let (status, headers, body) = call(Method::GET, "/problems/account.wrong_status", None).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert!(body.contains("<code>account.wrong_status</code>"), "{body}");
        assert_eq!(
            call(Method::GET, "/problems/nonsense", None).await.0,
            StatusCode::NOT_FOUND
        );
    }
}
