//! An account's settings in a request.

use utoipa::ToSchema;
use weft_domain::FieldChange;
use weft_domain::account::{AccountConfigChange, QuietHours};
use weft_platform::http::{Fields, Node};

const MAX_QUIET_HOURS: usize = 50;

/// Settings, key by key. In a change, a key that is left out stays, and null resets it to its default.
#[derive(ToSchema)]
#[schema(as = AccountConfig)]
#[expect(dead_code, reason = "the contract's form; requests are read field by field")]
pub(super) struct ConfigForm {
    /// Least time between two sends.
    #[schema(minimum = 0, maximum = 600_000, default = 1_000)]
    send_interval_ms: Option<u32>,
    /// Messages a day.
    #[schema(minimum = 0, maximum = 100_000, default = 1_000)]
    daily_limit: Option<u32>,
    #[schema(default = true)]
    auto_reconnect: Option<bool>,
    #[schema(default = false)]
    auto_reply_enabled: Option<bool>,
    #[schema(default = false)]
    maintenance_mode: Option<bool>,
    #[schema(max_length = 2_048)]
    callback_url: Option<String>,
    #[schema(max_items = 50)]
    quiet_hours: Option<Vec<QuietHoursForm>>,
}

/// A daily span without sends; it may pass midnight.
#[derive(ToSchema)]
#[schema(as = QuietHours)]
#[expect(dead_code, reason = "the contract's form; requests are read field by field")]
struct QuietHoursForm {
    #[schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$", example = "22:00")]
    start: String,
    #[schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$", example = "08:00")]
    end: String,
    /// Days on which it starts, 1 (Monday) to 7 (Sunday); absent: every day.
    days: Option<Vec<u8>>,
    /// IANA name.
    #[schema(example = "Asia/Shanghai")]
    time_zone: String,
}

/// Reads settings.
pub(super) fn read(node: Node) -> Option<AccountConfigChange> {
    node.object(|config| {
        Some(AccountConfigChange {
            send_interval_ms: change(config.change("send_interval_ms", |node| whole(node, 600_000))),
            daily_limit: change(config.change("daily_limit", |node| whole(node, 100_000))),
            auto_reconnect: change(config.change("auto_reconnect", Node::boolean)),
            auto_reply_enabled: change(config.change("auto_reply_enabled", Node::boolean)),
            maintenance_mode: change(config.change("maintenance_mode", Node::boolean)),
            callback_url: change(config.change("callback_url", Node::url)),
            quiet_hours: change(config.change("quiet_hours", |node| {
                node.list(0..=MAX_QUIET_HOURS, |item| item.object(quiet_hours))
            })),
        })
    })
}

/// The domain's form of a field of a change.
#[allow(clippy::option_option, reason = "the reader's form: absent, null, set")]
pub(super) fn change<T>(field: Option<Option<T>>) -> FieldChange<T> {
    match field {
        None => FieldChange::Unchanged,
        Some(None) => FieldChange::Cleared,
        Some(Some(value)) => FieldChange::Set(value),
    }
}

fn whole(node: Node, most: i64) -> Option<u32> {
    node.integer(0..=most).and_then(|number| u32::try_from(number).ok())
}

fn quiet_hours(fields: &mut Fields) -> Option<QuietHours> {
    let start = fields.required("start", time_of_day);
    let end = fields.required("end", time_of_day);
    let days = fields.optional("days", days);
    let time_zone = fields.required("time_zone", |node| {
        node.format("an IANA time zone such as Asia/Shanghai", |text| {
            text.parse::<chrono_tz::Tz>().is_ok()
        })
    });
    let (start, end) = (start?, end?);
    if start == end {
        return fields.refuse("end", "out_of_range", "must differ from start");
    }
    Some(QuietHours {
        start,
        end,
        days,
        time_zone: time_zone?,
    })
}

fn time_of_day(node: Node) -> Option<String> {
    node.format("a time of day such as 22:00", |text| match text.as_bytes() {
        [h1, h2, b':', m1, m2] => {
            [h1, h2, m1, m2].into_iter().all(u8::is_ascii_digit) && &text[..2] < "24" && &text[3..] < "60"
        }
        _ => false,
    })
}

/// Days of the week, each once.
fn days(node: Node) -> Option<Vec<u8>> {
    let days = node.list(1..=7, |item| item.integer(1..=7).and_then(|day| u8::try_from(day).ok()))?;
    let mut sorted = days;
    sorted.sort_unstable();
    sorted.dedup();
    Some(sorted)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use weft_domain::account::AccountConfig;
    use weft_platform::http::{FieldError, read_object};

    use super::*;

    fn parsed(config: &Value) -> Result<AccountConfigChange, Vec<FieldError>> {
        read_object(json!({ "config": config }), |body| body.required("config", super::read))
    }

    #[test]
    fn settings_are_merged_key_by_key() {
        let current = AccountConfig {
            daily_limit: 5,
            maintenance_mode: true,
            callback_url: Some("http://a".to_owned()),
            ..AccountConfig::default()
        };
        let change = parsed(&json!({"send_interval_ms": 0, "daily_limit": null, "callback_url": null})).unwrap();
        let merged = change.merged_into(&current, &AccountConfig::default());
        let expected = AccountConfig {
            send_interval_ms: 0,
            maintenance_mode: true,
            ..AccountConfig::default()
        };
        assert_eq!(merged, expected);
    }

    #[test]
    fn quiet_hours_are_read() {
        let night = json!({"start": "22:00", "end": "08:00", "days": [7, 1, 7], "time_zone": "Asia/Shanghai"});
        let FieldChange::Set(hours) = parsed(&json!({"quiet_hours": [night]})).unwrap().quiet_hours else {
            panic!("quiet hours are set");
        };
        assert_eq!(hours[0].days.as_deref(), Some([1, 7].as_slice()));
    }

    #[test]
    fn every_wrong_setting_is_listed() {
        let hours = |start: &str, end: &str, zone: &str| json!({"start": start, "end": end, "time_zone": zone});
        let errors = parsed(&json!({
            "send_interval_ms": 600_001,
            "daily_limit": -1,
            "auto_reconnect": "yes",
            "callback_url": "ftp://a",
            "quiet_hours": [
                hours("24:00", "08:60", "Mars/Base"),
                hours("08:00", "08:00", "Asia/Shanghai"),
                {"start": "1:00", "end": "02:00", "days": [0, 8], "time_zone": "UTC"},
            ],
            "colour": 1,
        }))
        .unwrap_err();
        let listed: Vec<_> = errors
            .iter()
            .map(|error| (error.pointer.as_str(), error.code))
            .collect();
        assert_eq!(
            listed,
            [
                ("/config/send_interval_ms", "out_of_range"),
                ("/config/daily_limit", "out_of_range"),
                ("/config/auto_reconnect", "type"),
                ("/config/callback_url", "format"),
                ("/config/quiet_hours/0/start", "format"),
                ("/config/quiet_hours/0/end", "format"),
                ("/config/quiet_hours/0/time_zone", "format"),
                ("/config/quiet_hours/1/end", "out_of_range"),
                ("/config/quiet_hours/2/start", "format"),
                ("/config/quiet_hours/2/days/0", "out_of_range"),
                ("/config/quiet_hours/2/days/1", "out_of_range"),
                ("/config/colour", "unknown"),
            ]
        );
    }
}
