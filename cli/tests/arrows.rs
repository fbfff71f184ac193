//! Which room may depend on which: the arrows of the architecture, kept by the manifests.

use std::collections::BTreeSet;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// A room and the rooms it may use. What is not here may use nothing, and be used by nobody.
const ROOMS: &[(&str, &[&str])] = &[
    ("weft-platform", &[]),
    ("weft-domain", &[]),
    ("weft-wecom", &["weft-platform"]),
    ("weft-log-reader", &["weft-domain", "weft-platform"]),
    // The event store is one room of two crates: who writes also loads.
    ("weft-log-writer", &["weft-domain", "weft-platform", "weft-log-reader"]),
    ("weft-identity", &["weft-domain", "weft-log-writer", "weft-platform"]),
    (
        "weft-command-api",
        &[
            "weft-domain",
            "weft-log-writer",
            "weft-wecom",
            "weft-identity",
            "weft-platform",
        ],
    ),
    ("weft-projectors", &["weft-domain", "weft-log-reader", "weft-platform"]),
    ("weft-query-api", &["weft-domain", "weft-identity", "weft-platform"]),
    (
        "weft-workers",
        &[
            "weft-domain",
            "weft-log-reader",
            "weft-log-writer",
            "weft-wecom",
            "weft-platform",
        ],
    ),
];

/// They may use every room, and nobody may use them.
const TOPS: &[&str] = &["weft-cli", "weft-bench", "weft-e2e"];

/// What the domain may take from outside: no I/O, no clock, no random. `serde_json` is there for values without a
/// type of ours: what WeCom sends in.
const DOMAIN_CRATES: &[&str] = &["chrono", "cqrs-es", "serde", "serde_json", "thiserror", "uuid"];

/// One `[dependencies]` entry of a crate of ours.
struct Arrow {
    from: String,
    to: String,
}

fn arrow(from: &str, to: &str) -> Arrow {
    Arrow {
        from: from.to_owned(),
        to: to.to_owned(),
    }
}

fn is_ours(name: &str) -> bool {
    name.starts_with("weft-")
}

/// What is wrong with the arrows, one sentence each.
fn wrong(arrows: &[Arrow]) -> Vec<String> {
    let mut wrong = Vec::new();
    for Arrow { from, to } in arrows {
        let room = ROOMS.iter().find(|(room, _)| room == from);
        let allowed = match room {
            _ if TOPS.contains(&to.as_str()) => false,
            None if TOPS.contains(&from.as_str()) => true,
            None => false,
            Some(_) if from == "weft-domain" => DOMAIN_CRATES.contains(&to.as_str()),
            Some((_, may_use)) => !is_ours(to) || may_use.contains(&to.as_str()),
        };
        if !allowed {
            wrong.push(format!("{from} must not depend on {to}"));
        }
    }
    wrong
}

/// Every `[dependencies]` entry of the workspace, or with `kind` those of its tests.
fn arrows(kind: DependencyKind) -> Vec<Arrow> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .expect("cargo knows the workspace");
    let packages = metadata.packages.iter();
    let entries = packages.flat_map(|package| package.dependencies.iter().map(move |entry| (package, entry)));
    entries
        .filter(|(_, entry)| entry.kind == kind)
        .map(|(package, entry)| arrow(&package.name, &entry.name))
        .collect()
}

#[test]
fn every_arrow_points_where_the_architecture_lets_it() {
    let arrows = arrows(DependencyKind::Normal);
    assert!(
        arrows
            .iter()
            .any(|arrow| arrow.from == "weft-cli" && arrow.to == "weft-workers"),
        "nothing was read"
    );
    assert_eq!(wrong(&arrows), [""; 0]);
}

#[test]
fn nothing_depends_on_the_tops_not_even_for_tests() {
    for kind in [DependencyKind::Development, DependencyKind::Build] {
        let onto_tops: Vec<_> = arrows(kind)
            .into_iter()
            .filter(|arrow| TOPS.contains(&arrow.to.as_str()))
            .map(|arrow| arrow.from)
            .collect();
        assert_eq!(onto_tops, [""; 0]);
    }
}

#[test]
fn every_crate_of_the_workspace_has_its_place() {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .expect("cargo knows the workspace");
    let placed: BTreeSet<&str> = ROOMS
        .iter()
        .map(|(room, _)| *room)
        .chain(TOPS.iter().copied())
        .collect();
    let homeless: Vec<_> = metadata
        .packages
        .iter()
        .map(|package| package.name.as_str())
        .filter(|name| !placed.contains(name))
        .collect();
    assert_eq!(homeless, [""; 0], "a new crate needs a line in ROOMS");
}

#[test]
fn planted_wrong_arrows_are_found() {
    for (from, to) in [
        ("weft-query-api", "weft-log-writer"),
        ("weft-query-api", "weft-log-reader"),
        ("weft-projectors", "weft-log-writer"),
        ("weft-command-api", "weft-projectors"),
        ("weft-wecom", "weft-domain"),
        ("weft-platform", "weft-domain"),
        ("weft-domain", "weft-platform"),
        ("weft-domain", "tokio"),
        ("weft-domain", "rand"),
        ("weft-workers", "weft-cli"),
        ("weft-e2e", "weft-bench"),
        ("weft-surprise", "weft-domain"),
    ] {
        assert_eq!(wrong(&[arrow(from, to)]), [format!("{from} must not depend on {to}")]);
    }
    let fine = [
        arrow("weft-cli", "weft-workers"),
        arrow("weft-domain", "serde"),
        arrow("weft-workers", "tokio"),
    ];
    assert_eq!(wrong(&fine), [""; 0]);
}
