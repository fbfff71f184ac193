//! Times as answers show them.

use chrono::{DateTime, SecondsFormat, Utc};

/// RFC 3339 in UTC with milliseconds.
pub(crate) fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_seconds_show_their_milliseconds() {
        let time = "2026-01-31T16:00:00+08:00".parse::<DateTime<Utc>>().unwrap();
        assert_eq!(rfc3339(time), "2026-01-31T08:00:00.000Z");
    }
}
