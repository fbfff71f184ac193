//! Scripted faults: which calls and callbacks go wrong, and how.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A fault as it is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FaultRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    guid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    close: Option<CloseAt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback: Option<CallbackFault>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notify_type: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CloseAt {
    BeforeReading,
    AfterReading,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CallbackFault {
    Drop,
    Duplicate,
    Delay,
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallTrouble {
    ErrorCode(i64),
    HttpStatus(u16),
    /// Carried out, answered late.
    Latency(u64),
    Close(CloseAt),
}

/// What goes wrong with a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallbackTrouble {
    Drop,
    Duplicate,
    Delay(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Call(CallTrouble),
    Callback(CallbackTrouble),
}

#[derive(Debug)]
struct Fault {
    id: String,
    request: FaultRequest,
    trouble: Trouble,
    fired: u64,
    random: SmallRng,
}

/// The faults in force, oldest first.
#[derive(Debug, Default)]
pub(super) struct Faults {
    faults: Vec<Fault>,
    created: u64,
}

impl Faults {
    /// Adds a fault and gives its id, or says what is wrong with it.
    pub(super) fn add(&mut self, request: FaultRequest) -> Result<String, &'static str> {
        let trouble = request.trouble()?;
        self.created += 1;
        let id = format!("fault-{}", self.created);
        let random = SmallRng::seed_from_u64(request.seed.unwrap_or_else(rand::random));
        self.faults.push(Fault {
            id: id.clone(),
            request,
            trouble,
            fired: 0,
            random,
        });
        Ok(id)
    }

    pub(super) fn view(&self) -> Value {
        let faults: Vec<_> = self.faults.iter().map(Fault::view).collect();
        json!({ "faults": faults })
    }

    pub(super) fn remove(&mut self, id: &str) -> bool {
        let before = self.faults.len();
        self.faults.retain(|fault| fault.id != id);
        self.faults.len() < before
    }

    pub(super) fn clear(&mut self) {
        self.faults.clear();
    }

    /// The trouble of the oldest fault that matches this call and fires.
    pub(super) fn for_call(&mut self, guid: &str, path: &str) -> Option<CallTrouble> {
        self.faults.iter_mut().find_map(|fault| {
            let Trouble::Call(trouble) = fault.trouble else {
                return None;
            };
            (fault.request.matches_call(guid, path) && fault.fires()).then_some(trouble)
        })
    }

    /// The trouble of the oldest fault that matches this callback and fires.
    pub(super) fn for_callback(&mut self, guid: &str, notify_type: i64) -> Option<CallbackTrouble> {
        self.faults.iter_mut().find_map(|fault| {
            let Trouble::Callback(trouble) = fault.trouble else {
                return None;
            };
            (fault.request.matches_callback(guid, notify_type) && fault.fires()).then_some(trouble)
        })
    }
}

impl FaultRequest {
    fn trouble(&self) -> Result<Trouble, &'static str> {
        if self.count.is_some() && self.probability.is_some() {
            return Err("either count or probability");
        }
        if self
            .probability
            .is_some_and(|probability| !(0.0..=1.0).contains(&probability))
        {
            return Err("probability is between 0 and 1");
        }
        if self.seed.is_some() && self.probability.is_none() {
            return Err("a seed goes with a probability");
        }
        let troubles = [
            self.error_code.map(|code| Trouble::Call(CallTrouble::ErrorCode(code))),
            self.http_status
                .map(|status| Trouble::Call(CallTrouble::HttpStatus(status))),
            self.latency_ms
                .map(|latency| Trouble::Call(CallTrouble::Latency(latency))),
            self.close.map(|close| Trouble::Call(CallTrouble::Close(close))),
            self.callback.map(|callback| {
                Trouble::Callback(match callback {
                    CallbackFault::Drop => CallbackTrouble::Drop,
                    CallbackFault::Duplicate => CallbackTrouble::Duplicate,
                    CallbackFault::Delay => CallbackTrouble::Delay(self.delay_ms.unwrap_or(1_000)),
                })
            }),
        ];
        let mut troubles = troubles.into_iter().flatten();
        let (Some(trouble), None) = (troubles.next(), troubles.next()) else {
            return Err("exactly one of error_code, http_status, latency_ms, close, callback");
        };
        if self.http_status.is_some_and(|status| !(200..=599).contains(&status)) {
            return Err("http_status is between 200 and 599");
        }
        match trouble {
            Trouble::Call(_) if self.notify_type.is_some() => Err("notify_type goes with callback"),
            Trouble::Callback(_) if self.path.is_some() => Err("a callback has no path"),
            Trouble::Callback(CallbackTrouble::Delay(_)) => Ok(trouble),
            _ if self.delay_ms.is_some() => Err("delay_ms goes with callback: delay"),
            _ => Ok(trouble),
        }
    }

    fn matches_call(&self, guid: &str, path: &str) -> bool {
        self.guid.as_ref().is_none_or(|wanted| wanted == guid) && self.path.as_ref().is_none_or(|wanted| wanted == path)
    }

    fn matches_callback(&self, guid: &str, notify_type: i64) -> bool {
        self.guid.as_ref().is_none_or(|wanted| wanted == guid)
            && self.notify_type.is_none_or(|wanted| wanted == notify_type)
    }
}

