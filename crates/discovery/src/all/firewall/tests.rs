use super::*;
use crate::parse::testing::{Tree, check_any_text, check_fixtures, collect as collect_from};

fn nftables(files: &[(&str, &str)]) -> (Value, Vec<String>) {
    let mut errors = Errors::default();
    let data = nft::configured(&Tree::of(files), &mut errors);
    (data, errors.into_list())
}

const GOOD: &str = "#!/usr/sbin/nft -f\nflush ruleset\ndefine lan = { 10.0.0.0/8, 192.168.0.0/16 }\ntable inet filter {\n\
    \tset known { type ipv4_addr; elements = { 1.2.3.4,\n 5.6.7.8 }\n }\n\tchain input {\n\
    \t\ttype filter hook input priority 0; policy drop;\n\t\tiif \"lo\" accept\n\t\tip saddr 127.0.0.0/8 counter drop\n\
    \t\tip6 saddr ::1 drop\n\t\ttcp dport { 22, 80 } accept\n\t}\n\tchain forward { type filter hook forward priority 0; policy drop; }\n\
    \tchain own { }\n\tchain output {\n\t\ttype filter hook output priority filter\n\t}\n}\n";

#[test]
fn fixtures() {
    check_fixtures(&DISCOVERY);
}

#[test]
fn nftables_in_blocks() {
    let (data, errors) = nftables(&[("/etc/nftables.conf", GOOD)]);
    assert_eq!(errors, [""; 0]);
    let expected = json!({"table": ["inet filter"], "base_chains": ["forward", "input", "output"],
        "policy": {"input": "drop", "forward": "drop", "output": "accept"}, "loopback": "restricted"});
    assert_eq!(data, expected);
    let (open, _) = nftables(&[("/etc/nftables.conf", &GOOD.replace("ip6 saddr ::1 drop", ""))]);
    assert_eq!(open["loopback"], "open");
    assert_eq!(nftables(&[("/etc/nftables.conf", &GOOD.replace('\n', "\r\n"))]), (expected, vec![]));
}

#[test]
fn nftables_in_commands_and_included_files() {
    let (data, errors) = nftables(&[
        ("/etc/sysconfig/nftables.conf", "include \"/etc/nftables/*.nft\"\ninclude \"more\"\n"),
        (
            "/etc/nftables/a.nft",
            "add table inet t\nadd chain inet t in { type filter hook input priority 0 ; policy drop ; }\n\
             add rule inet t in iifname lo accept\nadd rule inet t in ip saddr 127.0.0.0/8 drop\n",
        ),
        (
            "/etc/more",
            "add rule inet t in ip6 saddr ::1 reject\ntable ip nat { chain post { type nat hook postrouting priority 100; } }\n",
        ),
    ]);
    assert_eq!(errors, [""; 0]);
    let expected = json!({"table": ["inet t", "ip nat"], "base_chains": ["input"], "policy": {"input": "drop"},
        "loopback": "restricted"});
    assert_eq!(data, expected);
    let empty = json!({"policy": {}, "loopback": "open"});
    assert_eq!(nftables(&[("/etc/nftables.conf", &format!("{GOOD}flush ruleset\n"))]), (empty, vec![]));
}

#[test]
fn malformed_rule_sets() {
    let (data, errors) = nftables(&[("/etc/nftables.conf", "}\ntable inet a {\n")]);
    assert_eq!(data["table"], json!(["inet a"]));
    let expected = [
        "/etc/nftables.conf line 1: there is no brace to close",
        "/etc/nftables.conf: the file ends within a block",
    ];
    assert_eq!(errors, expected);
}

#[test]
fn saved_rules_of_iptables() {
    let text = "# by hand\n*nat\n:INPUT ACCEPT [0:0]\nCOMMIT\n*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n\
                :own - [0:0]\n-A INPUT -i lo -j ACCEPT\n-A INPUT -s 127.0.0.0/8 -j DROP\n-A INPUT -j own\nCOMMIT\n";
    let mut errors = Errors::default();
    let expected =
        json!({"policy": {"INPUT": "DROP", "FORWARD": "DROP", "OUTPUT": "ACCEPT"}, "loopback": "restricted"});
    assert_eq!(saved_rules(text, "f", false, &mut errors), expected);
    assert_eq!(saved_rules(text, "f", true, &mut errors)["loopback"], "open");
    let v6 = "*filter\n-A INPUT -i lo -j ACCEPT\n-A INPUT -s ::1/128 -j DROP\nnonsense\n";
    assert_eq!(saved_rules(v6, "f", true, &mut errors)["loopback"], "restricted");
    assert_eq!(errors.into_list(), ["f line 4: 'nonsense' is not understood"]);
}

#[test]
fn ufw_and_firewalld() {
    let user = b"### tuple ### deny any any 0.0.0.0/0 any 127.0.0.0/8 in\n";
    let user6 = b"### tuple ### deny any any ::/0 any ::1 in\n";
    let found = collect_from(
        &DISCOVERY,
        &[
            ("/etc/ufw/ufw.conf", b"# x\nENABLED=yes\nLOGLEVEL=low\n"),
            ("/etc/default/ufw", b"DEFAULT_INPUT_POLICY=\"DROP\"\nDEFAULT_OUTPUT_POLICY=\"REJECT\"\nDEFAULT_FORWARD_POLICY=\"ACCEPT\"\n"),
            ("/etc/ufw/before.rules", b"-A ufw-before-input -i lo -j ACCEPT\n"),
            ("/etc/ufw/user.rules", user),
            ("/etc/ufw/user6.rules", user6),
            ("/etc/firewalld/firewalld.conf", b"DefaultZone=public\nnonsense\n"),
            ("/etc/systemd/system/multi-user.target.wants/firewalld.service", b""),
        ],
    );
    let expected = json!({"in_use": ["ufw", "firewalld"], "firewalld": {"DefaultZone": "public"},
        "ufw": {"active": true, "loopback": "restricted",
                "default": {"incoming": "deny", "outgoing": "reject", "routed": "allow"}}});
    assert_eq!(found.data, expected);
    assert_eq!(found.errors, ["/etc/firewalld/firewalld.conf line 2: 'nonsense' is not a setting"]);
    assert_eq!(collect_from(&DISCOVERY, &[("/etc/hostname", b"h")]).data, json!({"in_use": []}));
}

#[test]
fn the_running_system_can_be_asked() {
    let found = collect(&Host::running(), &Parameters::new());
    assert!(found.data["running"]["legacy_tables"].is_array(), "{}", found.data);
}

#[test]
fn any_text() {
    let tokens = &[
        "table",
        " ",
        "inet",
        "a",
        "{",
        "}",
        ";",
        "\n",
        "chain",
        "input",
        "type filter hook input",
        "policy",
        "drop",
        "\"",
        "#",
        "\\",
        "add",
        "rule",
        "include \"/etc/nftables.conf\"",
        "iif lo accept",
    ];
    check_any_text("/etc/nftables.conf", tokens, |text| nftables(&[("/etc/nftables.conf", text)]));
    let tokens = &["*filter", "\n", ":INPUT", " ", "DROP", "-A INPUT", "-s", "::1", "COMMIT", "-j", "x"];
    check_any_text("f", tokens, |text| {
        let mut errors = Errors::default();
        (saved_rules(text, "f", false, &mut errors), errors.into_list())
    });
}
