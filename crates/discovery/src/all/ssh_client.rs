//! What the SSH client does for every host, `/etc/ssh/ssh_config` and all that it includes, see ssh_config(5), and
//! whether the private keys of the accounts are protected.
//!
//! `data` is keyword → value, as for the discovery `sshd`: the manual's spelling, the first line counts, `yes` and `no` are
//! booleans, whole numbers numbers, several words a list, lists of algorithms with a comma lists with `+`, `-` or `^` left on
//! the first element. That is what holds for all hosts: lines outside of blocks and below `Host *` or `Match all`; those
//! below `Match final all` come after all others. Any other block is the key `Host:<n>` with `condition` and its
//! keywords. A keyword without a line is not in the data. Further:
//!
//! - `private_keys`: path → `{"passphrase": true or false}` for the files in `~/.ssh` of root and of the accounts in
//!   /etc/passwd that hold a private key. Absent when there are none.
//!
//! ```json
//! {"Include": "/etc/ssh/ssh_config.d/*.conf", "SendEnv": ["LANG", "LC_*"], "HashKnownHosts": true,
//!  "Ciphers": ["aes256-gcm@openssh.com", "aes256-ctr"], "Host:1": {"condition": "Host old", "Ciphers": "+aes128-cbc"},
//!  "private_keys": {"/root/.ssh/id_ed25519": {"passphrase": true}}}
//! ```

#[path = "ssh_client/keys.rs"]
mod keys;

use crate::parse::presence::{any_exists, not_there};
use crate::parse::ssh_lines::{Includes, setting, words};
use crate::parse::{self, Errors, Files, accumulate, mask_secrets, one_or_list, quoted, scalar};
use crate::{Collected, Discovery, Host, Instance, Parameters, Schedule, Trigger, documentation, no_graph};
use serde_json::{Map, Value, json};

pub static DISCOVERY: Discovery = Discovery {
    name: "ssh_client",
    description: "Settings of the SSH client for all hosts, protection of private keys",
    documentation: documentation::SSH_CLIENT,
    parameters: &[],
    instances: &[Instance { name: "_init_ssh_client", parameters: &[], schedule: None }],
    schedule: Schedule { repeat_seconds: 600, ..Schedule::DEFAULT },
    trigger: Trigger::Files,
    collect,
    graph: no_graph,
};

const FILE: &str = "/etc/ssh/ssh_config";
const MAX_BLOCKS: usize = 1000;

/// The manual's spelling of the keywords.
const KEYWORDS: &str = "AddKeysToAgent AddressFamily BatchMode BindAddress BindInterface CanonicalDomains \
    CanonicalizeFallbackLocal CanonicalizeHostname CanonicalizeMaxDots CanonicalizePermittedCNAMEs CASignatureAlgorithms \
    CertificateFile ChannelTimeout CheckHostIP Ciphers ClearAllForwardings Compression ConnectionAttempts ConnectTimeout \
    ControlMaster ControlPath ControlPersist DynamicForward EnableEscapeCommandline EnableSSHKeysign EscapeChar \
    ExitOnForwardFailure FingerprintHash ForkAfterAuthentication ForwardAgent ForwardX11 ForwardX11Timeout \
    ForwardX11Trusted GatewayPorts GlobalKnownHostsFile GSSAPIAuthentication GSSAPIClientIdentity \
    GSSAPIDelegateCredentials GSSAPIKexAlgorithms GSSAPIKeyExchange GSSAPIRenewalForcesRekey GSSAPIServerIdentity \
    GSSAPITrustDns HashKnownHosts HostbasedAcceptedAlgorithms HostbasedAuthentication HostKeyAlgorithms HostKeyAlias \
    Hostname IdentitiesOnly IdentityAgent IdentityFile IgnoreUnknown Include IPQoS KbdInteractiveAuthentication \
    KbdInteractiveDevices KexAlgorithms KnownHostsCommand LocalCommand LocalForward LogLevel LogVerbose MACs \
    NoHostAuthenticationForLocalhost NumberOfPasswordPrompts ObscureKeystrokeTiming PasswordAuthentication \
    PermitLocalCommand PermitRemoteOpen PKCS11Provider Port PreferredAuthentications ProxyCommand ProxyJump ProxyUseFdpass \
    PubkeyAcceptedAlgorithms PubkeyAuthentication RekeyLimit RemoteCommand RemoteForward RequestTTY RequiredRSASize \
    RevokedHostKeys SecurityKeyProvider SendEnv ServerAliveCountMax ServerAliveInterval SessionType SetEnv StdinNull \
    StreamLocalBindMask StreamLocalBindUnlink StrictHostKeyChecking SyslogFacility Tag TCPKeepAlive Tunnel TunnelDevice \
    UpdateHostKeys User UserKnownHostsFile VerifyHostKeyDNS VisualHostKey XAuthLocation Protocol Cipher \
    RhostsRSAAuthentication RSAAuthentication UsePrivilegedPort";
