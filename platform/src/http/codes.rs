//! Every problem code there is: what it means and what a caller can do about it.

/// One stable code.
pub(super) struct Code {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// Shown on the page `/problems/<code>`.
    pub(super) advice: &'static str,
}

const fn code(name: &'static str, title: &'static str, advice: &'static str) -> Code {
    Code { name, title, advice }
}

const CODES: &[Code] = &[
    code(
        "request.malformed",
        "The request cannot be parsed",
        "The body is no JSON (or names a key twice), or a header has a form that it must not have. The detail says \
         which. Sending the same request again gives the same answer.",
    ),
    code(
        "request.invalid",
        "The request is well-formed but wrong",
        "Every wrong field is listed in `errors`, each with a JSON Pointer into the body (or `?name` for a query \
         parameter), a code and a sentence that says what is allowed.",
    ),
    code(
        "request.too_large",
        "The request or the event is too large",
        "Bodies may have 1 MiB, those of batch-send 8 MiB; what is stored as one event has a limit too.",
    ),
    code(
        "request.media_type",
        "The media type is not supported",
        "Send JSON, uncompressed, with Content-Type: application/json.",
    ),
    code(
        "request.timeout",
        "The request took too long",
        "It is not known whether it had an effect. Repeat a POST with the same Idempotency-Key: it is carried out \
         once, and you get its answer.",
    ),
    code(
        "auth.required",
        "A bearer token is required",
        "Send Authorization: Bearer followed by your token.",
    ),
    code(
        "auth.invalid",
        "The bearer token is not valid",
        "The token is not known, or is no bearer token.",
    ),
    code(
        "permission.denied",
        "The permission is missing",
        "The token is valid, but its role does not hold the permission that this call needs.",
    ),
    code(
        "tenant.mismatch",
        "The tenant is not the token's",
        "A token acts for its own tenant only. Leave tenant_id out, or send your own tenant's id.",
    ),
    code("route.not_found", "There is no such route", "See /docs for all routes."),
    code(
        "route.method",
        "The route does not take this method",
        "The Allow header of the answer lists the methods that it takes.",
    ),
    code(
        "account.not_found",
        "There is no such account",
        "The id is unknown, the account was deleted, or it belongs to another tenant.",
    ),
    code(
        "account.name_taken",
        "Another account of the tenant has this name",
        "Names are unique within a tenant. A deleted account's name may be used again.",
    ),
    code(
        "account.wrong_status",
        "The account's status does not allow this",
        "The detail names the status that the account has now, and what can be done in it.",
    ),
    code(
        "account.no_qrcode",
        "No login code is valid now",
        "Start a login with PUT /api/v1/accounts/{id}/login; a code lives for two minutes.",
    ),
    code(
        "account.login_attempt_over",
        "The login attempt is over",
        "The login_token belongs to an earlier attempt. PUT /api/v1/accounts/{id}/login gives the present one.",
    ),
    code(
        "message.not_found",
        "There is no such message",
        "The id is unknown, or the message belongs to another tenant.",
    ),
    code(
        "message.wrong_status",
        "The message's status does not allow this",
        "The detail names the status that the message has now, and what can be done in it.",
    ),
    code(
        "callback.not_found",
        "There is no such callback address",
        "The token in the path is not one that Weft gave out, or its account was deleted.",
    ),
    code(
        "quota.exceeded",
        "A limit is used up",
        "The detail says which limit it is. A limit of messages a day has room again when Retry-After, the tenant's next \
         day, has come, or when a message planned for that day is cancelled; one of accounts, when an account is deleted.",
    ),
    code(
        "version.mismatch",
        "The resource has changed",
        "The If-Match header names another version than the present one. Read the resource again and decide anew.",
    ),
    code(
        "idempotency.key_malformed",
        "The idempotency key is malformed",
        "An Idempotency-Key has 1 to 255 visible ASCII characters and is sent once.",
    ),
    code(
        "idempotency.key_reused",
        "The idempotency key was used for another body",
        "A key belongs to one request of one route. Use a fresh one for every new request.",
    ),
    code(
        "idempotency.in_progress",
        "The first request with this key is still running",
        "Repeat the request in a moment: you will get the first one's answer.",
    ),
    code(
        "consistency.token_malformed",
        "The consistency token is malformed",
        "Send Weft-Consistency back exactly as you received it.",
    ),
    code(
        "view.behind",
        "The view has not caught up",
        "The read asked for a strict answer and the view did not get there in time. Try again.",
    ),
    code("view.unavailable", "The view cannot be read", "Try again in a moment."),
    code(
        "log.unavailable",
        "The event log cannot be reached",
        "Try again after the seconds that Retry-After names; a POST with the same Idempotency-Key, which is carried out once.",
    ),
    code(
        "log.contended",
        "The resource is changing too fast",
        "Other commands to the same resource kept coming first. Nothing was changed; try again.",
    ),
    code(
        "internal",
        "An error of ours",
        "It was logged under the request's id. Tell your operator that id.",
    ),
];

pub(super) fn find(name: &str) -> Option<&'static Code> {
    CODES.iter().find(|code| code.name == name)
}

/// What a code says in general.
pub fn title(name: &str) -> &'static str {
    find(name).map_or("Problem", |code| code.title)
}

#[cfg(test)]
mod tests {
    use super::CODES;

    #[test]
    fn every_code_is_in_the_document() {
        let document = include_str!("../../../docs/api/problems.md");
        for code in CODES {
            let row = format!("| `{}` | {} | {} |\n", code.name, code.title, code.advice);
            assert!(document.contains(&row), "docs/api/problems.md lacks the row\n{row}");
        }
        assert_eq!(
            document.matches("\n| `").count(),
            CODES.len(),
            "docs/api/problems.md names others"
        );
    }
}
