//! A site in a temporary directory: keys, a host's file tree, a nanoprobe process, and a small CMA that remembers.

use model::liveness::{Heard, Session, Watch};
use model::message::{Ack, CmaKey, CmaKeys, Configure, FromCma, Incarnation, ToCma, Welcome};
use model::{DocumentHash, PublicKey, Timestamp};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use wire::delivery::{Arrival, arrival};
use wire::endpoint::{CloseReason, Connection, Datagram, Endpoint, EndpointConfig, Lost};
use wire::framed::{MESSAGE_LIMIT_BYTES, Writer};
use wire::keys::{KeyDirectory, KeyPair, signed};

/// What the CMA has committed; outlives its restarts, as a database would.
#[derive(Default)]
pub struct Store {
    pub cursors: HashMap<Incarnation, u64>,
    /// Instance and document, in order of arrival; `None` = gone.
    pub reports: Vec<(String, Option<serde_json::Value>)>,
    pub registrations: usize,
    /// Where and under which key the nanoprobe last registered.
    pub registered: Option<(SocketAddr, PublicKey)>,
    pub goodbyes: Vec<String>,
    pub gaps: usize,
    pub repeats: usize,
    /// Sent to whoever registers with another one.
    pub config: Option<String>,
    /// Asked of the next nanoprobe that registers.
    pub wanted: Vec<String>,
    pub known: Vec<String>,
    /// Session and generation of the watch, of each registration.
    pub standings: Vec<(Option<Session>, Option<u64>)>,
    /// Given to whoever registers without it.
    pub watch: Option<Watch>,
    pub heard: Vec<Heard>,
    /// CMA keys that the nanoprobe trusts, as it said at each registration and in each answer.
    pub trusted: Vec<(Vec<u32>, Said)>,
    /// Into the newest connection.
    pub say: Option<UnboundedSender<FromCma>>,
    datagrams: Option<UnboundedSender<Datagram>>,
}

/// When a nanoprobe said what it trusts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Said {
    Registering,
    Answering,
}

impl Store {
    fn trusts(&mut self, keys: CmaKeys, said: Said) {
        self.trusted.push((keys.keys.into_iter().map(|key| key.number).collect(), said));
    }

    pub fn last(&self, instance: &str) -> Option<&serde_json::Value> {
        self.reports.iter().rev().find(|(name, _)| name == instance)?.1.as_ref()
    }

    /// From now on, what comes to the CMA's port and is not QUIC.
    pub fn collect_datagrams(&mut self) -> UnboundedReceiver<Datagram> {
        let (sender, receiver) = unbounded_channel();
        self.datagrams = Some(sender);
        receiver
    }

    /// The last word about an instance was that there is none any more.
    pub fn last_is_gone(&self, instance: &str) -> bool {
        self.reports
            .iter()
            .rev()
            .find(|(name, _)| name == instance)
            .is_some_and(|(_, document)| document.is_none())
    }

    pub fn count(&self, instance: &str) -> usize {
        self.reports.iter().filter(|(name, _)| name == instance).count()
    }
}

pub struct Cma {
    endpoint: Endpoint,
    task: tokio::task::JoinHandle<()>,
    pub address: SocketAddr,
}

