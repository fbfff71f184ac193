//! Reading what the answers' `data` carries, in the shapes that vendors give it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::gateway::{CdnFile, CorpInfo, SessionPage};
use crate::lenient::{as_integer, first_text, integer, text, texts};

/// `data: "<guid>"` or `data.guid`.
pub(super) fn guid(data: &Value) -> Option<String> {
    let guid = match data {
        Value::String(guid) => guid.clone(),
        Value::Object(fields) => text(fields, "guid"),
        _ => String::new(),
    };
    (!guid.is_empty()).then_some(guid)
}

/// A list of guids, or of objects with one, bare or in a field.
pub(super) fn guids(data: &Value) -> Option<Vec<String>> {
    let list = match data {
        Value::Array(list) => list,
        Value::Object(fields) => ["clients", "guids", "list", "client_list"]
            .iter()
            .find_map(|field| fields.get(*field)?.as_array())?,
        // No clients at all.
        Value::Null => return Some(Vec::new()),
        _ => return None,
    };
    Some(list.iter().filter_map(guid).collect())
}

/// `data.status` or `data` itself.
pub(super) fn status(data: &Value) -> Option<i64> {
    match data {
        Value::Object(fields) => integer(fields, "status"),
        other => as_integer(other),
    }
}

/// A PNG in base64, with or without the prefix of a data URL; `None` for anything else, an address for example.
pub(super) fn png(picture: &str) -> Option<Vec<u8>> {
    let encoded = match picture.split_once("base64,") {
        Some((_, encoded)) => encoded,
        None => picture,
    };
    let bytes = STANDARD.decode(encoded.trim()).ok()?;
    bytes.starts_with(b"\x89PNG\r\n\x1a\n").then_some(bytes)
}

pub(super) fn corp_info(fields: &Map<String, Value>) -> CorpInfo {
    CorpInfo {
        corp_id: text(fields, "corp_id"),
        short_name: first_text(fields, &["corp_short_name", "short_name"]),
        full_name: first_text(fields, &["corp_full_name", "full_name"]),
    }
}

pub(super) fn session_page(fields: &Map<String, Value>) -> Option<SessionPage> {
    fields.get("session_list")?.as_array()?;
    Some(SessionPage {
        conversation_ids: texts(fields, "session_list"),
        next_seq: text(fields, "begin_seq"),
    })
}

pub(super) fn cdn_file(fields: &Map<String, Value>) -> Option<CdnFile> {
    let file = CdnFile {
        file_id: text(fields, "file_id"),
        size: ["file_size", "size"]
            .iter()
            .find_map(|field| integer(fields, field))
            .unwrap_or_default()
            .unsigned_abs(),
        aes_key: text(fields, "aes_key"),
        md5: first_text(fields, &["file_md5", "md5"]),
    };
    (!file.file_id.is_empty()).then_some(file)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_guid_comes_bare_or_in_an_object() {
        assert_eq!(guid(&json!("g-1")).as_deref(), Some("g-1"));
        assert_eq!(guid(&json!({"guid": "g-1"})).as_deref(), Some("g-1"));
        assert_eq!(guid(&json!({"guid": ""})), None);
        assert_eq!(guid(&json!(null)), None);
    }

    #[test]
    fn a_list_of_clients_comes_in_several_shapes() {
        for data in [
            json!(["a", "b"]),
            json!([{"guid": "a"}, {"guid": "b"}]),
            json!({"clients": ["a", "b"]}),
            json!({"list": [{"guid": "a"}, {"guid": "b"}, {"name": "not a client"}]}),
        ] {
            assert_eq!(guids(&data).unwrap(), ["a", "b"], "{data}");
        }
        assert_eq!(guids(&json!(null)).unwrap(), Vec::<String>::new());
        assert_eq!(guids(&json!("a")), None);
    }

    #[test]
    fn a_status_may_be_a_number_or_text() {
        for data in [json!({"status": 2}), json!({"status": "2"}), json!(2), json!("2")] {
            assert_eq!(status(&data), Some(2), "{data}");
        }
        assert_eq!(status(&json!({})), None);
    }

    #[test]
    fn only_a_png_is_a_picture() {
        let bytes = b"\x89PNG\r\n\x1a\nrest";
        let encoded = STANDARD.encode(bytes);
        assert_eq!(png(&encoded).unwrap(), bytes);
        assert_eq!(png(&format!("data:image/png;base64,{encoded}")).unwrap(), bytes);
        assert_eq!(png("https://example.com/code.png"), None);
        assert_eq!(png(&STANDARD.encode(b"GIF89a")), None);
    }
}