impl Fault {
    fn fires(&mut self) -> bool {
        let fires = match (self.request.count, self.request.probability) {
            (Some(count), _) => self.fired < count,
            (None, Some(probability)) => self.random.random_bool(probability),
            (None, None) => true,
        };
        self.fired += u64::from(fires);
        fires
    }

    fn view(&self) -> Value {
        let mut view = json!(self.request);
        if let Some(fields) = view.as_object_mut() {
            fields.insert("fault_id".to_owned(), json!(self.id));
            fields.insert("fired".to_owned(), json!(self.fired));
        }
        view
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(requests: &[Value]) -> Faults {
        let mut faults = Faults::default();
        for request in requests {
            faults.add(serde_json::from_value(request.clone()).unwrap()).unwrap();
        }
        faults
    }

    #[test]
    fn the_oldest_matching_fault_that_fires_applies() {
        let mut faults = faults(&[
            json!({"guid": "other", "error_code": 1}),
            json!({"path": "/msg/send_text", "error_code": 2, "count": 1}),
            json!({"probability": 0.0, "error_code": 3}),
            json!({"latency_ms": 4}),
            json!({"error_code": 5}),
        ]);
        assert_eq!(faults.for_call("a", "/msg/send_text"), Some(CallTrouble::ErrorCode(2)));
        assert_eq!(faults.for_call("a", "/msg/send_text"), Some(CallTrouble::Latency(4)));
        assert_eq!(
            faults.for_call("other", "/msg/send_link"),
            Some(CallTrouble::ErrorCode(1))
        );
        assert_eq!(faults.for_callback("a", 11013), None);
    }

    #[test]
    fn a_seed_repeats_what_chance_decides() {
        let draw = |seed: u64| -> Vec<bool> {
            let mut faults = faults(&[json!({"probability": 0.5, "seed": seed, "http_status": 500})]);
            (0..64).map(|_| faults.for_call("a", "/").is_some()).collect()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let fired = draw(7).into_iter().filter(|fired| *fired).count();
        assert!((16..=48).contains(&fired), "{fired}");
    }

    #[test]
    fn callback_faults_match_by_type() {
        let mut faults = faults(&[
            json!({"callback": "drop", "notify_type": 11013, "count": 1}),
            json!({"callback": "delay", "delay_ms": 300}),
        ]);
        assert_eq!(faults.for_callback("a", 11003), Some(CallbackTrouble::Delay(300)));
        assert_eq!(faults.for_callback("a", 11013), Some(CallbackTrouble::Drop));
        assert_eq!(faults.for_callback("a", 11013), Some(CallbackTrouble::Delay(300)));
        assert_eq!(faults.for_call("a", "/msg/send_text"), None);
    }

    #[test]
    fn a_fault_that_makes_no_sense_is_refused() {
        for request in [
            json!({}),
            json!({"error_code": 1, "http_status": 500}),
            json!({"error_code": 1, "count": 1, "probability": 0.5}),
            json!({"error_code": 1, "probability": 1.5}),
            json!({"error_code": 1, "seed": 3}),
            json!({"error_code": 1, "notify_type": 11013}),
            json!({"callback": "drop", "path": "/msg/send_text"}),
            json!({"callback": "drop", "delay_ms": 5}),
            json!({"http_status": 42}),
        ] {
            let parsed = serde_json::from_value(request.clone()).unwrap();
            assert!(Faults::default().add(parsed).is_err(), "{request}");
        }
    }
}
