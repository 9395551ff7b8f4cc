//! A changed cma.toml reaches hosts that have nothing to say, and a broken one changes nothing.

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use system::network::Network;
use system::process::Running;
use system::site::{Programs, Site, last_lines};
use system::wait_for;

const DOCUMENT: &str = "SELECT 1 FROM documents WHERE host = 'picard' AND instance = '_init_sshd'";

struct Scene {
    site: Site,
    /// `None` while it does not run.
    cma: Option<Running>,
    _nanoprobe: Running,
    _network: Network,
    _folder: tempfile::TempDir,
}

impl Scene {
    /// A CMA and a nanoprobe on another host, which looks at a file tree that nobody changes.
    fn new() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let network = Network::new(&["unimatrixzero", "picard"]).unwrap();
        let center = network.host("unimatrixzero").unwrap().clone();
        let address = format!("{}:1984", center.address);
        let tree = folder.path().join("tree");
        fs::create_dir_all(tree.join("etc/ssh")).unwrap();
        fs::write(tree.join("etc/ssh/sshd_config"), "PermitRootLogin no\n").unwrap();
        let root = folder.path().join("site");
        let site = Site::create_at(&root, Programs::built().unwrap(), &address, Some(center)).unwrap();
        let cma = site.start_cma(&[]).unwrap();
        let tree = tree.to_str().unwrap();
        let arguments = ["--cmaaddr", &address, "--host-root", tree];
        let nanoprobe =
            site.start_nanoprobe("picard", Some(network.host("picard").unwrap()), &arguments).unwrap();
        Scene { site, cma: Some(cma), _nanoprobe: nanoprobe, _network: network, _folder: folder }
    }

    /// Writes cma.toml and has the CMA read it, as `systemctl reload` does.
    fn configure(&self, text: &str) {
        fs::write(self.site.paths.cma_config(), text).unwrap();
        kill_process(Pid::from_raw(self.cma.as_ref().unwrap().pid().cast_signed()).unwrap(), Signal::HUP)
            .unwrap();
    }

    fn wait(&self, what: &str, seconds: u64, check: impl Fn() -> bool) {
        wait_for(what, Duration::from_secs(seconds), || check().then_some(())).unwrap_or_else(|error| {
            let log = |program: &str| last_lines(&self.site.log(program));
            panic!("{error}\nCMA:\n{}\nnanoprobe:\n{}", log("cma"), log("nanoprobe-picard"))
        });
    }

    fn has_document(&self) -> bool {
        self.site.count(DOCUMENT) == 1
    }

    fn wait_until_idle(&self) {
        self.wait("the connection to be closed", 90, || self.status().contains(r#""connected":0"#));
    }

    /// What the CMA says of itself, as JSON text.
    fn status(&self) -> String {
        let mut socket = UnixStream::connect(self.site.paths.cma_socket()).unwrap();
        socket.write_all(b"GET /v1/status HTTP/1.1\r\nHost: cma\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(r#""connected":"#), "{answer}");
        answer
    }

    /// What `assimcli` answers.
    fn ask(&self, arguments: &[&str]) -> serde_json::Value {
        self.site.ask(arguments).unwrap()
    }

    fn tag(&self, change: &str) {
        let output = self.site.assimcli(&["hosts", "tag", "picard", change, "quiet"]).unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn cma_log(&self) -> String {
        fs::read_to_string(self.site.log("cma")).unwrap()
    }
}

#[test]
fn a_changed_configuration_reaches_a_host_that_has_nothing_to_say() {
    let mut scene = Scene::new();
    scene.wait("the first document", 60, || scene.has_document());
    scene.wait_until_idle();
    scene.configure("[discovery.agents.sshd]\nenabled = false\n");
    scene.wait("the discovery to be switched off", 60, || !scene.has_document());

    // Broken: the old one stays, and the log names the line.
    scene.configure("[discovery.agents.sshd]\nenabled = true\nrepaet = 60\n");
    scene.wait("the mistake to be told", 10, || {
        scene.cma_log().lines().any(|line| {
            line.contains("cma.toml")
                && line.contains("line 3")
                && line.contains("repaet")
                && line.contains("old one stays")
        })
    });
    // A call would have brought it within seconds.
    std::thread::sleep(Duration::from_secs(5));
    assert!(!scene.has_document());

    // Changed while the CMA does not run.
    scene.wait_until_idle();
    scene.cma.take().unwrap().kill();
    fs::write(scene.site.paths.cma_config(), "[discovery.agents.sshd]\nenabled = true\n").unwrap();
    scene.cma = Some(scene.site.start_cma(&[]).unwrap());
    scene.wait("the discovery to be switched on again", 60, || scene.has_document());
}

#[test]
fn groups_by_query_and_by_tag_change_what_a_host_does_and_is_judged_by() {
    let scene = Scene::new();
    scene.wait("the first document", 60, || scene.has_document());
    let rules = "SELECT rule_id FROM rule_results WHERE host = 'picard' AND instance = '_init_sshd' ORDER BY rule_id LIMIT 1";
    let judged = scene.ask(&["sql", rules]);
    let rule = judged[0]["rule_id"].as_str().unwrap().to_owned();
    let ignored = format!("SELECT 1 FROM rule_results WHERE rule_id = '{rule}' AND status = 'ignore'");
    assert_eq!(scene.site.count(&ignored), 0);

    // By what the host reports: another rule set.
    let lab = scene.site.paths.site("best_practices").join("LAB");
    fs::create_dir_all(&lab).unwrap();
    let set = format!("description = \"d\"\nbased_on = \"BASE\"\n[ignore]\n{rule} = \"not here\"\n");
    fs::write(lab.join("set.toml"), set).unwrap();
    let groups = r#"
[groups.asked]
query = "SELECT host FROM documents WHERE instance = '_init_sshd'"
[groups.tagged]
tags = ["quiet"]
[rules.by_group]
asked = "LAB"
[discovery.agents."sshd/@tagged"]
enabled = false
"#;
    scene.configure(groups);
    scene.wait("the rule of the group", 60, || scene.site.count(&ignored) == 1);
    assert_eq!(scene.ask(&["hosts", "--group", "asked"])[0]["host"], "picard");
    assert_eq!(scene.ask(&["hosts", "--group", "tagged"]), serde_json::json!([]));

    // By a tag: a discovery is switched off, for a host that has nothing to say.
    scene.wait_until_idle();
    scene.tag("add");
    scene.wait("the discovery to be switched off", 90, || !scene.has_document());
    scene.wait("the tagged group", 30, || {
        let groups = scene.ask(&["groups", "tagged"]);
        groups[0]["host"] == "picard" && groups[0]["why"] == "tag quiet"
    });
    assert_eq!(scene.ask(&["hosts", "--tag", "quiet"])[0]["host"], "picard");
    // Without the document the query names nobody.
    scene.wait("the other group to be empty", 60, || scene.ask(&["groups", "asked"])[0]["host"] == "");
    let told = scene.ask(&["events", "--group", "tagged"]);
    let texts: Vec<String> = told
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["extrainfo"]["CHANGETYPE"] == "groups")
        .map(|event| event["extrainfo"]["text"].to_string())
        .collect();
    assert!(texts.iter().any(|text| text.contains("came into the group tagged (tag quiet)")), "{texts:?}");

    scene.tag("remove");
    scene.wait("the discovery to be switched on again", 90, || scene.has_document());
}
