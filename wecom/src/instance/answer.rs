//! Brings the answers of the protocol's variants into one form.

use serde_json::{Map, Value};

use crate::lenient::{as_integer, first_text};

/// An answer that could be read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) code: i64,
    pub(super) message: String,
    pub(super) data: Value,
}

/// Variants seen: `error_code/error_message`, `err_code/err_msg/hint`, `errcode/errmsg` and `baseResponse.ret/errMsg`.
const CODE_FIELDS: [&str; 3] = ["error_code", "err_code", "errcode"];
const MESSAGE_FIELDS: [&str; 6] = ["error_message", "err_msg", "errmsg", "errMsg", "hint", "message"];

impl Answer {
    /// `None` for what is not JSON, no object, or carries no code: nobody can tell what such an answer means.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(body).ok()?;
        let Value::Object(mut fields) = value else { return None };
        let code = CODE_FIELDS
            .iter()
            .find_map(|field| fields.get(*field).and_then(as_integer));
        let base = ["baseResponse", "base_response"]
            .iter()
            .find_map(|field| fields.get(*field)?.as_object());
        let (code, message) = match (code, base) {
            (Some(code), _) => (code, first_text(&fields, &MESSAGE_FIELDS)),
            (None, Some(base)) => (base.get("ret").and_then(as_integer)?, first_text(base, &MESSAGE_FIELDS)),
            (None, None) => return None,
        };
        let data = fields.remove("data").unwrap_or_default();
        Some(Self { code, message, data })
    }

    /// The data's fields; none where the data is no object.
    pub(super) fn fields(&self) -> Option<&Map<String, Value>> {
        self.data.as_object()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(body: &Value) -> Option<Answer> {
        Answer::read(body.to_string().as_bytes())
    }

    #[test]
    fn every_variant_of_an_error_reads_the_same() {
        let expected = Answer {
            code: -2003,
            message: "bad".to_owned(),
            data: Value::Null,
        };
        for body in [
            json!({"error_code": -2003, "error_message": "bad", "data": null}),
            json!({"error_code": "-2003", "error_message": "bad"}),
            json!({"err_code": -2003, "err_msg": "bad", "hint": "look it up"}),
            json!({"err_code": -2003, "err_msg": "", "hint": "bad"}),
            json!({"errcode": -2003, "errmsg": "bad"}),
            json!({"baseResponse": {"ret": -2003, "errMsg": "bad"}}),
            json!({"base_response": {"ret": "-2003", "err_msg": "bad"}}),
        ] {
            assert_eq!(read(&body).as_ref(), Some(&expected), "{body}");
        }
    }

    #[test]
    fn data_may_be_text_or_object() {
        assert_eq!(
            read(&json!({"error_code": 0, "data": "guid-1"})).unwrap().data,
            json!("guid-1")
        );
        assert_eq!(
            read(&json!({"errcode": 0, "data": {"guid": "guid-1"}}))
                .unwrap()
                .fields()
                .unwrap()
                .len(),
            1
        );
    }

    #[test]
    fn what_carries_no_code_is_no_answer() {
        for body in [
            json!({}),
            json!({"data": {}}),
            json!([]),
            json!("ok"),
            json!({"error_code": "ok"}),
            json!(null),
        ] {
            assert_eq!(read(&body), None, "{body}");
        }
        assert_eq!(Answer::read(b"<html>502 Bad Gateway</html>"), None);
        assert_eq!(Answer::read(b""), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Answer::read(&body);
        }
    }
}
