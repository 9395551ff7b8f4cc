//! `groups`: the groups of cma.toml with their hosts, and why each is in. And the choice of hosts by group and tag that other
//! commands share.

use crate::client::get;
use crate::{Context, Failure, Finding};
use model::text::shortened;
use output::{Rows, note};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Tags that are listed in a message, in characters.
const MAX_TAGS_CHARS: usize = 300;

#[derive(clap::Args)]
pub struct Options {
    /// Only this group
    group: Option<String>,
    /// Only the groups of this host
    #[arg(long)]
    host: Option<String>,
}

/// Which hosts a command shows.
#[derive(clap::Args)]
pub struct Choice {
    /// Only hosts of this group
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Only hosts that have this tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
}

impl Choice {
    /// The names of the hosts; `None`: all.
    pub fn hosts(&self, context: &Context) -> Result<Option<BTreeSet<String>>, Failure> {
        if self.group.is_none() && self.tag.is_none() {
            return Ok(None);
        }
        let answer = get(context, "/v1/groups")?;
        if let Some(tag) = &self.tag {
            must_be_known(&answer, tag)?;
        }
        chosen(&answer, self.group.as_deref(), self.tag.as_deref()).map(Some)
    }

    /// The same for those who asked before and go on: that nobody has the tag any more is no mistake.
    pub fn hosts_meanwhile(&self, context: &Context) -> Result<Option<BTreeSet<String>>, Failure> {
        if self.group.is_none() && self.tag.is_none() {
            return Ok(None);
        }
        chosen(&get(context, "/v1/groups")?, self.group.as_deref(), self.tag.as_deref()).map(Some)
    }
}

/// A tag that no host has chooses none, and that nothing is wrong with none of them would read like good news.
fn must_be_known(answer: &Value, tag: &str) -> Result<(), Failure> {
    let known: Vec<&str> =
        answer["tags"].as_object().into_iter().flatten().map(|(tag, _)| tag.as_str()).collect();
    if known.contains(&tag) {
        return Ok(());
    }
    let there_are = match known.is_empty() {
        true => "No host has any.".to_owned(),
        false => format!("There are: {}.", shortened(&known.join(", "), MAX_TAGS_CHARS)),
    };
    Err(Failure::new(format!("no host has the tag {tag:?}"))
        .hint(there_are + " `assimcli hosts tag HOST add TAG` gives one.")
        .meant(tag, known))
}

fn chosen(answer: &Value, group: Option<&str>, tag: Option<&str>) -> Result<BTreeSet<String>, Failure> {
    let texts = |values: &[Value]| -> BTreeSet<String> {
        values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let of_group = group.map(|name| Ok::<_, Failure>(members(find(answer, name)?))).transpose()?;
    let of_tag =
        tag.map(|tag| answer["tags"][tag].as_array().map_or_else(BTreeSet::new, |hosts| texts(hosts)));
    Ok(match (of_group, of_tag) {
        (Some(group), Some(tag)) => group.intersection(&tag).cloned().collect(),
        (one, other) => one.or(other).unwrap_or_default(),
    })
}

fn members(group: &Value) -> BTreeSet<String> {
    let hosts = group["hosts"].as_array().into_iter().flatten();
    hosts.filter_map(|member| member["host"].as_str()).map(str::to_owned).collect()
}

fn find<'a>(answer: &'a Value, name: &str) -> Result<&'a Value, Failure> {
    let mut all = answer["groups"].as_array().into_iter().flatten();
    all.find(|group| group["group"] == name).ok_or_else(|| {
        let names =
            answer["groups"].as_array().into_iter().flatten().filter_map(|group| group["group"].as_str());
        Failure::new(format!("there is no group {name:?}"))
            .hint("`assimcli groups` lists them; [groups] of cma.toml makes them.")
            .meant(name, names)
    })
}

pub fn run(context: &Context, options: &Options) -> Result<Finding, Failure> {
    let answer = get(context, "/v1/groups")?;
    if let Some(name) = &options.group {
        find(&answer, name)?;
    }
    rows(&answer, options.group.as_deref(), options.host.as_deref()).print(context.format)?;
    if answer["groups"].as_array().is_none_or(Vec::is_empty) {
        note!("There are no groups: [groups] of cma.toml makes them.");
    }
    Ok(Finding::Nothing)
}

/// A row for each host of each group; one without a host for a group that has none.
fn rows(answer: &Value, only: Option<&str>, host: Option<&str>) -> Rows {
    let mut rows = Rows::new(&["group", "host", "why", "since", "uses"]);
    let all = answer["groups"].as_array().into_iter().flatten();
    for group in all.filter(|group| only.is_none_or(|only| group["group"] == only)) {
        let uses: Vec<&str> =
            group["uses"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut push = |host: Value, why: Value, since: Value| {
            rows.rows.push(vec![group["group"].clone(), host, why, since, json!(uses.join(", "))]);
        };
        let members = group["hosts"].as_array().into_iter().flatten();
        let mut shown = 0;
        for member in members.filter(|member| host.is_none_or(|host| member["host"] == host)) {
            push(member["host"].clone(), member["why"].clone(), member["since"].clone());
            shown += 1;
        }
        if shown == 0 && host.is_none() {
            push(json!(""), json!(""), json!(""));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Value {
        json!({"groups": [
            {"group": "db", "hosts": [], "uses": []},
            {"group": "web", "uses": ["rules WEB", "sshd"], "hosts": [
                {"host": "web1", "why": "name web*", "since": "2026-11-23T04:00:00Z"},
                {"host": "web2", "why": "tag web", "since": "2026-11-23T04:00:00Z"}]}],
            "tags": {"pci": ["web2", "mail"]}})
    }

    #[test]
    fn every_group_has_a_row() {
        let shown = |only, host| -> Vec<String> {
            let rows = rows(&answer(), only, host).rows;
            rows.iter().map(|row| format!("{} {}", output::text(&row[0]), output::text(&row[1]))).collect()
        };
        assert_eq!(shown(None, None), ["db ", "web web1", "web web2"]);
        assert_eq!(shown(Some("web"), None), ["web web1", "web web2"]);
        assert_eq!(shown(None, Some("web2")), ["web web2"]);
    }

    #[test]
    fn hosts_by_group_and_tag() {
        let names =
            |group, tag| -> Vec<String> { chosen(&answer(), group, tag).ok().unwrap().into_iter().collect() };
        assert_eq!(names(Some("web"), None), ["web1", "web2"]);
        assert_eq!(names(None, Some("pci")), ["mail", "web2"]);
        assert_eq!(names(Some("web"), Some("pci")), ["web2"]);
        assert!(names(None, Some("none")).is_empty());
        assert!(chosen(&answer(), Some("wbe"), None).is_err_and(|error| error.message.contains("wbe")));
    }

    #[test]
    fn misspelt_groups_and_tags_are_mistakes() {
        let hint = |result: Result<(), Failure>| result.unwrap_err().hint;
        assert!(must_be_known(&answer(), "pci").is_ok());
        assert!(hint(must_be_known(&answer(), "pcii")).starts_with("Did you mean \"pci\"?"));
        assert!(hint(must_be_known(&answer(), "production")).starts_with("There are: pci."));
        assert!(hint(must_be_known(&json!({"tags": {}}), "pci")).starts_with("No host has any."));
        assert!(hint(find(&answer(), "wbe").map(|_| ())).starts_with("Did you mean \"web\"?"));
    }
}
