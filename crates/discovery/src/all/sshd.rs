//! The effective configuration of the SSH server: `/etc/ssh/sshd_config` and all that it includes, see
//! sshd_config(5).
//!
//! `data` is keyword → value. Keywords have the manual's spelling, whatever the file's; retired names of a keyword
//! come under the one that replaced them. A keyword without a line is not in the data: compiled-in defaults are
//! not added. As for sshd, the first line of a keyword counts, except for those that add up over several lines
//! (Port, ListenAddress, HostKey, AllowUsers, ...; Include too), and MaxStartups and StreamLocalBindMask, of which
//! the last line counts.
//!
//! - `yes` and `no` are booleans, whole numbers numbers, several words a list, times seconds, octal masks decimal.
//! - A list of algorithms with a comma is a list; a leading `+`, `-` or `^` stays on its first element.
//! - `Subsystem` is name → command, a list when it has arguments.
//! - A `Match` block is the key `Match:<n>`, n from 1, with `condition` and the block's keywords. Lines below
//!   `Match all` hold for everybody, over those outside of blocks, and therefore stand in both places. A block in
//!   an included file ends with it; inside another block it has both conditions.
//!
//! A keyword that sshd_config(5) does not know is kept as written and named in `errors`.
//!
//! ```json
//! {"Port": [22, 2222], "PermitRootLogin": "prohibit-password", "X11Forwarding": false, "ClientAliveInterval": 600,
//!  "Ciphers": ["aes256-ctr", "aes128-ctr"], "Subsystem": {"sftp": "/usr/lib/openssh/sftp-server"},
//!  "Match:1": {"condition": "Group sftponly", "ForceCommand": "internal-sftp"}}
//! ```

use crate::parse::ssh_lines::{Includes, setting, split_words, words};
use crate::parse::sshd_keywords::{Kind, Repeat, keyword};
use crate::parse::{self, Errors, Files, accumulate, mask_secrets, one_or_list, quoted, scalar};
use crate::{
    Collected, Discovery, Host, Instance, Parameter, Parameters, Schedule, Trigger, documentation, no_graph,
};
use model::text::shortened;
use serde_json::{Map, Value, json};

pub static DISCOVERY: Discovery = Discovery {
    name: "sshd",
    description: "Effective configuration of the SSH server",
    documentation: documentation::SSHD,
    parameters: &[Parameter { name: "SSHD_CONFIG", meaning: "main file", default: MAIN_FILE }],
    instances: &[Instance { name: "_init_sshd", parameters: &[], schedule: None }],
    schedule: Schedule::DEFAULT,
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

pub(crate) const MAIN_FILE: &str = "/etc/ssh/sshd_config";
/// Match blocks that get a key of their own.
const MAX_BLOCKS: usize = 1000;
/// Longer conditions are cut: what they say can no longer be judged, only shown.
const MAX_CONDITION_CHARS: usize = 4000;

fn collect(host: &Host, parameters: &Parameters) -> Collected {
    parse::collected(read(host, parameters.get("SSHD_CONFIG").map_or(MAIN_FILE, String::as_str)))
}

/// The configuration that begins with the file `main`.
pub(crate) fn read(files: &dyn Files, main: &str) -> (Value, Vec<String>) {
    let mut errors = Errors::default();
    match files.text(main) {
        Ok(text) => {
            let mut reader = Reader {
                files,
                errors,
                global: Map::new(),
                always: Map::new(),
                blocks: Vec::new(),
                includes: Includes::default(),
            };
            reader.file(main, &text, None);
            let mut data = reader.global;
            for (name, value) in reader.always {
                match (data.get_mut(&name), value) {
                    (Some(Value::Object(subsystems)), Value::Object(own)) => subsystems.extend(own),
                    (_, value) if name == "Include" => accumulate(&mut data, "Include", value),
                    (_, value) => _ = data.insert(name, value),
                }
            }
            for (index, block) in reader.blocks.into_iter().enumerate() {
                data.insert(format!("Match:{}", index + 1), Value::Object(block));
            }
            (Value::Object(data), reader.errors.into_list())
        }
        Err(reason) => {
            errors.unread(&reason);
            (parse::no_data(main), errors.into_list())
        }
    }
}

/// The Match block that lines belong to.
#[derive(Clone)]
struct Block {
    /// Index in `Reader::blocks`; none when there are too many.
    index: Option<usize>,
    condition: String,
    /// `Match all` outside of other blocks: the lines hold for everybody.
    holds_always: bool,
}

struct Reader<'a> {
    files: &'a dyn Files,
    errors: Errors,
    /// What stands outside of blocks, and what stands below `Match all` and overrides it.
    global: Map<String, Value>,
    always: Map<String, Value>,
    blocks: Vec<Map<String, Value>>,
    includes: Includes,
}

