//! What a settings file may say, taken from the structures that it is read into.
//!
//! [`settings!`] puts the doc comments and types of a structure's fields beside it as data, so that there is one place
//! for each setting and nothing that could lag behind it.

use std::collections::BTreeMap;

/// The form of a value.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// `true` or `false`.
    Flag,
    /// A whole number from 0 to this.
    Whole(u64),
    Number,
    Text,
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A list of texts.
    Texts,
    /// These keys and no others.
    Table(&'static [Field]),
    /// Keys of the operator's own choice, each with a value of this form.
    Map(&'static Shape),
    /// Either a list of texts, or a table of these keys.
    TextsOrTable(&'static [Field]),
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    /// Its doc comment; each line begins with the blank behind the slashes.
    comment: &'static str,
    pub shape: Shape,
}

impl Field {
    pub const fn new(name: &'static str, comment: &'static str, shape: Shape) -> Self {
        Self { name, comment, shape }
    }

    /// Its documentation, line by line.
    pub fn lines(&self) -> impl Iterator<Item = &'static str> {
        self.comment.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end())
    }

    /// Its documentation in one paragraph.
    pub fn meaning(&self) -> String {
        self.lines().collect::<Vec<_>>().join(" ").trim().to_owned()
    }
}

impl Shape {
    /// The keys of a table.
    pub fn fields(&self) -> &'static [Field] {
        match self {
            Self::Table(fields) | Self::TextsOrTable(fields) => fields,
            _ => &[],
        }
    }

    /// Whether it has a header of its own in a file.
    pub fn is_section(&self) -> bool {
        matches!(self, Self::Table(_) | Self::Map(_))
    }

    /// What is allowed, for people.
    pub fn allowed(&self) -> String {
        match self {
            Self::Flag => "true or false".into(),
            // As much as the type holds: what makes sense stands in the comment.
            Self::Whole(most) if *most >= u64::from(u32::MAX) => "a whole number, 0 or more".into(),
            Self::Whole(most) => format!("a whole number from 0 to {most}"),
            Self::Number => "a number".into(),
            Self::Text => "a text in quotation marks".into(),
            Self::OneOf(words) => {
                words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" or ")
            }
            Self::Texts => "a list of texts, such as [\"a\", \"b\"]".into(),
            Self::Table(_) | Self::Map(_) => "a table".into(),
            Self::TextsOrTable(_) => "a list of texts or a table".into(),
        }
    }
}

/// A type that values of settings are read into.
pub trait Setting {
    const SHAPE: Shape;
}

impl Setting for bool {
    const SHAPE: Shape = Shape::Flag;
}

impl Setting for u8 {
    const SHAPE: Shape = Shape::Whole(u8::MAX as u64);
}

impl Setting for u32 {
    const SHAPE: Shape = Shape::Whole(u32::MAX as u64);
}

impl Setting for u64 {
    const SHAPE: Shape = Shape::Whole(i64::MAX as u64);
}

impl Setting for usize {
    const SHAPE: Shape = Shape::Whole(i64::MAX as u64);
}

impl Setting for f64 {
    const SHAPE: Shape = Shape::Number;
}

impl Setting for String {
    const SHAPE: Shape = Shape::Text;
}

impl Setting for Vec<String> {
    const SHAPE: Shape = Shape::Texts;
}

impl<T: Setting> Setting for Option<T> {
    const SHAPE: Shape = T::SHAPE;
}

impl<T: Setting> Setting for BTreeMap<String, T> {
    const SHAPE: Shape = Shape::Map(&T::SHAPE);
}

/// Declares a structure of settings as it stands there, and makes it a [`Setting`] whose fields keep their doc comments.
/// With `shape TextsOrTable;` in front it may also be written as a list.
macro_rules! settings {
    ($(#[$($outer:tt)*])* pub struct $($rest:tt)*) => {
        $crate::config::shape::settings! { shape Table; $(#[$($outer)*])* pub struct $($rest)* }
    };
    (shape $shape:ident; $(#[$($outer:tt)*])* pub struct $name:ident {
        $($(#[$($attribute:tt)*])* pub $field:ident: $type:ty,)*
    }) => {
        $(#[$($outer)*])*
        pub struct $name {
            $($(#[$($attribute)*])* pub $field: $type,)*
        }

        impl $crate::config::shape::Setting for $name {
            const SHAPE: $crate::config::shape::Shape = $crate::config::shape::Shape::$shape(&[
                $($crate::config::shape::Field::new(
                    stringify!($field),
                    concat!($($crate::config::shape::comment!($($attribute)*)),*),
                    <$type as $crate::config::shape::Setting>::SHAPE,
                ),)*
            ]);
        }
    };
}

/// The text of an attribute if that is a doc comment.
macro_rules! comment {
    (doc = $text:literal) => {
        concat!($text, "\n")
    };
    ($($other:tt)*) => {
        ""
    };
}

pub(crate) use {comment, settings};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CmaConfig, NanoprobeConfig};

    fn every(shape: &Shape, path: &str, found: &mut Vec<(String, Field)>) {
        if let Shape::Map(inner) = shape {
            every(inner, &format!("{path}.*"), found);
        }
        for field in shape.fields() {
            let path = format!("{path}.{}", field.name);
            found.push((path.clone(), *field));
            every(&field.shape, &path, found);
        }
    }

    #[test]
    fn every_setting_is_documented() {
        let mut found = Vec::new();
        every(&CmaConfig::SHAPE, "cma", &mut found);
        every(&NanoprobeConfig::SHAPE, "nanoprobe", &mut found);
        let silent: Vec<&String> =
            found.iter().filter(|(_, field)| field.meaning().len() < 10).map(|(path, _)| path).collect();
        assert!(silent.is_empty(), "without a doc comment: {silent:?}");
        let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
        for path in ["cma.discovery.agents.*.parameters", "cma.heartbeats.probes", "nanoprobe.queue_bytes"] {
            assert!(paths.contains(&path), "{path} is not in {paths:?}");
        }
    }
}
