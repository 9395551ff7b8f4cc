//! The agent's hold on the network process: starts it, speaks with it, and starts it again when it dies or hangs.
//!
//! What it says is bounded and decoded like anything that comes from outside ([`crate::network::protocol`]).

use crate::network::channel::{Incoming, frame, write};
use crate::network::process::COMMAND;
use crate::network::protocol::{Beats, Keys, NEWS_LIMIT_BYTES, News, Order, Seed, Start};
use daemon::service;
use model::PublicKey;
use std::future::pending;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Between two signs of life for the network process, which stops heartbeats when it hears none for
/// [`crate::network::side::PATIENCE`].
const TICK: Duration = Duration::from_secs(10);

/// Signs of life without an answer after which the network process is started again.
const MAX_UNANSWERED: u32 = 3;

/// Limits of the pause before a network process that died is started again; the first time there is none.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A network process that lived for so long was well.
const WELL: Duration = Duration::from_secs(300);

/// How long it may take to say how it was, and to end.
const END: Duration = Duration::from_secs(2);

/// How the network process is to be.
#[derive(Debug, Clone)]
pub struct NetworkSettings {
    pub seed: Seed,
    pub pinned: Vec<PublicKey>,
    /// Local addresses in the order in which they are tried.
    pub bind: Vec<SocketAddr>,
    pub multicast_ttl: u32,
    pub keepalive: bool,
}

/// What the event loop is told.
#[derive(Debug)]
pub enum Told {
    News(News),
    /// The network process is gone.
    Gone(String),
}

/// The network process, or the wait for one.
pub struct Network {
    settings: NetworkSettings,
    debug_level: u8,
    live: Option<Live>,
    /// Died or was killed, and not yet buried.
    dead: Vec<Child>,
    /// Connections of before, which no news concern any more.
    epoch: u64,
    /// Where it was reached last.
    address: Option<SocketAddr>,
    start_at: Option<Duration>,
    pause: Duration,
    /// It was asked to end because it is to be another one.
    is_replaced: bool,
    /// The settings name another port than that of before, which is taken if nothing else can be had.
    moves: bool,
}

struct Live {
    child: Child,
    orders: UnboundedSender<Vec<u8>>,
    incoming: Incoming<OwnedReadHalf>,
    began: Duration,
    /// Its port is open.
    is_ready: bool,
    tick_at: Duration,
    unanswered: u32,
}

impl Network {
    /// Starts the network process; [`News::Ready`] tells that its port is open. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The system gives no process.
    pub fn start(settings: NetworkSettings, debug_level: u8) -> io::Result<Self> {
        let live = launch(&settings, &settings.bind, debug_level, Duration::ZERO)?;
        Ok(Self {
            settings,
            debug_level,
            live: Some(live),
            dead: Vec::new(),
            epoch: 0,
            address: None,
            start_at: None,
            pause: Duration::ZERO,
            is_replaced: false,
            moves: false,
        })
    }

    /// What the network process says next. May be dropped in a `select!` and called again; waits for ever while there is none.
    pub async fn next(&mut self) -> Told {
        let Some(live) = &mut self.live else { return pending().await };
        match live.incoming.next::<News>().await {
            Ok(Some(news)) => Told::News(news),
            Ok(None) => Told::Gone("it has ended".into()),
            Err(error) => Told::Gone(error.to_string()),
        }
    }

    /// Takes note of what was said.
    pub fn note(&mut self, news: &News) {
        let Some(live) = &mut self.live else { return };
        match news {
            News::Ready { address } => {
                live.is_ready = true;
                self.moves = false;
                self.address = crate::network::protocol::address(address).or(self.address);
                self.epoch += 1;
            }
            News::Tock => live.unanswered = 0,
            _ => {}
        }
    }

