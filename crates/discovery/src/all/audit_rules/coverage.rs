//! What a list of audit rules records, whatever the way in which the rules are written.
//!
//! A question has six parts: the 64-bit and the 32-bit interface of the kernel, and for each whether the call
//! succeeded, was refused with EACCES, or with EPERM. Each rule answers some of them; as in the kernel the first
//! rule that fits decides, so that a `never` before an `always` hides it.

use super::rule::{Abi, Condition, List, Place, Rule, Syscalls};
use super::syscalls::Machine;

/// One bit for each part: bits 0 to 2 of the 64-bit interface, 3 to 5 of the 32-bit one.
pub type Parts = u8;
const SUCCEEDED: Parts = 1;
const EACCES: Parts = 2;
const EPERM: Parts = 4;
const ALL_OUTCOMES: Parts = SUCCEEDED | EACCES | EPERM;
pub const REFUSED: Parts = EACCES | EPERM;
const EVERYTHING: Parts = 0o77;

/// The unset audit id: who was never logged in.
const UNSET: u32 = u32::MAX;

/// Up to here ids are those of the system: `auid>=1000` leaves out nobody who logs in.
const FIRST_USER: u32 = 1000;

/// Which restrictions of a rule do not matter to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actors {
    /// What daemons do counts as well.
    Everybody,
    /// Whoever logged in, root as well.
    LoggedIn,
    /// Whoever logged in as a user.
    Users,
}

/// A path as it is written, and where it really leads; without symlinks in its directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    pub spelled: String,
    pub real: String,
    pub is_directory: bool,
}

#[derive(Debug, Clone, Copy)]
pub enum Question<'a> {
    Syscall(&'a str),
    /// Running a program.
    Execution(&'a Path),
    /// Access of a kind (one bit of `PERMISSIONS`) to a file or anything below a directory.
    Access(&'a Path, u8),
    /// Running a program whose owner (`uid`) or group (`gid`) becomes the effective one: that of root, or any.
    ChangedId(&'a str, Becomes),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Becomes {
    Root,
    Anybody,
}

/// The two kinds of paths that a rule may hold, in comparable form.
pub trait Places {
    /// `path` without symlinks in its directories and without a slash at the end.
    fn spelled(&self, path: &str) -> String;
    fn is_directory(&self, path: &str) -> bool;
}

/// What must be covered: for each interface that has the call, the outcomes asked for.
pub fn wanted(interfaces: (bool, bool), outcomes: Parts) -> Parts {
    (if interfaces.0 { outcomes } else { 0 }) | (if interfaces.1 { outcomes << 3 } else { 0 })
}

pub fn all_of(interfaces: (bool, bool)) -> Parts {
    wanted(interfaces, ALL_OUTCOMES)
}

/// A rule with its place in comparable form, made once for many questions.
pub struct Prepared<'a> {
    rule: &'a Rule,
    place: Option<(String, Reach)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    ThisFile,
    /// A directory and what is below.
    Tree,
}

pub struct Coverage<'a> {
    rules: Vec<Prepared<'a>>,
    machine: Machine,
    /// A rule that keeps the kernel from looking at any process.
    is_off: bool,
}

impl<'a> Coverage<'a> {
    pub fn new(rules: &'a [Rule], machine: Machine, places: &dyn Places) -> Coverage<'a> {
        let is_off = rules
            .iter()
            .any(|rule| rule.list == List::Task && !rule.records && rule.conditions.is_empty());
        let prepared = |rule: &'a Rule| {
            let place = rule.place.as_ref().map(|place| {
                let path = place.path();
                let reach = match place {
                    Place::Below(_) => Reach::Tree,
                    Place::Watch(_) if path.ends_with('/') || places.is_directory(path) => Reach::Tree,
                    Place::Watch(_) | Place::File(_) => Reach::ThisFile,
                };
                (places.spelled(path), reach)
            });
            Prepared { rule, place }
        };
        let rules = rules.iter().filter(|rule| rule.list == List::Exit).map(prepared).collect();
        Coverage { rules, machine, is_off }
    }

    /// The parts of the question that the rules answer, and the keys of the rules that do.
    pub fn of(&self, question: Question<'_>, actors: Actors) -> (Parts, Vec<&'a str>) {
        let (mut covered, mut hidden) = (0, if self.is_off { EVERYTHING } else { 0 });
        let mut keys = Vec::new();
        for prepared in &self.rules {
            if !prepared.concerns(question) {
                continue;
            }
            let parts = prepared.rule.parts(question, actors, self.machine);
            if prepared.rule.records {
                let new = parts & !hidden & !covered;
                covered |= new;
                if new != 0 {
                    keys.extend(prepared.rule.keys.iter().map(String::as_str));
                }
            } else {
                hidden |= parts;
            }
        }
        keys.sort_unstable();
        keys.dedup();
        (covered, keys)
    }
}

impl Prepared<'_> {
    fn concerns(&self, question: Question<'_>) -> bool {
        let rule = self.rule;
        let names = |call: &str| match &rule.syscalls {
            Syscalls::All => true,
            Syscalls::Named(names) => names.contains(call),
        };
        // With perm= only the permission decides, but a list of calls narrows it.
        let permits = |bit: u8, call: Option<&str>| match (rule.permissions, &rule.syscalls) {
            (Some(bits), Syscalls::All) => bits & bit != 0,
            (Some(bits), Syscalls::Named(_)) => bits & bit != 0 && call.is_some_and(names),
            (None, Syscalls::All) => true,
            (None, Syscalls::Named(_)) => call.is_some_and(names),
        };
        match question {
            Question::Syscall(name) => self.place.is_none() && rule.permissions.is_none() && names(name),
            Question::Execution(path) => self.holds(path) && permits(1, Some("execve")),
            Question::Access(path, bit) => {
                self.holds(path) && permits(bit, if bit == 1 { Some("execve") } else { None })
            }
            Question::ChangedId(..) => self.place.is_none() && permits(1, Some("execve")),
        }
    }

    /// Whether the rule is about this path; a rule about no path in particular is about all of them.
    fn holds(&self, path: &Path) -> bool {
        let Some((place, reach)) = &self.place else { return true };
        [&path.spelled, &path.real].into_iter().any(|asked| match reach {
            // path= on a directory says nothing about what is in it.
            Reach::ThisFile => asked == place && !path.is_directory,
            Reach::Tree => {
                asked == place || place == "/" || asked.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'))
            }
        })
    }
}

