use super::*;
use proptest::prelude::*;

/// `A` accepted, `D` dropped, `?` unknown, of IPv4 and IPv6.
fn fates(ruleset: &str, port: u16) -> String {
    [Family::Ipv4, Family::Ipv6]
        .map(|family| match fate(ruleset, family, port) {
            Fate::Accepted => 'A',
            Fate::Dropped(_) => 'D',
            Fate::Unknown(_) => '?',
        })
        .into_iter()
        .collect()
}

fn with(rules: &str) -> String {
    let set = "set ports {\n\t\ttype inet_service\n\t\tflags interval\n\t\telements = { 53, 1900-1990,\n\t\t\t     5000 }\n\t}";
    format!(
        "table inet filter {{\n\t{set}\n\n\tchain ours {{\n\t\tudp dport 1984 accept\n\t\treturn\n\t}}\n\n\tchain input {{\n\t\ttype filter hook input priority filter; policy drop;\n{rules}\n\t}}\n}}\n"
    )
}

#[test]
fn rules_are_followed_as_far_as_they_can_be_known() {
    for (rules, expected) in [
        ("", "DD"),
        ("accept", "AA"),
        ("udp dport 1984 accept", "AA"),
        ("udp dport != 1984 accept", "DD"),
        ("udp dport != 53 accept", "AA"),
        ("udp dport { 53, 1900-2000 } counter packets 1 bytes 2 accept comment \"x } y\"", "AA"),
        ("udp dport @ports accept", "AA"),
        ("udp dport @missing accept", "??"),
        ("tcp dport 1984 accept", "DD"),
        ("tcp dport != 1984 accept", "DD"),
        ("meta l4proto { tcp, udp } th dport 1984 accept", "AA"),
        ("ct state established,related accept", "DD"),
        ("ct state new,established accept", "AA"),
        (
            "ct state vmap { established : accept, related : accept, invalid : drop }\nudp dport 1984 accept",
            "AA",
        ),
        ("ct state vmap { established : accept, new : jump ours }", "AA"),
        ("iif \"lo\" accept", "DD"),
        ("iifname != \"lo\" accept", "AA"),
        ("iifname \"eth0\" udp dport 1984 accept", "??"),
        ("ip saddr 10.0.0.0/8 udp dport 1984 accept", "?D"),
        ("ip6 saddr fe80::/10 accept", "D?"),
        ("ip saddr . udp dport { 10.0.0.1 . 1984 } accept", "??"),
        ("jump ours", "AA"),
        ("goto ours", "AA"),
        ("jump nowhere", "??"),
        ("udp dport 1984 drop\naccept", "DD"),
        ("udp dport vmap { 53 : accept, 1984 : goto ours }", "AA"),
        ("meta nfproto ipv4 accept", "AD"),
        ("limit rate 10/second accept", "AA"),
        ("limit rate over 10/second drop\naccept", "AA"),
        ("log prefix \"drop it\" level debug\naccept", "AA"),
        ("icmpv6 type { nd-neighbor-solicit, nd-router-advert } accept", "DD"),
        ("xt match \"multiport\" accept", "??"),
        ("# match recent\naccept", "AA"),
        ("udp dport 1984 queue to 3", "??"),
    ] {
        assert_eq!(fates(&with(rules), 1984), expected, "{rules}");
    }
    assert_eq!(fates("", 1984), "AA");
    assert_eq!(fates(&with("jump ours"), 1985), "DD");
}

#[test]
fn a_drop_anywhere_is_a_drop_and_an_unknown_jump_comes_back() {
    let raw = "table ip raw {\n\tchain PREROUTING {\n\t\ttype filter hook prerouting priority raw; policy accept;\n\t\tmeta l4proto udp udp dport 1984 drop\n\t}\n}\n";
    assert_eq!(fates(&format!("{raw}{}", with("accept")), 1984), "DA");
    let place = Place { family: "ip".into(), table: "raw".into(), chain: "PREROUTING".into() };
    assert_eq!(fate(raw, Family::Ipv4, 1984), Fate::Dropped(place));
    let device = "table netdev f {\n\tchain c {\n\t\ttype filter hook ingress device \"eth0\" priority 0; policy drop;\n\t}\n}\n";
    assert_eq!(fates(device, 1984), "??", "of one interface");
    // The chain may be entered; behind it everything is dropped all the same.
    assert_eq!(fates(&with("iifname \"eth0\" jump ours"), 1985), "DD");
    assert_eq!(fates(&with("iifname \"eth0\" jump ours"), 1984), "??");
    // A circle ends.
    let circle =
        with("jump around").replace("chain ours {", "chain around {\n\t\tjump around\n\t}\n\n\tchain ours {");
    assert_eq!(fates(&circle, 1984), "??");
}

