//! The short version of `make chaos`: killed processes, and every checker on its planted defect.

use std::time::Duration;

use weft_e2e::chaos::{Chaos, Size};

#[tokio::test(flavor = "multi_thread")]
async fn promises_hold_while_processes_are_killed_and_every_planted_defect_is_found() {
    let size = Size {
        accounts: 3,
        clients: 3,
        pause: Duration::from_millis(300),
    };
    let mut chaos = Chaos::start(7, size).await;
    chaos.rounds(4, |_, _| {}).await;
    chaos.check().await;
    chaos.check_topics().await;
    assert!(chaos.problems.is_empty(), "{:#?}", chaos.problems);
    assert!(
        chaos.refused("quota.exceeded") > 0,
        "of {} commands none met the quota",
        chaos.asked()
    );
    assert_eq!(chaos.undetected_defects().await, Vec::<String>::new());
}
