//! Comparing message contents that travelled by different ways.

use serde_json::Value;

/// A text that is equal for equal contents: a string stands for itself; anything else is written as JSON without white
/// space and with its keys in order, whatever order they came in.
pub fn content_key(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        other => {
            let mut key = String::new();
            write_canonical(other, &mut key);
            key
        }
    }
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| name.as_str());
            out.push('{');
            for (index, (name, field)) in fields.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write_canonical(field, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::content_key;

    #[test]
    fn the_order_of_fields_does_not_matter() {
        let one: Value = serde_json::from_str(r#"{"b":[1,{"y":null,"x":"甲"}],"a":true}"#).unwrap();
        let other: Value = serde_json::from_str(r#"{ "a": true, "b": [1, {"x": "甲", "y": null}] }"#).unwrap();
        assert_eq!(content_key(&one), content_key(&other));
        assert_eq!(content_key(&one), r#"{"a":true,"b":[1,{"x":"甲","y":null}]}"#);
    }

    #[test]
    fn a_text_stands_for_itself() {
        assert_eq!(content_key(&json!("你好 \"Weft\"")), "你好 \"Weft\"");
    }
}
