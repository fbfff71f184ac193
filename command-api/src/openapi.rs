//! The routes with their contract, and what every operation's contract has in common.

use axum::extract::DefaultBodyLimit;
use serde::Serialize;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Info, OpenApi, OpenApiBuilder, Ref, RefOr, Required, Response, ResponseBuilder};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::CommandState;
use crate::{accounts, callbacks, messages};

/// RFC 9457, with a stable code.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem, example = json!({
    "type": "/problems/account.wrong_status",
    "title": "The account's status does not allow this",
    "status": 409,
    "detail": "not possible while the account is disabled; now you can: enable or delete it",
    "code": "account.wrong_status",
    "instance": "/requests/0193f1a2-7b3c-7d4e-8f50-6172839405a6",
}))]
struct ProblemForm {
    /// `/problems/<code>`, a page about it.
    r#type: String,
    title: String,
    status: u16,
    detail: String,
    /// Stable, dotted.
    code: String,
    /// `/requests/<request id>`
    instance: String,
    /// Everything that is wrong with the request, for `request.invalid`.
    errors: Option<Vec<FieldErrorForm>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = FieldError)]
struct FieldErrorForm {
    /// JSON Pointer into the body, or `?name` for a query parameter.
    pointer: String,
    code: String,
    detail: String,
}

/// Every command and the callback ingress.
pub(crate) fn routes() -> OpenApiRouter<CommandState> {
    let info = Info::new("Weft", env!("CARGO_PKG_VERSION"));
    let mut router = OpenApiRouter::with_openapi(OpenApiBuilder::new().info(info).build())
        .routes(routes!(accounts::create::handler))
        .routes(routes!(accounts::update::handler, accounts::delete::handler))
        .routes(routes!(accounts::login::handler))
        .routes(routes!(accounts::qrcode::handler))
        .routes(routes!(accounts::verify_login::handler))
        .routes(routes!(accounts::cancel_login::handler))
        .routes(routes!(accounts::logout::handler))
        .routes(routes!(accounts::disable::handler))
        .routes(routes!(accounts::enable::handler))
        .routes(routes!(messages::send::handler))
        .routes(routes!(messages::batch_send::handler))
        .routes(routes!(messages::cancel::handler))
        .routes(routes!(messages::resolve::handler))
        .routes(routes!(callbacks::instance::handler))
        // Each route reads its body itself, with the limit of its own.
        .layer(DefaultBodyLimit::disable());
    complete(router.get_openapi_mut());
    router
}

/// Adds what all operations share.
fn complete(api: &mut OpenApi) {
    let components = api.components.get_or_insert_default();
    components.add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    let mut schemas = Vec::new();
    ProblemForm::schemas(&mut schemas);
    schemas.push((ProblemForm::name().into_owned(), ProblemForm::schema()));
    components.schemas.extend(schemas);
    for (path, item) in &mut api.paths.paths {
        let on_one = path.contains("{id}");
        if path.contains("/callbacks/") {
            // WeCom calls it: no token, no conventions of ours.
            if let Some(operation) = &mut item.post {
                refusals(operation, &[("413", "request.too_large")]);
            }
            continue;
        }
        if let Some(get) = &mut item.get {
            refusals(get, &[("422", "request.invalid")]);
            refusals(get, CALL);
        }
        if let Some(post) = &mut item.post {
            parameter(
                post,
                "Idempotency-Key",
                "1 to 255 visible ASCII characters; a repeated request gets the first one's answer",
            );
            refusals(
                post,
                &[
                    ("400", "request.malformed, idempotency.key_malformed"),
                    ("422", "request.invalid, idempotency.key_reused"),
                ],
            );
        }
        for change in [&mut item.post, &mut item.put, &mut item.delete].into_iter().flatten() {
            if on_one {
                parameter(
                    change,
                    "If-Match",
                    "The version that must be the present one, as an ETag had it, or *",
                );
                refusals(change, &[("412", "version.mismatch")]);
            }
            success_headers(change);
            refusals(change, COMMAND);
            refusals(change, CALL);
        }
    }
}

/// Refusals of every call with a token.
const CALL: &[(&str, &str)] = &[("401", "auth.required, auth.invalid"), ("403", "permission.denied")];

/// Refusals of every command.
const COMMAND: &[(&str, &str)] = &[
    ("400", "request.malformed"),
    ("413", "request.too_large"),
    ("415", "request.media_type"),
    ("422", "request.invalid"),
];

/// Refusals of everything.
const ALWAYS: &[(&str, &str)] = &[
    ("500", "internal"),
    ("503", "log.unavailable, log.contended, request.timeout"),
];

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

fn success_headers(operation: &mut Operation) {
    let headers = [
        ("ETag", "The stream's version"),
        ("Weft-Consistency", "Send it with a read that must show this change"),
        ("X-Request-Id", "The caller's, or one of ours"),
        (
            "Idempotent-Replayed",
            "`true` when an earlier request's answer is repeated",
        ),
    ];
    // A batch changes several resources: it has no version.
    let is_batch = operation.operation_id.as_deref() == Some("send_messages");
    for (_, response) in operation
        .responses
        .responses
        .iter_mut()
        .filter(|(status, _)| status.starts_with('2'))
    {
        let RefOr::T(response) = response else { continue };
        for (name, description) in headers.into_iter().skip(usize::from(is_batch)) {
            let header = HeaderBuilder::new()
                .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
                .description(Some(description))
                .build();
            response.headers.insert(name.to_owned(), RefOr::T(header));
        }
    }
}

/// Adds the refusals that the operation does not name itself; all of them are problems.
fn refusals(operation: &mut Operation, shared: &[(&str, &str)]) {
    let responses = &mut operation.responses.responses;
    for (status, codes) in shared.iter().chain(ALWAYS) {
        responses
            .entry((*status).to_owned())
            .or_insert_with(|| RefOr::T(Response::new(*codes)));
    }
    for (_, response) in responses.iter_mut().filter(|(status, _)| status.as_str() >= "400") {
        if let RefOr::T(response) = response {
            *response = as_problem(&response.description);
        }
    }
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
    use crate::openapi;

    #[test]
    fn every_command_says_how_it_refuses() {
        for (path, item) in openapi().paths.paths {
            for operation in [item.post, item.put, item.delete].into_iter().flatten() {
                let statuses: Vec<&str> = operation.responses.responses.keys().map(String::as_str).collect();
                let expected: &[&str] = if path.contains("/callbacks/") {
                    &["200", "404", "413", "500", "503"]
                } else {
                    &["400", "401", "403", "409", "413", "415", "422", "500", "503"]
                };
                assert!(
                    expected.iter().all(|status| statuses.contains(status)),
                    "{path}: {statuses:?}"
                );
                assert_eq!(statuses.contains(&"412"), path.contains("{id}"), "{path}");
            }
        }
    }

    #[test]
    fn every_reference_has_its_schema() {
        let text = openapi().to_json().unwrap();
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }
}
