//! The REST GETs of `/api/v1`, one per file.

mod accounts;
mod answer;
mod messages;
mod monitor;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use utoipa::Modify;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::{QueryState, Read};

/// Every route with its part of the contract.
pub(crate) fn routes() -> OpenApiRouter<QueryState> {
    let info = InfoBuilder::new()
        .title("Weft")
        .version(env!("CARGO_PKG_VERSION"))
        .build();
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
    BearerToken.modify(router.get_openapi_mut());
    router
}

struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, openapi: &mut OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        openapi
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", scheme);
    }
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
