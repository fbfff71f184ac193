//! The REST GETs of `/api/v1`, one per file.

mod accounts;
mod answer;
mod messages;
mod monitor;
mod openapi;
mod path;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::{Info, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weft_platform::http::Problem;

use crate::state::{QueryState, Read};
use crate::views::View;

/// Every route with its part of the contract.
pub(crate) fn routes() -> OpenApiRouter<QueryState> {
    let info = Info::new("Weft", env!("CARGO_PKG_VERSION"));
    let api = OpenApiBuilder::new().info(info).build();
    let mut router = OpenApiRouter::with_openapi(api)
        .routes(routes!(accounts::list::handler))
        .routes(routes!(accounts::get::handler))
        .routes(routes!(accounts::status::handler))
        .routes(routes!(accounts::status_history::handler))
        .routes(routes!(accounts::conversations::handler))
        .routes(routes!(messages::list::handler))
        .routes(routes!(messages::get::handler))
        .routes(routes!(messages::status::handler))
        .routes(routes!(monitor::account_metrics::handler))
        .routes(routes!(monitor::message_stats::handler))
        .routes(routes!(monitor::health::handler));
    openapi::complete(router.get_openapi_mut());
    router
}

/// Middleware of every read: authenticates, waits until the views show what the caller's tokens name, gives the handler
/// the transaction that does, and says on the answer whether it did.
pub(crate) async fn read(State(state): State<QueryState>, mut request: Request, next: Next) -> Response {
    let read = match state.read(request.headers()) {
        Ok(read) => read,
        Err(problem) => return problem.into_response(),
    };
    let views = request.extensions().get::<MatchedPath>();
    let views = views.map_or(&[][..], |path| views_of(path.as_str()));
    let (session, consistency) = (read.session.clone(), read.consistency.clone());
    let met = match consistency.wait(&session, views, state.kafka(), state.watcher()).await {
        Ok(met) => met,
        Err(error) => return Problem::from(error).into_response(),
    };
    request.extensions_mut().insert::<Read>(read);
    let response = next.run(request).await;
    consistency.apply(met, response)
}

/// What the route reads.
fn views_of(route: &str) -> &'static [View] {
    match route {
        "/api/v1/accounts/{id}/status-history" => &[View::Accounts, View::StatusHistory],
        // The newest message's content is the message's own row.
        "/api/v1/accounts/{id}/conversations" => &[View::Accounts, View::Conversations, View::Messages],
        "/api/v1/monitor/accounts/{id}/metrics" => &[View::Accounts, View::MessageStats],
        "/api/v1/monitor/messages/stats" => &[View::MessageFacts],
        route if route.starts_with("/api/v1/accounts") => &[View::Accounts],
        route if route.starts_with("/api/v1/messages") => &[View::Messages],
        _ => &[],
    }
}
