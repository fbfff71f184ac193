//! The forms of a message's content. One table says what fits, what is in range, and what the contract shows.

use serde_json::{Map, Value};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};
use weft_domain::message::{MessageContent, MessageType};
use weft_platform::http::{MAX_URL_LENGTH, Node};
use weft_wecom::gateway::MENTION_MARK;

const MAX_TEXT: usize = 4_000;
const MAX_NAME: usize = 255;
const MAX_MENTIONS: usize = 100;
/// 1 TiB: far beyond what WeCom takes, and a whole number everywhere.
const MAX_SIZE: i64 = 1 << 40;
const MAX_PIXELS: i64 = 1_000_000;

/// What a field of a content may hold.
#[derive(Clone, Copy)]
enum Kind {
    /// So many characters at most, not only white space.
    Text(usize),
    /// So many characters at most; may be empty.
    Note(usize),
    Url,
    /// 0 to so much.
    Whole(i64),
    /// The people to mention.
    Mentions,
    /// `true`.
    Yes,
}

/// One shape that a content may have.
struct Form {
    required: &'static [(&'static str, Kind)],
    optional: &'static [(&'static str, Kind)],
}

const fn forms(kind: MessageType) -> &'static [Form] {
    use Kind::{Mentions, Note, Text, Url, Whole, Yes};
    match kind {
        MessageType::Text => &[Form {
            required: &[("text", Text(MAX_TEXT))],
            optional: &[],
        }],
        MessageType::Image => &[
            Form {
                required: &[("url", Url)],
                optional: &[],
            },
            Form {
                required: &[
                    ("file_id", Text(MAX_URL_LENGTH)),
                    ("aes_key", Text(MAX_NAME)),
                    ("md5", Text(MAX_NAME)),
                    ("size", Whole(MAX_SIZE)),
                ],
                optional: &[("width", Whole(MAX_PIXELS)), ("height", Whole(MAX_PIXELS))],
            },
        ],
        MessageType::File => &[
            Form {
                required: &[("url", Url), ("name", Text(MAX_NAME))],
                optional: &[],
            },
            Form {
                required: &[
                    ("file_id", Text(MAX_URL_LENGTH)),
                    ("aes_key", Text(MAX_NAME)),
                    ("md5", Text(MAX_NAME)),
                    ("size", Whole(MAX_SIZE)),
                    ("name", Text(MAX_NAME)),
                ],
                optional: &[],
            },
        ],
        MessageType::Link => &[Form {
            required: &[("title", Text(MAX_NAME)), ("url", Url)],
            optional: &[("description", Note(1_000)), ("image_url", Url)],
        }],
        MessageType::Miniprogram => &[Form {
            required: &[
                ("username", Text(MAX_NAME)),
                ("appid", Text(MAX_NAME)),
                ("appname", Text(MAX_NAME)),
                ("title", Text(MAX_NAME)),
                ("page_path", Text(MAX_URL_LENGTH)),
            ],
            optional: &[("appicon", Note(MAX_URL_LENGTH)), ("cover_url", Url)],
        }],
        MessageType::At => &[
            Form {
                required: &[("text", Text(MAX_TEXT)), ("mentions", Mentions)],
                optional: &[],
            },
            Form {
                required: &[("text", Text(MAX_TEXT)), ("mention_all", Yes)],
                optional: &[],
            },
        ],
    }
}

/// Reads the content of a message of type `kind`. What has another shape is refused as a whole; in the right shape,
/// each wrong value is refused by its own pointer.
pub(super) fn read(kind: MessageType, node: Node) -> Option<MessageContent> {
    let Some(form) = forms(kind).iter().find(|form| form.fits(node.value())) else {
        let shapes: Vec<String> = forms(kind).iter().map(Form::shape).collect();
        return node.refuse("form", format!("must be {} for {}", shapes.join(" or "), kind.as_str()));
    };
    let value = node.object(|fields| {
        let mut read = Map::new();
        let mut complete = true;
        for (name, kind) in form.required {
            match fields.required(name, |node| kind.read(node)) {
                Some(value) => drop(read.insert((*name).to_owned(), value)),
                None => complete = false,
            }
        }
        for (name, kind) in form.optional {
            if let Some(value) = fields.optional(name, |node| kind.read(node)) {
                read.insert((*name).to_owned(), value);
            }
        }
        complete.then_some(Value::Object(read))
    })?;
    let content = MessageContent::from_value(kind, value);
    debug_assert!(content.is_ok(), "the table and the domain differ: {content:?}");
    content.ok().map(with_marks)
}

/// A text that mentions people but marks no place for them gets one mark per mention in front.
fn with_marks(content: MessageContent) -> MessageContent {
    match content {
        MessageContent::At(mut at) if !at.text.contains(MENTION_MARK) => {
            let marks = if at.mention_all { 1 } else { at.mentions.len() };
            at.text = MENTION_MARK.repeat(marks) + &at.text;
            MessageContent::At(at)
        }
        content => content,
    }
}

