//! Parameters of canned queries: their types, and how values are checked and brought into the form in which the
//! database holds them.

use crate::sqlite::functions::compile;
use model::Designation;
use model::graph::{EdgeKind, NodeKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::net::IpAddr;

const MAX_TEXT_BYTES: usize = 1000;
const MAX_LIST: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParameterType {
    String,
    Int,
    Float,
    Bool,
    /// IPv4 or IPv6; normalised to `10.0.0.7` (also from `::ffff:10.0.0.7`) or the canonical text of RFC 5952.
    Ipaddr,
    /// 6 or 8 bytes with `:` or `-`; normalised to lower case with `-`.
    Macaddr,
    /// Designation of a host; normalised to lower case.
    Hostname,
    /// Name in the domain name system (RFC 1123); normalised to lower case without the last dot.
    Dnsname,
    /// Kind of a node of the graph, such as `Drone`; capital and small letters are the same.
    Nodetype,
    /// Kind of an edge of the graph, such as `hosting`; capital and small letters are the same.
    Reltype,
    Regex,
    /// One of `values`.
    Enum,
    /// Elements of type `of`, as a list or as a text with commas; SQL reads it with `json_each(:name)`.
    List,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: ParameterType,
    pub description: String,
    /// Least value of an int or float.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Greatest value of an int or float.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// What an enum can be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// Type of the elements of a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<ParameterType>,
    /// Value when none is given; without it the parameter must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
}

impl Parameter {
    /// Whether the declaration itself makes sense.
    pub fn check(&self) -> Result<(), String> {
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !self.name.starts_with(|c: char| c.is_ascii_alphabetic()) || !self.name.chars().all(legal) {
            return Err("a name has letters, digits and '_'".into());
        }
        let is = |kind| self.kind == kind || self.of == Some(kind);
        if (self.kind == ParameterType::List) != self.of.is_some() || self.of == Some(ParameterType::List) {
            return Err("a list, and only a list, needs of = \"TYPE\"".into());
        }
        if is(ParameterType::Enum) == self.values.is_empty() {
            return Err("an enum, and only an enum, needs values".into());
        }
        let bounded = self.min.is_some() || self.max.is_some();
        if bounded && !is(ParameterType::Int) && !is(ParameterType::Float) {
            return Err("min and max are for int and float".into());
        }
        if let Some(default) = &self.default {
            self.normalise(default).map_err(|e| format!("its default: {e}"))?;
        }
        Ok(())
    }

    /// The value in the form that SQL compares with. Texts, as from a command line, are read as the type asks for.
    pub fn normalise(&self, value: &Value) -> Result<Value, String> {
        let ParameterType::List = self.kind else {
            return self.one(self.kind, value);
        };
        let kind = self.of.unwrap_or(ParameterType::String);
        let items: Vec<Value> = match value {
            Value::Array(items) => items.clone(),
            Value::String(text) if text.trim().is_empty() => vec![],
            Value::String(text) => text.split(',').map(|item| Value::from(item.trim())).collect(),
            other => vec![other.clone()],
        };
        if items.len() > MAX_LIST {
            return Err(format!("a list has at most {MAX_LIST} elements"));
        }
        items.iter().map(|item| self.one(kind, item)).collect::<Result<Vec<_>, _>>().map(Value::from)
    }

    fn one(&self, kind: ParameterType, value: &Value) -> Result<Value, String> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            _ => return Err("expected a single value".into()),
        };
        if text.len() > MAX_TEXT_BYTES {
            return Err(format!("a value has at most {MAX_TEXT_BYTES} bytes"));
        }
        match kind {
            ParameterType::String | ParameterType::List => Ok(Value::from(text)),
            ParameterType::Int => {
                let number: i64 = text.trim().parse().map_err(|_| format!("not a whole number: {text:?}"))?;
                self.within(number as f64)?;
                Ok(Value::from(number))
            }
            ParameterType::Float => {
                let number: f64 = text.trim().parse().map_err(|_| format!("not a number: {text:?}"))?;
                if !number.is_finite() {
                    return Err(format!("not a finite number: {text:?}"));
                }
                self.within(number)?;
                Ok(Value::from(number))
            }
            ParameterType::Bool => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "1" => Ok(Value::from(true)),
                "false" | "no" | "0" => Ok(Value::from(false)),
                _ => Err(format!("not true or false: {text:?}")),
            },
            ParameterType::Ipaddr => {
                let address: IpAddr =
                    text.trim().parse().map_err(|_| format!("not an IP address: {text:?}"))?;
                Ok(Value::from(address.to_canonical().to_string()))
            }
            ParameterType::Macaddr => macaddr(text.trim()).map(Value::from),
            ParameterType::Hostname => Designation::new(text.trim())
                .map(|name| Value::from(name.as_str()))
                .map_err(|e| e.to_string()),
            ParameterType::Dnsname => dnsname(text.trim()).map(Value::from),
            ParameterType::Nodetype => known("kind of node", &text, NodeKind::ALL.map(NodeKind::as_str)),
            ParameterType::Reltype => known("kind of edge", &text, EdgeKind::ALL.map(EdgeKind::as_str)),
            ParameterType::Regex => compile(&text).map(|_| Value::from(text)),
            ParameterType::Enum => match self.values.contains(&text) {
                true => Ok(Value::from(text)),
                false => Err(format!("{text:?} is not one of: {}", self.values.join(", "))),
            },
        }
    }

    fn within(&self, number: f64) -> Result<(), String> {
        match (self.min, self.max) {
            (Some(min), _) if number < min => Err(format!("{number} is below {min}")),
            (_, Some(max)) if number > max => Err(format!("{number} is above {max}")),
            _ => Ok(()),
        }
    }
}

