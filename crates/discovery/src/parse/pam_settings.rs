//! The settings of a PAM module that has a file of its own: `/etc/security/pwquality.conf` and its like.
//!
//! The module reads its drop-in files first, then its main file, and at last the arguments of its line in the PAM
//! stack: each wins over what came before (pwquality.conf(5), faillock.conf(5), pwhistory.conf(5)).

use super::pam_stack::{self, Stacks};
use super::{Errors, Files, integer, is_plausible_key, mask_secrets, quoted};
use serde_json::{Map, Value, json};

/// What there is to know about such a module.
pub struct Module {
    /// `pam_pwquality`
    pub name: &'static str,
    /// The main file.
    pub file: &'static str,
    /// A directory of `*.conf` that is read before it.
    pub drop_ins: Option<&'static str>,
    /// The phase in which the module works.
    pub phase: &'static str,
    /// The services and stacks whose lines are looked at; the first that calls the module counts.
    pub services: &'static [&'static str],
    /// Settings that are there or not; the others have a value.
    pub flags: &'static [&'static str],
    /// Settings that are text; the others are numbers.
    pub texts: &'static [&'static str],
    /// Words on the module's line that are no settings.
    pub ignored: &'static [&'static str],
    /// The argument that names another main file.
    pub file_argument: Option<&'static str>,
}

/// The effective settings, with `from` (setting → where it comes from) and `pam` (file → arguments there). When
/// there is neither a file nor a line that calls the module, `NODATA` says so.
pub fn read(files: &dyn Files, module: &Module) -> (Value, Vec<String>) {
    let mut errors = Errors::default();
    let mut stacks = Stacks::new(files, "/etc/pam.d");
    let path = format!("{}.so", module.name);
    // Mistakes in PAM's own files are told by the discovery of PAM.
    let lines = pam_stack::arguments(&mut stacks, module.services, module.phase, &path);
    let mut main = module.file.to_owned();
    if let Some(argument) = module.file_argument
        && let Some(other) = lines.iter().find_map(|(_, arguments)| arguments.get(argument)?.as_str())
        && other.starts_with('/')
    {
        main = other.to_owned();
    }
    let mut settings = Settings { module, values: Map::new(), from: Map::new() };
    let mut there = false;
    for file in drop_ins(files, module, &mut errors).into_iter().chain([main.clone()]) {
        match files.text(&file) {
            Ok(text) => {
                there = true;
                settings.add_file(&text, &file, &mut errors);
            }
            Err(reason) if reason.absent => {}
            Err(reason) if file == main => {
                errors.unread(&reason);
                return (super::no_data(&main), errors.into_list());
            }
            Err(reason) => {
                there = true;
                errors.unread(&reason);
            }
        }
    }
    if !there && lines.is_empty() {
        let sentence =
            format!("{} is not in use: there is no {main}, and no PAM line calls the module", module.name);
        return (json!({ "NODATA": sentence }), errors.into_list());
    }
    let mut pam = Map::new();
    for (index, (file, arguments)) in lines.into_iter().enumerate() {
        let arguments = arguments.into_iter().filter(|(name, _)| !module.ignored.contains(&name.as_str()));
        let arguments: Map<String, Value> = arguments.collect();
        if index == 0 {
            settings.add_arguments(&arguments, &file);
        }
        pam.insert(file, Value::Object(arguments));
    }
    let mut data = settings.values;
    data.insert("from".into(), Value::Object(settings.from));
    data.insert("pam".into(), Value::Object(pam));
    (Value::Object(data), errors.into_list())
}

fn drop_ins(files: &dyn Files, module: &Module, errors: &mut Errors) -> Vec<String> {
    let Some(directory) = module.drop_ins else { return Vec::new() };
    let mut names = match files.names(directory) {
        Ok(names) => names,
        Err(reason) => {
            if !reason.absent {
                errors.unread(&reason);
            }
            return Vec::new();
        }
    };
    names.retain(|name| name.ends_with(".conf"));
    names.sort();
    if names.len() > super::MAX_INCLUDED_FILES {
        errors.add(format!(
            "{directory} has more than {} files, the rest is left out",
            super::MAX_INCLUDED_FILES
        ));
        names.truncate(super::MAX_INCLUDED_FILES);
    }
    names.iter().map(|name| format!("{directory}/{name}")).collect()
}

struct Settings<'a> {
    module: &'a Module,
    values: Map<String, Value>,
    from: Map<String, Value>,
}

impl Settings<'_> {
    fn add_file(&mut self, text: &str, file: &str, errors: &mut Errors) {
        for (number, line) in super::lines(text, file, errors) {
            let line = super::cut_at_hash(line).trim();
            if line.is_empty() {
                continue;
            }
            let (name, rest) = line.split_once(|c: char| c == '=' || c.is_whitespace()).unwrap_or((line, ""));
            let name = name.trim();
            let text = rest.trim_start_matches(|c: char| c == '=' || c.is_whitespace()).trim();
            if !is_plausible_key(name) {
                errors.at(file, number, format_args!("{} is not the name of a setting", quoted(name)));
                continue;
            }
            match self.value(name, text) {
                Some(value) => self.set(name, value, file),
                None => {
                    errors.at(file, number, format_args!("{} of {name} is not a number", quoted(text)));
                }
            }
        }
    }

    fn add_arguments(&mut self, arguments: &Map<String, Value>, file: &str) {
        for (name, value) in arguments {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Bool(true) => String::new(),
                // The module takes the last one of a repeated argument.
                Value::Array(values) => match values.last() {
                    Some(Value::String(text)) => text.clone(),
                    Some(last) => last.to_string(),
                    None => continue,
                },
                other => other.to_string(),
            };
            if let Some(value) = self.value(name, &text) {
                self.set(name, value, &format!("PAM: {file}"));
            }
        }
    }

    fn set(&mut self, name: &str, value: Value, from: &str) {
        self.values.insert(name.to_owned(), value);
        self.from.insert(name.to_owned(), Value::from(from));
    }

    /// `None` for a value that should be a number and is none.
    fn value(&self, name: &str, text: &str) -> Option<Value> {
        if self.module.flags.contains(&name) {
            return Some(Value::Bool(integer(text) != Some(0)));
        }
        if self.module.texts.contains(&name) {
            return Some(Value::from(mask_secrets(text)));
        }
        if text.is_empty() {
            return Some(Value::Bool(true));
        }
        // What faillock.conf(5) says of its times: never is 0.
        if text.eq_ignore_ascii_case("never") {
            return Some(Value::from(0));
        }
        integer(text).map(Value::from)
    }
}
