//! Waiting before another try.

use std::time::Duration;

use chrono::TimeDelta;
use rand::RngExt;

/// The wait before try number `failures` + 1: doubled each time from `min` up to `max`, and half of it random, so that
/// those who failed together do not come back together.
pub(crate) fn exponential(min: Duration, max: Duration, failures: u32) -> Duration {
    let full = min
        .saturating_mul(1_u32.checked_shl(failures.min(20)).unwrap_or(u32::MAX))
        .min(max)
        .max(min);
    full.mul_f64(0.5 + rand::rng().random::<f64>() / 2.0)
}

/// `base` and up to a tenth more.
pub(crate) fn spread(base: Duration) -> Duration {
    base.mul_f64(1.0 + rand::rng().random::<f64>() / 10.0)
}

/// `base`, give or take a tenth.
pub(crate) fn around(base: Duration) -> Duration {
    base.mul_f64(0.9 + rand::rng().random::<f64>() / 5.0)
}

pub(crate) fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_never_shorter_than_half() {
        let (min, max) = (Duration::from_millis(200), Duration::from_secs(30));
        for failures in 0..100 {
            let full = Duration::from_millis(200 * (1 << failures.min(10))).min(max);
            let wait = exponential(min, max, failures);
            assert!(wait >= full / 2 && wait <= full, "{failures}: {wait:?}");
        }
    }
}
