//! Status × command: what a table written by hand expects, and what `decide` does.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use cqrs_es::test::TestFramework;

use crate::LogAggregate;

/// How an aggregate's outcomes are worded in a matrix.
pub(crate) trait Worded: LogAggregate<Services = ()> {
    /// `none` before the first event.
    fn status_word(&self) -> &'static str;
    fn event_words(event: &Self::Event) -> String;
    fn error_word(error: &Self::Error) -> &'static str;
}

/// A history that a command may meet. Its name is the status, or the status, a colon and what is special about it.
pub(crate) struct Situation<A: LogAggregate> {
    pub(crate) name: &'static str,
    pub(crate) history: Vec<A::Event>,
    /// When the command comes.
    pub(crate) now: DateTime<Utc>,
}

impl<A: LogAggregate> Situation<A> {
    pub(crate) fn status(&self) -> &'static str {
        self.name.split(':').next().unwrap()
    }

    pub(crate) fn state(&self) -> A {
        fold(self.history.iter().cloned())
    }
}

/// A command as the matrix asks it. Its name is the command's, or that and a variant in brackets.
pub(crate) struct Case<C> {
    pub(crate) name: &'static str,
    pub(crate) ask: fn(DateTime<Utc>) -> C,
}

pub(crate) fn fold<A: LogAggregate>(events: impl IntoIterator<Item = A::Event>) -> A {
    let mut state = A::default();
    for event in events {
        state.apply(event);
    }
    state
}

/// `EventName → status`, `EventName` where the status stays, `–` where nothing happens, `✗ reason` where it is refused.
pub(crate) fn outcome<A: Worded>(situation: &Situation<A>, command: A::Command) -> String {
    let before = situation.state();
    let framework = TestFramework::<A>::with(()).given(situation.history.clone());
    match framework.when(command).inspect_result() {
        Err(error) => format!("✗ {}", A::error_word(&error)),
        Ok(events) if events.is_empty() => "–".to_owned(),
        Ok(events) => {
            let mut words = events.iter().map(A::event_words).collect::<Vec<_>>().join(" + ");
            let after: A = fold(situation.history.iter().cloned().chain(events));
            if after.status_word() != before.status_word() {
                words.push_str(" → ");
                words.push_str(after.status_word());
            }
            words
        }
    }
}

/// What `decide` does in every cell, by (case, situation).
pub(crate) fn actual<A: Worded>(
    situations: &[Situation<A>],
    cases: &[Case<A::Command>],
) -> BTreeMap<(&'static str, &'static str), String> {
    let mut cells = BTreeMap::new();
    for case in cases {
        for situation in situations {
            let cell = outcome(situation, (case.ask)(situation.now));
            cells.insert((case.name, situation.name), cell);
        }
    }
    cells
}

/// Reads a table written by hand. A line is `case | situations | outcome`; `all` is every situation but `none`; a
/// status stands for all its situations; a later line overrules earlier ones. What no line names is `otherwise`, and
/// `✗ not_found` for `none`.
pub(crate) fn expected<A: LogAggregate>(
    table: &str,
    otherwise: &str,
    situations: &[Situation<A>],
    cases: &[Case<A::Command>],
) -> BTreeMap<(&'static str, &'static str), String> {
    let mut cells = BTreeMap::new();
    for case in cases {
        for situation in situations {
            let default = if situation.name == "none" {
                "✗ not_found"
            } else {
                otherwise
            };
            cells.insert((case.name, situation.name), default.to_owned());
        }
    }
    for line in table.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let [case, named, outcome] = line.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("not `case | situations | outcome`: {line}");
        };
        let case = cases
            .iter()
            .find(|known| known.name == case)
            .unwrap_or_else(|| panic!("no such case: {line}"));
        for name in named.split_whitespace() {
            let mut found = false;
            for situation in situations {
                let meant = name == situation.name
                    || (name == situation.status())
                    || (name == "all" && situation.name != "none");
                if meant {
                    found = true;
                    cells.insert((case.name, situation.name), outcome.to_owned());
                }
            }
            assert!(found, "no such situation `{name}`: {line}");
        }
    }
    cells
}

/// Fails with every cell that differs.
pub(crate) fn assert_same(
    expected: &BTreeMap<(&'static str, &'static str), String>,
    actual: &BTreeMap<(&'static str, &'static str), String>,
) {
    assert_eq!(expected.keys().collect::<Vec<_>>(), actual.keys().collect::<Vec<_>>());
    let wrong: Vec<String> = expected
        .iter()
        .filter(|(cell, wanted)| actual[cell] != **wanted)
        .map(|(cell, wanted)| format!("{} in {}: expected `{wanted}`, got `{}`", cell.0, cell.1, actual[cell]))
        .collect();
    assert!(wrong.is_empty(), "{} cells differ:\n{}", wrong.len(), wrong.join("\n"));
}
