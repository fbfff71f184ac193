//! The demo's last word: one table.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::Table;

use super::compare::Verdict;
use super::send::{Outcome, SentRow};

/// Differences shown at most.
const SHOWN: usize = 20;

pub(super) fn print(sent: &[SentRow], verdict: &Verdict, elapsed: Duration) {
    let mut accepted = 0_usize;
    let mut replayed = 0_usize;
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    let mut statuses: BTreeMap<&str, usize> = BTreeMap::new();
    let mut failed: BTreeMap<String, usize> = BTreeMap::new();
    let mut read = 0_usize;
    for row in sent {
        match &row.outcome {
            Outcome::Accepted {
                message_id,
                replayed: again,
            } => {
                accepted += 1;
                replayed += usize::from(*again);
                if let Some(told) = verdict.log.get(message_id) {
                    *statuses.entry(told.status.as_str()).or_default() += 1;
                    read += usize::from(told.read == Some(true));
                    if told.status == "failed" {
                        *failed.entry(told.error_code.clone().unwrap_or_default()).or_default() += 1;
                    }
                }
            }
            Outcome::Refused { code, detail } => *refused.entry(format!("{code}: {detail}")).or_default() += 1,
        }
    }
    let count = |status: &str| statuses.get(status).copied().unwrap_or_default();
    let reasons = |counts: &BTreeMap<String, usize>| {
        counts
            .iter()
            .map(|(reason, n)| format!("{n} × {reason}"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let mut table = Table::new();
    table.set_header(["", "messages", ""]);
    table.add_row(["rows", &sent.len().to_string(), ""]);
    table.add_row([
        "refused by Weft",
        &refused.values().sum::<usize>().to_string(),
        &reasons(&refused),
    ]);
    table.add_row([
        "accepted",
        &accepted.to_string(),
        &format!("{replayed} of them by an earlier run"),
    ]);
    table.add_row(["sent", &(count("sent") + count("delivered")).to_string(), ""]);
    table.add_row(["delivered", &count("delivered").to_string(), ""]);
    table.add_row(["read", &read.to_string(), ""]);
    table.add_row(["refused by WeCom", &count("failed").to_string(), &reasons(&failed)]);
    table.add_row(["cancelled", &count("cancelled").to_string(), ""]);
    table.add_row(["outcome unknown", &count("unknown").to_string(), ""]);
    outln!("{table}");
    let [log, graphql, clickhouse, ledger] = verdict.counts;
    let mut places = Table::new();
    places.set_header(["log", "GraphQL", "ClickHouse", "sent, by the ledger"]);
    places.add_row([
        log.to_string(),
        graphql.to_string(),
        clickhouse.to_string(),
        ledger.to_string(),
    ]);
    outln!("{places}");
    let rate = accepted as f64 / elapsed.as_secs_f64().max(0.001);
    outln!(
        "{accepted} messages in {:.1} s, {rate:.0} a second from acceptance to end",
        elapsed.as_secs_f64()
    );
    if verdict.differences.is_empty() {
        outln!("All four tell the same, message by message.");
        return;
    }
    outln!("{} differences:", verdict.differences.len());
    for difference in verdict.differences.iter().take(SHOWN) {
        outln!("  {difference}");
    }
}
