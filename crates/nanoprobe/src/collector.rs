//! Runs discoveries away from the event loop, measures what they cost, and gives up those that hang.
//!
//! Each run has a thread of its own, which ends with it: what the C library keeps for a thread goes back as well. Native
//! discoveries run one after the other. A thread cannot be killed: one that hangs (a dead network file system) is abandoned
//! and its place is free again, up to [`MAX_STUCK`]. Executables run beside them, one at a time, so that a slow script does
//! not hold up the rest, and so do native discoveries that say of themselves that they may take long.

use crate::executables::{self, Ended, Executable, Limits};
use crate::triggers::mapping::Interest;
use discovery::{Discovery, Host, Parameters, Schedule};
use model::envelope::MAX_DOCUMENT_BYTES;
use model::{DocumentHash, Envelope, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// Most threads that may hang at once; when it is reached, native discoveries wait until one comes back.
pub const MAX_STUCK: usize = 4;

/// Kept of the standard error of an executable, in bytes.
const ERROR_BYTES: usize = 16 * 1024;

/// What to run.
#[derive(Clone)]
pub enum Work {
    Native(&'static Discovery),
    Executable(Executable),
}

/// One run.
#[derive(Clone)]
pub struct Job {
    /// Tells a late result from the one that is waited for.
    pub number: u64,
    pub instance: String,
    pub work: Work,
    pub parameters: Parameters,
    pub timeout: Duration,
    /// Of the document that is there already; one that equals it need not be compressed.
    pub known: Option<DocumentHash>,
}

/// A document ready for the queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub hash: DocumentHash,
    /// zstd of the canonical text.
    pub body: Vec<u8>,
}

/// What a run found.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    Document(Document),
    /// The document whose hash was known when the run began.
    Known(DocumentHash),
}

