//! `--print-config`: a settings file with every key, what it means, its default, and where its value comes from. And the
//! table of all keys in docs/configuration.md, from the same place.

use super::check::{HIDDEN, Lines, join, key_text};
use super::shape::{Field, Shape};
use toml::{Table, Value};

/// What a program knows about a setting that can also be given by a flag or an environment variable.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// The key, at the top of the file.
    pub key: &'static str,
    /// `--bind`.
    pub flag: &'static str,
    /// `CMA_BIND`; empty when there is none.
    pub variable: &'static str,
    /// The value when nobody says another, for people.
    pub default: String,
    /// The value in force; `None` when it is that of the file.
    pub value: Option<Value>,
    /// `--bind` or `CMA_BIND` when the value comes from there.
    pub from: Option<&'static str>,
}

/// What is printed.
pub struct Effective<'a> {
    /// Of the file, such as `/etc/assimilation/cma.toml`.
    pub path: &'a str,
    pub fields: &'a [Field],
    /// The file with its defaults.
    pub config: &'a Table,
    /// An empty file with its defaults.
    pub defaults: &'a Table,
    pub origins: &'a [Origin],
    /// Where the keys of the file stand.
    pub lines: &'a Lines,
}

/// The text of a file that gives the same settings, but for secrets: those are hidden, and a file with a hidden one is refused.
pub fn effective(what: &Effective<'_>) -> String {
    let mut page = Page { what, text: String::new() };
    let head = format!(
        "The settings in force: flags beat environment variables, these beat {}, the file beats the defaults.\n\
         What differs from its default says where it comes from. Secrets are hidden: put them in again before this is used as a file.",
        what.path
    );
    page.comment(&head);
    page.table(what.fields, what.config, Some(what.defaults), "");
    page.text
}

/// The keys of a file as a table in Markdown, with headings for its sections.
pub fn reference(fields: &[Field], defaults: &Table, origins: &[Origin]) -> String {
    let mut text = String::new();
    section(fields, Some(defaults), origins, "", &mut text);
    text
}

/// For tests: that the part of a page between `<!-- begin NAME -->` and `<!-- end NAME -->` is `text`. With `UPDATE` in the
/// environment it is written.
///
/// # Errors
/// What to do when it is not.
pub fn keep_current(path: &str, name: &str, text: &str, test: &str) -> Result<(), String> {
    let page = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let parts = page.split_once(&begin).and_then(|(head, rest)| Some((head, rest.split_once(&end)?)));
    let Some((head, (written, tail))) = parts else { return Err(format!("{path} has no part {name}")) };
    if written == text {
        return Ok(());
    }
    if std::env::var_os("UPDATE").is_none() {
        return Err(format!("{path} is not current; write it with UPDATE=1 cargo test -p {test}"));
    }
    std::fs::write(path, format!("{head}{begin}{text}{end}{tail}"))
        .map_err(|error| format!("{path}: {error}"))
}

struct Page<'a> {
    what: &'a Effective<'a>,
    text: String,
}