    /// The network process is gone: the next one comes without a pause if this one was well.
    pub fn gone(&mut self, now: Duration, why: &str) {
        let Some(mut live) = self.live.take() else { return };
        let _ = live.child.kill();
        let ended = live.child.try_wait().ok().flatten();
        let status = ended.map(|status| status.to_string());
        if self.is_replaced {
            self.pause = Duration::ZERO;
            tracing::debug!("the network process is replaced");
        } else {
            if now.saturating_sub(live.began) >= WELL {
                self.pause = Duration::ZERO;
            }
            tracing::error!(
                why,
                status,
                pause_seconds = self.pause.as_secs(),
                "the network process is gone; another one is started, and this host registers again"
            );
        }
        self.start_at = Some(now.saturating_add(self.pause));
        if !self.is_replaced {
            self.pause = (self.pause * 2).clamp(PAUSE.0, PAUSE.1);
        }
        self.is_replaced = false;
        if ended.is_none() {
            self.dead.push(live.child);
        }
    }

    /// Whether orders are heard.
    pub fn is_up(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.is_ready)
    }

    /// Whether the network process answered not long ago: what the service manager hears of.
    pub fn is_well(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.unanswered < MAX_UNANSWERED)
    }

    /// UDP port of this nanoprobe, 0 while there is none.
    pub fn port(&self) -> u16 {
        self.address.map_or(0, |address| address.port())
    }

    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// CMA keys that are trusted.
    pub fn pinned(&self) -> &[PublicKey] {
        &self.settings.pinned
    }

    /// Of connections that are dialled from now on.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Says it, if there is a network process; what is lost with one is said again to the next after registering.
    pub fn order(&self, order: &Order) {
        if let Some(live) = &self.live {
            let _ = live.orders.send(frame(order));
        }
    }

    /// Ends the connection, and makes everything of it meaningless: connection numbers start anew.
    pub fn start_over(&mut self) {
        self.order(&Order::StartOver);
        self.epoch += 1;
    }

    /// Trusts these CMA keys from now on, in place of those before; open connections stay.
    pub fn pin(&mut self, keys: Vec<PublicKey>) {
        self.order(&Order::Pin(Keys::new(&keys)));
        self.settings.pinned = keys;
    }

    /// Has another network process with these settings, if they differ from those of this one.
    pub fn replace(&mut self, bind: Vec<SocketAddr>, multicast_ttl: u32, keepalive: bool) -> bool {
        let old = &self.settings;
        if (&old.bind, old.multicast_ttl, old.keepalive) == (&bind, multicast_ttl, keepalive) {
            return false;
        }
        self.moves |= self.settings.bind != bind;
        (self.settings.bind, self.settings.multicast_ttl, self.settings.keepalive) =
            (bind, multicast_ttl, keepalive);
        self.is_replaced = self.live.is_some();
        self.order(&Order::Finish);
        true
    }

    /// A port that was chosen is kept: partners send there.
    fn local_addresses(&self) -> Vec<SocketAddr> {
        let (last, wanted) = (self.address.iter(), self.settings.bind.iter());
        if self.moves { wanted.chain(last).copied().collect() } else { last.chain(wanted).copied().collect() }
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        self.live.as_ref().map(|live| live.tick_at).into_iter().chain(self.start_at).min()
    }

    /// Does what is due. Returns why the network process has to be given up, if so; see [`Network::gone`].
    pub fn advance(&mut self, now: Duration, debug_level: u8) -> Option<String> {
        self.debug_level = debug_level;
        self.dead.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        if self.start_at.is_some_and(|at| now >= at) && self.live.is_none() {
            self.start_at = None;
            match launch(&self.settings, &self.local_addresses(), debug_level, now) {
                Ok(live) => self.live = Some(live),
                Err(error) => {
                    self.pause = (self.pause * 2).clamp(PAUSE.0, PAUSE.1);
                    tracing::error!(%error, "the system gives no process for the network; it is tried again");
                    self.start_at = Some(now.saturating_add(self.pause));
                }
            }
        }
        let live = self.live.as_mut().filter(|live| now >= live.tick_at)?;
        if live.unanswered >= MAX_UNANSWERED {
            return Some("it hangs".into());
        }
        live.tick_at = now.saturating_add(TICK);
        live.unanswered += 1;
        let _ = live.orders.send(frame(&Order::Tick { debug_level }));
        None
    }

    /// Ends it in good order; returns how many heartbeats there were, as far as it says.
    pub async fn finish(mut self) -> Beats {
        self.order(&Order::Finish);
        let last_words = async {
            loop {
                match self.next().await {
                    Told::News(News::Ended(beats)) => return beats,
                    Told::News(_) => {}
                    Told::Gone(_) => return Beats::default(),
                }
            }
        };
        let beats = tokio::time::timeout(END, last_words).await.unwrap_or_default();
        if let Some(mut live) = self.live.take() {
            // It ends by itself when it is alone, but it should not be met by the next nanoprobe.
            for _ in 0..50 {
                if !matches!(live.child.try_wait(), Ok(None)) {
                    return beats;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let _ = live.child.kill();
            let _ = live.child.try_wait();
        }
        beats
    }
}

/// The same program with another task. It has no descriptors but its socket and standard error, and nothing of our
/// environment but what the log needs.
fn launch(
    settings: &NetworkSettings,
    bind: &[SocketAddr],
    debug_level: u8,
    now: Duration,
) -> io::Result<Live> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("nanoprobe")
        .arg(COMMAND)
        .env_clear()
        .current_dir("/")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null());
    if let Some(journal) = std::env::var_os("JOURNAL_STREAM") {
        command.env("JOURNAL_STREAM", journal);
    }
    let child = command.spawn()?;
    let start = Order::Start(Start {
        seed: settings.seed.clone(),
        pinned: Keys::new(&settings.pinned),
        bind: bind.iter().map(SocketAddr::to_string).collect(),
        multicast_ttl: settings.multicast_ttl,
        keepalive: settings.keepalive,
        debug_level,
    });
    // Fits into the buffer of the socket, so this does not wait; the copy with the secret is wiped.
    let first = zeroize::Zeroizing::new(frame(&start));
    (&ours).write_all(&first)?;
    ours.set_nonblocking(true)?;
    let (reader, writer) = UnixStream::from_std(ours)?.into_split();
    let (orders, frames) = unbounded_channel();
    tokio::spawn(write(writer, frames));
    Ok(Live {
        child,
        orders,
        incoming: Incoming::new(reader, NEWS_LIMIT_BYTES),
        began: now,
        is_ready: false,
        tick_at: now,
        unanswered: 0,
    })
}

