//! From a tree that fits to a type: serde's side of the tree, and the places that values keep.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde::de::value::{BoolDeserializer, StrDeserializer, U64Deserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};

use super::node::{Entry, Kind, Node};

/// Tells the reader that a value wants to keep its place.
const PLACED: &str = "$weft::Placed";

/// A value with the bytes of the document that it covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Range<usize>,
    /// Whether it only fills the place of something that is missing or wrong, and reported.
    pub is_stand_in: bool,
}

/// A tree does not fit its type, although its schema said so.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct ReadError(String);

impl serde::de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Reads a tree into a type.
pub(super) fn read<T: DeserializeOwned>(tree: &Node) -> Result<T, ReadError> {
    T::deserialize(Reader(tree))
}

#[derive(Clone, Copy)]
struct Reader<'a>(&'a Node);

/// Methods for which a stand-in is the type's own empty value.
macro_rules! scalars {
    ($($method:ident => $visit:ident($empty:expr))*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            match self.0.kind {
                Kind::StandIn => visitor.$visit($empty),
                _ => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.0.kind {
            Kind::Null | Kind::Plain | Kind::StandIn => visitor.visit_unit(),
            Kind::Text(text) => visitor.visit_str(text),
            Kind::Integer(number) => visitor.visit_i64(*number),
            Kind::Boolean(value) => visitor.visit_bool(*value),
            Kind::List(items) => visitor.visit_seq(Items(items)),
            Kind::Map(entries) => visitor.visit_map(Entries { rest: entries, value: None }),
        }
    }

    scalars! {
        deserialize_str => visit_str("")
        deserialize_string => visit_str("")
        deserialize_bool => visit_bool(false)
        deserialize_i32 => visit_i64(0)
        deserialize_u32 => visit_u64(0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.0.kind {
            Kind::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if name == PLACED {
            visitor.visit_seq(Parts { node: self.0, next: 0 })
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i64 i128 u8 u16 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple tuple_struct map
        struct enum identifier ignored_any
    }
}

struct Items<'a>(&'a [Node]);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = ReadError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, ReadError> {
        let Some((first, rest)) = self.0.split_first() else { return Ok(None) };
        self.0 = rest;
        seed.deserialize(Reader(first)).map(Some)
    }
}

struct Entries<'a> {
    rest: &'a [Entry],
    value: Option<&'a Node>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = ReadError;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, ReadError> {
        let Some((first, rest)) = self.rest.split_first() else { return Ok(None) };
        (self.rest, self.value) = (rest, Some(&first.value));
        let key: StrDeserializer<'_, ReadError> = first.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, ReadError> {
        match self.value.take() {
            Some(value) => seed.deserialize(Reader(value)),
            None => Err(serde::de::Error::custom("a value was asked for before its key")),
        }
    }
}

/// A placed value as serde sees it: start, end, whether it is a stand-in, the value.
struct Parts<'a> {
    node: &'a Node,
    next: u8,
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = ReadError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, ReadError> {
        let number = |at: usize| U64Deserializer::<ReadError>::new(at as u64);
        let part = match self.next {
            0 => seed.deserialize(number(self.node.span.start))?,
            1 => seed.deserialize(number(self.node.span.end))?,
            2 => seed.deserialize(BoolDeserializer::<ReadError>::new(self.node.is_stand_in))?,
            3 => seed.deserialize(Reader(self.node))?,
            _ => return Ok(None),
        };
        self.next += 1;
        Ok(Some(part))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Placed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(PLACED, PlacedVisitor(PhantomData))
    }
}

struct PlacedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for PlacedVisitor<T> {
    type Value = Placed<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value with its place")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Placed<T>, A::Error> {
        let missing = || serde::de::Error::custom("a place has four parts");
        let start: usize = access.next_element()?.ok_or_else(missing)?;
        let end: usize = access.next_element()?.ok_or_else(missing)?;
        let is_stand_in = access.next_element()?.ok_or_else(missing)?;
        let value = access.next_element()?.ok_or_else(missing)?;
        Ok(Placed { value, span: start..end, is_stand_in })
    }
}

/// The schema of a placed value is that of the value.
impl<T: JsonSchema> JsonSchema for Placed<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