impl Form {
    /// Whether `value` has all required fields and no others than known ones, each of the right JSON type.
    fn fits(&self, value: &Value) -> bool {
        let Value::Object(object) = value else {
            return false;
        };
        let known = |name: &str| self.fields().any(|(field, _)| *field == name);
        object.keys().all(|name| known(name))
            && self
                .required
                .iter()
                .all(|(name, kind)| object.get(*name).is_some_and(|value| kind.fits(value)))
            && self.optional.iter().all(|(name, kind)| {
                object
                    .get(*name)
                    .is_none_or(|value| value.is_null() || kind.fits(value))
            })
    }

    fn fields(&self) -> impl Iterator<Item = &(&'static str, Kind)> {
        self.required.iter().chain(self.optional)
    }

    /// Such as `{url, name?}`.
    fn shape(&self) -> String {
        let required = self.required.iter().map(|(name, kind)| match kind {
            Kind::Mentions => format!("{name}[]"),
            Kind::Yes => format!("{name}: true"),
            Kind::Text(_) | Kind::Note(_) | Kind::Url | Kind::Whole(_) => (*name).to_owned(),
        });
        let optional = self.optional.iter().map(|(name, _)| format!("{name}?"));
        format!("{{{}}}", required.chain(optional).collect::<Vec<_>>().join(", "))
    }

    fn schema(&self) -> Schema {
        let mut object = ObjectBuilder::new().additional_properties(Some(
            utoipa::openapi::schema::AdditionalProperties::<Schema>::FreeForm(false),
        ));
        for (name, kind) in self.fields() {
            object = object.property(*name, kind.schema());
        }
        for (name, _) in self.required {
            object = object.required(*name);
        }
        Schema::Object(object.build())
    }
}

impl Kind {
    fn fits(self, value: &Value) -> bool {
        match self {
            Self::Text(_) | Self::Note(_) | Self::Url => value.is_string(),
            Self::Whole(_) => value.is_number(),
            Self::Mentions => value.as_array().is_some_and(|items| items.iter().all(Value::is_string)),
            Self::Yes => *value == Value::Bool(true),
        }
    }

    fn read(self, node: Node) -> Option<Value> {
        match self {
            Self::Text(most) => node.text(1..=most).map(Value::from),
            Self::Note(most) => node
                .format(&format!("at most {most} characters"), |text| {
                    text.chars().count() <= most
                })
                .map(Value::from),
            Self::Url => node.url().map(Value::from),
            Self::Whole(most) => node.integer(0..=most).map(Value::from),
            Self::Mentions => node
                .list(1..=MAX_MENTIONS, |item| item.text(1..=MAX_NAME))
                .map(Value::from),
            Self::Yes => node.boolean().map(Value::from),
        }
    }

    fn schema(self) -> Schema {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let object = match self {
            Self::Text(most) => text().min_length(Some(1)).max_length(Some(most)),
            Self::Note(most) => text().max_length(Some(most)),
            Self::Url => text().max_length(Some(MAX_URL_LENGTH)).pattern(Some("^https?://")),
            Self::Whole(most) => ObjectBuilder::new()
                .schema_type(Type::Integer)
                .minimum(Some(0_u64))
                .maximum(Some(most as u64)),
            Self::Mentions => {
                let item = text().min_length(Some(1)).max_length(Some(MAX_NAME)).build();
                let list = ArrayBuilder::new()
                    .items(item)
                    .min_items(Some(1))
                    .max_items(Some(MAX_MENTIONS));
                return Schema::Array(list.build());
            }
            Self::Yes => ObjectBuilder::new()
                .schema_type(SchemaType::new(Type::Boolean))
                .enum_values(Some([true])),
        };
        Schema::Object(object.build())
    }
}

/// The contract's form of a content: one of all forms.
pub(super) struct ContentForm;

impl PartialSchema for ContentForm {
    fn schema() -> RefOr<Schema> {
        let all = MessageType::ALL
            .into_iter()
            .flat_map(|kind| forms(kind).iter().map(move |form| (kind, form)));
        let one_of = all.fold(OneOfBuilder::new(), |one_of, (kind, form)| {
            let mut schema = form.schema();
            if let Schema::Object(object) = &mut schema {
                object.title = Some(format!("{} {}", kind.as_str(), form.shape()));
            }
            one_of.item(schema)
        });
        RefOr::T(Schema::OneOf(
            one_of
                .description(Some("The form that `message_type` asks for."))
                .build(),
        ))
    }
}

impl ToSchema for ContentForm {
    fn name() -> std::borrow::Cow<'static, str> {
        "MessageContent".into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use weft_platform::http::read_object;

    use super::*;

    fn errors(kind: MessageType, content: &Value) -> Vec<(String, &'static str)> {
        let read = read_object(json!({ "content": content }), |body| {
            body.required("content", |node| read(kind, node))
        });
        let listed = read.err().unwrap_or_default();
        listed.into_iter().map(|error| (error.pointer, error.code)).collect()
    }

