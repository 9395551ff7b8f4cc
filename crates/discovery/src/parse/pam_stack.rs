//! PAM's service files as PAM itself puts them together: which file counts, and what its includes bring in.
//!
//! A file in the first directory hides those of the same name in the vendor's directories. `@include` takes all
//! lines of a file, `include` and `substack` those of their own module type (pam.conf(5)).

use super::pam_lines::{self, entry, split_word};
use super::{Errors, Files, NotRead};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Where distributions put service files that nobody is to edit, in the order in which PAM tries them.
pub const VENDOR_DIRECTORIES: &[&str] = &["/usr/lib/pam.d", "/usr/etc/pam.d"];
/// Linux-PAM follows substacks no deeper.
const MAX_DEPTH: usize = 16;
/// Lines in the effective sequence of one service.
const MAX_LINES: usize = 500;
/// Lines looked at for the effective sequences of all services together, and what those may weigh.
const MAX_STEPS: usize = 50_000;
const MAX_BYTES: usize = 2 << 20;

/// One service file.
pub struct Service {
    pub path: String,
    /// Each line with its size as JSON in bytes.
    lines: Vec<(Value, usize)>,
}

impl Service {
    fn new(path: String, lines: Vec<Value>) -> Service {
        let lines = lines.into_iter().map(|line| {
            let bytes = line.to_string().len();
            (line, bytes)
        });
        Service { path, lines: lines.collect() }
    }

    pub fn lines(&self) -> Value {
        self.lines.iter().map(|(line, _)| line.clone()).collect()
    }
}

/// The service files of a host, each read once and only when it is asked for.
pub struct Stacks<'a> {
    files: &'a dyn Files,
    directories: Vec<String>,
    services: BTreeMap<String, Option<Rc<Service>>>,
    pub errors: Errors,
    told: BTreeSet<(String, String)>,
    steps: usize,
    bytes: usize,
}

