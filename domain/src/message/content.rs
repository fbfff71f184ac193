//! What a message says. Plain only on its way in and out: inside the log it is sealed.

use serde::{Deserialize, Serialize};

use super::status::MessageType;

/// Content by message type, in the forms of the REST contract. The type is a field of its own beside it, so the
/// serialised form is the bare object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum MessageContent {
    Text(TextContent),
    Image(ImageContent),
    File(FileContent),
    Link(LinkContent),
    Miniprogram(MiniprogramContent),
    At(AtContent),
}

impl MessageContent {
    /// Reads the stored object of a message of type `kind`.
    pub fn from_value(kind: MessageType, value: serde_json::Value) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            MessageType::Text => Self::Text(serde_json::from_value(value)?),
            MessageType::Image => Self::Image(serde_json::from_value(value)?),
            MessageType::File => Self::File(serde_json::from_value(value)?),
            MessageType::Link => Self::Link(serde_json::from_value(value)?),
            MessageType::Miniprogram => Self::Miniprogram(serde_json::from_value(value)?),
            MessageType::At => Self::At(serde_json::from_value(value)?),
        })
    }

    pub const fn kind(&self) -> MessageType {
        match self {
            Self::Text(_) => MessageType::Text,
            Self::Image(_) => MessageType::Image,
            Self::File(_) => MessageType::File,
            Self::Link(_) => MessageType::Link,
            Self::Miniprogram(_) => MessageType::Miniprogram,
            Self::At(_) => MessageType::At,
        }
    }
}

/// Text is kept as sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextContent {
    pub text: String,
}

/// A picture by address (uploaded before it is sent) or already uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ImageContent {
    Url(ImageUrl),
    Uploaded(UploadedImage),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageUrl {
    pub url: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UploadedImage {
    pub file_id: String,
    pub aes_key: String,
    pub md5: String,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
}

/// A file by address (uploaded before it is sent) or already uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FileContent {
    Url(FileUrl),
    Uploaded(UploadedFile),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileUrl {
    pub url: String,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UploadedFile {
    pub file_id: String,
    pub aes_key: String,
    pub md5: String,
    pub size: u64,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkContent {
    pub title: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_url: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MiniprogramContent {
    pub username: String,
    pub appid: String,
    pub appname: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appicon: Option<String>,
    pub title: String,
    pub page_path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cover_url: Option<String>,
}

/// A text in a group that mentions some members, or all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AtContent {
    pub text: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mention_all: bool,
}
