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
