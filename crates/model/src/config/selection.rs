//! Which hosts a group or a domain has.

use super::matches_pattern;
use super::shape::settings;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use std::fmt;

settings! {
    shape TextsOrTable;
    /// Hosts by name, tag, question, or because they are in another group: a host that fits any of these is in.
    ///
    /// In a file it is a table of these keys, or only a list, which is that of `names`.
    #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default, remote = "Self")]
    pub struct Selection {
        /// Host name patterns, in which `*` stands for any run of characters. Host names are in lower case.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub names: Vec<String>,
        /// Tags, of which a host must have one: `assimcli hosts tag`, or those of the token that it was enrolled with.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub tags: Vec<String>,
        /// A SELECT over the documented views. Each text in the column `host`, or in the first column where none has that
        /// name, is the name of a host that is in.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub query: Option<String>,
        /// The name of a canned query whose parameters all have defaults, used in the same way.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub query_name: Option<String>,
        /// Other groups, whose hosts are all in.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub groups: Vec<String>,
    }
}

/// What the database is asked for the hosts of a selection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// `query`.
    Sql(String),
    /// `query_name`.
    Named(String),
}

impl Selection {
    /// By name patterns alone.
    pub fn of_names(names: Vec<String>) -> Self {
        Self { names, ..Self::default() }
    }

    /// The first pattern that a host's name fits.
    pub fn name_pattern(&self, designation: &str) -> Option<&str> {
        self.names.iter().find(|pattern| matches_pattern(pattern, designation)).map(String::as_str)
    }

    pub fn questions(&self) -> impl Iterator<Item = Question> {
        let typed = self.query.clone().map(Question::Sql);
        typed.into_iter().chain(self.query_name.clone().map(Question::Named))
    }

    fn has_only_names(&self) -> bool {
        let Self { names: _, tags, query, query_name, groups } = self;
        tags.is_empty() && query.is_none() && query_name.is_none() && groups.is_empty()
    }
}

impl Serialize for Selection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.has_only_names() {
            return self.names.serialize(serializer);
        }
        Selection::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Selection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Selection;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a list of host name patterns, or a table with names, tags, query, query_name and groups",
                )
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Selection, A::Error> {
                let names = <Vec<String> as Deserialize>::deserialize(SeqAccessDeserializer::new(list))?;
                Ok(Selection::of_names(names))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Selection, A::Error> {
                Selection::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CmaConfig, parse_toml};

    #[test]
    fn a_list_is_a_table_of_names() {
        let text = "[groups]\nweb = [\"web*\"]\n[groups.db]\nnames = [\"db*\"]\ntags = [\"sql\"]\n[groups.tables]\nnames = [\"t\"]\n";
        let config: CmaConfig = parse_toml("cma.toml", text).unwrap();
        assert_eq!(config.groups["web"], Selection::of_names(vec!["web*".into()]));
        assert_eq!(config.groups["db"].tags, ["sql"]);
        // What is written reads back as the same.
        let written = toml::to_string(&config).unwrap();
        assert_eq!(parse_toml::<CmaConfig>("again", &written).unwrap(), config);
        assert!(written.contains("web = [\"web*\"]") && written.contains("tables = [\"t\"]"), "{written}");
        let error = parse_toml::<CmaConfig>("cma.toml", "[groups]\nweb = 3\n").unwrap_err().to_string();
        assert!(
            error.contains("line 2") && error.contains("an integer is not a list of texts or a table"),
            "{error}"
        );
    }

    #[test]
    fn questions_of_both_kinds() {
        let selection = Selection {
            query: Some("SELECT 1".into()),
            query_name: Some("down".into()),
            ..Selection::default()
        };
        let asked: Vec<Question> = selection.questions().collect();
        assert_eq!(asked, [Question::Sql("SELECT 1".into()), Question::Named("down".into())]);
    }
}