impl Cma {
    /// Stops in order: the nanoprobe is told.
    pub async fn close(self) {
        self.endpoint.close(CloseReason::Shutdown, Duration::from_secs(5)).await;
        drop(self);
        // Its tasks give the port back.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    /// Dials the nanoprobe; returns why the connection ended.
    pub async fn call(&self, nanoprobe: (SocketAddr, PublicKey)) -> Lost {
        call(&self.endpoint, nanoprobe).await
    }
}

/// Dials as whoever `endpoint` is; returns why the connection ended.
pub async fn call(endpoint: &Endpoint, (address, key): (SocketAddr, PublicKey)) -> Lost {
    let patience = Duration::from_secs(5);
    match endpoint.connect_to(address, &[key]).await {
        Ok(connection) => tokio::time::timeout(patience, connection.closed()).await.unwrap(),
        Err(error) => Lost::Other(error.to_string()),
    }
}

impl Drop for Cma {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub struct Site {
    directory: tempfile::TempDir,
    /// The key that the CMA uses.
    pub cma_key: KeyPair,
    pub store: Arc<Mutex<Store>>,
}

impl Site {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let keys = KeyDirectory::open_or_create(directory.path().join("cma-keys")).unwrap();
        keys.generate_cma().unwrap();
        let (_, cma_key) = keys.cma_pair().unwrap();
        let site = Self { directory, cma_key, store: Arc::default() };
        let crypto = site.root().join("usr/share/assimilation/crypto.d");
        fs::create_dir_all(crypto.parent().unwrap()).unwrap();
        fs::DirBuilder::new().mode(0o700).create(&crypto).unwrap();
        for entry in fs::read_dir(keys.path()).unwrap().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "pub") {
                fs::copy(entry.path(), crypto.join(entry.file_name())).unwrap();
            }
        }
        fs::create_dir_all(site.host().join("etc")).unwrap();
        site.write_login_defs(1);
        site
    }

    /// The key directory of the nanoprobe.
    pub fn crypto(&self) -> PathBuf {
        self.root().join("usr/share/assimilation/crypto.d")
    }

    /// The CMA's own key directory.
    pub fn cma_keys(&self) -> KeyDirectory {
        KeyDirectory::open(self.directory.path().join("cma-keys")).unwrap()
    }

    /// These keys of the CMA.
    pub fn set(&self, numbers: &[u32]) -> CmaKeys {
        let publics = self.cma_keys().cma_publics().unwrap();
        let keys =
            publics.into_iter().map(|(id, key)| CmaKey { number: id.cma_number().unwrap(), key: key.0 });
        CmaKeys::unsigned(keys.filter(|key| numbers.contains(&key.number)).collect())
    }

    /// A list as the CMA sends it to the nanoprobe that registered.
    pub fn signed(&self, keys: &CmaKeys) -> CmaKeys {
        let (_, nanoprobe) = self.store.lock().unwrap().registered.unwrap();
        signed(keys, &self.cma_key, &nanoprobe)
    }

    /// From now on the CMA signs with the next of its secrets.
    pub fn use_next_key(&mut self) {
        let keys = self.cma_keys();
        let (id, _) = keys.cma_pair().unwrap();
        fs::remove_file(keys.path().join(id.secret_file())).unwrap();
        self.cma_key = keys.cma_pair().unwrap().1;
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("site")
    }

    /// The file tree that the nanoprobe discovers.
    pub fn host(&self) -> PathBuf {
        self.directory.path().join("host")
    }

    pub fn write_login_defs(&self, days: u32) {
        let path = self.host().join("etc/login.defs");
        let new = path.with_extension("new");
        fs::write(&new, format!("PASS_MAX_DAYS {days}\n")).unwrap();
        fs::rename(new, path).unwrap();
    }

    pub fn queue(&self) -> PathBuf {
        self.root().join("var/lib/assimilation/nanoprobe/queue")
    }

    /// Starts a CMA, or starts it again at the address it had.
    pub fn cma(&self, at: Option<SocketAddr>) -> Cma {
        let bind = at.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap());
        let config = EndpointConfig { bind, join: None, ..EndpointConfig::cma(self.cma_key.clone()) };
        let (endpoint, mut inbox) = Endpoint::bind(config).unwrap();
        let address = endpoint.local_address().unwrap();
        let store = self.store.clone();
        let task = tokio::spawn(async move {
            let mut conversations = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    Some(connection) = inbox.connections.recv() => {
                        conversations.spawn(converse(connection, store.clone()));
                    }
                    Some(datagram) = inbox.datagrams.recv() => {
                        if let Some(collect) = &store.lock().unwrap().datagrams {
                            let _ = collect.send(datagram);
                        }
                    }
                    else => return,
                }
            }
        });
        Cma { endpoint, task, address }
    }

    pub fn nanoprobe(&self, cma: SocketAddr) -> Nanoprobe {
        self.nanoprobe_of(cma, &self.host())
    }

    /// One that discovers another file tree than ours, for instance `/`.
    pub fn nanoprobe_of(&self, cma: SocketAddr, host_root: &std::path::Path) -> Nanoprobe {
        self.nanoprobe_with(host_root, &["-d", "1", "-c", &cma.to_string()], &[])
    }

    /// One with other options, and with these variables in its environment.
    pub fn nanoprobe_with(
        &self,
        host_root: &std::path::Path,
        options: &[&str],
        environment: &[(&str, &str)],
    ) -> Nanoprobe {
        let log =
            fs::File::options().create(true).append(true).open(self.directory.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_nanoprobe"))
            .arg("--root")
            .arg(self.root())
            .arg("--host-root")
            .arg(host_root)
            .args(["--name", "web1", "-b", "127.0.0.1:0", "-f"])
            .args(options)
            .env_remove("NANOPROBE_CMAADDR")
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Nanoprobe(child)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Waits until the store is as wanted and tells how long that took.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Store) -> bool) -> Duration {
        let start = Instant::now();
        while !wanted(&self.store.lock().unwrap()) {
            assert!(start.elapsed() < Duration::from_secs(30), "{what} did not happen; log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        start.elapsed()
    }
}

/// Killed when dropped.
pub struct Nanoprobe(Child);

impl Nanoprobe {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Directories that it has watched (proc_pid_fdinfo(5): a line for each).
    pub fn watches(&self) -> usize {
        let infos = fs::read_dir(format!("/proc/{}/fdinfo", self.pid())).unwrap().flatten();
        let texts = infos.filter_map(|info| fs::read_to_string(info.path()).ok());
        texts.map(|text| text.lines().filter(|line| line.starts_with("inotify ")).count()).sum()
    }

    /// The process that speaks with the network, once it is there.
    pub fn network(&self) -> u32 {
        let start = Instant::now();
        loop {
            if let Some(pid) = self.find_network() {
                return pid;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "there is no network process");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn find_network(&self) -> Option<u32> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().filter_map(|word| word.parse().ok()).find(|child| {
            let name = fs::read_to_string(format!("/proc/{child}/comm"));
            name.is_ok_and(|name| name == "nanoprobe-net\n")
        })
    }

    /// To the process that was started.
    pub fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// To both processes: as if the machine did it.
    pub fn signal_both(&self, signal: Signal) {
        let network = self.network();
        send(self.pid(), signal);
        send(network, signal);
    }

    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub async fn end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "does not stop");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

impl Drop for Nanoprobe {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn converse(connection: Connection, store: Arc<Mutex<Store>>) {
    let Ok((writer, mut reader)) = connection.accept_stream().await else { return };
    let (say, said) = unbounded_channel();
    store.lock().unwrap().say = Some(say.clone());
    // Ends with this conversation.
    let mut writing = tokio::task::JoinSet::new();
    writing.spawn(write(writer, said));
    let mut incarnation = Incarnation([0; 16]);
    while let Ok(Some(message)) = reader.read::<ToCma>(MESSAGE_LIMIT_BYTES).await {
        let answer = {
            let mut store = store.lock().unwrap();
            match message {
                ToCma::Register(register) => {
                    assert_eq!(register.designation, "web1");
                    incarnation = register.incarnation;
                    store.registrations += 1;
                    store.trusts(register.cma_keys.unwrap(), Said::Registering);
                    store.standings.push((register.session, register.watch));
                    let watch = store.watch.clone().filter(|watch| register.watch != Some(watch.generation));
                    assert_eq!(register.port, connection.remote().port());
                    store.registered = Some((connection.remote(), connection.peer));
                    store.known = register.documents.into_iter().map(|document| document.instance).collect();
                    let configure = store
                        .config
                        .clone()
                        .filter(|text| register.config != Some(DocumentHash::of(text.as_bytes())));
                    let welcome = FromCma::Welcome(Welcome {
                        last_sequence: store.cursors.get(&incarnation).copied().unwrap_or(0),
                        wanted: std::mem::take(&mut store.wanted),
                        configure: configure.map(|json| Configure { json }),
                        clock: Timestamp::now(),
                        started: Timestamp(1),
                    });
                    let _ = say.send(welcome);
                    watch.map(FromCma::Watch)
                }
                ToCma::Report(report) => {
                    let last = store.cursors.get(&incarnation).copied().unwrap_or(0);
                    match arrival(last, report.sequence) {
                        Arrival::Commit => {
                            let document = report.body.map(|body| {
                                let text = wire::body::decompress(&body).unwrap();
                                assert_eq!(DocumentHash::of(&text), report.hash);
                                serde_json::from_slice(&text).unwrap()
                            });
                            store.reports.push((report.instance, document));
                            store.cursors.insert(incarnation, report.sequence);
                        }
                        Arrival::Repeat => store.repeats += 1,
                        Arrival::Gap { .. } => store.gaps += 1,
                    }
                    let sequence = store.cursors.get(&incarnation).copied().unwrap_or(0);
                    Some(FromCma::Ack(Ack { sequence, rejected: vec![] }))
                }
                ToCma::Trusts(keys) => {
                    store.trusts(keys, Said::Answering);
                    None
                }
                ToCma::Heard(heard) => {
                    store.heard.push(heard);
                    None
                }
                ToCma::Goodbye(goodbye) => {
                    store.goodbyes.push(goodbye.reason);
                    Some(FromCma::Farewell)
                }
            }
        };
        if let Some(answer) = answer {
            let _ = say.send(answer);
        }
    }
}

/// Until the connection ends.
async fn write(mut writer: Writer, mut messages: UnboundedReceiver<FromCma>) {
    while let Some(message) = messages.recv().await {
        if writer.write(&message, MESSAGE_LIMIT_BYTES).await.is_err() {
            return;
        }
    }
}
