//! Who calls, for which tenant, with which permissions, under which request id and trace.

use std::sync::Arc;

use axum::extract::{FromRef, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::problem::Problem;
use crate::clock::Clock;
use crate::config::StaticToken;
use crate::telemetry::continue_traceparent;

/// The header under which a request's id comes and goes.
pub const REQUEST_ID: &str = "x-request-id";

/// What a caller may do; the check is one line per command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    AccountRead,
    AccountManage,
    AccountOperate,
    MessageRead,
    MessageSend,
    /// Sees phones, e-mails and names unmasked.
    PersonalDataRead,
    MonitorRead,
}

/// An authenticated call.
#[derive(Clone, Debug)]
pub struct CallContext {
    pub tenant_id: Uuid,
    /// Who: a user's or key's id; never a name.
    pub actor: String,
    pub request_id: String,
    pub traceparent: String,
    all_permissions: bool,
}

impl CallContext {
    /// Fails with 403 unless the caller holds `permission`.
    pub fn require(&self, permission: Permission) -> Result<(), Problem> {
        if self.holds(permission) {
            return Ok(());
        }
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "permission.denied",
            format!("{permission:?} is needed for this"),
        ))
    }

    pub const fn holds(&self, _: Permission) -> bool {
        self.all_permissions
    }

    /// Fails with 403 when a `tenant_id` in body or query is not the token's.
    pub fn require_tenant(&self, given: Option<Uuid>) -> Result<(), Problem> {
        match given {
            Some(given) if given != self.tenant_id => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "tenant.mismatch",
                "tenant_id is not the token's tenant",
            )),
            _ => Ok(()),
        }
    }
}

/// Knows the tokens. Static ones until identity lands.
#[derive(Clone, Debug)]
pub struct Authenticator {
    tokens: Arc<[StaticToken]>,
}

impl Authenticator {
    pub fn new(tokens: &[StaticToken]) -> Self {
        Self { tokens: tokens.into() }
    }

    /// The call that `headers` authenticate. Looks at every token, in constant time each.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<CallContext, Problem> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = values.next() else {
            return Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "auth.required",
                "send Authorization: Bearer <token>",
            ));
        };
        // Whoever stands before us may have looked at the other one.
        if values.next().is_some() {
            return Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "auth.invalid",
                "send one Authorization header, not several",
            ));
        }
        let value = value.to_str().unwrap_or_default();
        let mut call = self.authenticate_bearer(value)?;
        if let Some(id) = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()) {
            id.clone_into(&mut call.request_id);
        }
        call.traceparent = continue_traceparent(headers.get("traceparent").and_then(|value| value.to_str().ok()));
        Ok(call)
    }

    /// The call of an `Authorization` value, such as a subscription's `connection_init` brings.
    pub fn authenticate_bearer(&self, value: &str) -> Result<CallContext, Problem> {
        let invalid = || {
            Problem::new(
                StatusCode::UNAUTHORIZED,
                "auth.invalid",
                "the bearer token is not known",
            )
        };
        let (scheme, token) = value.split_once(' ').ok_or_else(invalid)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(invalid());
        }
        let token = token.trim().as_bytes();
        let mut found = None;
        for known in self.tokens.iter() {
            if bool::from(known.token.expose().as_bytes().ct_eq(token)) {
                found = Some(known);
            }
        }
        let known = found.ok_or_else(invalid)?;
        Ok(CallContext {
            tenant_id: known.tenant_id,
            actor: format!("static:{}", known.tenant_id),
            request_id: String::new(),
            traceparent: continue_traceparent(None),
            all_permissions: known.role == "admin",
        })
    }
}

impl<S> FromRequestParts<S> for CallContext
where
    Authenticator: FromRef<S>,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Authenticator::from_ref(state).authenticate(&parts.headers)
    }
}

/// Middleware: gives every request an id (the caller's if it is 1–128 of `[A-Za-z0-9._-]`, else ours), returns it as
/// `X-Request-Id`, and names it in problems.
pub async fn request_context(clock: Clock, mut request: Request, next: Next) -> Response {
    let given = request
        .headers()
        .get(REQUEST_ID)
        .and_then(|id| id.to_str().ok())
        .filter(|id| is_request_id(id));
    let id = given.map_or_else(|| clock.new_id().to_string(), str::to_owned);
    let value = HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("invalid"));
    request.headers_mut().insert(REQUEST_ID, value.clone());
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let mut named = problem.respond(Some(&id));
        for (name, value) in response.headers() {
            if !named.headers().contains_key(name) && name != header::CONTENT_LENGTH {
                named.headers_mut().insert(name.clone(), value.clone());
            }
        }
        response = named;
    }
    response.headers_mut().insert(REQUEST_ID, value);
    response
}

fn is_request_id(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AuthSection;

    #[test]
    fn one_authorization_header_is_taken_and_no_second_beside_it() {
        let tokens = AuthSection::default();
        let authenticator = Authenticator::new(&tokens.r#static);
        let mut headers = HeaderMap::new();
        headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer dev-token-a"));
        assert!(authenticator.authenticate(&headers).is_ok());
        headers.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer dev-token-b"));
        let problem = authenticator.authenticate(&headers).unwrap_err();
        assert_eq!(
            (problem.status, problem.code),
            (StatusCode::UNAUTHORIZED, "auth.invalid")
        );
    }
}
