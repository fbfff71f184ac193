//! What a command's request says beside its body: who calls, which version it expects, under which idempotency key, and
//! which account or message its path names.

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use uuid::Uuid;
use weft_domain::{AccountId, ActorType, MessageId, Metadata, TenantId};
use weft_log_writer::{CallOptions, Idempotency, IfMatch};
use weft_platform::http::{CallContext, Permission, Problem, QueryParams, malformed, parse_uuid};

use crate::admission::Admitted;
use crate::refusal::{account_not_found, message_not_found, overloaded};
use crate::state::CommandState;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const MAX_KEY_LENGTH: usize = 255;

/// An authenticated command.
#[derive(Debug)]
pub(crate) struct CommandCall {
    pub(crate) context: CallContext,
    if_match: IfMatch,
    idempotency_key: Option<String>,
    /// Method and path as the router has it, and as it came: the scope of the key.
    route: String,
    path: String,
    _admitted: Admitted,
}

impl FromRequestParts<CommandState> for CommandCall {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &CommandState) -> Result<Self, Problem> {
        // What cannot be taken is refused before it costs anything: its body is not read.
        let admitted = state.admission.enter().ok_or_else(overloaded)?;
        let context = state.authenticator.authenticate(&parts.headers)?;
        let tenant_id = TenantId(context.tenant_id);
        if state.executor(tenant_id).is_overloaded(tenant_id) {
            return Err(overloaded());
        }
        // No command has query parameters: one that was meant for the body must not go unnoticed.
        QueryParams::parse(parts.uri.query()).finish()?;
        let matched = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        Ok(Self {
            context,
            if_match: if_match(&parts.headers)?,
            idempotency_key: idempotency_key(&parts.headers)?,
            route: format!("{} {matched}", parts.method),
            path: parts.uri.path().to_owned(),
            _admitted: admitted,
        })
    }
}

impl CommandCall {
    pub(crate) fn require(&self, permission: Permission) -> Result<(), Problem> {
        self.context.require(permission)
    }

    pub(crate) const fn tenant_id(&self) -> TenantId {
        TenantId(self.context.tenant_id)
    }

    fn metadata(&self, state: &CommandState) -> Metadata {
        let request_id = self.context.request_id.clone();
        Metadata {
            tenant_id: self.tenant_id(),
            actor: self.context.actor.clone(),
            actor_type: ActorType::User,
            correlation_id: request_id.clone(),
            request_id,
            causation_id: None,
            traceparent: self.context.traceparent.clone(),
            occurred_at: state.clock.now(),
        }
    }

    /// For a change of one resource that is no POST.
    pub(crate) fn options(&self, state: &CommandState) -> CallOptions {
        CallOptions {
            if_match: self.if_match,
            ..CallOptions::new(self.metadata(state))
        }
    }

    /// For a POST to one resource: with the idempotency key.
    pub(crate) fn post_options(&self, state: &CommandState, body: &[u8]) -> CallOptions {
        CallOptions {
            idempotency: self.idempotency(state, body),
            ..self.options(state)
        }
    }

    /// For a POST that creates, whose resource has no version to match yet.
    pub(crate) fn create_options(&self, state: &CommandState, body: &[u8]) -> CallOptions {
        CallOptions {
            if_match: IfMatch::None,
            ..self.post_options(state, body)
        }
    }

    fn idempotency(&self, state: &CommandState, body: &[u8]) -> Option<Idempotency> {
        let key = self.idempotency_key.as_deref()?;
        let tenant_id = self.context.tenant_id.to_string();
        let scope = [tenant_id.as_str(), &self.context.actor, &self.route, &self.path];
        Some(Idempotency::new(state.keys(), &scope, key, body))
    }
}

/// One strong tag or `*`.
fn if_match(headers: &HeaderMap) -> Result<IfMatch, Problem> {
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let Some(value) = values.next() else {
        return Ok(IfMatch::None);
    };
    let wrong = || malformed("If-Match must be one strong entity tag such as \"3\", or *");
    let text = value.to_str().map_err(|_| wrong())?.trim();
    if values.next().is_some() {
        return Err(wrong());
    }
    if text == "*" {
        return Ok(IfMatch::Any);
    }
    let tag = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .ok_or_else(wrong)?;
    if tag.contains(['"', ' ', ',']) {
        return Err(wrong());
    }
    // A tag that no answer of ours carried matches no version.
    let version = tag.parse::<i64>().ok().filter(|version| version.to_string() == tag);
    Ok(IfMatch::Version(version.unwrap_or(-1)))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let valid = (1..=MAX_KEY_LENGTH).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic);
    match value.to_str() {
        Ok(key) if valid && values.next().is_none() => Ok(Some(key.to_owned())),
        _ => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "idempotency.key_malformed",
            "Idempotency-Key must be sent once and have 1 to 255 visible ASCII characters",
        )),
    }
}

/// The account that the path names; what is no UUID is no account.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AccountPath(pub(crate) AccountId);

impl FromRequestParts<CommandState> for AccountPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &CommandState) -> Result<Self, Problem> {
        let id = path_id(parts, state).await.ok_or_else(account_not_found)?;
        Ok(Self(AccountId(id)))
    }
}

/// The message that the path names; what is no UUID is no message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessagePath(pub(crate) MessageId);

impl FromRequestParts<CommandState> for MessagePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &CommandState) -> Result<Self, Problem> {
        let id = path_id(parts, state).await.ok_or_else(message_not_found)?;
        Ok(Self(MessageId(id)))
    }
}

async fn path_id(parts: &mut Parts, state: &CommandState) -> Option<Uuid> {
    let params = RawPathParams::from_request_parts(parts, state).await.ok()?;
    params
        .iter()
        .find(|(name, _)| *name == "id")
        .and_then(|(_, id)| parse_uuid(id))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn matched(values: &[&'static str]) -> Option<IfMatch> {
        let values = values
            .iter()
            .map(|value| (header::IF_MATCH, HeaderValue::from_static(value)));
        if_match(&values.collect()).ok()
    }

    #[test]
    fn if_match_is_one_strong_tag_or_a_star() {
        assert_eq!(matched(&[]), Some(IfMatch::None));
        assert_eq!(matched(&["*"]), Some(IfMatch::Any));
        assert_eq!(matched(&["\"12\""]), Some(IfMatch::Version(12)));
        for wrong in ["", "12", "W/\"12\"", "\"1\", \"2\"", "\"1", "\"1\"2\"", "**"] {
            assert_eq!(matched(&[wrong]), None, "{wrong}");
        }
        assert_eq!(matched(&["\"1\"", "\"2\""]), None);
    }

    #[test]
    fn a_tag_that_was_never_given_out_matches_nothing() {
        for tag in ["\"abc\"", "\"01\"", "\"+1\"", "\"\"", "\"99999999999999999999\""] {
            assert_eq!(matched(&[tag]), Some(IfMatch::Version(-1)), "{tag}");
        }
    }

    #[test]
    fn an_idempotency_key_is_visible_ascii() {
        let key = |bytes: &[u8]| {
            let value = HeaderValue::from_bytes(bytes).unwrap();
            idempotency_key(&HeaderMap::from_iter([(IDEMPOTENCY_KEY, value)]))
        };
        assert_eq!(key(b"a-1").unwrap().as_deref(), Some("a-1"));
        assert!(key(&[b'x'; 255]).is_ok());
        for wrong in [b"".as_slice(), b"a b", b"a\tb", "é".as_bytes(), &[b'x'; 256]] {
            assert_eq!(key(wrong).unwrap_err().code, "idempotency.key_malformed");
        }
    }
}
