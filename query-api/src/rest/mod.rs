//! The REST GETs of `/api/v1`, one per file.

mod accounts;
mod answer;
mod messages;
mod monitor;
mod openapi;
mod path;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::{Info, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::{QueryState, Read};

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

/// Middleware of every read: authenticates, gives the handler its transaction, and says on the answer whether the view
/// had caught up with the caller's tokens.
pub(crate) async fn read(State(state): State<QueryState>, mut request: Request, next: Next) -> Response {
    let read = match state.read(request.headers()) {
        Ok(read) => read,
        Err(problem) => return problem.into_response(),
    };
    let (session, consistency) = (read.session.clone(), read.consistency.clone());
    request.extensions_mut().insert::<Read>(read);
    let response = next.run(request).await;
    consistency.apply(session.observed(), response)
}