/// As ufw has it with iptables-nft: default deny, ssh allowed, and one rule more.
fn ufw(rule: &str) -> String {
    format!(
        "# Warning: table ip filter is managed by iptables-nft, do not touch!
table ip filter {{
	chain ufw-before-input {{
		iifname \"lo\" counter packets 0 bytes 0 accept
		ct state related,established counter packets 0 bytes 0 accept
		ct state invalid counter packets 0 bytes 0 drop
		meta l4proto icmp icmp type echo-request counter packets 0 bytes 0 accept
		meta l4proto udp udp sport 67 udp dport 68 counter packets 0 bytes 0 accept
		counter packets 0 bytes 0 jump ufw-not-local
		meta l4proto udp ip daddr 224.0.0.251 udp dport 5353 counter packets 0 bytes 0 accept
		counter packets 0 bytes 0 jump ufw-user-input
	}}

	chain ufw-not-local {{
		fib daddr type local counter packets 0 bytes 0 return
		fib daddr type multicast counter packets 0 bytes 0 return
		limit rate 3/minute burst 10 packets counter packets 0 bytes 0 jump ufw-logging-deny
		counter packets 0 bytes 0 drop
	}}

	chain ufw-logging-deny {{
		limit rate 3/minute burst 10 packets counter packets 0 bytes 0 log prefix \"[UFW BLOCK] \"
	}}

	chain ufw-user-input {{
		meta l4proto tcp tcp dport 22 counter packets 0 bytes 0 accept
		{rule}
	}}

	chain INPUT {{
		type filter hook input priority filter; policy drop;
		counter packets 0 bytes 0 jump ufw-before-input
		counter packets 0 bytes 0 jump ufw-logging-deny
	}}
}}
"
    )
}

#[test]
fn ufw_is_understood() {
    assert_eq!(fates(&ufw(""), 1984), "DA");
    assert_eq!(fates(&ufw("meta l4proto udp udp dport 1984 counter packets 0 bytes 0 accept"), 1984), "AA");
    assert_eq!(
        fates(&ufw("ip saddr 10.84.0.0/24 udp dport 1984 counter packets 0 bytes 0 accept"), 1984),
        "?A"
    );
}

/// As firewalld has it: zones by interface, one for the rest.
fn firewalld(rule: &str) -> String {
    format!(
        "table inet firewalld {{
	ct helper helper-netbios-ns-udp {{
		type \"netbios-ns\" protocol udp
		l3proto ip
	}}

	chain mangle_PREROUTING {{
		type filter hook prerouting priority mangle + 10; policy accept;
		meta nfproto ipv6 fib saddr . mark . iif oif missing drop
	}}

	chain filter_INPUT {{
		type filter hook input priority filter + 10; policy accept;
		ct state {{ established, related }} accept
		ct status dnat accept
		iifname \"lo\" accept
		ct state invalid drop
		jump filter_INPUT_ZONES
		reject with icmpx admin-prohibited
	}}

	chain filter_INPUT_ZONES {{
		iifname \"eth0\" goto filter_IN_public
		goto filter_IN_public
	}}

	chain filter_IN_public {{
		jump filter_IN_public_allow
		meta l4proto {{ icmp, ipv6-icmp }} accept
		reject with icmpx admin-prohibited
	}}

	chain filter_IN_public_allow {{
		tcp dport 22 accept
		{rule}
	}}
}}
"
    )
}

#[test]
fn firewalld_is_understood() {
    assert_eq!(fates(&firewalld(""), 1984), "DD");
    assert_eq!(fates(&firewalld("udp dport 1984 accept"), 1984), "AA");
    assert_eq!(fates(&firewalld("ip saddr 10.84.0.0/24 udp dport 1984 accept"), 1984), "?D");
}

proptest! {
    /// Whatever stands there, it ends without a panic.
    #[test]
    fn no_text_makes_it_panic(words in prop::collection::vec(prop_oneof![
        Just("table inet f {\n"), Just("chain input {\n"), Just("type filter hook input priority 0; policy drop;\n"), Just("}"),
        Just("{"), Just("\n"), Just("udp dport"), Just("1984"), Just("accept\n"), Just("jump input\n"), Just("vmap"), Just(","),
        Just("\""), Just("#"), Just(":"), Just("ct state"), Just("@x"), Just("!="), Just("elements = {"), Just("set x {\n"), Just("70000-1"),
    ], 0..60)) {
        let text = words.join(" ");
        fates(&text, 1984);
    }
}
