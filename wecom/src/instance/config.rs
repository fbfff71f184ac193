//! Where the instance protocol is spoken, and how long anything may take.

use std::fmt;
use std::time::Duration;

use reqwest::Url;

#[derive(Clone, Debug)]
pub struct InstanceConfig {
    /// The protocol's paths are appended to this one's.
    pub base_url: Url,
    /// Set for the hosted variant, where every call goes to `/open/GuidRequest` with these keys.
    pub hosted: Option<HostedKeys>,
    /// Until the connection stands. When it runs out nothing was written. Kept below `answer_timeout`.
    pub connect_timeout: Duration,
    /// How long written bytes may stay unacknowledged by the peer's machine before the connection counts as broken.
    pub write_timeout: Duration,
    /// Until the whole answer is read, counted from the beginning of the call.
    pub answer_timeout: Duration,
    /// How long an unused connection is kept. Has to be well below what the peer keeps its own: a request written to a
    /// connection that the peer is just closing ends as `Unknown`.
    pub idle_timeout: Duration,
    /// Longer answers count as unreadable.
    pub max_answer_bytes: usize,
    pub upload_types: UploadTypes,
}

impl InstanceConfig {
    pub fn new(base_url: Url) -> Self {
        Self {
            base_url,
            hosted: None,
            connect_timeout: Duration::from_secs(3),
            write_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(2),
            max_answer_bytes: 4 * 1024 * 1024,
            upload_types: UploadTypes::default(),
        }
    }
}

/// The application's keys at a hosted gateway.
#[derive(Clone)]
pub struct HostedKeys {
    pub app_key: String,
    pub app_secret: String,
}

impl fmt::Debug for HostedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostedKeys")
            .field("app_key", &self.app_key)
            .finish_non_exhaustive()
    }
}

/// The numbers of `file_type` in `/cloud/cdn_c2c_upload`; they differ between vendors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadTypes {
    pub image: i64,
    pub file: i64,
}

impl Default for UploadTypes {
    fn default() -> Self {
        Self { image: 1, file: 5 }
    }
}
