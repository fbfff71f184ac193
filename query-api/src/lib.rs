//! GraphQL, subscriptions and REST views over the read models.
//!
//! Opens only `views.url` (as a role that owns nothing, under row-level security) and ClickHouse, and the key database
//! for the sealed fields. Decides nothing and writes nothing.

mod consistency;
mod error;
mod facts;
mod graphql;
mod live;
mod personal;
mod rest;
mod session;
mod state;
mod timestamp;
mod views;
mod watcher;

use axum::Router;
use axum::middleware::from_fn_with_state;
use utoipa::openapi::OpenApi;

pub use state::{QueryState, StartError};

/// Every route of this API, and the REST routes' part of the contract.
pub fn router(state: QueryState) -> (Router, OpenApi) {
    let (reads, openapi) = rest::routes().split_for_parts();
    let reads = reads.route_layer(from_fn_with_state(state.clone(), rest::read));
    let router = reads.merge(graphql::routes()).with_state(state);
    (router, openapi)
}

/// The REST routes' part of the contract.
pub fn openapi() -> OpenApi {
    rest::routes().split_for_parts().1
}

/// The GraphQL schema, for `schemas/graphql/schema.graphql`.
pub fn sdl() -> String {
    graphql::sdl()
}