impl Reader<'_> {
    /// Reads one file that is included inside `outer`.
    fn file(&mut self, path: &str, text: &str, outer: Option<&Block>) {
        self.includes.begin(path);
        let mut block = outer.cloned();
        for (number, line) in parse::lines(text, path, &mut self.errors) {
            let Some((name, rest)) = setting(line, path, number, &mut self.errors) else { continue };
            if rest.is_empty() || rest.starts_with('#') {
                self.errors.at(path, number, format_args!("{name} has no value"));
            } else if name.eq_ignore_ascii_case("match") {
                block = Some(self.begin_block(path, number, rest, outer));
            } else if name.eq_ignore_ascii_case("include") {
                self.include(path, number, rest, block.as_ref());
            } else {
                self.setting(path, number, name, rest, block.as_ref());
            }
        }
        self.includes.end();
    }

    fn begin_block(&mut self, path: &str, number: usize, rest: &str, outer: Option<&Block>) -> Block {
        let Some(words) = words(rest, path, number, &mut self.errors) else {
            // The lines that follow must not become global ones.
            let condition = shortened(rest, MAX_CONDITION_CHARS).into_owned();
            return self.new_block(path, number, condition, false);
        };
        // Each block of an included file repeats the condition of the block around it.
        let own = shortened(&words.join(" "), MAX_CONDITION_CHARS).into_owned();
        let all = own.eq_ignore_ascii_case("all");
        match outer {
            Some(outer) if !outer.holds_always && all => {
                self.new_block(path, number, outer.condition.clone(), false)
            }
            Some(outer) if !outer.holds_always => {
                let both = format!("{} {own}", outer.condition);
                self.new_block(path, number, shortened(&both, MAX_CONDITION_CHARS).into_owned(), false)
            }
            _ => self.new_block(path, number, own, all),
        }
    }

    fn new_block(&mut self, path: &str, number: usize, condition: String, holds_always: bool) -> Block {
        if self.blocks.len() == MAX_BLOCKS {
            self.errors.at(
                path,
                number,
                format_args!("more than {MAX_BLOCKS} Match blocks, this one is left out"),
            );
            return Block { index: None, condition, holds_always };
        }
        let mut block = Map::new();
        block.insert("condition".into(), Value::from(condition.as_str()));
        self.blocks.push(block);
        Block { index: Some(self.blocks.len() - 1), condition, holds_always }
    }

    fn include(&mut self, path: &str, number: usize, rest: &str, block: Option<&Block>) {
        let Some(patterns) = words(rest, path, number, &mut self.errors) else { return };
        for pattern in patterns {
            self.put(block, |map| accumulate(map, "Include", Value::from(pattern.as_str())));
            for file in self.includes.matching(self.files, &pattern, path, number, &mut self.errors) {
                let text = self.includes.text(self.files, &file, path, number, &mut self.errors);
                if let Some(text) = text {
                    self.file(&file, &text, block);
                }
            }
        }
    }

    fn setting(&mut self, path: &str, number: usize, name: &str, rest: &str, block: Option<&Block>) {
        let Some(words) = words(rest, path, number, &mut self.errors) else { return };
        if words.is_empty() {
            self.errors.at(path, number, format_args!("{name} has no value"));
            return;
        }
        let (name, kind, repeat) = keyword(name).unwrap_or_else(|| {
            self.errors.at(path, number, format_args!("sshd_config(5) knows no keyword {}", quoted(name)));
            (name, Kind::Scalar, Repeat::FirstCounts)
        });
        match (kind, repeat) {
            (Kind::Subsystem, _) => {
                let [subsystem, first, arguments @ ..] = words.as_slice() else {
                    self.errors.at(path, number, "Subsystem needs a name and a command");
                    return;
                };
                let command = std::iter::once(first).chain(arguments);
                let command = one_or_list(command.map(|word| masked(word)).collect());
                self.put(block, |map| {
                    if let Value::Object(known) = map.entry(name).or_insert_with(|| json!({})) {
                        known.entry(subsystem.as_str()).or_insert_with(|| command.clone());
                    }
                });
            }
            (_, Repeat::AddsUp) => {
                // The words of such a line belong together: an address and its routing domain.
                let values = match kind {
                    Kind::Line => vec![masked(&words.join(" "))],
                    _ => words.iter().map(|word| value(kind, word)).collect(),
                };
                let value = one_or_list(values);
                self.put(block, |map| accumulate(map, name, value.clone()));
            }
            (Kind::Command, _) => {
                // sshd hands the rest of the line to a shell as it is, `#` included.
                let all = split_words(rest, None)
                    .unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect());
                let value = one_or_list(mask_secrets(&all.join("\n")).lines().map(Value::from).collect());
                self.put(block, |map| _ = map.entry(name).or_insert_with(|| value.clone()));
            }
            (Kind::Line, _) => {
                let value = masked(rest);
                self.put(block, |map| _ = map.entry(name).or_insert_with(|| value.clone()));
            }
            (_, Repeat::LastCounts) => {
                let value = one_or_list(words.iter().map(|word| value(kind, word)).collect());
                self.put(block, |map| _ = map.insert(name.to_owned(), value.clone()));
            }
            _ => {
                let value = one_or_list(words.iter().map(|word| value(kind, word)).collect());
                self.put(block, |map| _ = map.entry(name).or_insert_with(|| value.clone()));
            }
        }
    }

    /// Applies a change to the map or maps that a line inside `block` belongs to.
    fn put(&mut self, block: Option<&Block>, change: impl Fn(&mut Map<String, Value>)) {
        match block {
            None => change(&mut self.global),
            Some(block) if block.holds_always => change(&mut self.always),
            Some(_) => {}
        }
        if let Some(block) = block.and_then(|block| block.index).and_then(|index| self.blocks.get_mut(index))
        {
            change(block);
        }
    }
}