impl Found {
    /// Of the canonical text.
    pub fn hash(&self) -> DocumentHash {
        match self {
            Found::Document(document) => document.hash,
            Found::Known(hash) => *hash,
        }
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Finished {
    pub number: u64,
    pub instance: String,
    /// The document, or one sentence that says why there is none.
    pub result: Result<Found, String>,
    pub interest: Interest,
    /// Processor time: of the thread for native discoveries, of the child processes for executables.
    pub cpu: Duration,
    /// When the run began.
    pub seen: Timestamp,
}

/// The runs under way. Results come out of the channel given to [`Collector::new`].
pub struct Collector {
    host_root: PathBuf,
    /// Where discoveries keep what spares them work next time.
    state: Option<PathBuf>,
    results: UnboundedSender<Finished>,
    /// Number and instance of the native run in progress.
    native: Option<(u64, String)>,
    /// The same for one that may take long.
    long: Option<(u64, String)>,
    executable: Option<u64>,
    stuck: BTreeMap<u64, String>,
    next: u64,
}

impl Collector {
    /// There is at most one result under way per lane, so the unbounded channel stays short.
    pub fn new(host_root: PathBuf, results: UnboundedSender<Finished>) -> Self {
        Self {
            host_root,
            state: None,
            results,
            native: None,
            long: None,
            executable: None,
            stuck: BTreeMap::new(),
            next: 1,
        }
    }

    /// Gives discoveries a directory to keep state in; it is made when one needs it.
    pub fn with_state(mut self, directory: PathBuf) -> Self {
        self.state = Some(directory);
        self
    }

    /// Whether a run of this kind can start now.
    pub fn is_free(&self, work: &Work) -> bool {
        match work {
            Work::Native(discovery) => {
                let lane = if may_take_long(discovery) { &self.long } else { &self.native };
                lane.is_none() && self.stuck.len() < MAX_STUCK
            }
            Work::Executable(_) => self.executable.is_none(),
        }
    }

    /// Starts a run; to be called when [`Collector::is_free`]. `known`: the hash of the last document.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        &mut self,
        instance: &str,
        work: Work,
        parameters: Parameters,
        timeout: Duration,
        known: Option<DocumentHash>,
    ) -> std::io::Result<()> {
        let number = self.next;
        self.next += 1;
        let (name, lane) = match &work {
            Work::Executable(_) => ("executable", None),
            Work::Native(discovery) if may_take_long(discovery) => ("long discovery", Some(&mut self.long)),
            Work::Native(_) => ("discovery", Some(&mut self.native)),
        };
        let job = Job { number, instance: instance.into(), work, parameters, timeout, known };
        let (host_root, state) = (self.host_root.clone(), self.state.clone());
        let results = self.results.clone();
        thread::Builder::new().name(name.into()).spawn(move || {
            // Nobody listens any more when the agent stops.
            let _ = results.send(run(&job, &host_root, state));
        })?;
        match lane {
            Some(lane) => *lane = Some((number, instance.into())),
            None => self.executable = Some(number),
        }
        Ok(())
    }

    /// Gives up the native run of `instance`; its thread ends when the run does. `false` when none is in progress
    /// (executables keep their time-out by themselves).
    pub fn abandon(&mut self, instance: &str) -> bool {
        if let Some((number, instance)) = self.native.take_if(|(_, running)| running == instance) {
            self.stuck.insert(number, instance);
            return true;
        }
        match self.long.take_if(|(_, running)| running == instance) {
            Some((number, instance)) => self.stuck.insert(number, instance).is_none(),
            None => false,
        }
    }

    /// To be told of every result; `false` for one that comes too late and must be dropped.
    pub fn settle(&mut self, finished: &Finished) -> bool {
        if self.stuck.remove(&finished.number).is_some() {
            return false;
        }
        for lane in [&mut self.native, &mut self.long] {
            lane.take_if(|(number, _)| *number == finished.number);
        }
        if self.executable == Some(finished.number) {
            self.executable = None;
        }
        true
    }

    /// Instances whose threads hang.
    pub fn stuck(&self) -> impl Iterator<Item = &str> {
        self.stuck.values().map(String::as_str)
    }
}

/// Hash and compressed text of an envelope.
///
/// # Errors
/// It is larger than a CMA takes.
pub fn pack(envelope: &Envelope) -> Result<Document, String> {
    let text = envelope.canonical();
    pack_text(&text, DocumentHash::of(text.as_bytes()))
}

fn pack_text(text: &str, hash: DocumentHash) -> Result<Document, String> {
    let body = wire::body::compress(text.as_bytes()).map_err(|error| error.to_string())?;
    Ok(Document { hash, body })
}

/// The envelope of a run that failed: what the last run found, if that is at hand, and why there is nothing newer.
/// The same failure gives the same text, so that it is reported once.
pub fn failed_envelope(
    last_body: Option<&[u8]>,
    instance: &str,
    discovertype: &str,
    host: &str,
    why: &str,
) -> Envelope {
    let last = last_body
        .and_then(|body| wire::body::decompress(body).ok())
        .and_then(|text| serde_json::from_slice::<Envelope>(&text).ok());
    let mut envelope = last.unwrap_or_else(|| Envelope {
        discovertype: discovertype.into(),
        description: discovertype.into(),
        host: host.into(),
        source: "nanoprobe".into(),
        instance: instance.into(),
        proxy: "local/local".into(),
        data: serde_json::Value::Object(serde_json::Map::new()),
        errors: Vec::new(),
        extras: serde_json::Map::new(),
    });
    envelope.errors = vec![why.into()];
    envelope
}

/// Runs an executable and reads what it printed. What it said on standard error is logged at debug level.
pub fn run_executable(
    executable: &Executable,
    host: &str,
    parameters: &Parameters,
    timeout: Duration,
) -> (Result<Envelope, String>, Ended) {
    let limits = Limits { timeout, output_bytes: MAX_DOCUMENT_BYTES, error_bytes: ERROR_BYTES };
    let mut ended = executables::run(&executable.path, &executables::environment(parameters), limits);
    for line in String::from_utf8_lossy(&ended.error_text).lines().take(50) {
        tracing::debug!(instance = %executable.instance, line, "a discovery wrote to standard error");
    }
    let printed = std::mem::replace(&mut ended.output, Ok(Vec::new()));
    (printed.and_then(|printed| executables::envelope(executable, host, &printed)), ended)
}

/// A discovery that is warned about later than others expects to be at work for so long.
fn may_take_long(discovery: &Discovery) -> bool {
    discovery.schedule.warn_seconds > Schedule::DEFAULT.warn_seconds
}

fn run(job: &Job, host_root: &std::path::Path, state: Option<PathBuf>) -> Finished {
    let seen = Timestamp::now();
    let before = thread_time();
    discovery::take_helper_time();
    let host = Host::at(host_root);
    let host = match state {
        Some(directory) => host.with_state(directory),
        None => host,
    };
    let (result, interest, children) = match &job.work {
        Work::Native(discovery) => {
            let envelope = discovery::run(discovery, &job.instance, &host, &job.parameters);
            let touched = host.touched();
            let interest = Interest::new(touched.files, touched.directories);
            (Ok(envelope), interest, Duration::ZERO)
        }
        Work::Executable(executable) => {
            let (result, ended) = run_executable(executable, &host.name(), &job.parameters, job.timeout);
            (result, Interest::default(), ended.cpu)
        }
    };
    let result = result.and_then(|envelope| {
        let text = envelope.canonical();
        // A tree of values takes several times the memory of its text, and compressing takes memory too.
        drop(envelope);
        let hash = DocumentHash::of(text.as_bytes());
        if job.known == Some(hash) {
            return Ok(Found::Known(hash));
        }
        pack_text(&text, hash).map(Found::Document)
    });
    let cpu = thread_time().saturating_sub(before) + children + discovery::take_helper_time();
    Finished { number: job.number, instance: job.instance.clone(), result, interest, cpu, seen }
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use discovery::{Collected, Trigger, no_graph};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    static RELEASE: AtomicBool = AtomicBool::new(false);

    const fn example(collect: fn(&Host, &Parameters) -> Collected) -> Discovery {
        Discovery {
            name: "example",
            description: "an example",
            documentation: "",
            parameters: &[],
            instances: &[],
            schedule: Schedule::DEFAULT,
            trigger: Trigger::Files,
            collect,
            graph: no_graph,
        }
    }

    static HANGING: Discovery = example(|_, _| {
        while !RELEASE.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(5));
        }
        Collected::new(serde_json::json!({}))
    });

    static READING: Discovery = example(|host, _| {
        let text = host.read_text("/etc/example").unwrap_or_default();
        Collected::new(serde_json::json!({"text": text}))
    });

    static BUSY: Discovery = example(|_, _| {
        // Of the processor, not of the clock: on a busy machine the two differ a lot.
        let end = thread_time() + Duration::from_millis(20);
        while thread_time() < end {
            std::hint::spin_loop();
        }
        Collected::new(serde_json::json!({}))
    });

    #[tokio::test]
    async fn a_run_gives_a_document_its_cost_and_what_it_read() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/example"), "x").unwrap();
        let (sender, mut results) = tokio::sync::mpsc::unbounded_channel();
        let mut collector = Collector::new(root.path().into(), sender);
        let work = Work::Native(&READING);
        collector.start("one", work.clone(), Parameters::new(), Duration::from_secs(9), None).unwrap();
        assert!(!collector.is_free(&work));
        let finished = results.recv().await.unwrap();
        assert!(collector.settle(&finished) && collector.is_free(&work));
        let Found::Document(document) = finished.result.unwrap() else { panic!("nothing was known") };
        let text = wire::body::decompress(&document.body).unwrap();
        assert_eq!(DocumentHash::of(&text), document.hash);
        assert!(String::from_utf8(text).unwrap().contains(r#""text":"x""#));
        assert!(finished.interest.files.iter().any(|file| file.ends_with("etc/example")));
        let (seconds, known) = (Duration::from_secs(9), Some(document.hash));
        collector.start("one", work.clone(), Parameters::new(), seconds, known).unwrap();
        let finished = results.recv().await.unwrap();
        assert!(collector.settle(&finished));
        assert_eq!(finished.result, Ok(Found::Known(document.hash)), "nothing was compressed");
        std::fs::write(root.path().join("etc/example"), "y").unwrap();
        collector.start("one", work.clone(), Parameters::new(), seconds, known).unwrap();
        let finished = results.recv().await.unwrap();
        assert!(collector.settle(&finished));
        let changed = finished.result.unwrap();
        assert!(matches!(&changed, Found::Document(changed) if changed.hash != document.hash), "{changed:?}");
        let started = Instant::now();
        collector
            .start("busy", Work::Native(&BUSY), Parameters::new(), Duration::from_secs(9), None)
            .unwrap();
        let cost = results.recv().await.unwrap().cpu;
        assert!(cost >= Duration::from_millis(20) && cost <= started.elapsed(), "{cost:?}");
    }

    #[tokio::test]
    async fn hanging_threads_are_abandoned_and_bounded() {
        let (sender, mut results) = tokio::sync::mpsc::unbounded_channel();
        let mut collector = Collector::new("/".into(), sender);
        for i in 0..MAX_STUCK {
            let work = Work::Native(&HANGING);
            assert!(collector.is_free(&work));
            collector.start(&format!("h{i}"), work, Parameters::new(), Duration::ZERO, None).unwrap();
            assert!(!collector.abandon("other"));
            assert!(collector.abandon(&format!("h{i}")));
        }
        assert!(!collector.is_free(&Work::Native(&READING)), "no fifth one");
        assert_eq!(collector.stuck().count(), MAX_STUCK);
        RELEASE.store(true, Ordering::Relaxed);
        for _ in 0..MAX_STUCK {
            let finished = results.recv().await.unwrap();
            assert!(!collector.settle(&finished), "late results are dropped");
        }
        let work = Work::Native(&READING);
        assert!(collector.is_free(&work));
        collector.start("again", work, Parameters::new(), Duration::ZERO, None).unwrap();
        assert_eq!(results.recv().await.unwrap().instance, "again");
    }

    static THREAD_ENDED: AtomicBool = AtomicBool::new(false);

    struct EndsWithItsThread;

    impl Drop for EndsWithItsThread {
        fn drop(&mut self) {
            THREAD_ENDED.store(true, Ordering::Relaxed);
        }
    }

    thread_local! {
        static OF_THE_THREAD: EndsWithItsThread = const { EndsWithItsThread };
    }

    static MARKING: Discovery = example(|_, _| {
        OF_THE_THREAD.with(|_| {});
        Collected::new(serde_json::json!({}))
    });

    #[tokio::test]
    async fn a_thread_ends_with_its_run() {
        let (sender, mut results) = tokio::sync::mpsc::unbounded_channel();
        let mut collector = Collector::new("/".into(), sender);
        let work = Work::Native(&MARKING);
        collector.start("one", work, Parameters::new(), Duration::from_secs(9), None).unwrap();
        assert!(collector.settle(&results.recv().await.unwrap()));
        for _ in 0..1000 {
            if THREAD_ENDED.load(Ordering::Relaxed) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("what the C library keeps for the thread stays");
    }

    static LONG_RELEASE: AtomicBool = AtomicBool::new(false);
    static LONG: Discovery = Discovery {
        schedule: Schedule { warn_seconds: 300, ..Schedule::DEFAULT },
        ..example(|_, _| {
            while !LONG_RELEASE.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(5));
            }
            Collected::new(serde_json::json!({}))
        })
    };

    #[tokio::test]
    async fn what_may_take_long_holds_up_nothing() {
        let (sender, mut results) = tokio::sync::mpsc::unbounded_channel();
        let state = tempfile::tempdir().unwrap();
        let mut collector = Collector::new("/".into(), sender).with_state(state.path().into());
        let (long, short) = (Work::Native(&LONG), Work::Native(&READING));
        collector.start("long", long.clone(), Parameters::new(), Duration::ZERO, None).unwrap();
        assert!(!collector.is_free(&long) && collector.is_free(&short));
        collector.start("short", short.clone(), Parameters::new(), Duration::ZERO, None).unwrap();
        let finished = results.recv().await.unwrap();
        assert_eq!(finished.instance, "short");
        assert!(collector.settle(&finished) && collector.is_free(&short) && !collector.is_free(&long));
        assert!(collector.abandon("long") && collector.is_free(&long), "its place is taken by another");
        assert_eq!(collector.stuck().collect::<Vec<_>>(), ["long"]);
        LONG_RELEASE.store(true, Ordering::Relaxed);
        let late = results.recv().await.unwrap();
        assert!(!collector.settle(&late), "a late result is dropped");
        collector.start("long", long.clone(), Parameters::new(), Duration::ZERO, None).unwrap();
        let finished = results.recv().await.unwrap();
        assert!(collector.settle(&finished) && collector.is_free(&long));
    }

    #[test]
    fn a_failure_keeps_the_last_data() {
        let first = failed_envelope(None, "i", "t", "h", "never ran");
        assert_eq!((first.data.to_string().as_str(), first.errors.len()), ("{}", 1));
        let good = Envelope { data: serde_json::json!({"a": 1}), errors: vec!["x".into()], ..first };
        let body = pack(&good).unwrap().body;
        let failed = failed_envelope(Some(&body), "i", "t", "h", "took too long");
        assert_eq!(
            (&failed.data, failed.errors.as_slice()),
            (&good.data, ["took too long".to_owned()].as_slice())
        );
        let again = failed_envelope(Some(&pack(&failed).unwrap().body), "i", "t", "h", "took too long");
        assert_eq!(again.hash(), failed.hash());
    }
}
