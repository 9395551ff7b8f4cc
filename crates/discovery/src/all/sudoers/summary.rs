//! Lists that rules ask for: which rules of the policy are laxer than they look.

use serde_json::{Map, Value};

/// Longer lists are cut: one entry is enough for a rule to fail.
const MAX_ENTRIES: usize = 200;
const KEYS: [&str; 3] = ["commands_without_arguments", "negated_commands", "runas_root"];

/// The lists that have entries, by name.
pub fn of(rules: &[Value], aliases: &Map<String, Value>) -> Map<String, Value> {
    let mut lists: [Vec<Value>; 3] = Default::default();
    for rule in rules {
        let users: Vec<&str> = texts(&rule["users"]).collect();
        let is_root = !users.is_empty() && users.iter().all(|user| matches!(*user, "root" | "#0"));
        let who = model::text::shortened(&users.join(", "), 200).into_owned();
        for entry in rule["rulelist"].as_array().into_iter().flatten() {
            let Some(command) = entry["command"].as_str() else { continue };
            let mut note = |list: usize, command: &str| {
                if let Some(list) = lists.get_mut(list).filter(|list| list.len() < MAX_ENTRIES) {
                    list.push(Value::from(format!("{who}: {command}")));
                }
            };
            for command in resolved(command, aliases) {
                match command.strip_prefix('!') {
                    Some(_) => note(1, command),
                    None if takes_any_arguments(command) => note(0, command),
                    None => {}
                }
            }
            if !is_root && runs_as_root(&entry["runas"], aliases) {
                note(2, command);
            }
        }
    }
    KEYS.iter()
        .zip(lists)
        .filter(|(_, list)| !list.is_empty())
        .map(|(key, list)| ((*key).to_owned(), Value::Array(list)))
        .collect()
}

/// A command, or the members of its alias; an alias within an alias is not followed further.
fn resolved<'a>(command: &'a str, aliases: &'a Map<String, Value>) -> Vec<&'a str> {
    let members =
        aliases.get("CommandAliases").and_then(|table| table.get(command)).and_then(Value::as_array);
    match members {
        Some(members) => members
            .iter()
            .take(1000)
            .filter_map(|member| member.as_str().or_else(|| member["file"].as_str()))
            .collect(),
        None => vec![command],
    }
}

/// A path without arguments, or ALL. A directory, `sudoedit` with its file and names of aliases have none to give.
fn takes_any_arguments(command: &str) -> bool {
    command == "ALL"
        || (command.starts_with('/') && !command.ends_with('/') && !command.contains([' ', '\t']))
}

/// Without a list of users a command runs as root.
fn runs_as_root(runas: &Value, aliases: &Map<String, Value>) -> bool {
    let Some(users) = runas["users"].as_array() else { return true };
    let table = aliases.get("RunasAliases");
    users.iter().filter_map(Value::as_str).any(|user| {
        let members = table.and_then(|table| table.get(user));
        matches!(user, "root" | "ALL" | "#0")
            || members.is_some_and(|members| texts(members).any(|user| matches!(user, "root" | "ALL" | "#0")))
    })
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn summary(rulelist: Value, users: Value) -> Value {
        let aliases = json!({"CommandAliases": {"A": ["/bin/x", {"sum": "s", "file": "/bin/y"}, "!/bin/z"]},
            "RunasAliases": {"R": ["root"], "D": ["db"]}});
        let aliases = aliases.as_object().unwrap();
        Value::Object(of(&[json!({ "users": users, "rulelist": rulelist })], aliases))
    }

    #[test]
    fn commands() {
        let db = json!({"users": ["db"], "groups": []});
        let list = json!([{"runas": db, "command": "/bin/a"}, {"runas": db, "command": "/bin/a -x"}, {"runas": db, "command": "/bin/a \"\""},
            {"runas": db, "command": "!/bin/b"}, {"runas": db, "command": "A"}, {"runas": db, "command": "/usr/bin/"}]);
        let expected = json!({"commands_without_arguments": ["%g, u: /bin/a", "%g, u: /bin/x", "%g, u: /bin/y"],
            "negated_commands": ["%g, u: !/bin/b", "%g, u: !/bin/z"]});
        assert_eq!(summary(list, json!(["%g", "u"])), expected);
    }

    #[test]
    fn targets() {
        for (users, runas, expected) in [
            ("root", json!({"users": ["ALL"]}), false),
            ("u", json!({"users": ["ALL"]}), true),
            ("u", json!({"users": ["R"]}), true),
            ("u", json!({"users": ["D", "x"]}), false),
            ("u", json!({"users": [], "groups": ["g"]}), false),
            ("u", Value::Null, true),
        ] {
            let found = summary(json!([{ "runas": runas, "command": "/bin/a b" }]), json!([users]));
            assert_eq!(found.get("runas_root").is_some(), expected, "{users} {runas}");
        }
    }
}
