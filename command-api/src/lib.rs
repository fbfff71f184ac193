//! The REST commands: one per file, each from its request to its answer. And the ingress of WeCom's callbacks.

mod accounts;
mod admission;
mod body;
mod call;
mod callbacks;
mod messages;
mod openapi;
mod readiness;
mod refusal;
mod reply;
mod state;
mod timestamp;

use axum::Router;
use utoipa::openapi::OpenApi;

pub use state::CommandState;

/// Every route, and their contract.
pub fn router(state: CommandState) -> (Router, OpenApi) {
    let (router, contract) = openapi::routes().split_for_parts();
    (router.with_state(state), contract)
}

/// The contract of these routes alone.
pub fn openapi() -> OpenApi {
    openapi::routes().split_for_parts().1
}
