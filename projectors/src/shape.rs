//! The three shapes of a projection, and the guards that go with them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use uuid::Uuid;

use crate::error::ProjectionError;
use crate::event::Event;

/// How a projection's rows relate to streams, and so what makes a repeated event harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One stream per row, guarded by the row's version, which every event of the stream advances.
    Row,
    /// One row per event: nothing on conflict.
    Log,
    /// Several streams per row, of several partitions: the checkpoint's high-water, only functions that forget the
    /// order, and one transaction at a time.
    Fold,
}

/// A row that is guarded by its stream's version.
pub(crate) trait Versioned {
    /// Sequence of the newest event in the row.
    fn version(&self) -> i64;
}

/// The rows that `events` change, by stream, from the rows as they are known. `apply` makes the row after an event of
/// the row before it, which is `None` for a stream's first event. Pure.
pub(crate) fn fold_rows<R: Versioned>(
    known: HashMap<Uuid, R>,
    events: &[Arc<Event>],
    mut apply: impl FnMut(Option<R>, &Event) -> Result<R, ProjectionError>,
) -> Result<Vec<R>, ProjectionError> {
    // In the order of the ids: statements take their locks in one order.
    let mut rows: BTreeMap<Uuid, (Option<R>, bool)> =
        known.into_iter().map(|(id, row)| (id, (Some(row), false))).collect();
    for event in events {
        let (row, changed) = rows.entry(event.id).or_insert((None, false));
        if step(row.as_ref().map_or(0, Versioned::version), event)? == Step::Apply {
            *row = Some(apply(row.take(), event)?);
            *changed = true;
        }
    }
    Ok(rows
        .into_values()
        .filter_map(|(row, changed)| row.filter(|_| changed))
        .collect())
}

/// What a row does with an event of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Apply,
    /// The row has it already.
    Seen,
}

/// Compares an event with the version of its row, 0 where there is none. A gap is never skipped.
pub(crate) fn step(version: i64, event: &Event) -> Result<Step, ProjectionError> {
    step_of(event.id, version, event.sequence)
}

fn step_of(stream: Uuid, version: i64, sequence: i64) -> Result<Step, ProjectionError> {
    if sequence <= version {
        Ok(Step::Seen)
    } else if sequence == version + 1 {
        Ok(Step::Apply)
    } else {
        Err(ProjectionError::VersionGap {
            stream,
            expected: version + 1,
            found: sequence,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_event_is_applied_an_older_one_is_seen_and_a_gap_is_named() {
        let stream = Uuid::from_u128(7);
        assert_eq!(step_of(stream, 4, 5).unwrap(), Step::Apply);
        assert_eq!(step_of(stream, 4, 4).unwrap(), Step::Seen);
        let gap = step_of(stream, 4, 6).unwrap_err();
        assert!(matches!(
            gap,
            ProjectionError::VersionGap {
                expected: 5,
                found: 6,
                ..
            }
        ));
    }
}