impl Rule {
    /// The parts that the rule is for; none when it has a condition that matters to the question.
    fn parts(&self, question: Question<'_>, actors: Actors, machine: Machine) -> Parts {
        let (wide, narrow) = machine.interfaces();
        let interfaces = match (self.abi, &self.syscalls) {
            (Some(Abi::B64), _) => (wide, false),
            (Some(Abi::B32), _) => (false, narrow),
            (Some(Abi::Foreign), _) => (false, false),
            (None, Syscalls::All) => (wide, narrow),
            // Names become numbers of the machine itself, which mean something else on the other interface.
            (None, Syscalls::Named(_)) => (wide, narrow && !wide),
        };
        let mut outcomes = ALL_OUTCOMES;
        for condition in &self.conditions {
            match condition.outcomes() {
                Some(those) => outcomes &= those,
                None if condition.is_harmless(question, actors) => {}
                None => return 0,
            }
        }
        wanted(interfaces, outcomes)
    }
}

impl Condition {
    /// For `success` and `exit`: which outcomes fit.
    fn outcomes(&self) -> Option<Parts> {
        if self.compares_fields {
            return None;
        }
        match self.field.as_str() {
            "success" => {
                let yes = matches!(self.value.as_str(), "1" | "yes");
                let is_equal = match self.operator {
                    "=" => true,
                    "!=" => false,
                    _ => return None,
                };
                Some(if yes == is_equal { SUCCEEDED } else { REFUSED })
            }
            "exit" => match (self.operator, self.value.as_str()) {
                ("=", "-EACCES" | "-13") => Some(EACCES),
                ("=", "-EPERM" | "-1") => Some(EPERM),
                ("=" | ">=", "0") | (">", "-1") => Some(SUCCEEDED),
                ("<", "0") | ("<=", "-1") | ("!=", "0") => Some(REFUSED),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether what the question is about fulfils the condition anyway.
    fn is_harmless(&self, question: Question<'_>, actors: Actors) -> bool {
        if self.compares_fields {
            let Question::ChangedId(id, _) = question else { return false };
            let effective = format!("e{id}");
            let fields = [self.field.as_str(), self.value.as_str()];
            return self.operator == "!=" && (fields == [id, &effective] || fields == [&effective, id]);
        }
        let number = match self.value.as_str() {
            "unset" | "-1" => Some(UNSET),
            text => text.parse().ok(),
        };
        match (self.field.as_str(), self.operator, number) {
            ("auid" | "loginuid", "!=", Some(UNSET)) => actors != Actors::Everybody,
            ("auid" | "loginuid", ">=", Some(n)) => n == 0 || actors == Actors::Users && n <= FIRST_USER,
            ("auid" | "loginuid", ">", Some(n)) => actors == Actors::Users && n < FIRST_USER,
            ("loginuid_set", "=", Some(1)) => actors != Actors::Everybody,
            // The wall clock; other clocks cannot be set.
            ("a0", "=", _) => {
                matches!(question, Question::Syscall("clock_settime")) && matches!(self.value.as_str(), "0" | "0x0")
            }
            ("euid" | "egid", "=", _) => {
                matches!(question, Question::ChangedId(id, Becomes::Root) if self.field.ends_with(id))
                    && matches!(self.value.as_str(), "0" | "root")
            }
            ("exe", "=", _) => matches!(question, Question::Execution(path)
                if self.value == path.spelled || self.value == path.real),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rule::Loaded;
    use super::*;

    struct Plain;

    impl Places for Plain {
        fn spelled(&self, path: &str) -> String {
            path.trim_end_matches('/').to_owned()
        }
        fn is_directory(&self, path: &str) -> bool {
            matches!(path, "/etc" | "/usr/bin" | "/etc/sudoers.d")
        }
    }

    fn covered_on(machine: Machine, lines: &[&str], question: Question<'_>, actors: Actors) -> Parts {
        let mut loaded = Loaded::default();
        lines.iter().for_each(|line| loaded.take(line).unwrap());
        Coverage::new(&loaded.rules, machine, &Plain).of(question, actors).0
    }

    fn covered(lines: &[&str], question: Question<'_>, actors: Actors) -> Parts {
        covered_on(Machine::X86_64, lines, question, actors)
    }

    fn file(path: &str) -> Path {
        Path { spelled: path.into(), real: path.into(), is_directory: Plain.is_directory(path) }
    }

    const CHMOD: Question<'_> = Question::Syscall("chmod");

    #[test]
    fn both_interfaces_are_needed() {
        let b64 = "-a always,exit -F arch=b64 -S chmod -F auid>=1000 -F auid!=unset";
        let b32 = "-a always,exit -F arch=b32 -S chmod,fchmod -F auid>=1000 -F auid!=4294967295";
        assert_eq!(covered(&[b64], CHMOD, Actors::Users), 0o07);
        assert_eq!(covered(&[b64, b32], CHMOD, Actors::Users), 0o77);
        assert_eq!(covered(&["-a always,exit -S all"], CHMOD, Actors::Users), 0o77);
        assert_eq!(covered(&["-a always,exit -S chmod"], CHMOD, Actors::Users), 0o07);
        assert_eq!(covered_on(Machine::Aarch64, &[b64], CHMOD, Actors::Users), all_of((true, false)));
        assert_eq!(covered_on(Machine::Only32, &["-a always,exit -S chmod"], CHMOD, Actors::Users), 0o70);
    }

    #[test]
    fn wider_is_good_and_narrower_is_not() {
        for wide in ["", "-F auid>=1000", "-F auid>999", "-F auid!=-1", "-F auid>=500 -F auid!=unset", "-F auid>=0"] {
            let line = format!("-a always,exit -F arch=b64 -S chmod {wide}");
            assert_eq!(covered(&[&line], CHMOD, Actors::Users), 0o07, "{wide}");
        }
        for narrow in
            ["-F auid>=2000", "-F auid=1000", "-F uid=0", "-F success=1", "-F a1=0x1", "-F exe=/bin/x", "-C uid!=euid"]
        {
            let line = format!("-a always,exit -F arch=b64 -S chmod {narrow}");
            assert_ne!(covered(&[&line], CHMOD, Actors::Users), 0o07, "{narrow}");
        }
        let users = "-a always,exit -F arch=b64 -S chmod -F auid>=1000 -F auid!=unset";
        assert_eq!(covered(&[users], CHMOD, Actors::Everybody), 0);
        assert_eq!(covered(&[users], CHMOD, Actors::LoggedIn), 0);
    }

    #[test]
    fn outcomes_add_up() {
        let line = |exit: &str| format!("-a always,exit -F arch=b64 -S open {exit} -F auid>=1000 -F auid!=unset");
        let (refused, denied, fine) = (line("-F exit=-EACCES"), line("-F exit=-EPERM"), line("-F success=1"));
        let open = Question::Syscall("open");
        assert_eq!(covered(&[&refused], open, Actors::Users), EACCES);
        assert_eq!(covered(&[&refused, &denied], open, Actors::Users), REFUSED);
        assert_eq!(covered(&[&refused, &denied, &fine], open, Actors::Users), 0o07);
        assert_eq!(covered(&[&line("-F success=0")], open, Actors::Users), REFUSED);
        assert_eq!(covered(&[&line("-F exit=-ENOENT")], open, Actors::Users), 0);
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let always = "-a always,exit -F arch=b64 -S chmod";
        assert_eq!(covered(&["-a never,exit -S all", always], CHMOD, Actors::Users), 0);
        assert_eq!(covered(&[always, "-a never,exit -S all"], CHMOD, Actors::Users), 0o07);
        assert_eq!(covered(&[always, "-A never,exit -S all"], CHMOD, Actors::Users), 0);
        assert_eq!(covered(&["-a never,exit -F exe=/usr/sbin/chronyd", always], CHMOD, Actors::Users), 0o07);
        assert_eq!(covered(&[always, "-a never,task"], CHMOD, Actors::Users), 0);
        assert_eq!(covered(&["-a always,filesystem -F fstype=tracefs"], CHMOD, Actors::Users), 0);
    }

    #[test]
    fn executions() {
        let su = file("/usr/bin/su");
        let asked = Question::Execution(&su);
        for good in [
            "-a always,exit -F path=/usr/bin/su -F perm=x -F auid>=1000 -F auid!=unset -k p",
            "-a always,exit -S all -F path=/usr/bin/su -F perm=x -F auid!=unset",
            "-w /usr/bin/su -p x",
            "-w /usr/bin -p rx",
            "-a always,exit -F dir=/usr -F perm=x",
            "-a always,exit -F path=/usr/bin/su",
        ] {
            assert_eq!(covered(&[good], asked, Actors::Users), 0o77, "{good}");
        }
        let execve = ["-a always,exit -F arch=b64 -S execve", "-a always,exit -F arch=b32 -S execve -F exe=/usr/bin/su"];
        assert_eq!(covered(&execve, asked, Actors::Users), 0o77);
        for bad in [
            "-a always,exit -F path=/usr/bin/sudo -F perm=x",
            "-w /usr/bin/su -p wa",
            "-a always,exit -F dir=/usr/bi -F perm=x",
            "-a always,exit -F path=/usr/bin -F perm=x",
            "-a always,exit -F path=/usr/bin/su -F perm=x -F uid=0",
            "-a always,exit -F path=/usr/bin/su -S open",
        ] {
            assert_eq!(covered(&[bad], asked, Actors::Users), 0, "{bad}");
        }
        // The rule may name the link or the program that it leads to.
        let modprobe = Path { spelled: "/usr/sbin/modprobe".into(), real: "/usr/bin/kmod".into(), is_directory: false };
        for place in ["/usr/sbin/modprobe", "/usr/bin/kmod"] {
            let line = format!("-a always,exit -F path={place} -F perm=x");
            assert_eq!(covered(&[&line], Question::Execution(&modprobe), Actors::Users), 0o77, "{place}");
        }
    }

    #[test]
    fn files_and_directories() {
        let (passwd, sudoers) = (file("/etc/passwd"), file("/etc/sudoers.d"));
        let written = |lines: &[&str], path: &Path| covered(lines, Question::Access(path, 2), Actors::Everybody);
        for good in ["-w /etc/passwd -p wa", "-w /etc -p w", "-a always,exit -F path=/etc/passwd -F perm=wa", "-w /etc/"] {
            assert_eq!(written(&[good], &passwd), 0o77, "{good}");
        }
        for bad in ["-w /etc/passwd -p ra", "-a always,exit -F path=/etc/passwd -F perm=wa -F auid>=1000", "-w /etc/pass"] {
            assert_eq!(written(&[bad], &passwd), 0, "{bad}");
        }
        assert_eq!(written(&["-w /etc/sudoers.d/ -p wa"], &sudoers), 0o77);
        assert_eq!(written(&["-w /etc/sudoers.d -p wa"], &sudoers), 0o77);
        assert_eq!(written(&["-a always,exit -F path=/etc/sudoers.d -F perm=wa"], &sudoers), 0);
        let b64 = "-a always,exit -F arch=b64 -F dir=/etc/sudoers.d/ -F perm=wa";
        assert_eq!(written(&[b64], &sudoers), 0o07);
    }

    #[test]
    fn changed_ids() {
        let lines = [
            "-a always,exit -F arch=b64 -S execve -C uid!=euid -F euid=0 -k setuid",
            "-a always,exit -F arch=b32 -C euid!=uid -F auid!=unset -S execve",
        ];
        assert_eq!(covered(&lines, Question::ChangedId("uid", Becomes::Root), Actors::LoggedIn), 0o77);
        assert_eq!(covered(&lines, Question::ChangedId("uid", Becomes::Anybody), Actors::LoggedIn), 0o70);
        assert_eq!(covered(&lines, Question::ChangedId("uid", Becomes::Root), Actors::Everybody), 0o07);
        assert_eq!(covered(&lines, Question::ChangedId("gid", Becomes::Root), Actors::LoggedIn), 0);
        let clock = "-a always,exit -F arch=b64 -S clock_settime -F a0=0x0";
        assert_eq!(covered(&[clock], Question::Syscall("clock_settime"), Actors::Everybody), 0o07);
    }
}