fn value(kind: Kind, word: &str) -> Value {
    match kind {
        Kind::Scalar => match scalar(word) {
            Value::String(text) => masked(&text),
            other => other,
        },
        Kind::Time => seconds(word).map_or_else(|| masked(word), Value::from),
        Kind::Octal => i64::from_str_radix(word, 8).map_or_else(|_| masked(word), Value::from),
        Kind::Algorithms if word.contains(',') => {
            word.split(',').filter(|name| !name.is_empty()).map(Value::from).collect()
        }
        Kind::Algorithms | Kind::Text | Kind::Line | Kind::Command | Kind::Subsystem => masked(word),
    }
}

fn masked(text: &str) -> Value {
    Value::from(mask_secrets(text))
}

/// The time formats of sshd_config(5): seconds, or numbers with s, m, h, d, w that add up (`1h30m`).
fn seconds(text: &str) -> Option<i64> {
    let mut total: i64 = 0;
    let mut digits = String::new();
    for c in text.chars() {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let unit = match c.to_ascii_lowercase() {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86400,
            'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(digits.parse::<i64>().ok()?.checked_mul(unit)?)?;
        digits.clear();
    }
    if digits.is_empty() {
        return (!text.is_empty()).then_some(total);
    }
    total.checked_add(digits.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{Tree, check_any_text, check_fixtures, check_robustness};

    fn parse(text: &str) -> (Value, Vec<String>) {
        read(&Tree::of(&[(MAIN_FILE, text)]), MAIN_FILE)
    }

    /// The data of a configuration without errors.
    fn good(files: &[(&str, &str)]) -> Value {
        let (data, errors) = read(&Tree::of(files), MAIN_FILE);
        assert!(errors.is_empty(), "{errors:?}");
        data
    }

    #[test]
    fn conditions_are_cut_where_blocks_repeat_them() {
        let main = format!("Match User {}\nInclude b\n", "a,".repeat(100_000));
        let (data, _) = read(
            &Tree::of(&[(MAIN_FILE, &main), ("/etc/ssh/b", &"Match User b\nBanner x\n".repeat(300))]),
            MAIN_FILE,
        );
        assert_eq!(data["Match:301"]["Banner"], "x");
        let bytes = data.to_string().len();
        assert!(bytes < 4 << 20, "{bytes}");
    }

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn robustness() {
        let text = "Port 22\nCiphers a,b\nBanner \"/etc/a b\"\nAcceptEnv\tLANG LC_*\nMatch User a\n\tX11Forwarding no\n";
        check_robustness(&DISCOVERY, MAIN_FILE, MAIN_FILE, text);
        let tokens = &[
            "Port",
            " ",
            "\n",
            "=",
            "\"",
            "'",
            "#",
            "\\",
            "Match",
            "all",
            "Include",
            "/etc/ssh/*",
            "10m",
            ",",
            "Subsystem",
        ];
        check_any_text(MAIN_FILE, tokens, parse);
    }

    #[test]
    fn keywords_have_the_manuals_spelling_and_the_first_line_counts() {
        let data = good(&[(
            MAIN_FILE,
            "PERMITROOTLOGIN without-password\npermitrootlogin yes\nchallengeresponseauthentication no\n\
             KbdInteractiveAuthentication yes\nProtocol 2\n\"UseDNS\" YES\nMaxAuthTries=4\nMaxSessions = 5\nBanner=/a=b\n",
        )]);
        let expected = json!({"PermitRootLogin": "without-password", "KbdInteractiveAuthentication": false, "Protocol": 2,
            "UseDNS": true, "MaxAuthTries": 4, "MaxSessions": 5, "Banner": "/a=b"});
        assert_eq!(data, expected);
    }

    #[test]
    fn some_keywords_add_up() {
        let data = good(&[(
            MAIN_FILE,
            "Port 22\nport 2222\nHostKey /a\nHostKey /b\nAllowUsers 1000 b\nAllowUsers c\nListenAddress ::1 rdomain x\n\
             DenyGroups g\nSubsystem sftp /usr/lib/sftp\nSubsystem sftp /other\nsubsystem x /y -a \"b c\"\n\
             PermitListen 1\nPermitListen 2\nMaxStartups 5\nMaxStartups 10:30:60\n",
        )]);
        let expected = json!({"Port": [22, 2222], "HostKey": ["/a", "/b"], "AllowUsers": ["1000", "b", "c"],
            "ListenAddress": "::1 rdomain x", "DenyGroups": "g",
            "Subsystem": {"sftp": "/usr/lib/sftp", "x": ["/y", "-a", "b c"]}, "PermitListen": "1", "MaxStartups": "10:30:60"});
        assert_eq!(data, expected);
    }

    #[test]
    fn values() {
        let data = good(&[(
            MAIN_FILE,
            "Ciphers +a,b\nMACs one\nKexAlgorithms x,y,\nClientAliveInterval 10m\nLoginGraceTime 1h30m5\nStreamLocalBindMask 0177\n\
             RekeyLimit 1G 1h\nMaxStartups 10:30:60\nVersionAddendum a  b\nBanner none # why\nChrootDirectory a\\ b\n\
             AcceptEnv LANG 'LC X' #x y\nForceCommand sh -c \"a b\" #c\nPermitRootLogin prohibit-password\n",
        )]);
        let expected = json!({"Ciphers": ["+a", "b"], "MACs": "one", "KexAlgorithms": ["x", "y"], "ClientAliveInterval": 600,
            "LoginGraceTime": 5405, "StreamLocalBindMask": 127, "RekeyLimit": ["1G", "1h"], "MaxStartups": "10:30:60",
            "VersionAddendum": "a  b", "Banner": "none", "ChrootDirectory": "a b", "AcceptEnv": ["LANG", "LC X"],
            "ForceCommand": ["sh", "-c", "a b", "#c"], "PermitRootLogin": "prohibit-password"});
        assert_eq!(data, expected);
    }

    #[test]
    fn times() {
        let cases = [
            ("0", Some(0)),
            ("90", Some(90)),
            ("2w1d", Some(1_296_000)),
            ("5M", Some(300)),
            ("x", None),
            ("m", None),
        ];
        for (text, expected) in cases {
            assert_eq!(seconds(text), expected, "{text}");
        }
        assert_eq!(seconds(&"9".repeat(30)), None);
        assert_eq!(seconds("9223372036854775807w"), None);
    }

    #[test]
    fn match_blocks() {
        let data = good(&[(
            MAIN_FILE,
            "X11Forwarding no\nMatch User \"a b\",c Address 10.0.0.0/8\nX11Forwarding yes\nAllowUsers u\nAllowUsers v\n\
             Match Group g\nForceCommand x\nMatch all\nPermitTTY no\nX11Forwarding yes\n",
        )]);
        let expected = json!({"X11Forwarding": true, "PermitTTY": false,
            "Match:1": {"condition": "User a b,c Address 10.0.0.0/8", "X11Forwarding": true, "AllowUsers": ["u", "v"]},
            "Match:2": {"condition": "Group g", "ForceCommand": "x"},
            "Match:3": {"condition": "all", "PermitTTY": false, "X11Forwarding": true}});
        assert_eq!(data, expected);
    }

    #[test]
    fn includes_stand_where_they_are_included() {
        let data = good(&[
            (
                MAIN_FILE,
                "Include conf.d/*.conf /none/*\nUsePAM no\nMatch User a\nInclude /in\nMaxSessions 1\n",
            ),
            ("/etc/ssh/conf.d/20.conf", "UsePAM yes\nMatch Host h\nUseDNS no\n"),
            ("/etc/ssh/conf.d/10.conf", "Port 1\nInclude deep\n"),
            ("/etc/ssh/conf.d/30.conf", "Port 3\n"),
            ("/etc/ssh/deep", "Port 2\n"),
            ("/in", "PermitTTY no\nMatch Host i\nGatewayPorts no\nMatch all\nPrintMotd no\n"),
        ]);
        let expected = json!({"Include": ["conf.d/*.conf", "deep", "/none/*"], "Port": [1, 2, 3], "UsePAM": true,
            "Match:1": {"condition": "Host h", "UseDNS": false},
            "Match:2": {"condition": "User a", "Include": "/in", "PermitTTY": false, "MaxSessions": 1},
            "Match:3": {"condition": "User a Host i", "GatewayPorts": false},
            "Match:4": {"condition": "User a", "PrintMotd": false}});
        assert_eq!(data, expected);
    }

    #[test]
    fn loops_depth_and_closed_files_are_errors_and_the_rest_is_kept() {
        let mut tree = Tree::of(&[
            (MAIN_FILE, "Include a\nInclude 0\nInclude closed\nPort 9\n"),
            ("/etc/ssh/a", "Include a\nPort 1\n"),
        ]);
        for n in 0..20 {
            tree.0.insert(format!("/etc/ssh/{n}"), Some(format!("Include {}\nPort 1{n}\n", n + 1)));
        }
        tree.0.insert("/etc/ssh/closed".into(), None);
        let (data, errors) = read(&tree, MAIN_FILE);
        assert_eq!(data["Port"].as_array().unwrap().len(), 1 + 16 + 1);
        let expected = [
            "/etc/ssh/a line 1: /etc/ssh/a includes itself, left out here",
            "/etc/ssh/15 line 1: /etc/ssh/16 is included over more than 16 levels",
            "/etc/ssh/sshd_config line 3: cannot read /etc/ssh/closed: permission denied",
        ];
        assert_eq!(errors, expected);
    }

    #[test]
    fn files_that_include_each_other_many_times_over_are_bounded() {
        let mut tree = Tree::of(&[(MAIN_FILE, "Include 0\n")]);
        for n in 0..14 {
            tree.0.insert(format!("/etc/ssh/{n}"), Some(format!("Include {0}\n", n + 1).repeat(8)));
        }
        let (_, errors) = read(&tree, MAIN_FILE);
        assert!(errors.iter().any(|error| error.contains("more than 512 files")), "{errors:?}");
    }

    #[test]
    fn what_is_malformed_is_named_with_its_line() {
        let (data, errors) =
            parse("Port\nNonsense 5\nBanner \"a\nUseDNS yes\nSubsystem sftp\n?? x\nMatch \"x\nUsePAM no\n");
        assert_eq!(data["Nonsense"], 5);
        assert_eq!(data["UseDNS"], true);
        assert_eq!(data["Match:1"], json!({"condition": "\"x", "UsePAM": false}));
        assert_eq!(data.as_object().unwrap().len(), 3, "{data}");
        let expected = [
            "/etc/ssh/sshd_config line 1: Port has no value",
            "/etc/ssh/sshd_config line 2: sshd_config(5) knows no keyword 'Nonsense'",
            "/etc/ssh/sshd_config line 3: a quote is not closed in '\"a'",
            "/etc/ssh/sshd_config line 5: Subsystem needs a name and a command",
            "/etc/ssh/sshd_config line 6: '??' is not a keyword",
            "/etc/ssh/sshd_config line 7: a quote is not closed in '\"x'",
        ];
        assert_eq!(errors, expected);
    }
}
