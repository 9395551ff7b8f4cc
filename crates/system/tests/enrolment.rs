//! Who may become a host, with the real programs on a network: approval, tokens, a machine that was copied, revocation.

use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use system::network::{Host, Network};
use system::process::{Running, capture};
use system::site::{Programs, Site, last_lines};
use system::wait_for;

/// Less than a refused nanoprobe waits before it tries again: who comes within it was called.
const SOON: Duration = Duration::from_secs(90);

struct Scene {
    site: Site,
    _cma: Running,
    network: Network,
    folder: tempfile::TempDir,
}

impl Scene {
    /// A CMA with these settings and two further hosts, picard and riker.
    fn new(enrolment: &str) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let network = Network::new(&["unimatrixzero", "picard", "riker"]).unwrap();
        let center = network.host("unimatrixzero").unwrap().clone();
        let address = format!("{}:1984", center.address);
        let root = folder.path().join("site");
        let site = Site::create_at(&root, Programs::built().unwrap(), &address, Some(center)).unwrap();
        fs::write(site.paths.cma_config(), format!("[enrolment]\n{enrolment}\n")).unwrap();
        let cma = site.start_cma(&[]).unwrap();
        Scene { site, _cma: cma, network, folder }
    }

    fn host(&self, name: &str) -> &Host {
        self.network.host(name).unwrap()
    }

    /// The file tree of a machine of its own: it has other marks than all others.
    fn tree(&self, name: &str) -> PathBuf {
        let tree = self.folder.path().join("trees").join(name);
        let digit = |offset: u8| char::from(b'0' + (name.as_bytes()[0] + offset) % 10).to_string();
        let uuid = |digit: &str| {
            format!("{0}-1234-{1}-{1}-{2}\n", digit.repeat(8), digit.repeat(4), digit.repeat(12))
        };
        for (path, text) in [
            ("etc/machine-id", "0123456789abcdef0123456789abcdef\n".to_owned()),
            ("etc/ssh/sshd_config", "PermitRootLogin no\n".to_owned()),
            ("sys/class/dmi/id/product_uuid", uuid(&digit(0))),
            ("proc/sys/kernel/random/boot_id", uuid(&digit(1))),
        ] {
            let path = tree.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        tree
    }

    /// Starts the nanoprobe of a host with more arguments than it needs.
    fn start(&self, name: &str, more: &[&str]) -> Running {
        let tree = self.tree(name);
        let mut arguments = vec!["--cmaaddr", &self.site.address, "--host-root", tree.to_str().unwrap()];
        arguments.extend(more);
        self.site.start_nanoprobe(name, Some(self.host(name)), &arguments).unwrap()
    }

    fn log(&self, program: &str) -> String {
        fs::read_to_string(self.site.log(program)).unwrap_or_default()
    }

    fn wait<T>(&self, what: &str, check: impl FnMut() -> Option<T>) -> T {
        wait_for(what, SOON, check).unwrap_or_else(|error| {
            let logs = ["cma", "nanoprobe-picard", "nanoprobe-riker"]
                .map(|program| format!("{program}:\n{}", last_lines(&self.site.log(program))));
            panic!("{error}\n{}", logs.join("\n"))
        })
    }

    fn wait_until_logged(&self, program: &str, text: &str) {
        self.wait(&format!("{text:?} in the log of {program}"), || {
            self.log(program).contains(text).then_some(())
        });
    }

    fn wait_until_up(&self, name: &str) {
        let up = format!("SELECT 1 FROM hosts WHERE host = '{name}' AND status = 'up'");
        self.wait(&format!("{name} to be up"), || (self.site.count(&up) == 1).then_some(()));
    }

    fn wait_for_event(&self, kind: &str, reason: &str) {
        let event = format!("SELECT 1 FROM events WHERE eventtype = '{kind}' AND reason = '{reason}'");
        self.wait(&format!("an event {kind} {reason}"), || (self.site.count(&event) > 0).then_some(()));
    }

    /// Exit code and everything that assimcli printed.
    fn assimcli(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.site.assimcli(arguments).unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.code().unwrap_or(-1), text.into_owned())
    }

    /// The same, which has to succeed.
    fn done(&self, arguments: &[&str]) -> String {
        let (code, text) = self.assimcli(arguments);
        assert_eq!(code, 0, "{arguments:?}: {text}");
        text
    }

    fn ask(&self, arguments: &[&str]) -> Value {
        self.site.ask(arguments).unwrap()
    }

    /// What `nanoprobe --key` says on a host.
    fn own_key(&self, name: &str) -> String {
        let root = self.site.nanoprobe_root(name).unwrap();
        let nanoprobe = self.site.programs.path("nanoprobe");
        let output =
            capture(self.host(name).command(&nanoprobe).arg("--root").arg(root).arg("--key")).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

#[test]
fn a_host_waits_until_it_is_approved_and_then_comes_at_once() {
    let scene = Scene::new("policy = \"approve\"");
    // Known before the first start, so that it can be compared in time.
    let key = scene.own_key("picard");
    assert_eq!(key.len(), 32, "{key}");
    let _nanoprobe = scene.start("picard", &[]);
    scene.wait_until_logged("nanoprobe-picard", "waits for approval");
    scene.wait_for_event("warn", "pending");
    let waiting = scene.ask(&["hosts", "pending"]);
    assert_eq!(
        (&waiting[0]["host"], &waiting[0]["key"]),
        (&Value::from("picard"), &Value::from(key.as_str()))
    );
    assert!(scene.log("nanoprobe-picard").contains(&key), "the host's own log tells its key");
    let (code, text) = scene.assimcli(&["hosts"]);
    assert!(code == 2 && text.contains("waiting for approval: 1"), "{code} {text}");
    let (code, text) = scene.assimcli(&["doctor"]);
    assert!(code == 2 && text.contains("1 host waits for approval"), "{code} {text}");
    assert_eq!(scene.site.count("SELECT 1 FROM hosts"), 0);

    let (code, text) = scene.assimcli(&["hosts", "approve", "picard", "--key", "0123456789"]);
    assert!(code == 1 && text.contains("no key that begins with 0123456789"), "{code} {text}");
    scene.done(&["hosts", "approve", "picard", "--key", &key[..8]]);
    scene.wait_until_up("picard");
    assert_eq!(scene.ask(&["hosts", "pending"]), Value::Array(vec![]));

    let _other = scene.start("riker", &[]);
    scene.wait("riker to wait", || (scene.ask(&["hosts", "pending"])[0]["host"] == "riker").then_some(()));
    scene.done(&["hosts", "reject", "riker"]);
    assert_eq!(scene.ask(&["hosts", "pending"]), Value::Array(vec![]));
    assert_eq!(scene.ask(&["hosts", "revoked"])[0]["host"], "riker");
    assert_eq!(scene.site.count("SELECT 1 FROM hosts"), 1);
}

#[test]
fn a_token_lets_one_host_in_and_does_not_lie_around() {
    let scene = Scene::new("policy = \"token\"");
    let made =
        scene.site.assimcli(&["tokens", "create", "--tag", "lab", "--uses", "1", "--expires", "1h"]).unwrap();
    let token = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    assert!(made.status.success() && token.starts_with("assim-"), "{made:?}");
    let put = |name: &str, path: &str| {
        let path = scene.site.nanoprobe_root(name).unwrap().join(path);
        fs::write(&path, &token).unwrap();
        path
    };
    let file = put("picard", "etc/assimilation/enrol.token");
    let _picard = scene.start("picard", &[]);
    scene.wait_until_up("picard");
    scene.wait("the token to be removed", || (!file.exists()).then_some(()));
    assert_eq!(scene.ask(&["hosts"])[0]["tags"][0], "lab");
    assert_eq!(scene.ask(&["tokens", "list"])[0]["state"], "used up");
    for program in ["cma", "nanoprobe-picard"] {
        assert!(!scene.log(program).contains(&token), "a token has no place in a log");
    }

    let other = put("riker", "my.token");
    let riker = scene.start("riker", &["--token-file", other.to_str().unwrap()]);
    scene.wait_until_logged("nanoprobe-riker", "good for 1 hosts");
    scene.wait_for_event("warn", "token");
    assert!(other.exists(), "it may be needed after a mistake");
    drop(riker);
    fs::remove_file(&other).unwrap();
    let _riker = scene.start("riker", &[]);
    scene.wait_until_logged("nanoprobe-riker", "with a token only");
    assert_eq!(scene.site.count("SELECT 1 FROM hosts"), 1);

    // Enrolled for good: a restart needs no token.
    scene.done(&["tokens", "revoke", "1"]);
    scene.done(&["hosts", "tag", "picard", "add", "prod"]);
    scene.done(&["hosts", "tag", "picard", "remove", "lab"]);
    assert_eq!(scene.ask(&["hosts"])[0]["tags"], Value::from(vec!["prod"]));
}

#[test]
fn of_a_machine_and_its_copy_the_right_one_is_kept() {
    let scene = Scene::new("");
    let original = scene.start("picard", &[]);
    scene.wait_until_up("picard");
    drop(original);
    let hosts = scene.site.paths.root().join("hosts");
    let copied = capture(
        std::process::Command::new("cp").arg("-a").arg(hosts.join("picard")).arg(hosts.join("riker")),
    );
    assert!(copied.unwrap().status.success());
    let _original = scene.start("picard", &[]);
    let copy = scene.start("riker", &["--name", "picard"]);

    // Each comes when it has something to say.
    let mut round = 0;
    let says = |name: &str, round: u32| {
        let path = scene.folder.path().join("trees").join(name).join("etc/ssh/sshd_config");
        fs::write(path, format!("PermitRootLogin no\nMaxAuthTries {round}\n")).unwrap();
        std::thread::sleep(Duration::from_secs(1));
    };
    let told = "SELECT 1 FROM events WHERE eventtype = 'warn' AND reason = 'clone'";
    scene.wait("the copy to be noticed", || {
        round += 1;
        says("picard", round);
        says("riker", round);
        (scene.site.count(told) > 0).then_some(())
    });
    let (code, text) = scene.assimcli(&["hosts"]);
    assert!(code == 2 && text.contains("CLONE") && text.contains("hosts keep picard"), "{code} {text}");
    let (code, text) = scene.assimcli(&["doctor"]);
    assert!(code == 2 && text.contains("two machines with the key of picard"), "{code} {text}");
    let machines = scene.ask(&["hosts", "machines", "picard"]);
    let address = scene.host("picard").address.clone();
    let is_at = |machine: &&Value| machine["address"].as_str().unwrap().contains(&format!("{address}:"));
    let machines = machines.as_array().unwrap();
    assert_eq!(machines.len(), 2, "{machines:?}");
    let right = machines.iter().find(is_at).unwrap()["machine"].as_str().unwrap();

    scene.done(&["hosts", "keep", "picard", "--machine", right]);
    scene.wait("the copy to be refused", || {
        round += 1;
        says("riker", round);
        scene.log("nanoprobe-riker").contains("belongs to another machine").then_some(())
    });
    says("picard", 1000);
    let at =
        format!("SELECT 1 FROM hosts WHERE host = 'picard' AND status = 'up' AND address LIKE '{address}:%'");
    scene.wait("the right one to be there", || (scene.site.count(&at) == 1).then_some(()));

    // What the log of the copy says helps: a key and a name of its own.
    drop(copy);
    for entry in fs::read_dir(hosts.join("riker/usr/share/assimilation/crypto.d")).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("picard@@") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let _copy = scene.start("riker", &[]);
    scene.wait_until_up("riker");
    scene.done(&["hosts", "keep", "picard", "--any"]);
    let (_, text) = scene.assimcli(&["hosts"]);
    assert!(!text.contains("CLONE"), "{text}");
}

#[test]
fn a_revoked_host_is_out_at_once_and_may_be_let_in_again() {
    let scene = Scene::new("");
    let _nanoprobes = ["picard", "riker"].map(|name| scene.start(name, &[]));
    scene.wait_until_up("picard");
    scene.wait_until_up("riker");
    scene.done(&["hosts", "revoke", "picard", "--reason", "stolen"]);
    let down = "SELECT 1 FROM hosts WHERE host = 'picard' AND status = 'dead' AND reason = 'revoked'";
    assert_eq!(scene.site.count(down), 1);
    scene.wait("nobody to watch it any more", || {
        let rings = scene.site.count("SELECT 1 FROM events WHERE host = 'picard' AND reason = 'HBDEAD'");
        assert_eq!(rings, 0, "it is not dead, but revoked");
        let path = scene.folder.path().join("trees/picard/etc/ssh/sshd_config");
        fs::write(path, format!("MaxAuthTries {}\n", std::process::id())).unwrap();
        scene.log("nanoprobe-picard").contains("was revoked").then_some(())
    });
    scene.wait_for_event("warn", "revoked");
    let (code, text) = scene.assimcli(&["hosts"]);
    assert!(code == 2 && text.contains("REVOKED"), "{code} {text}");
    assert_eq!(scene.ask(&["hosts", "revoked"])[0]["reason"], "stolen");
    assert_eq!(scene.site.count(down), 1);
    scene.done(&["hosts", "unrevoke", "picard"]);
    scene.wait_until_up("picard");
}
