//! `examples/messages.csv` holds what its README promises.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use weft_domain::WecomConversationId;
use weft_domain::message::{MessageContent, MessageType};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/messages.csv");
const README: &str = include_str!("../../../examples/README.md");

#[derive(Deserialize)]
struct Row {
    reference: String,
    account_name: String,
    conversation_id: String,
    message_type: String,
    content: String,
    priority: Option<u8>,
    send_after_seconds: Option<u32>,
}

fn rows() -> Vec<Row> {
    let mut reader = csv::Reader::from_path(FILE).expect("the file is there");
    reader
        .deserialize()
        .map(|row| row.expect("a row of the file"))
        .collect()
}

impl Row {
    /// What the API will take it for; `None` when it will refuse it.
    fn kind(&self) -> Option<MessageType> {
        self.conversation_id.parse::<WecomConversationId>().ok()?;
        let kind = MessageType::parse(&self.message_type)?;
        let content = serde_json::from_str(&self.content).ok()?;
        MessageContent::from_value(kind, content).ok().map(|_| kind)
    }

    /// The simulator's rules of refusal.
    fn is_refused_by_wecom(&self) -> bool {
        let id = self.conversation_id.as_str();
        id[2..].starts_with('0') || id.starts_with("S:9")
    }
}

fn references<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<&'a str> {
    rows.map(|row| row.reference.as_str()).collect()
}

#[test]
fn the_rows_are_as_many_and_as_various_as_the_readme_says() {
    let rows = rows();
    assert_eq!(rows.len(), 300);
    let unique: BTreeSet<_> = references(rows.iter()).into_iter().collect();
    assert_eq!(unique.len(), 300);
    assert_eq!(
        rows.iter().map(|row| &row.account_name).collect::<BTreeSet<_>>().len(),
        3
    );

    let mut kinds = BTreeMap::new();
    for kind in rows.iter().filter_map(Row::kind) {
        *kinds.entry(kind.as_str()).or_insert(0) += 1;
    }
    assert_eq!(kinds.len(), MessageType::ALL.len());
    assert!(kinds.values().all(|count| *count >= 15), "{kinds:?}");
    for prefix in ["S:", "R:"] {
        assert!(
            rows.iter()
                .filter(|row| row.conversation_id.starts_with(prefix))
                .count()
                >= 80,
            "{prefix}"
        );
    }
    assert!(
        rows.iter()
            .filter_map(|row| row.priority)
            .all(|priority| (1..=10).contains(&priority))
    );
    for row in rows.iter().filter(|row| row.kind() == Some(MessageType::At)) {
        assert!(row.conversation_id.starts_with("R:"), "{}", row.reference);
    }
}

#[test]
fn three_rows_are_malformed_five_will_be_refused_and_two_are_planned() {
    let rows = rows();
    let malformed = references(rows.iter().filter(|row| row.kind().is_none()));
    let refused = references(
        rows.iter()
            .filter(|row| row.kind().is_some() && row.is_refused_by_wecom()),
    );
    let planned = references(rows.iter().filter(|row| row.send_after_seconds.is_some()));
    assert_eq!((malformed.len(), refused.len(), planned.len()), (3, 5, 2));
    assert!(
        rows.iter()
            .filter_map(|row| row.send_after_seconds)
            .all(|seconds| (1..=15).contains(&seconds))
    );
    for reference in [malformed, refused, planned].concat() {
        assert!(
            README.contains(&format!("`{reference}`")),
            "examples/README.md does not name {reference}"
        );
    }
}
