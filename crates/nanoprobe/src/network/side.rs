//! The event loop of the network side: waits for the agent, the network and time.

use super::channel::{ChannelError, Incoming, frame, write};
use super::links::{Links, OfPartners, Target};
use super::partners::{Partners, Trial, session};
use super::protocol::{Beats, News, ORDER_LIMIT_BYTES, Order};
use crate::memory::Memory;
use daemon::logging::LogLevel;
use model::PublicKey;
use model::message::ToCma;
use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::Instant;
use wire::address::PeerAddress;
use wire::endpoint::{CloseReason, Connection, Datagram, Endpoint, Inbox};
use wire::hello::{Hello, Reply};

/// How long heartbeats go on without a sign of life of the agent: one that hangs for longer, for instance because the disk of
/// its state directory is dead, does not look after its host, and people have to hear of that.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A timer that is this late has been held up, by the system, or by a person who stopped the process.
const OVERSLEPT: Duration = Duration::from_millis(50);

/// News that wait for the agent to read them.
const NEWS_QUEUE: usize = 64;

/// What is told of partners and waits for the loop.
const PARTNERS_QUEUE: usize = 16;

/// How long the CMA and the agent are given to hear the end.
const FAREWELL: Duration = Duration::from_millis(500);

/// Why the loop has ended.
#[derive(Debug)]
pub enum End {
    /// By [`Order::Finish`]: everybody was told.
    Finished,
    /// The agent is gone, or makes no sense: nobody was told, as if the machine had lost its power.
    Alone(Option<ChannelError>),
}

/// A network side at work.
struct Side {
    endpoint: Endpoint,
    inbox: Inbox,
    pinned: Vec<PublicKey>,
    links: Links,
    partners: Partners,
    news: mpsc::Sender<Vec<u8>>,
    hello: Option<Hello>,
    answered: Option<SocketAddr>,
    level: LogLevel,
    memory: Memory,
    zero: Instant,
    heard_of_agent: Duration,
    muted: bool,
}

/// Works until the agent says that it is enough, or is gone. `stream` leads to the agent, which hears that the port is open.
/// Must be called within a tokio runtime.
pub async fn run<S>(
    stream: S,
    endpoint: Endpoint,
    inbox: Inbox,
    pinned: Vec<PublicKey>,
    level: LogLevel,
) -> End
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (reader, writer) = tokio::io::split(stream);
    let mut orders = Incoming::new(reader, ORDER_LIMIT_BYTES);
    let (news, frames) = mpsc::channel(NEWS_QUEUE);
    let writing = tokio::spawn(write(writer, frames));
    let (of_partners, mut told) = mpsc::channel(PARTNERS_QUEUE);
    let (trial_sender, mut trials) = mpsc::unbounded_channel::<Trial>();
    let mut side = Side {
        links: Links::new(endpoint.clone(), news.clone(), of_partners),
        partners: Partners::new(Duration::ZERO, session(), endpoint.clone(), trial_sender),
        endpoint,
        inbox,
        pinned,
        news,
        hello: None,
        answered: None,
        level,
        memory: Memory::default(),
        zero: Instant::now(),
        heard_of_agent: Duration::ZERO,
        muted: false,
    };
    match side.endpoint.local_address() {
        Ok(local) => side.tell(&News::Ready { address: local.to_string() }),
        Err(error) => side.tell(&News::Failed { error: error.to_string() }),
    };
    side.memory.worked(Duration::ZERO);
    loop {
        let due = side.next_wakeup();
        tokio::select! {
            order = orders.next::<Order>() => match order {
                Ok(Some(Order::Finish)) => break,
                Ok(Some(order)) => side.obey(order),
                Ok(None) => return End::Alone(None),
                Err(error) => return End::Alone(Some(error)),
            },
            Some(what) = told.recv() => side.told_of_partners(what),
            Some(datagram) = side.inbox.datagrams.recv() => side.datagram(&datagram),
            Some(connection) = side.inbox.connections.recv() => side.called(&connection),
            Some(trial) = trials.recv() => {
                let now = side.now();
                side.partners.handle_tried(now, &trial);
            }
            () = sleep_until(due.map(|at| side.zero + at)) => {}
        }
        side.advance().await;
    }
    side.endpoint.close(CloseReason::Shutdown, FAREWELL).await;
    side.tell(&News::Ended(side.beats()));
    drop(side);
    // Tasks of connections may hold a sender a moment longer; what was queued before them is written all the same.
    let _ = tokio::time::timeout(FAREWELL, writing).await;
    End::Finished
}

impl Side {
    fn now(&self) -> Duration {
        self.zero.elapsed()
    }

    fn next_wakeup(&self) -> Option<Duration> {
        let silence = (!self.muted).then_some(self.heard_of_agent + PATIENCE);
        let partners = if self.muted { None } else { self.partners.poll_timeout() };
        [partners, self.memory.poll_timeout(), silence].into_iter().flatten().min()
    }