    fn content(kind: MessageType, content: &Value) -> MessageContent {
        read_object(json!({ "content": content }), |body| {
            body.required("content", |node| read(kind, node))
        })
        .unwrap()
    }

    #[test]
    fn every_form_is_read_as_it_was_sent() {
        let uploaded = json!({"file_id": "f", "aes_key": "k", "md5": "m", "size": 0});
        let with = |extra: Value| {
            let mut value = uploaded.clone();
            value
                .as_object_mut()
                .unwrap()
                .extend(extra.as_object().unwrap().clone());
            value
        };
        for (kind, sent) in [
            (MessageType::Text, json!({"text": " 你好\n"})),
            (MessageType::Image, json!({"url": "https://a/b.png"})),
            (MessageType::Image, uploaded.clone()),
            (MessageType::Image, with(json!({"width": 1, "height": 2}))),
            (MessageType::File, json!({"url": "https://a/b.pdf", "name": "b.pdf"})),
            (MessageType::File, with(json!({"name": "b.pdf"}))),
            (MessageType::Link, json!({"title": "t", "url": "http://a"})),
            (
                MessageType::Link,
                json!({"title": "t", "description": "", "url": "http://a", "image_url": "http://b"}),
            ),
            (
                MessageType::Miniprogram,
                json!({"username": "u", "appid": "i", "appname": "n", "title": "t", "page_path": "p",
                       "appicon": "", "cover_url": "http://c"}),
            ),
            (MessageType::At, json!({"text": "{$@} 早", "mentions": ["u1"]})),
            (MessageType::At, json!({"text": "{$@}早", "mention_all": true})),
        ] {
            assert_eq!(json!(content(kind, &sent)), sent, "{}", kind.as_str());
        }
    }

    #[test]
    fn what_fits_no_form_is_refused_as_a_whole() {
        for (kind, sent) in [
            (MessageType::Text, json!({})),
            (MessageType::Text, json!("hello")),
            (MessageType::Text, json!({"text": 5})),
            (MessageType::Text, json!({"text": "a", "more": 1})),
            (MessageType::Image, json!({"url": "http://a", "file_id": "f"})),
            (MessageType::Image, json!({"file_id": "f"})),
            (MessageType::File, json!({"url": "http://a"})),
            (MessageType::At, json!({"text": "a"})),
            (MessageType::At, json!({"text": "a", "mention_all": false})),
            (
                MessageType::At,
                json!({"text": "a", "mentions": ["u"], "mention_all": true}),
            ),
            (MessageType::At, json!({"text": "a", "mentions": [7]})),
        ] {
            assert_eq!(errors(kind, &sent), [("/content".to_owned(), "form")], "{sent}");
        }
    }

    #[test]
    fn a_wrong_value_in_the_right_form_is_named() {
        let long = "字".repeat(MAX_TEXT + 1);
        let names: Vec<String> = (0..=MAX_MENTIONS).map(|n| n.to_string()).collect();
        for (kind, sent, pointer, code) in [
            (MessageType::Text, json!({"text": ""}), "/content/text", "too_short"),
            (MessageType::Text, json!({"text": " \n"}), "/content/text", "blank"),
            (MessageType::Text, json!({"text": long}), "/content/text", "too_long"),
            (
                MessageType::Text,
                json!({"text": "a\u{0}"}),
                "/content/text",
                "characters",
            ),
            (MessageType::Image, json!({"url": "ftp://a"}), "/content/url", "format"),
            (
                MessageType::Link,
                json!({"title": "t", "url": "a", "image_url": null}),
                "/content/url",
                "format",
            ),
            (
                MessageType::At,
                json!({"text": "a", "mentions": []}),
                "/content/mentions",
                "too_few",
            ),
            (
                MessageType::At,
                json!({"text": "a", "mentions": names}),
                "/content/mentions",
                "too_many",
            ),
            (
                MessageType::At,
                json!({"text": "a", "mentions": ["u", ""]}),
                "/content/mentions/1",
                "too_short",
            ),
        ] {
            assert_eq!(errors(kind, &sent), [(pointer.to_owned(), code)], "{sent}");
        }
    }

    #[test]
    fn a_text_without_marks_gets_one_per_mention_in_front() {
        let text = |sent: Value| match content(MessageType::At, &sent) {
            MessageContent::At(at) => at.text,
            other => panic!("{other:?}"),
        };
        assert_eq!(text(json!({"text": "开会", "mentions": ["a", "b"]})), "{$@}{$@}开会");
        assert_eq!(text(json!({"text": "开会", "mention_all": true})), "{$@}开会");
        assert_eq!(
            text(json!({"text": "请 {$@} 开会", "mentions": ["a", "b"]})),
            "请 {$@} 开会"
        );
    }
}
