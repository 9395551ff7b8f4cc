//! What a host tells of itself alone.

use super::{DocumentSite, digits, object};
use serde_json::{Map, Value, json};
use std::net::Ipv6Addr;

/// Packages of a host.
const PACKAGES: usize = 150;
/// Files whose checksums a host tells, where it does.
const FILES: usize = 200;
/// Images that hosts were installed from: those of one image have the same packages.
const IMAGES: u64 = 12;

pub fn os(site: &DocumentSite, host: usize, version: u32) -> Value {
    json!({
        "nodename": site.name(host), "kernel-name": "Linux", "kernel-release": format!("6.1.0-{}-amd64", 18 + version),
        "kernel-version": "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)", "machine": "x86_64",
        "processor": "x86_64", "hardware-platform": "x86_64", "operating-system": "GNU/Linux",
        "Distributor ID": "Debian", "Description": "Debian GNU/Linux 12 (bookworm)", "Release": "12",
        "Codename": "bookworm", "id": "debian", "version_id": "12", "rtc_in_utc": true,
        "support_end": "2028-06-30", "support_status": "supported",
        "os-release": {"NAME": "Debian GNU/Linux", "ID": "debian", "VERSION_ID": "12", "VERSION": "12 (bookworm)",
            "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)", "VERSION_CODENAME": "bookworm"},
    })
}

/// The address that the kernel makes of the link-layer address (RFC 4291, appendix A).
pub fn link_local(site: &DocumentSite, host: usize) -> Ipv6Addr {
    let text = site.macaddr(host);
    let bytes: Vec<u16> = text.split('-').map(|byte| u16::from_str_radix(byte, 16).unwrap_or(0)).collect();
    let byte = |index: usize| bytes.get(index).copied().unwrap_or(0);
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        (byte(0) ^ 2) << 8 | byte(1),
        byte(2) << 8 | 0xff,
        0xfe00 | byte(3),
        byte(4) << 8 | byte(5),
    )
}

pub fn netconfig(site: &DocumentSite, host: usize, version: u32) -> Value {
    let address = site.address(host);
    let [a, b, c, _] = address.octets();
    let mut data = json!({
        "lo": {"address": "00-00-00-00-00-00", "carrier": true, "virtual": true, "operstate": "unknown", "mtu": 65536,
            "type": 772, "ipaddrs": {"127.0.0.1/8": {"scope": "host", "name": "lo"}, "::1/128": {"scope": "host", "name": "lo"}}},
        "eth0": {"address": site.macaddr(host), "carrier": true, "virtual": false, "operstate": "up",
            "mtu": 1500 + version, "type": 1, "duplex": "full", "speed": 10_000, "default_gw": true,
            "ipaddrs": {
                format!("{address}/24"): {"brd": format!("{a}.{b}.{c}.255"), "scope": "global", "name": "eth0"},
                format!("{}/64", link_local(site, host)): {"scope": "link", "name": "eth0"}}},
    });
    if site.has_containers(host) {
        data["docker0"] = json!({"address": "02-42-ac-11-00-01", "carrier": true, "virtual": true, "operstate": "up",
            "mtu": 1500, "type": 1, "kind": "bridge", "bridge_id": "8000.0242ac110001",
            "ipaddrs": {"172.17.0.1/16": {"brd": "172.17.255.255", "scope": "global", "name": "docker0"}}});
    }
    data
}

pub fn packagetypes() -> Value {
    json!(["apk", "deb", "flatpak", "gem", "npm", "pip", "rpm", "snap"])
}

pub fn packages(site: &DocumentSite, host: usize, version: u32) -> Value {
    const PARTS: [&str; 10] =
        ["perl", "python3", "lib", "ruby", "golang", "node", "java", "php", "systemd", "fonts"];
    let image = site.random(host, 20).below(IMAGES);
    let packages = (0..PACKAGES as u64).map(|number| {
        let part = PARTS[(number % 10) as usize];
        let mut random = site.random((image * 1000 + number) as usize, 21);
        let upgraded = version > 0 && number == u64::from(version) % PACKAGES as u64;
        let suffix = if upgraded { format!("+deb12u{version}") } else { String::new() };
        let text = format!(
            "{}.{}.{}-{}{suffix}",
            random.below(6),
            random.below(20),
            random.below(10),
            1 + random.below(4)
        );
        (format!("{part}-component{number}::amd64"), Value::from(text))
    });
    // What rules and people ask for by name.
    let known = ["openssh-server", "openssl", "sudo", "bash"];
    let known = known
        .into_iter()
        .map(|name| (format!("{name}::amd64"), Value::from(format!("1:9.{image}-2+deb12u3"))));
    json!({"deb": object(packages.chain(known))})
}

pub fn checksums(site: &DocumentSite, host: usize, version: u32) -> Value {
    let files = (0..FILES).map(|number| {
        // The first thousand numbers of chance are the same on all hosts of an image; here each host has its own.
        let changed = version > 0 && number == version as usize % FILES;
        let about = 30 + number as u64 + if changed { 1000 * u64::from(version) } else { 0 };
        (
            format!("/usr/lib/x86_64-linux-gnu/lib{number}.so.6"),
            Value::from(digits(&mut site.random(host, about), 64)),
        )
    });
    object(files)
}

pub fn sshd(version: u32) -> Value {
    json!({
        "Port": [22], "PermitRootLogin": false, "PasswordAuthentication": false, "X11Forwarding": false,
        "MaxAuthTries": 4 + version, "LogLevel": "INFO", "ClientAliveInterval": 300, "ClientAliveCountMax": 3,
        "PermitEmptyPasswords": false, "HostbasedAuthentication": false, "IgnoreRhosts": true, "UsePAM": true,
        "KbdInteractiveAuthentication": false, "PrintMotd": false, "AcceptEnv": ["LANG", "LC_*"], "LoginGraceTime": 60,
        "Ciphers": ["aes256-gcm@openssh.com", "aes256-ctr", "aes128-ctr"], "AllowGroups": ["admins", "operators"],
        "MACs": ["hmac-sha2-512-etm@openssh.com", "hmac-sha2-256-etm@openssh.com"], "Banner": "/etc/issue.net",
        "Subsystem": {"sftp": "/usr/lib/openssh/sftp-server"},
        "Match:1": {"condition": "Group sftponly", "ForceCommand": "internal-sftp", "AllowTcpForwarding": false},
    })
}

pub fn proc_sys(site: &DocumentSite, host: usize, version: u32) -> Value {
    let mut data = Map::from_iter([
        ("kernel.hostname".to_owned(), Value::from(site.name(host))),
        ("kernel.randomize_va_space".to_owned(), 2.into()),
        ("net.ipv4.ip_forward".to_owned(), 0.into()),
        ("net.ipv4.conf.all.accept_redirects".to_owned(), 0.into()),
        ("net.ipv4.tcp_syncookies".to_owned(), 1.into()),
        // What is broken and mended again and again.
        ("net.ipv4.conf.all.log_martians".to_owned(), i32::from(version.is_multiple_of(2)).into()),
        ("vm.swappiness".to_owned(), (60 + version).into()),
    ]);
    let mut random = site.random(host, 10);
    data.extend(
        (0..120).map(|number| (format!("net.core.parameter{number}"), Value::from(random.below(10_000)))),
    );
    data.into()
}
