//! Commands to an account.

pub(crate) mod answer;
pub(crate) mod cancel_login;
mod config;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod disable;
pub(crate) mod enable;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod qrcode;
pub(crate) mod update;
pub(crate) mod verify_login;

use weft_platform::http::Node;

/// `+?[0-9 -]{5,20}`
fn phone(node: Node) -> Option<String> {
    node.format("5 to 20 digits, spaces or hyphens, after an optional +", |text| {
        let digits = text.strip_prefix('+').unwrap_or(text);
        (5..=20).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit() || b == b' ' || b == b'-')
    })
}

/// At most 254 characters with one `@` between something visible.
fn email(node: Node) -> Option<String> {
    node.format("an e-mail address of at most 254 characters", |text| {
        let mut parts = text.split('@');
        let filled = |part: Option<&str>| part.is_some_and(|part| !part.is_empty());
        text.chars().count() <= 254
            && !text.chars().any(|c| c.is_whitespace() || c.is_control())
            && filled(parts.next())
            && filled(parts.next())
            && parts.next().is_none()
    })
}

fn account_name(node: Node) -> Option<String> {
    node.line(1..=100)
}

fn user_id(node: Node) -> Option<String> {
    node.line(1..=255)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use weft_platform::http::read_object;

    use super::*;

    fn takes(text: &str, read: fn(Node) -> Option<String>) -> bool {
        read_object(json!({"x": Value::from(text)}), |body| body.required("x", read)).is_ok()
    }

    #[test]
    fn a_name_holds_nothing_that_a_terminal_or_a_log_obeys() {
        assert!(takes("华东客服 一号", account_name));
        for bad in ["a\nb", "a\r", "\u{1b}[31m", "\t", "\u{7f}"] {
            assert!(!takes(bad, account_name) && !takes(bad, user_id), "{bad:?}");
        }
    }

    #[test]
    fn a_phone_number_is_digits_spaces_and_hyphens() {
        for good in [
            "13800",
            "+86 138-0013-8000",
            "01234567890123456789",
            "+01234567890123456789",
        ] {
            assert!(takes(good, phone), "{good}");
        }
        for bad in ["1380", "012345678901234567890", "++12345", "12345x", "１２３４５", ""] {
            assert!(!takes(bad, phone), "{bad}");
        }
    }

    #[test]
    fn an_email_address_has_one_at_sign() {
        assert!(takes("li.lei@example.cn", email));
        for bad in ["li.lei", "@example.cn", "li@", "a@b@c", "li lei@example.cn", ""] {
            assert!(!takes(bad, email), "{bad}");
        }
        assert!(takes(&format!("{}@b", "a".repeat(252)), email));
        assert!(!takes(&format!("{}@b", "a".repeat(253)), email));
    }
}
