//! What a change says about one optional field: nothing, clear it, or set it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Serialised as an absent field (`Unchanged`), null (`Cleared`) or the value (`Set`). A field of this type needs
/// `#[serde(default, skip_serializing_if = "FieldChange::is_unchanged")]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FieldChange<T> {
    #[default]
    Unchanged,
    Cleared,
    Set(T),
}

impl<T> FieldChange<T> {
    pub const fn is_unchanged(&self) -> bool {
        matches!(self, Self::Unchanged)
    }

    /// `Unchanged` where `current` already is what the change asks for.
    #[must_use]
    pub fn unless_already(self, current: Option<&T>) -> Self
    where
        T: PartialEq,
    {
        match (&self, current) {
            (Self::Cleared, None) => Self::Unchanged,
            (Self::Set(wanted), Some(current)) if wanted == current => Self::Unchanged,
            _ => self,
        }
    }

    /// Writes the change into `field`.
    pub fn apply_to(self, field: &mut Option<T>) {
        match self {
            Self::Unchanged => {}
            Self::Cleared => *field = None,
            Self::Set(value) => *field = Some(value),
        }
    }
}

impl<T: Serialize> Serialize for FieldChange<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unchanged | Self::Cleared => serializer.serialize_none(),
            Self::Set(value) => value.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for FieldChange<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<T>::deserialize(deserializer)?.map_or(Self::Cleared, Self::Set))
    }
}

#[cfg(test)]
impl<T: schemars::JsonSchema> schemars::JsonSchema for FieldChange<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        Option::<T>::schema_name()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Option::<T>::json_schema(generator)
    }
}
