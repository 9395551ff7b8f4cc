//! A site whose hosts hear what is around them, and a device that tells of itself.

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Duration;
use system::network::{Host, Network};
use system::process::Running;
use system::site::{Programs, Site, last_lines};
use system::wait_for;

/// Long enough for a machine that does much else; nothing waits for it when all is well.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Where the CMA is.
pub const CENTER: &str = "unimatrixzero";

/// A CMA and some hosts. Everything is stopped when dropped.
pub struct Scene {
    pub nanoprobes: Vec<(String, Running)>,
    cma: Running,
    pub site: Site,
    pub network: Network,
    pub folder: tempfile::TempDir,
}

impl Scene {
    /// Starts everything and waits until these hosts are up. `others` are hosts without nanoprobe.
    pub fn new(hosts: &[&str], others: &[&str]) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let names: Vec<&str> = [CENTER].iter().chain(hosts).chain(others).copied().collect();
        let network = Network::new(&names).unwrap();
        let center = network.host(CENTER).unwrap().clone();
        let address = format!("{}:1984", center.address);
        let programs = Programs::built().unwrap();
        let site = Site::create_at(&folder.path().join("site"), programs, &address, Some(center)).unwrap();
        fs::write(site.paths.cma_config(), "[monitoring]\nenabled = false\n").unwrap();
        let cma = site.start_cma(&[]).unwrap();
        let mut scene = Scene { nanoprobes: Vec::new(), cma, site, network, folder };
        for host in hosts {
            scene.start(host);
        }
        for host in hosts {
            let up = format!("SELECT 1 FROM hosts WHERE host = '{host}' AND status = 'up'");
            scene.wait(&format!("{host} to be up"), || (scene.site.count(&up) == 1).then_some(()));
        }
        scene
    }

    pub fn host(&self, name: &str) -> Host {
        Host { has_hardware: true, ..self.network.host(name).unwrap().clone() }
    }

    pub fn start(&mut self, name: &str) {
        let to = ["--cmaaddr", self.site.address.as_str(), "--debug", "2"];
        let nanoprobe = self.site.start_nanoprobe(name, Some(&self.host(name)), &to).unwrap();
        self.nanoprobes.push((name.to_owned(), nanoprobe));
    }

    pub fn kill(&mut self, name: &str) {
        let index = self.nanoprobes.iter().position(|(host, _)| host == name).unwrap();
        self.nanoprobes.remove(index).1.kill();
    }

    pub fn log(&self, name: &str) -> String {
        let bytes = fs::read(self.site.log(&format!("nanoprobe-{name}"))).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// In order: it says goodbye.
    pub fn stop(&mut self, name: &str) {
        let index = self.nanoprobes.iter().position(|(host, _)| host == name).unwrap();
        drop(self.nanoprobes.remove(index));
    }

    /// How often nanoprobes of this host have registered.
    pub fn registrations(&self, name: &str) -> usize {
        self.log(name).matches("registered with the CMA").count()
    }

    /// Settings in cma.toml, beside those that every scene has; they reach the hosts at once.
    pub fn configure(&self, settings: &str) {
        let path = self.site.paths.cma_config();
        fs::write(&path, format!("[monitoring]\nenabled = false\n{settings}")).unwrap();
        let pid = rustix::process::Pid::from_raw(self.cma.pid().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    }

    /// `data` of the document of one instance, if there is one.
    pub fn data(&self, host: &str, instance: &str) -> Option<Value> {
        let statement =
            format!("SELECT document FROM documents WHERE host = '{host}' AND instance = '{instance}'");
        let rows = self.site.ask(&["sql", &statement]).ok()?;
        let document = rows.get(0)?.get("document")?;
        let document = match document {
            Value::String(text) => serde_json::from_str(text).ok()?,
            other => other.clone(),
        };
        document.get("data").cloned()
    }

    /// How often the document of an instance was another one, or there was none any more.
    pub fn changes(&self, host: &str, instance: &str) -> usize {
        self.site.count(&format!("SELECT 1 FROM changes WHERE host = '{host}' AND instance = '{instance}'"))
    }

    /// Waits; when it was in vain, shows the end of the logs.
    pub fn wait<T>(&self, what: &str, check: impl FnMut() -> Option<T>) -> T {
        wait_for(what, PATIENCE, check).unwrap_or_else(|error| {
            let mut text = error;
            for folder in [self.site.paths.root(), self.folder.path()] {
                for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                    if entry.path().extension().is_some_and(|extension| extension == "log") {
                        text += &format!("\n{}:\n{}", entry.path().display(), last_lines(&entry.path()));
                    }
                }
            }
            panic!("{text}")
        })
    }

    /// Waits for a document of an instance that is as wanted, and returns its data.
    pub fn wait_for_data(&self, host: &str, instance: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait(&format!("{instance} of {host}"), || self.data(host, instance).filter(|data| wanted(data)))
    }

    /// Waits until there is no document of an instance.
    pub fn wait_until_gone(&self, host: &str, instance: &str) {
        self.wait(&format!("the end of {instance} of {host}"), || {
            self.data(host, instance).is_none().then_some(())
        });
    }
}

/// A real lldpd in the namespace of the switch, at the ports of these hosts. Stopped when dropped.
pub struct Lldpd {
    running: Running,
}

impl Lldpd {
    /// It calls itself `name`, and speaks LLDP and CDP every two seconds.
    pub fn start(scene: &Scene, name: &str, hosts: &[&str]) -> Lldpd {
        let ports: Vec<String> = hosts.iter().map(|host| scene.network.port(host).unwrap()).collect();
        let socket = scene.folder.path().join(format!("{name}.socket"));
        let switch = Host { hostname: name.to_owned(), ..scene.network.switch() };
        // Read before it speaks: told later, it may have begun with its usual half minute between frames.
        let config = scene.folder.path().join(format!("{name}.conf"));
        fs::write(&config, "configure lldp tx-interval 2\n").unwrap();
        let mut command = switch.command(Path::new("lldpd"));
        // Both LLDP and version 2 of CDP, whether or not somebody answers.
        command.args(["-d", "-l", "-ccc", "-I", &ports.join(","), "-S", "a switch of the test"]);
        command.arg("-O").arg(&config).arg("-u").arg(&socket);
        let running = Running::start("lldpd", &mut command, &scene.folder.path().join("lldpd.log")).unwrap();
        Lldpd { running }
    }

    /// SIGTERM: it says goodbye.
    pub fn stop(self) {
        drop(self.running);
    }
}
