//! A site of its own below a temporary directory: keys, the real program on loopback, its API, and a small nanoprobe.

use model::message::{
    FromCma, Goodbye, Incarnation, KnownDocument, PROTOCOL_VERSION, Register, Report, ToCma,
};
use model::paths::SitePaths;
use model::{Designation, DocumentHash, Timestamp};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};
use wire::endpoint::{Endpoint, EndpointConfig};
use wire::framed::{MESSAGE_LIMIT_BYTES, REGISTRATION_LIMIT_BYTES, Reader, Writer};
use wire::keys::{KeyDirectory, KeyPair};

pub struct Site {
    _directory: tempfile::TempDir,
    pub paths: SitePaths,
    pub address: SocketAddr,
}

/// A running CMA; killed when dropped.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn wait_for<T>(what: &str, seconds: u64, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {seconds} s in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Site {
    pub fn create() -> Site {
        let directory = tempfile::tempdir().unwrap();
        let paths = SitePaths::new(directory.path());
        fs::create_dir_all(paths.at("/etc/assimilation")).unwrap();
        for path in paths.notification_scripts() {
            fs::create_dir_all(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::create_dir_all(paths.crypto().parent().unwrap()).unwrap();
        KeyDirectory::open_or_create(paths.crypto()).unwrap().generate_cma().unwrap();
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Site { _directory: directory, paths, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    pub fn script(&self, name: &str, body: &str) {
        let path = self.paths.notification_scripts()[1].join(name);
        let body = body.replace('@', &self.paths.root().display().to_string());
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.paths.root().join(name)).unwrap_or_default()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cma"));
        command.arg("--root").arg(self.paths.root()).args(arguments);
        for name in ["CMA_BIND", "CMA_USER", "CMA_DEBUG", "CMA_STORE", "CMA_WEB"] {
            command.env_remove(name);
        }
        command
    }

    pub fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Starts the CMA and waits until it listens.
    pub fn start(&self, more: &[&str]) -> Running {
        let ready = self.paths.run().join("cma.json");
        let _ = fs::remove_file(&ready);
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.paths.root().join("log")).unwrap();
        let mut command = self.command(&["--bind", &self.address.to_string()]);
        if !more.contains(&"--user") {
            command.args(["--user", "root"]);
        }
        if !more.contains(&"--web") {
            command.args(["--web", "none"]);
        }
        let mut child = Running(command.args(more).stderr(log).spawn().unwrap());
        wait_for("the CMA to listen", 60, || {
            if let Some(status) = child.0.try_wait().unwrap() {
                let log = self.read("log");
                let last: Vec<&str> = log.lines().rev().take(5).collect();
                panic!("the CMA ended with {status}, log from the end: {last:#?}");
            }
            ready.exists().then_some(())
        });
        child
    }

    /// One API request; status and JSON.
    pub fn request(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        self.try_request(method, path, body).unwrap()
    }

    pub fn try_request(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> std::io::Result<(u16, Value)> {
        let mut stream = daemon::local_socket::connect(&self.paths.cma_socket())?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: cma\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let broken = || std::io::Error::other(format!("no HTTP answer: {answer:?}"));
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).ok_or_else(broken)?;
        Ok((status, serde_json::from_str(body).unwrap_or(Value::String(body.to_owned()))))
    }

    pub fn get(&self, path: &str) -> Value {
        let (status, value) = self.request("GET", path, None);
        assert_eq!(status, 200, "{path}: {value}");
        value
    }
}

/// A nanoprobe of a few lines: a queue in memory, sent again from where the CMA says.
pub struct Agent {
    pub designation: String,
    key: KeyPair,
    cma: SocketAddr,
    cma_keys: Vec<model::PublicKey>,
    pub reports: Vec<Report>,
    incarnation: Incarnation,
    listed: Vec<String>,
    acknowledged: Vec<Report>,
}

impl Agent {
    pub fn new(site: &Site, designation: &str) -> Agent {
        let keys = KeyDirectory::open(site.paths.crypto()).unwrap();
        let cma_keys = keys.cma_publics().unwrap().into_iter().map(|(_, key)| key).collect();
        let key = KeyPair::generate().unwrap();
        Agent {
            designation: designation.into(),
            key,
            cma: site.address,
            cma_keys,
            reports: vec![],
            incarnation: Incarnation([3; 16]),
            listed: vec![],
            acknowledged: vec![],
        }
    }

    /// Lists the newest documents of these instances at each registration from now on.
    pub fn list(&mut self, instances: &[&str]) {
        self.listed = instances.iter().map(|name| (*name).to_owned()).collect();
        self.acknowledged = self.reports.clone();
    }

    /// Counts from 1 again.
    pub fn renew(&mut self, incarnation: Incarnation) {
        self.incarnation = incarnation;
    }

    /// Queues a document of the kernel settings.
    pub fn queue(&mut self, data: Value) {
        self.queue_of("_auto_proc_sys", "proc_sys", data);
    }

    /// Queues any document as a nanoprobe sends it.
    pub fn queue_of(&mut self, instance: &str, discovertype: &str, data: Value) {
        let text = json!({"discovertype": discovertype, "description": "d", "host": self.designation, "source": "nanoprobe",
            "instance": instance, "proxy": "local/local", "data": data})
        .to_string();
        self.reports.push(Report {
            sequence: self.reports.len() as u64 + 1,
            instance: instance.into(),
            hash: DocumentHash::of(text.as_bytes()),
            body: Some(wire::body::compress(text.as_bytes()).unwrap().into()),
            changed_after: Timestamp::now(),
            seen: Timestamp::now(),
            superseded: 0,
        });
    }

    pub fn public(&self) -> model::PublicKey {
        self.key.public()
    }

    fn documents(&self) -> Vec<KnownDocument> {
        let newest = |name: &String| self.acknowledged.iter().rfind(|report| report.instance == *name);
        let known = |report: &Report| KnownDocument { instance: report.instance.clone(), hash: report.hash };
        self.listed.iter().filter_map(newest).map(known).collect()
    }

    pub fn registration(&self) -> Register {
        Register {
            protocol: PROTOCOL_VERSION,
            designation: self.designation.clone(),
            incarnation: self.incarnation,
            software: "test".into(),
            clock: Timestamp::now(),
            started: Timestamp(5),
            port: 1,
            config: None,
            documents: self.documents(),
            session: None,
            watch: None,
            listen: None,
            token: None,
            machine: None,
            cma_keys: None,
        }
    }

    /// Opens a connection, says one thing and returns the answer.
    pub async fn ask(&self, message: &ToCma) -> FromCma {
        let (_endpoint, mut writer, mut reader) = self.open().await.unwrap();
        writer.write(message, MESSAGE_LIMIT_BYTES).await.unwrap();
        reader.read_within(MESSAGE_LIMIT_BYTES, Duration::from_secs(20)).await.unwrap().unwrap()
    }

    async fn open(&self) -> Result<(Endpoint, Writer, Reader), String> {
        let mut config = EndpointConfig::nanoprobe(self.key.clone(), self.cma_keys.clone());
        config.bind = SocketAddr::from(([127, 0, 0, 1], 0));
        let (endpoint, _inbox) = Endpoint::bind(config).map_err(|e| e.to_string())?;
        let connection = endpoint.connect(self.cma).await.map_err(|e| e.to_string())?;
        let (writer, reader) = connection.open_stream().await.map_err(|e| e.to_string())?;
        Ok((endpoint, writer, reader))
    }

    pub async fn dial(&self) -> Result<(Endpoint, Writer, Reader, FromCma), String> {
        let (endpoint, mut writer, mut reader) = self.open().await?;
        let register = ToCma::Register(self.registration());
        writer.write(&register, REGISTRATION_LIMIT_BYTES).await.map_err(|e| e.to_string())?;
        let answer = reader
            .read_within(MESSAGE_LIMIT_BYTES, Duration::from_secs(20))
            .await
            .map_err(|e| e.to_string())?;
        Ok((endpoint, writer, reader, answer.ok_or("no answer")?))
    }

    /// Delivers the whole queue over one connection after the other; `window` reports are under way at once.
    pub async fn deliver(&self, window: usize) -> usize {
        let mut connections = 0;
        while let Err(error) = self.deliver_some(window).await {
            connections += 1;
            assert!(connections < 2000, "never delivered: {error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        connections
    }

    async fn deliver_some(&self, window: usize) -> Result<(), String> {
        let limit = Duration::from_secs(2);
        let (_endpoint, mut writer, mut reader, answer) =
            tokio::time::timeout(limit, self.dial()).await.map_err(|e| e.to_string())??;
        let FromCma::Welcome(welcome) = answer else { return Err(format!("{answer:?}")) };
        let mut acknowledged = welcome.last_sequence as usize;
        let mut sent = acknowledged;
        while acknowledged < self.reports.len() {
            while sent < self.reports.len().min(acknowledged + window) {
                writer
                    .write(&ToCma::Report(self.reports[sent].clone()), MESSAGE_LIMIT_BYTES)
                    .await
                    .map_err(|e| e.to_string())?;
                sent += 1;
            }
            match reader
                .read_within::<FromCma>(MESSAGE_LIMIT_BYTES, limit)
                .await
                .map_err(|e| e.to_string())?
            {
                Some(FromCma::Ack(ack)) => acknowledged = ack.sequence as usize,
                other => return Err(format!("{other:?}")),
            }
        }
        Ok(())
    }

    /// Says goodbye and waits for the answer.
    pub async fn goodbye(&self) {
        let (_endpoint, mut writer, mut reader, answer) = self.dial().await.unwrap();
        assert!(matches!(answer, FromCma::Welcome(_)), "{answer:?}");
        writer
            .write(&ToCma::Goodbye(Goodbye { reason: "HBSHUTDOWN".into() }), MESSAGE_LIMIT_BYTES)
            .await
            .unwrap();
        let farewell =
            reader.read_within::<FromCma>(MESSAGE_LIMIT_BYTES, Duration::from_secs(20)).await.unwrap();
        assert_eq!(farewell, Some(FromCma::Farewell));
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

pub fn host(name: &str) -> Designation {
    Designation::new(name).unwrap()
}