impl Page<'_> {
    fn table(&mut self, fields: &[Field], values: &Table, defaults: Option<&Table>, path: &str) {
        let is_leaf = |field: &&Field| !field.shape.is_section();
        for field in fields.iter().filter(is_leaf) {
            self.leaf(field, values.get(field.name), defaults, path);
        }
        for field in fields.iter().filter(|field| !is_leaf(field)) {
            let at = join(path, field.name);
            let empty = Table::new();
            let below = values.get(field.name).and_then(Value::as_table).unwrap_or(&empty);
            let default = defaults.and_then(|defaults| defaults.get(field.name)).and_then(Value::as_table);
            self.text.push('\n');
            self.comment(&field.lines().collect::<Vec<_>>().join("\n"));
            match &field.shape {
                Shape::Table(fields) => {
                    self.text += &format!("[{at}]\n");
                    self.table(fields, below, default, &at);
                }
                Shape::Map(shape) => self.map(shape, below, default, &at),
                _ => {}
            }
        }
    }

    /// Keys of the operator's choice; what could be below each is told once.
    fn map(&mut self, shape: &Shape, values: &Table, default: Option<&Table>, path: &str) {
        let keys = shape.fields();
        if !keys.is_empty() {
            self.comment(&format!("Keys of [{path}.NAME]:"));
            for field in keys {
                self.comment(&format!("  {}: {}, {}", field.name, field.shape.allowed(), field.meaning()));
            }
        }
        self.text += &format!("[{path}]\n");
        let (leaves, tables): (Vec<_>, Vec<_>) = values.iter().partition(|(_, value)| !value.is_table());
        for (name, value) in leaves {
            let before = default.and_then(|default| default.get(name));
            if before != Some(value) {
                self.comment(&self.place_in_file(&join(path, name)));
            }
            self.text += &format!("{} = {}\n", key_text(name), shown(value, path));
        }
        for (name, value) in tables {
            let at = join(path, name);
            self.text.push('\n');
            self.comment(&self.place_in_file(&at));
            self.text += &format!("[{at}]\n");
            self.plain(value, &at);
        }
    }

    /// Below a key of the operator's choice: what is said there and nothing else.
    fn plain(&mut self, value: &Value, path: &str) {
        let Some(table) = value.as_table() else { return };
        for (name, value) in table.iter().filter(|(_, value)| !value.is_table()) {
            self.text += &format!("{} = {}\n", key_text(name), shown(value, path));
        }
        for (name, value) in table.iter().filter(|(_, value)| value.is_table()) {
            let at = join(path, name);
            self.text += &format!("\n[{at}]\n");
            self.plain(value, &at);
        }
    }

    fn leaf(&mut self, field: &Field, value: Option<&Value>, defaults: Option<&Table>, path: &str) {
        let at = join(path, field.name);
        let default = defaults.and_then(|defaults| defaults.get(field.name));
        let origin = self.what.origins.iter().find(|origin| at == origin.key);
        self.text.push('\n');
        self.comment(&field.lines().collect::<Vec<_>>().join("\n"));
        let by_default = origin
            .map(|origin| origin.default.clone())
            .unwrap_or_else(|| default.map_or_else(|| "not set".into(), Value::to_string));
        let mut note = format!("Allowed: {}. Default: {by_default}.", field.shape.allowed());
        if let Some(origin) = origin {
            let also: Vec<&str> =
                [origin.flag, origin.variable].into_iter().filter(|s| !s.is_empty()).collect();
            if !also.is_empty() {
                note += &format!(" Also: {}.", also.join(", "));
            }
        }
        let value = origin.and_then(|origin| origin.value.clone()).or_else(|| value.cloned());
        match origin.and_then(|origin| origin.from) {
            Some(from) => note += &format!(" This one: {from}."),
            None if self.what.lines.has(&at) => note += &format!(" This one: {}.", self.place_in_file(&at)),
            None => {}
        }
        self.comment(&note);
        match value {
            Some(value) => self.text += &format!("{} = {}\n", field.name, shown(&value, &at)),
            None => self.text += &format!("# {} is not set\n", field.name),
        }
    }

    fn place_in_file(&self, at: &str) -> String {
        match self.what.lines.of(at) {
            Some(line) => format!("{} line {line}", self.what.path),
            None => self.what.path.to_owned(),
        }
    }

    fn comment(&mut self, text: &str) {
        for line in text.lines() {
            // A path may have any character.
            let line: String = line.chars().filter(|c| !c.is_control()).collect();
            self.text += format!("# {line}").trim_end();
            self.text.push('\n');
        }
    }
}

/// A value as TOML, unless it is a secret.
fn shown(value: &Value, path: &str) -> String {
    if path == "store" {
        return Value::from(without_password(value.as_str().unwrap_or_default())).to_string();
    }
    let parts: Vec<&str> = path.split('.').collect();
    let is_environment = parts.starts_with(&["monitoring", "agents"]) && parts.last() == Some(&"env");
    if is_environment { Value::from(HIDDEN).to_string() } else { value.to_string() }
}

/// A URL with its password hidden (RFC 3986 §3.2.1).
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some((user, host)) = rest[..end].rsplit_once('@') else { return url.to_owned() };
    match user.split_once(':') {
        Some(_) => HIDDEN.to_owned(),
        None => format!("{scheme}://{user}@{host}{}", &rest[end..]),
    }
}

