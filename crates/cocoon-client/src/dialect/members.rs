//! The members of a JSON object in their order, each value as it was written, and a body made of such.
//!
//! What is not translated is copied byte for byte: numbers keep their digits, and schemas the order of their properties,
//! which some engines follow.

use std::{borrow::Cow, collections::BTreeSet, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{DialectError, write_json};
use crate::limits::{DIALECT_ELEMENTS, DIALECT_MEMBERS};

/// The members that nobody has taken yet.
#[derive(Debug)]
pub(super) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Reads a body.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, DialectError> {
        serde_json::from_slice(body).map_err(|_| DialectError::NotAnObject)
    }

    /// Takes a member out; null is the same as none.
    pub(super) fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let at = self.0.iter().position(|(key, _)| key == name)?;
        let (_, value) = self.0.remove(at);
        Some(value).filter(|value| value.get() != "null")
    }

    /// Takes a member of a type out.
    pub(super) fn take_as<T: Deserialize<'a>>(
        &mut self,
        name: &str,
        expected: &'static str,
    ) -> Result<Option<T>, DialectError> {
        self.take(name).map(|value| read(value, name, expected)).transpose()
    }

    /// Refuses a member that asks for what is not done, unless it is null.
    pub(super) fn refuse(&mut self, name: &str, reason: &'static str) -> Result<(), DialectError> {
        self.take(name).map_or(Ok(()), |_| Err(DialectError::unsupported(name, reason)))
    }

    /// The same for a member that may say one harmless thing.
    pub(super) fn refuse_but(&mut self, name: &str, harmless: &str, reason: &'static str) -> Result<(), DialectError> {
        match self.take(name) {
            Some(value) if value.get() != harmless => Err(DialectError::unsupported(name, reason)),
            Some(_) | None => Ok(()),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

        struct Object<'a>(PhantomData<&'a ()>);

        impl<'de: 'a, 'a> Visitor<'de> for Object<'a> {
            type Value = Members<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'a>, A::Error> {
                let mut members = Members(Vec::new());
                while let Some((Key(key), value)) = map.next_entry::<Key<'a>, &'a RawValue>()? {
                    let is_there = members.0.iter().any(|(known, _)| *known == key);
                    if is_there || members.0.len() >= DIALECT_MEMBERS {
                        return Err(A::Error::custom("a key twice, or too many"));
                    }
                    members.0.push((key, value));
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Object(PhantomData))
    }
}

/// A chat body that is being written.
#[derive(Debug)]
pub(super) struct ChatBody {
    out: Vec<u8>,
    names: BTreeSet<String>,
}

impl ChatBody {
    pub(super) fn new() -> Self {
        Self { out: b"{".to_vec(), names: BTreeSet::new() }
    }

    pub(super) fn put<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        if !self.names.is_empty() {
            self.out.push(b',');
        }
        self.names.insert(name.to_owned());
        write_json(&mut self.out, &name);
        self.out.push(b':');
        write_json(&mut self.out, value);
    }

    pub(super) fn put_some<T: Serialize + ?Sized>(&mut self, name: &str, value: Option<&T>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    /// Copies the members that are left. One that was already written under its own name would count twice.
    pub(super) fn put_rest(mut self, rest: Members<'_>) -> Result<Vec<u8>, DialectError> {
        for (name, value) in rest.0 {
            if self.names.contains(&*name) {
                return Err(DialectError::bad(name, "is said by another field of this API already"));
            }
            self.put(&name, value);
        }
        self.out.push(b'}');
        Ok(self.out)
    }
}

/// Reads a value of a known form. The message is ours, because that of the parser quotes the value.
pub(super) fn read<'a, T: Deserialize<'a>>(
    value: &'a RawValue,
    field: &str,
    expected: &'static str,
) -> Result<T, DialectError> {
    serde_json::from_str(value.get()).map_err(|_| DialectError::bad(field, expected))
}

/// Whether a value is a string, which then can be copied as it is.
pub(super) fn is_text(value: &RawValue) -> bool {
    value.get().starts_with('"')
}

/// A list of values of any form, not too long.
pub(super) struct List<'a>(pub(super) Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for List<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<'a>(PhantomData<&'a ()>);

        impl<'de: 'a, 'a> Visitor<'de> for Elements<'a> {
            type Value = List<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<'a>, A::Error> {
                let mut list = Vec::new();
                while let Some(element) = seq.next_element()? {
                    if list.len() >= DIALECT_ELEMENTS {
                        return Err(A::Error::custom("too many elements"));
                    }
                    list.push(element);
                }
                Ok(List(list))
            }
        }

        deserializer.deserialize_seq(Elements(PhantomData))
    }
}