impl<'a> Stacks<'a> {
    /// `directory` is normally `/etc/pam.d`; only then do the vendor's directories count as well.
    pub fn new(files: &'a dyn Files, directory: &str) -> Stacks<'a> {
        let mut directories = vec![directory.to_owned()];
        if directory == "/etc/pam.d" {
            directories.extend(VENDOR_DIRECTORIES.iter().map(|directory| (*directory).to_owned()));
        }
        Stacks {
            files,
            directories,
            services: BTreeMap::new(),
            errors: Errors::default(),
            told: BTreeSet::new(),
            steps: 0,
            bytes: 0,
        }
    }

    /// The names of all service files, sorted, without what editors and package managers leave behind. Fails as
    /// the first directory does when none of them can be listed.
    pub fn names(&mut self) -> Result<Vec<String>, NotRead> {
        let mut found: Option<BTreeSet<String>> = None;
        let mut failure = None;
        for directory in &self.directories {
            match self.files.names(directory) {
                Ok(names) => found.get_or_insert_default().extend(names),
                Err(reason) => {
                    if !reason.absent && found.is_some() {
                        self.errors.unread(&reason);
                    }
                    failure = failure.or(Some(reason));
                }
            }
        }
        match (found, failure) {
            (Some(names), _) => Ok(names.into_iter().filter(|name| !pam_lines::is_leftover(name)).collect()),
            (None, Some(reason)) => Err(reason),
            (None, None) => Ok(Vec::new()),
        }
    }

    /// The services of an old `/etc/pam.conf`, whose lines begin with the name of the service.
    pub fn read_pam_conf(&mut self, text: &str, file: &str) -> Vec<String> {
        let mut services: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for (number, line) in super::joined_lines(text, file, &mut self.errors, super::cut_at_hash) {
            let (service, rest) = split_word(line.trim());
            if let Some(entry) = entry(rest, file, number, &mut self.errors) {
                services.entry(service.to_ascii_lowercase()).or_default().push(entry);
            }
        }
        let names = services.keys().cloned().collect();
        let known = services.into_iter().map(|(name, lines)| {
            let service = Rc::new(Service::new(file.to_owned(), lines));
            (name, Some(service))
        });
        self.services.extend(known);
        names
    }

    /// One service file; `None` when there is none or it cannot be read, which `errors` tells.
    pub fn service(&mut self, name: &str) -> Option<Rc<Service>> {
        if let Some(known) = self.services.get(name) {
            return known.clone();
        }
        let read = self.read(name);
        self.services.insert(name.to_owned(), read.clone());
        read
    }

    fn read(&mut self, name: &str) -> Option<Rc<Service>> {
        let candidates: Vec<String> = if name.starts_with('/') {
            vec![name.to_owned()]
        } else {
            self.directories.iter().map(|directory| format!("{directory}/{name}")).collect()
        };
        for path in candidates {
            match self.files.text(&path) {
                Ok(text) => {
                    let path = model::text::printable(&path);
                    let lines = pam_lines::parse(&text, &path, &mut self.errors);
                    return Some(Rc::new(Service::new(path.into_owned(), lines)));
                }
                Err(reason) if reason.absent => {}
                Err(reason) => {
                    self.errors.unread(&reason);
                    return None;
                }
            }
        }
        None
    }

    /// The module lines of a service in the order in which PAM calls them, with `file` where they come from
    /// another file and `substack` where they are in one. The path of a module in PAM's own directory is
    /// shortened to its name, and the `-` before a module type is `"if_installed": true`.
    pub fn effective(&mut self, name: &str) -> Vec<Value> {
        let mut found = Vec::new();
        let mut open = vec![name.to_owned()];
        self.follow(name, None, None, &mut open, &mut found);
        found
    }

    fn follow(
        &mut self,
        name: &str,
        only: Option<&str>,
        substack: Option<&str>,
        open: &mut Vec<String>,
        found: &mut Vec<Value>,
    ) {
        let Some(file) = self.service(name) else { return };
        for (line, bytes) in &file.lines {
            self.steps += 1;
            if self.steps > MAX_STEPS || found.len() >= MAX_LINES || self.bytes + bytes > MAX_BYTES {
                let service = super::quoted(&open[0]).to_string();
                let sentence =
                    format!("{}: the sequence of {service} is too long, the rest is left out", file.path);
                self.tell(&open[0], "", || sentence);
                return;
            }
            let text = |pointer: &str| line.pointer(pointer).and_then(Value::as_str);
            let Some(kind) = text("/service") else { continue };
            let bare = kind.strip_prefix('-').unwrap_or(kind);
            if bare != "@include" && only.is_some_and(|only| only != bare) {
                continue;
            }
            let keyword = text("/type/keyword").unwrap_or_default();
            let (target, only, substack) = match (bare, keyword) {
                ("@include", _) => (text("/filename"), only, substack),
                (_, "include") => (text("/module/path"), Some(bare), substack),
                (_, "substack") => (text("/module/path"), Some(bare), text("/module/path")),
                _ => {
                    self.bytes += bytes + name.len();
                    found.push(called(line, bare, (open.len() > 1).then_some(name), substack));
                    continue;
                }
            };
            let Some(target) = target else { continue };
            let problem = if open.iter().any(|name| name == target) {
                Some("which includes it in turn")
            } else if open.len() > MAX_DEPTH {
                Some("which is too deep, PAM does not follow it")
            } else if self.service(target).is_none() {
                Some("which does not exist or cannot be read, so PAM refuses the service")
            } else {
                None
            };
            if let Some(problem) = problem {
                let target = super::quoted(target).to_string();
                self.tell(&file.path, &target, || format!("{} includes {target}, {problem}", file.path));
                continue;
            }
            open.push(target.to_owned());
            self.follow(target, only, substack, open, found);
            open.pop();
        }
    }

    /// Each problem once, however many services run into it.
    fn tell(&mut self, what: &str, about: &str, sentence: impl FnOnce() -> String) {
        if self.told.len() < 1000 && self.told.insert((what.to_owned(), about.to_owned())) {
            self.errors.add(sentence());
        }
    }
}

/// A line of the effective sequence.
fn called(line: &Value, phase: &str, file: Option<&str>, substack: Option<&str>) -> Value {
    let mut module: Map<String, Value> = line["module"].as_object().cloned().unwrap_or_default();
    if let Some(path) = module.get("path").and_then(Value::as_str)
        && let Some((directory, name)) = path.rsplit_once('/')
        && (directory.ends_with("/security") || directory == "$ISA")
    {
        let name = Value::from(name);
        module.insert("path".into(), name);
    }
    let mut called = json!({"service": phase, "type": line["type"], "module": module});
    if line["service"].as_str().is_some_and(|service| service.starts_with('-')) {
        called["if_installed"] = Value::Bool(true);
    }
    if let Some(file) = file {
        called["file"] = Value::from(file);
    }
    if let Some(substack) = substack {
        called["substack"] = Value::from(substack);
    }
    called
}

/// The arguments of a module in one phase of the given services, by the file that has the line, in the order of
/// the services. Of several lines in one file (pam_faillock has two) later arguments join the earlier ones.
pub fn arguments(
    stacks: &mut Stacks<'_>,
    services: &[&str],
    phase: &str,
    module: &str,
) -> Vec<(String, Map<String, Value>)> {
    let mut found: Vec<(String, Map<String, Value>)> = Vec::new();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for service in services {
        let mut here: Vec<(String, Map<String, Value>)> = Vec::new();
        for line in stacks.effective(service) {
            if line["service"] != phase || line["module"]["path"] != module {
                continue;
            }
            let file = line["file"].as_str().unwrap_or(service).to_owned();
            let arguments = line["module"].as_object().cloned().unwrap_or_default();
            let arguments = arguments.into_iter().filter(|(name, _)| name != "path");
            match here.iter_mut().find(|(known, _)| *known == file) {
                Some((_, known)) => known.extend(arguments),
                None => here.push((file, arguments.collect())),
            }
        }
        found.extend(here.into_iter().filter(|(file, _)| seen.insert(file.clone())));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    fn sequence(tree: &Tree, name: &str) -> (Vec<String>, Vec<String>) {
        let mut stacks = Stacks::new(tree, "/etc/pam.d");
        let lines = stacks.effective(name);
        let short = |line: &Value| {
            let text = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
            let path = line["module"]["path"].as_str().unwrap().to_owned();
            format!("{} {path} {} {}", text("service"), text("file"), text("substack"))
        };
        (lines.iter().map(short).collect(), stacks.errors.into_list())
    }

    #[test]
    fn includes_take_all_lines_or_those_of_their_type() {
        let tree = Tree::of(&[
            (
                "/etc/pam.d/sshd",
                "auth required /lib/x86_64-linux-gnu/security/pam_first.so\n@include all\n\
                 auth substack system\n-session include system\naccount required $ISA/pam_last.so\n",
            ),
            ("/etc/pam.d/all", "auth required a.so\npassword required p.so\n"),
            ("/etc/pam.d/system", "auth required /opt/x.so\nsession required s.so\nauth include deep\n"),
            ("/usr/lib/pam.d/deep", "auth required d.so\npassword required no.so\n"),
            ("/usr/lib/pam.d/all", "auth required hidden.so\n"),
        ]);
        let (found, errors) = sequence(&tree, "sshd");
        assert_eq!(
            found,
            [
                "auth pam_first.so - -",
                "auth a.so all -",
                "password p.so all -",
                "auth /opt/x.so system system",
                "auth d.so deep system",
                "session s.so system -",
                "account pam_last.so - -"
            ]
        );
        assert!(errors.is_empty(), "{errors:?}");
    }

    #[test]
    fn loops_and_missing_files_are_told_once() {
        let tree = Tree::of(&[
            ("/etc/pam.d/a", "@include b\nauth required a.so\nauth include none\n"),
            ("/etc/pam.d/b", "auth required b.so\n@include a\nauth include none\nauth include none\n"),
        ]);
        let (found, errors) = sequence(&tree, "a");
        assert_eq!(found, ["auth b.so b -", "auth a.so - -"]);
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(errors[0].starts_with("/etc/pam.d/b includes 'a', which includes it in turn"), "{errors:?}");
        assert!(errors[1].starts_with("/etc/pam.d/b includes 'none', which does not exist"), "{errors:?}");
    }

    #[test]
    fn a_tree_of_includes_that_explodes_is_cut() {
        let mut tree = Tree::of(&[]);
        for level in 0..10 {
            let text = format!("@include {}\n", level + 1).repeat(50) + "auth required x.so\n";
            tree.0.insert(format!("/etc/pam.d/{level}"), Some(text));
        }
        tree.0.insert("/etc/pam.d/10".into(), Some(String::new()));
        let (found, errors) = sequence(&tree, "0");
        assert!(found.len() <= MAX_LINES, "{}", found.len());
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].ends_with(": the sequence of '0' is too long, the rest is left out"), "{errors:?}");
    }

    #[test]
    fn arguments_are_those_of_each_file() {
        let tree = Tree::of(&[
            ("/etc/pam.d/passwd", "@include common-password\n"),
            (
                "/etc/pam.d/common-password",
                "password requisite pam_x.so a=1 b\npassword required pam_x.so a=2\n",
            ),
        ]);
        let mut stacks = Stacks::new(&tree, "/etc/pam.d");
        let found = arguments(&mut stacks, &["passwd", "common-password", "none"], "password", "pam_x.so");
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].0.as_str(), &Value::Object(found[0].1.clone())),
            ("common-password", &json!({"a": 2, "b": true}))
        );
    }
}