fn section(fields: &[Field], defaults: Option<&Table>, origins: &[Origin], path: &str, text: &mut String) {
    let cell = |text: &str| text.replace('|', "\\|");
    let (leaves, sections): (Vec<&Field>, Vec<&Field>) =
        fields.iter().partition(|field| !field.shape.is_section());
    if !leaves.is_empty() {
        *text += "\n| key | allowed | default | meaning |\n|---|---|---|---|\n";
    }
    for field in leaves {
        let at = join(path, field.name);
        let origin = origins.iter().find(|origin| at == origin.key);
        let default = match (origin, defaults.and_then(|defaults| defaults.get(field.name))) {
            (Some(origin), _) => origin.default.clone(),
            (None, Some(value)) => format!("`{}`", value.to_string().replace('|', "\\|")),
            (None, None) => String::new(),
        };
        let mut meaning = field.meaning();
        if let Some(origin) = origin {
            let also = [origin.flag, origin.variable].into_iter().filter(|s| !s.is_empty());
            let also: Vec<String> = also.map(|word| format!("`{word}`")).collect();
            if !also.is_empty() {
                meaning += &format!(" Also {}.", also.join(", "));
            }
        }
        *text +=
            &format!("| `{}` | {} | {default} | {} |\n", field.name, field.shape.allowed(), cell(&meaning));
    }
    for field in sections {
        let at = join(path, field.name);
        *text += &format!("\n### `[{at}]`\n{}\n", field.meaning());
        let below = defaults.and_then(|defaults| defaults.get(field.name)).and_then(Value::as_table);
        match &field.shape {
            Shape::Map(inner) if !inner.fields().is_empty() => {
                *text += &format!("\nBelow each name, `[{at}.NAME]`:\n");
                section(inner.fields(), None, origins, &format!("{at}.NAME"), text);
            }
            Shape::Map(inner) => {
                let inner = match inner {
                    Shape::Map(deeper) => deeper,
                    shape => shape,
                };
                *text += &format!("\nEach value: {}.", inner.allowed());
                if let Some(default) = below.filter(|below| !below.is_empty()) {
                    let default: Vec<String> = default.iter().map(|(k, v)| format!("`{k} = {v}`")).collect();
                    *text += &format!(" Default: {}.", default.join(", "));
                }
                text.push('\n');
            }
            shape => section(shape.fields(), below, origins, &at, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::check;
    use crate::config::shape::Setting;
    use crate::config::{CmaConfig, Selection, parse_toml};

    const FILE: &str = r#"
bind = "127.0.0.1:1"
[discovery]
repeat = 30
[discovery.agents."sshd/web1"]
enabled = false
[discovery.agents.checksums.parameters]
directories = "/usr/bin"
[monitoring.agents."nagios::check_pgsql/db1"]
env = { PGPASSWORD = "topsecret" }
[groups]
web = ["web*"]
[groups.db]
names = ["db*"]
query = "SELECT host FROM services WHERE process = 'pg'"
[rules.points.security]
high = 5
[oui]
"56-84-7a" = "a \"quoted\" vendor"
"#;

    fn printed(text: &str, origins: &[Origin]) -> String {
        let checked = check::<CmaConfig>(text);
        let config = Table::try_from(checked.config.unwrap()).unwrap();
        let defaults = Table::try_from(CmaConfig::default()).unwrap();
        effective(&Effective {
            path: "/etc/assimilation/cma.toml",
            fields: CmaConfig::SHAPE.fields(),
            config: &config,
            defaults: &defaults,
            origins,
            lines: &checked.lines,
        })
    }

    #[test]
    fn what_is_printed_gives_the_same_settings() {
        let text = FILE.replace("env = { PGPASSWORD = \"topsecret\" }\n", "failures = 2\n");
        for text in ["", &text] {
            let page = printed(text, &[]);
            let again: CmaConfig = parse_toml("printed", &page).unwrap_or_else(|e| panic!("{e}\n{page}"));
            assert_eq!(again, parse_toml("cma.toml", text).unwrap(), "{page}");
        }
        let again: CmaConfig = parse_toml("printed", &printed(&text, &[])).unwrap();
        assert_eq!(again.groups["web"], Selection::of_names(vec!["web*".into()]));
    }

    #[test]
    fn every_key_is_there_with_its_meaning_its_default_and_where_it_comes_from() {
        let page = printed(FILE, &[]);
        for part in [
            "# Seconds after which a script and all it started is killed.\n# Allowed: a whole number, 0 or more. Default: 60.\nscript_timeout_seconds = 60\n",
            "Default: not set. This one: /etc/assimilation/cma.toml line 4.\nrepeat = 30\n",
            "# warn is not set\n",
            "# Keys of [discovery.agents.NAME]:\n",
            "#   enabled: true or false, `false` switches the discovery off.\n",
            "# /etc/assimilation/cma.toml line 5\n[discovery.agents.\"sshd/web1\"]\nenabled = false\n",
            "\n[oui]\n",
        ] {
            assert!(page.contains(part), "{part:?} is not in\n{page}");
        }
    }

    #[test]
    fn secrets_are_hidden_and_a_file_with_hidden_ones_is_refused() {
        let origin = Origin {
            key: "store",
            flag: "--store",
            variable: "CMA_STORE",
            default: "sqlite".into(),
            value: Some(Value::from("postgres://u:verysecret@h/db")),
            from: Some("CMA_STORE"),
        };
        let page = printed(FILE, &[origin]);
        assert!(!page.contains("topsecret") && !page.contains("verysecret"), "{page}");
        assert!(
            page.contains("PGPASSWORD = \"(hidden)\"") && page.contains("This one: CMA_STORE."),
            "{page}"
        );
        let error = parse_toml::<CmaConfig>("printed", &page).unwrap_err().to_string();
        assert!(error.contains("--print-config hides a secret"), "{error}");
        assert_eq!(without_password("sqlite:/var/a:b@c"), "sqlite:/var/a:b@c");
        assert_eq!(without_password("postgres://u@h/x"), "postgres://u@h/x");
    }

    #[test]
    fn a_value_cannot_leave_its_line() {
        let page = printed("[oui]\n\"a\\nb = 1\" = \"x\\n[notify]\"\n", &[]);
        let again: CmaConfig = parse_toml("printed", &page).unwrap();
        assert_eq!(again.oui["a\nb = 1"], "x\n[notify]");
    }
}