/// Names that ssh still takes for another keyword.
const RETIRED: &[(&str, &str)] = &[
    ("ChallengeResponseAuthentication", "KbdInteractiveAuthentication"),
    ("PubkeyAcceptedKeyTypes", "PubkeyAcceptedAlgorithms"),
    ("HostbasedKeyTypes", "HostbasedAcceptedAlgorithms"),
    ("GlobalKnownHostsFile2", "GlobalKnownHostsFile"),
];
const ADD_UP: &[&str] = &[
    "SendEnv",
    "IdentityFile",
    "CertificateFile",
    "LocalForward",
    "RemoteForward",
    "DynamicForward",
    "Include",
];

fn collect(host: &Host, _: &Parameters) -> Collected {
    let mut errors = Errors::default();
    let private_keys = keys::private_keys(host, &mut errors);
    let missing = host.stat(FILE).is_err_and(|error| error.is_missing());
    if missing && private_keys.is_empty() && !any_exists(host, &["/usr/bin/ssh"]) {
        return not_there(
            "the SSH client is not installed: there is no /usr/bin/ssh and no /etc/ssh/ssh_config",
        );
    }
    let (mut data, mut found) = if missing { (json!({}), Vec::new()) } else { read(host) };
    found.extend(errors.into_list());
    if let Value::Object(map) = &mut data
        && !private_keys.is_empty()
        && !map.contains_key("NODATA")
    {
        map.insert("private_keys".into(), Value::Object(private_keys));
    }
    parse::collected((data, found))
}

fn read(files: &dyn Files) -> (Value, Vec<String>) {
    let mut reader = Reader {
        files,
        errors: Errors::default(),
        first: Map::new(),
        last: Map::new(),
        blocks: Vec::new(),
        includes: Includes::default(),
    };
    match files.text(FILE) {
        Ok(text) => reader.file(FILE, &text, &Block::Everything),
        Err(reason) => {
            reader.errors.unread(&reason);
            return (parse::no_data(FILE), reader.errors.into_list());
        }
    }
    let mut data = reader.first;
    for (name, value) in reader.last {
        if ADD_UP.contains(&name.as_str()) {
            accumulate(&mut data, &name, value);
        } else {
            data.entry(name).or_insert(value);
        }
    }
    for (index, block) in reader.blocks.into_iter().enumerate() {
        data.insert(format!("Host:{}", index + 1), Value::Object(block));
    }
    (Value::Object(data), reader.errors.into_list())
}

/// What the lines of a block hold for.
#[derive(Clone)]
enum Block {
    Everything,
    /// Everything, but only where nothing else was said: `Match final all`.
    EverythingLast,
    /// Index in `Reader::blocks`, and the condition.
    Some(usize, String),
    /// One too many.
    LeftOut,
}

struct Reader<'a> {
    files: &'a dyn Files,
    errors: Errors,
    first: Map<String, Value>,
    last: Map<String, Value>,
    blocks: Vec<Map<String, Value>>,
    includes: Includes,
}