/// What the service manager and people who ask it are told.
#[derive(Debug, Default)]
pub struct Manager {
    told: String,
    /// When to look again whether something else is to be told.
    status_at: Option<Duration>,
    interval: Option<Duration>,
    alive_at: Option<Duration>,
}

/// A word waits for the service manager to take it, so there are few.
const STATUS_PAUSE: Duration = Duration::from_secs(1);

impl Manager {
    pub fn new() -> Self {
        let interval = service::watchdog_interval();
        Self { interval, alive_at: interval.map(|_| Duration::ZERO), ..Self::default() }
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        self.alive_at.into_iter().chain(self.status_at).min()
    }

    /// Tells that the event loop turns, when that is due and `is_well`. Returns whether [`Manager::status`] is due.
    pub fn advance(&mut self, now: Duration, is_well: bool) -> bool {
        if let (Some(interval), Some(at)) = (self.interval, self.alive_at)
            && now >= at
        {
            self.alive_at = Some(now.saturating_add(interval));
            if is_well {
                service::alive();
            }
        }
        self.status_at.take_if(|at| now >= *at).is_some()
    }

    /// Everything works, or works again.
    pub fn ready(&mut self, status: String) {
        service::ready(&status);
        self.told = status;
    }

    /// Something happened that may be worth a word.
    pub fn happened(&mut self, now: Duration) {
        self.status_at.get_or_insert(now.saturating_add(STATUS_PAUSE));
    }

    pub fn status(&mut self, status: String) {
        if status != self.told {
            service::status(&status);
            self.told = status;
        }
    }
}
