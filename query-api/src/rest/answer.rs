//! What answers and path ids have in common.

use axum::Json;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use weft_platform::http::QueryParams;

use crate::views::page::{NumberedPage, Total};

/// An answer about one resource: its version is the ETag.
pub(super) fn one<T: Serialize>(version: i64, body: &T) -> Response {
    let mut response = Json(body).into_response();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// The numbers of a list's answer, beside its items.
#[derive(Clone, Copy, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct PageNumbers {
    /// Counted to 10,000.
    total: i64,
    page: i64,
    size: i64,
    /// There are more than `total`.
    total_is_capped: bool,
}

impl PageNumbers {
    pub(super) const fn new(page: NumberedPage, total: Total) -> Self {
        Self {
            total: total.count,
            page: page.page,
            size: page.size,
            total_is_capped: total.is_capped,
        }
    }
}

/// Takes `page` and `size`.
pub(super) fn page_of(params: &mut QueryParams) -> NumberedPage {
    NumberedPage {
        page: params.integer("page", 1..=i64::MAX).unwrap_or(1),
        size: params.integer("size", 1..=100).unwrap_or(20),
    }
}

/// Takes `sort`, one of `known`; the first is the default.
pub(super) fn sort_of<T: Copy>(params: &mut QueryParams, known: &[(&str, T)]) -> Option<T> {
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    params.parsed(
        "sort",
        "out_of_range",
        &format!("one of {}", names.join(", ")),
        |text| known.iter().find(|(name, _)| *name == text).map(|(_, sort)| *sort),
    )
}