    /// Does what is due.
    async fn advance(&mut self) {
        let now = self.now();
        self.memory.advance(now);
        if !self.muted && now.saturating_sub(self.heard_of_agent) >= PATIENCE {
            self.muted = true;
            tracing::error!(
                seconds = PATIENCE.as_secs(),
                "the agent hangs (is the disk of /var dead?): heartbeats stop, so that this host is reported"
            );
        }
        if self.muted {
            return;
        }
        let late = self.partners.poll_timeout().map_or(Duration::ZERO, |at| now.saturating_sub(at));
        if late >= OVERSLEPT {
            tracing::debug!(milliseconds = late.as_millis() as u64, "heartbeats are late");
            // Heartbeats that came meanwhile are still in the socket: they are read before anybody is suspected.
            for _ in 0..2 {
                tokio::task::yield_now().await;
            }
            while let Ok(datagram) = self.inbox.datagrams.try_recv() {
                self.datagram(&datagram);
            }
        }
        if self.partners.advance(self.now()) {
            self.tell(&News::Waiting);
        }
    }

    fn obey(&mut self, order: Order) {
        let now = self.now();
        match order {
            // The loop takes them.
            Order::Start(_) | Order::Finish => {}
            Order::Dial { epoch, connection, address } => match address.parse::<PeerAddress>() {
                Ok(address) => {
                    let target = match self.answered.take() {
                        Some(answered) if address.is_multicast() => Target::Answered(answered),
                        _ => Target::Configured(address),
                    };
                    tracing::debug!(?target, "dialling the CMA");
                    self.links.dial(epoch, connection, target);
                }
                Err(error) => {
                    self.tell(&News::DialFailed { epoch, connection, error: error.to_string() });
                }
            },
            Order::Register { connection, mut register } => {
                let (session, watch) = self.partners.standing();
                (register.session, register.watch) = (Some(session), watch);
                self.links.say(connection, Box::new(ToCma::Register(*register)));
                self.memory.worked(now);
            }
            Order::Say { connection, message } => {
                self.links.say(connection, message);
                self.memory.worked(now);
            }
            Order::Speak { connection } => {
                for heard in self.partners.take_heard() {
                    self.links.say(connection, Box::new(ToCma::Heard(heard)));
                }
            }
            Order::Close { connection, reason } => self.links.close(connection, reason),
            Order::StartOver => self.links.start_over(),
            Order::Hello { address, attempt } => self.say_hello(&address, attempt),
            Order::Pin(keys) => {
                self.pinned = keys.get();
                self.endpoint.trust(self.pinned.clone());
            }
            Order::Tick { debug_level } => {
                self.heard_of_agent = now;
                if std::mem::take(&mut self.muted) {
                    tracing::warn!("the agent is back: heartbeats go on");
                }
                if self.level.get() != debug_level {
                    self.level.set(debug_level);
                }
                self.tell(&News::Tock);
            }
            Order::Part => self.partners.stop(now),
        }
    }

    fn told_of_partners(&mut self, what: OfPartners) {
        let now = self.now();
        match what {
            OfPartners::Cma(address) => self.partners.handle_cma(address),
            OfPartners::Watch(watch) => self.partners.handle_watch(now, watch),
            OfPartners::Ask(ask) => self.partners.handle_ask(now, ask),
        }
    }

    fn datagram(&mut self, datagram: &Datagram) {
        // Who is to be taken for dead does not answer either.
        if self.muted || self.partners.handle_datagram(self.now(), datagram) {
            return;
        }
        if let Some(reply) = Reply::decode(&datagram.bytes)
            && let Some(hello) = &self.hello
            && let Some(target) = reply.target(hello, &self.pinned, datagram.source)
        {
            tracing::info!(address = %datagram.source, "a CMA answers a hello");
            self.hello = None;
            self.answered = Some(target);
            self.tell(&News::Answered);
        }
    }

    /// A CMA dialled us: it has something to say while we are not connected. TLS has proven one of the pinned keys.
    /// Everything is said on a connection that we make, so this one ends here.
    fn called(&mut self, connection: &Connection) {
        tracing::debug!(address = %connection.remote(), "called by the CMA");
        connection.close(CloseReason::CallsBack);
        self.memory.worked(self.now());
        self.tell(&News::Called);
    }

    fn say_hello(&mut self, address: &str, attempt: u64) {
        let address = match address.parse::<PeerAddress>() {
            Ok(address) => address,
            Err(error) => return tracing::error!(%error, "no hello goes there"),
        };
        let mut nonce = [0; 16];
        if getrandom::fill(&mut nonce).is_err() {
            return tracing::error!("the system gives no random numbers");
        }
        let hello = Hello::new(nonce, &self.pinned, usize::try_from(attempt).unwrap_or(0));
        self.links.hello(address, hello.encode());
        self.hello = Some(hello);
    }

    fn beats(&self) -> Beats {
        let stats = self.partners.stats();
        Beats {
            sent: stats.sealed,
            received: stats.opened,
            refused: stats.malformed + stats.unknown + stats.replayed + stats.forged,
        }
    }

    /// Small news are dropped where the agent does not read: hellos, calls and observations come again.
    fn tell(&self, news: &News) {
        let _ = self.news.try_send(frame(news));
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => pending().await,
    }
}