impl Reader<'_> {
    fn file(&mut self, path: &str, text: &str, outer: &Block) {
        self.includes.begin(path);
        let mut block = outer.clone();
        for (number, line) in parse::lines(text, path, &mut self.errors) {
            let Some((name, rest)) = setting(line, path, number, &mut self.errors) else { continue };
            let Some(words) = words(rest, path, number, &mut self.errors) else { continue };
            if words.is_empty() {
                self.errors.at(path, number, format_args!("{name} has no value"));
            } else if name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case("match") {
                block = self.begin_block(path, number, name, &words, outer);
            } else if name.eq_ignore_ascii_case("include") {
                self.include(path, number, &words, &block);
            } else {
                self.setting(path, number, name, &words, &block);
            }
        }
        self.includes.end();
    }

    fn begin_block(
        &mut self,
        path: &str,
        number: usize,
        name: &str,
        words: &[String],
        outer: &Block,
    ) -> Block {
        let is_host = name.eq_ignore_ascii_case("host");
        let has = |word: &str| words.iter().any(|own| own.eq_ignore_ascii_case(word));
        let only = |allowed: &[&str]| {
            words.iter().all(|own| allowed.iter().any(|word| own.eq_ignore_ascii_case(word)))
        };
        let own = if is_host {
            words.len() == 1 && has("*")
        } else {
            has("all") && only(&["all", "final", "canonical"])
        };
        match outer {
            Block::Everything if own && !is_host && (has("final") || has("canonical")) => {
                return Block::EverythingLast;
            }
            Block::Everything | Block::EverythingLast | Block::Some(..) | Block::LeftOut if own => {
                return outer.clone();
            }
            _ => {}
        }
        if self.blocks.len() == MAX_BLOCKS {
            self.errors.at(path, number, format_args!("more than {MAX_BLOCKS} blocks, this one is left out"));
            return Block::LeftOut;
        }
        let kind = if is_host { "Host" } else { "Match" };
        let condition = match outer {
            Block::Some(_, outer) => format!("{outer} {kind} {}", words.join(" ")),
            _ => format!("{kind} {}", words.join(" ")),
        };
        let condition = model::text::shortened(&mask_secrets(&condition), 2000).into_owned();
        let mut block = Map::new();
        block.insert("condition".into(), Value::from(condition.as_str()));
        self.blocks.push(block);
        Block::Some(self.blocks.len() - 1, condition)
    }

    fn include(&mut self, path: &str, number: usize, patterns: &[String], block: &Block) {
        for pattern in patterns {
            self.put(block, "Include", Value::from(pattern.as_str()));
            for file in self.includes.matching(self.files, pattern, path, number, &mut self.errors) {
                let text = self.includes.text(self.files, &file, path, number, &mut self.errors);
                if let Some(text) = text {
                    self.file(&file, &text, block);
                }
            }
        }
    }

    fn setting(&mut self, path: &str, number: usize, name: &str, words: &[String], block: &Block) {
        let name =
            RETIRED.iter().find(|(old, _)| old.eq_ignore_ascii_case(name)).map_or(name, |(_, new)| new);
        let known = KEYWORDS.split_ascii_whitespace().find(|known| known.eq_ignore_ascii_case(name));
        if known.is_none() {
            self.errors.at(path, number, format_args!("ssh_config(5) knows no keyword {}", quoted(name)));
        }
        let name = known.unwrap_or(name);
        let algorithms = matches!(name, "Ciphers" | "MACs") || name.ends_with("Algorithms");
        let value = |word: &String| match scalar(word) {
            Value::String(text) if algorithms && text.contains(',') => {
                text.split(',').filter(|name| !name.is_empty()).map(Value::from).collect()
            }
            Value::String(text) => Value::from(mask_secrets(&text)),
            other => other,
        };
        let value = if name.ends_with("Command") {
            Value::from(mask_secrets(&words.join(" ")))
        } else {
            one_or_list(words.iter().map(value).collect())
        };
        self.put(block, name, value);
    }

    /// Sets a keyword in what the block holds for; the first line counts.
    fn put(&mut self, block: &Block, name: &str, value: Value) {
        let map = match block {
            Block::Everything => &mut self.first,
            Block::EverythingLast => &mut self.last,
            Block::Some(index, _) => match self.blocks.get_mut(*index) {
                Some(map) => map,
                None => return,
            },
            Block::LeftOut => return,
        };
        if ADD_UP.contains(&name) {
            accumulate(map, name, value);
        } else {
            map.entry(name).or_insert(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::{Tree, check_any_text, check_fixtures, collect as collect_from};

    fn good(files: &[(&str, &str)]) -> Value {
        let (data, errors) = read(&Tree::of(files));
        assert!(errors.is_empty(), "{errors:?}");
        data
    }

    #[test]
    fn fixtures() {
        check_fixtures(&DISCOVERY);
    }

    #[test]
    fn what_holds_for_all_hosts_and_the_first_line_counts() {
        let data = good(&[(
            FILE,
            "macs a,b\nHost old *.old\n  MACs c\nHost *\n  MACs d\n  sendenv LANG LC_*\n  HashKnownHosts yes\nMatch all\n\
             SendEnv X\nport 22\nMatch final all\nPort 23\nCiphers x\nMatch exec \"a b\"\nUser me\n",
        )]);
        let expected = json!({"MACs": ["a", "b"], "SendEnv": ["LANG", "LC_*", "X"], "HashKnownHosts": true, "Port": 22,
            "Ciphers": "x", "Host:1": {"condition": "Host old *.old", "MACs": "c"},
            "Host:2": {"condition": "Match exec a b", "User": "me"}});
        assert_eq!(data, expected);
    }

    #[test]
    fn includes_of_a_policy_come_last() {
        let data = good(&[
            (FILE, "Include /etc/ssh/ssh_config.d/*.conf\nCiphers own\n"),
            (
                "/etc/ssh/ssh_config.d/50-redhat.conf",
                "Match final all\n\tInclude /etc/crypto-policies/back-ends/openssh.config\n\tForwardX11Trusted yes\n",
            ),
            ("/etc/crypto-policies/back-ends/openssh.config", "Ciphers a,b\nMACs c,d\n"),
            ("/etc/ssh/ssh_config.d/60.conf", "Host h\nInclude /in\n"),
            ("/in", "Port 1\nHost i\nPort 2\n"),
        ]);
        let expected = json!({"Ciphers": "own", "MACs": ["c", "d"], "ForwardX11Trusted": true,
            "Include": ["/etc/ssh/ssh_config.d/*.conf", "/etc/crypto-policies/back-ends/openssh.config"],
            "Host:1": {"condition": "Host h", "Include": "/in", "Port": 1}, "Host:2": {"condition": "Host h Host i", "Port": 2}});
        assert_eq!(data, expected);
    }

    #[test]
    fn what_is_malformed_is_named_with_its_line() {
        let (data, errors) = read(&Tree::of(&[(
            FILE,
            "Port\nNonsense 5\nUser \"a\n?? x\nInclude ssh_config\nBatchMode yes\n",
        )]));
        assert_eq!(data, json!({"Nonsense": 5, "Include": "ssh_config", "BatchMode": true}));
        let expected = [
            "/etc/ssh/ssh_config line 1: Port has no value",
            "/etc/ssh/ssh_config line 2: ssh_config(5) knows no keyword 'Nonsense'",
            "/etc/ssh/ssh_config line 3: a quote is not closed in '\"a'",
            "/etc/ssh/ssh_config line 4: '??' is not a keyword",
            "/etc/ssh/ssh_config line 5: /etc/ssh/ssh_config includes itself, left out here",
        ];
        assert_eq!(errors, expected);
    }

    #[test]
    fn absent_and_unreadable_differ() {
        let absent = collect_from(&DISCOVERY, &[("/etc/hostname", b"h")]);
        assert!(absent.data["NODATA"].as_str().unwrap().starts_with("the SSH client is not installed"));
        let directory = collect_from(&DISCOVERY, &[("/etc/ssh/ssh_config/x", b"")]);
        assert_eq!(directory.data["NODATA"], "ERROR: Cannot read /etc/ssh/ssh_config");
        assert_eq!(collect_from(&DISCOVERY, &[("/usr/bin/ssh", b"")]).data, json!({}));
    }

    #[test]
    fn any_text() {
        let tokens = &[
            "Host",
            "Match",
            " ",
            "*",
            "all",
            "final",
            "\n",
            "Include",
            "/etc/ssh/*",
            "MACs",
            ",",
            "\"",
            "=",
            "#",
        ];
        check_any_text(FILE, tokens, |text| read(&Tree::of(&[(FILE, text)])));
    }
}
