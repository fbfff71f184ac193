//! What the contracts of all reads have in common.

use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{OpenApi, Ref, RefOr, Required, Response, ResponseBuilder};

/// Refusals of every read.
const REFUSALS: [(&str, &str); 6] = [
    ("400", "consistency.token_malformed"),
    ("401", "auth.required, auth.invalid"),
    ("403", "permission.denied, tenant.mismatch"),
    ("422", "request.invalid"),
    ("500", "internal"),
    ("503", "view.unavailable, view.behind, request.timeout"),
];

/// Adds them. The schema `Problem` comes with the commands' contract, which this one is merged into.
pub(super) fn complete(api: &mut OpenApi) {
    let components = api.components.get_or_insert_default();
    components.add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    for (path, item) in &mut api.paths.paths {
        let Some(get) = &mut item.get else { continue };
        parameter(
            get,
            "Weft-Consistency",
            "One token of a command, or several, comma-separated: what the answer must show",
        );
        parameter(
            get,
            "Prefer",
            "`handling=strict`: 503 where the view is behind the token; `wait=N`: at most N seconds",
        );
        for (status, codes) in REFUSALS {
            let responses = &mut get.responses.responses;
            responses
                .entry(status.to_owned())
                .or_insert_with(|| RefOr::T(Response::new(codes)));
        }
        let has_version = path.ends_with("{id}") || path.ends_with("{id}/status");
        for (status, response) in &mut get.responses.responses {
            let RefOr::T(response) = response else { continue };
            if status.as_str() >= "400" {
                *response = as_problem(&response.description);
                continue;
            }
            if has_version {
                header(response, "ETag", "The view's version of the stream");
            }
            header(
                response,
                "Weft-Consistency-Met",
                "Whether the answer shows what the token names",
            );
            header(response, "X-Request-Id", "The caller's, or one of ours");
        }
    }
}

fn parameter(operation: &mut Operation, name: &str, description: &str) {
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build();
    operation.parameters.get_or_insert_default().push(RefOr::T(parameter));
}

fn header(response: &mut Response, name: &str, description: &str) {
    let header = HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .description(Some(description))
        .build();
    response.headers.insert(name.to_owned(), RefOr::T(header));
}

fn as_problem(codes: &str) -> Response {
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("Problem")))
        .build();
    ResponseBuilder::new()
        .description(codes)
        .content("application/problem+json", content)
        .build()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_contract_is_as_reviewed() {
        insta::assert_json_snapshot!("openapi", crate::openapi());
    }
}