/// The name of `names` that `text` means.
fn known<const N: usize>(what: &str, text: &str, names: [&str; N]) -> Result<Value, String> {
    let found = names.iter().find(|name| name.eq_ignore_ascii_case(text.trim()));
    found
        .map(|name| Value::from(*name))
        .ok_or_else(|| format!("{text:?} is no {what}; there are: {}", names.join(", ")))
}

fn dnsname(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    // Underscores are not for hosts, but are there in names all the same.
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    match name.len() <= 253 && name.split('.').all(is_label) {
        true => Ok(name),
        false => Err(format!("not a DNS name: {text:?}")),
    }
}

fn macaddr(text: &str) -> Result<String, String> {
    let wrong = || format!("not a MAC address of 6 or 8 bytes: {text:?}");
    let separator = if text.contains(':') { ':' } else { '-' };
    let bytes: Vec<&str> = text.split(separator).collect();
    let plain = |byte: &&str| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !matches!(bytes.len(), 6 | 8) || !bytes.iter().all(plain) {
        return Err(wrong());
    }
    Ok(bytes.join("-").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parameter(kind: &str, more: &str) -> Parameter {
        let parameter: Parameter =
            toml::from_str(&format!("name = \"p\"\ntype = {kind:?}\ndescription = \"d\"\n{more}")).unwrap();
        parameter.check().unwrap();
        parameter
    }

    #[test]
    fn values_are_brought_into_the_stored_form() {
        for (kind, more, given, expected) in [
            ("string", "", json!("x"), json!("x")),
            ("int", "min = 1\nmax = 9", json!("7"), json!(7)),
            ("int", "", json!(7), json!(7)),
            ("float", "", json!("0.5"), json!(0.5)),
            ("bool", "", json!("yes"), json!(true)),
            ("ipaddr", "", json!("::FFFF:10.0.0.7"), json!("10.0.0.7")),
            ("ipaddr", "", json!("2001:DB8:0:0::1"), json!("2001:db8::1")),
            ("macaddr", "", json!("00:16:3E:00:00:01"), json!("00-16-3e-00-00-01")),
            ("macaddr", "", json!("00-16-3e-00-00-01-aa-bb"), json!("00-16-3e-00-00-01-aa-bb")),
            ("hostname", "", json!("Web1.Example"), json!("web1.example")),
            ("dnsname", "", json!("WWW.Example.org."), json!("www.example.org")),
            ("nodetype", "", json!("drone"), json!("Drone")),
            ("reltype", "", json!("TcpService"), json!("tcpservice")),
            ("regex", "", json!("^a+$"), json!("^a+$")),
            ("enum", "values = [\"a\", \"b\"]", json!("b"), json!("b")),
            ("list", "of = \"hostname\"", json!("A, b"), json!(["a", "b"])),
            ("list", "of = \"int\"", json!([1, "2"]), json!([1, 2])),
            ("list", "of = \"string\"", json!(""), json!([])),
            ("list", "of = \"nodetype\"", json!("NICNode,ipaddrnode"), json!(["NICNode", "IPaddrNode"])),
            ("list", "of = \"reltype\"", json!(["wiredto"]), json!(["wiredto"])),
        ] {
            assert_eq!(parameter(kind, more).normalise(&given), Ok(expected), "{kind} {given}");
        }
    }

    #[test]
    fn wrong_values_are_told() {
        for (kind, more, given) in [
            ("string", "", json!({"a": 1})),
            ("string", "", json!("x".repeat(1001))),
            ("int", "", json!("7.5")),
            ("int", "min = 1", json!(0)),
            ("int", "max = 9", json!(10)),
            ("float", "", json!("NaN")),
            ("bool", "", json!("maybe")),
            ("ipaddr", "", json!("10.0.0.300")),
            ("ipaddr", "", json!("10.0.0.0/24")),
            ("macaddr", "", json!("00:16:3e:00:00")),
            ("macaddr", "", json!("00:16-3e:00:00:01")),
            ("macaddr", "", json!("00:16:3e:00:00:+1")),
            ("hostname", "", json!("a b")),
            ("dnsname", "", json!("")),
            ("dnsname", "", json!("a..b")),
            ("dnsname", "", json!("-a.example")),
            ("dnsname", "", json!("a b.example")),
            ("dnsname", "", json!("a.".repeat(127) + "b")),
            ("dnsname", "", json!("x".repeat(64))),
            ("nodetype", "", json!("Drones")),
            ("reltype", "", json!("")),
            ("list", "of = \"nodetype\"", json!("Drone,,")),
            ("regex", "", json!("(")),
            ("enum", "values = [\"a\"]", json!("b")),
            ("list", "of = \"int\"", json!("1,x")),
        ] {
            assert!(parameter(kind, more).normalise(&given).is_err(), "{kind} {given}");
        }
    }
}
