//! The GraphQL schema, its transports and its limits.

mod account;
mod connection;
mod conversation;
mod enums;
mod error;
mod http;
mod limits;
mod message;
mod page;
mod query;
mod reader;
mod socket;
mod stats;
mod subscription;

use async_graphql::{EmptyMutation, Schema, SchemaBuilder};
use axum::Router;
use axum::routing::get;

use self::query::Query;
use self::subscription::SubscriptionRoot;
use crate::state::QueryState;

pub(crate) use self::reader::Reader;

pub(crate) type WeftSchema = Schema<Query, EmptyMutation, SubscriptionRoot>;

fn builder() -> SchemaBuilder<Query, EmptyMutation, SubscriptionRoot> {
    Schema::build(Query, EmptyMutation, SubscriptionRoot)
}

/// The schema with its limits; introspection only where it is `open`.
pub(crate) fn build_schema(open: bool) -> WeftSchema {
    let schema = builder()
        .extension(limits::Limits)
        .limit_depth(limits::DEPTH)
        .limit_complexity(limits::COMPLEXITY)
        .limit_directives(limits::DIRECTIVES);
    if open {
        schema
    } else {
        schema.disable_introspection().disable_suggestions()
    }
    .finish()
}

/// The schema as text, for `schemas/graphql/schema.graphql`.
pub(crate) fn sdl() -> String {
    let text = builder().finish().sdl();
    format!("{}\n", text.trim_end())
}

/// `/graphql` and `/graphql/ws`.
pub(crate) fn routes() -> Router<QueryState> {
    Router::new()
        .route("/graphql", get(http::get).post(http::post))
        .route("/graphql/ws", get(socket::handler))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_schema_is_the_schema() {
        let committed = include_str!("../../../schemas/graphql/schema.graphql");
        assert_eq!(super::sdl(), committed, "run `weft schemas`, and commit what it writes");
    }
}
