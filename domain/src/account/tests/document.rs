//! `docs/account-states.md` is written from `decide` and kept true.

use std::fmt::Write;

use super::super::{AccountCommand, AccountStatus};
use super::cases::cases;
use super::situations::situations;
use crate::tests::fixtures::at;
use crate::tests::matrix::actual;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/account-states.md");

const HEAD: &str = "\
# What a command does to an account in each status

Written from `domain/src/account/decide.rs` by `WEFT_UPDATE=1 cargo test -p weft-domain document`; a test compares it
with what `decide` does, and another one compares every cell with a table written by hand.

- `Event → status`: what happens and where it leads; without an arrow the status stays.
- `–`: already true; nothing happens, and the caller gets the usual answer.
- `✗`: refused as `wrong_status`, where nothing else is said.
- A command that names a login attempt (the ten from `IssueQrCode` to `TimeOutLogin`) is refused as `login_attempt_over`
  in every status when that is not the newest attempt.
- Before an account's first event every command but `Create` is refused as `not_found`.

";

/// As the table shows an outcome.
fn cell(outcome: &str) -> &str {
    if outcome == "✗ wrong_status" { "✗" } else { outcome }
}

/// The statuses' short forms in the heads of the first table's columns.
fn short(status: AccountStatus) -> &'static str {
    match status {
        AccountStatus::Created => "created",
        AccountStatus::LoggingIn => "logging in",
        AccountStatus::WaitingForQrcodeScan => "waiting: scan",
        AccountStatus::WaitingForConfirmation => "waiting: confirm",
        AccountStatus::WaitingForVerification => "waiting: verify",
        AccountStatus::Online => "online",
        AccountStatus::Error => "error",
        AccountStatus::NetworkError => "network error",
        AccountStatus::AuthError => "auth error",
        AccountStatus::RateLimited => "rate limited",
        AccountStatus::Recovering => "recovering",
        AccountStatus::Offline => "offline",
        AccountStatus::LoggedOut => "logged out",
        AccountStatus::Disabled => "disabled",
        AccountStatus::Deleted => "deleted",
    }
}

fn document() -> String {
    let cells = actual(&situations(), &cases());
    let mut text = HEAD.to_owned();

    text.push_str("## Status × command\n\n| Status |");
    for case in cases() {
        write!(text, " {} |", case.name).unwrap();
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(cases().len()));
    for status in AccountStatus::ALL {
        write!(text, "\n| **{}** |", short(status)).unwrap();
        for case in cases() {
            write!(text, " {} |", cell(&cells[&(case.name, status.as_str())])).unwrap();
        }
    }

    text.push_str(
        "\n\n## Command by command\n\nA colon says what is special about an account of that status.\n\n\
         | Command | In | Outcome |\n|---|---|---|\n",
    );
    for case in cases() {
        for (outcome, statuses) in grouped(|situation| cells[&(case.name, situation)].clone()) {
            writeln!(text, "| {} | {statuses} | {} |", case.name, cell(&outcome)).unwrap();
        }
    }
    text
}

/// Outcomes with where they happen, effects first; the one that happens in most situations comes last, for `every other`.
fn grouped(outcome_in: impl Fn(&'static str) -> String) -> Vec<(String, String)> {
    let mut groups: Vec<(String, Vec<&'static str>)> = Vec::new();
    for situation in situations() {
        let outcome = outcome_in(situation.name);
        if outcome == "✗ not_found" {
            continue;
        }
        match groups.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, names)) => names.push(situation.name),
            None => groups.push((outcome, vec![situation.name])),
        }
    }
    let most = groups.iter().map(|(_, names)| names.len()).max().unwrap_or_default();
    groups.sort_by_key(|(outcome, names)| (names.len() == most, outcome.starts_with('✗'), outcome.starts_with('–')));
    let last = groups.len() - 1;
    let words = |(number, (outcome, names)): (usize, (String, Vec<&str>))| {
        let every_other = number == last && names.len() == most && names.len() > 1;
        let statuses = if every_other {
            "every other".to_owned()
        } else {
            names.join(", ")
        };
        (outcome, statuses)
    };
    groups.into_iter().enumerate().map(words).collect()
}

#[test]
fn the_document_says_what_decide_does() {
    let current = document();
    if std::env::var_os("WEFT_UPDATE").is_some() {
        std::fs::write(PATH, &current).unwrap();
    }
    let landed = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(
        landed == current,
        "docs/account-states.md is out of date: WEFT_UPDATE=1 cargo test -p weft-domain document"
    );
}

#[test]
fn the_documents_head_counts_the_commands_of_an_attempt_right() {
    let mut names: Vec<_> = cases()
        .iter()
        .map(|case| (case.ask)(at(0)))
        .filter(|command| command.attempt().is_some())
        .map(|command| AccountCommand::name(&command))
        .collect();
    names.dedup();
    assert_eq!(names.len(), 10, "{names:?}");
}
