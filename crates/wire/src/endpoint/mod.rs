//! The one UDP port: QUIC with mutually proven keys, and small datagrams beside it.
//!
//! [`Endpoint::bind`] opens the port and returns the endpoint with an [`Inbox`]: connections that finished their
//! handshake, and datagrams that are not QUIC (see `crate::hello`). Both channels are bounded.

mod bind;
mod connection;
mod group;
mod listen;
mod secrets;
mod socket;
mod tls;

pub use bind::BindError;
pub use connection::{CloseReason, Connection, Lost};
pub(crate) use listen::Slot;
pub use socket::Datagram;

use crate::keys::{KeyError, KeyPair};
use group::GroupSocket;
use model::PublicKey;
use quinn::{IdleTimeout, TokioRuntime, TransportConfig, VarInt};
use secrets::EndpointSecrets;
use socket::{Counters, DemuxSocket};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tls::{Identity, Trust};
use tokio::sync::mpsc;

/// Usual [`EndpointConfig::handshake_timeout`]. A handshake takes two round trips (three with Retry); what has not
/// finished by then never will.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Usual [`EndpointConfig::idle_timeout`]; `delivery` closes it properly before, after 30 s.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(40);

/// TLS wants a server name; with raw public keys nobody looks at it, and it is not sent.
const SERVER_NAME: &str = "cma.invalid";

/// Everything an endpoint needs to know. Start from [`EndpointConfig::cma`] or [`EndpointConfig::nanoprobe`].
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// Our own pair.
    pub key: KeyPair,
    /// Keys that the other side of a connection must have one of. `None` lets in every key that is proven, also when
    /// dialling: an endpoint set so dials with [`Endpoint::connect_to`].
    pub trusted: Option<Vec<PublicKey>>,
    /// Local address, `[::]:1984`.
    pub bind: SocketAddr,
    /// Take any free port when the wanted one is taken.
    pub fallback_ephemeral: bool,
    /// Take incoming connections.
    pub listen: bool,
    /// Multicast group to be a member of: on every interface, or where `bind` is one IPv4 address on that one's
    /// interface. Senders need not be members.
    pub join: Option<Ipv4Addr>,
    /// Time to live of the multicast packets we send, in routers.
    pub multicast_ttl: u32,
    /// Ask the system for 10 MiB of receive buffer.
    pub large_buffers: bool,
    /// Where the keys are kept that let peers notice a restart, in a subdirectory `keys` of mode 0700; `None` makes new
    /// ones each time. Each program needs its own.
    pub state_directory: Option<PathBuf>,
    /// Send a packet this often when there is nothing to say; `None` lets idle connections end.
    pub keepalive: Option<Duration>,
    /// QUIC gives a silent connection up after this.
    pub idle_timeout: Duration,
    /// A handshake, of either direction, is given up after this.
    pub handshake_timeout: Duration,
    /// Connections that may be open at once; further ones are not answered.
    pub max_connections: usize,
    /// Of those, from one address (IPv6: one /64 network): one hostile host cannot take all.
    pub max_connections_per_address: usize,
    /// Incoming handshakes begun in a second (twice as many at once): a bound on the work for those who never prove a
    /// trusted key. Further ones are not answered, and succeed when they try again. `None`: without limit.
    pub handshakes_per_second: Option<u32>,
    /// Datagrams that may wait for [`Inbox::datagrams`]; further ones are dropped and counted.
    pub datagram_queue: usize,
}

impl EndpointConfig {
    /// A CMA: listens on `[::]:1984`, is a member of the multicast group, lets in every proven key.
    pub fn cma(key: KeyPair) -> Self {
        Self {
            trusted: None,
            fallback_ephemeral: false,
            listen: true,
            join: Some(crate::MULTICAST),
            large_buffers: true,
            max_connections: 20_000,
            handshakes_per_second: None,
            datagram_queue: 4096,
            ..Self::nanoprobe(key, Vec::new())
        }
    }

    /// A nanoprobe: talks only to the holder of one of `cma_keys`, takes another port when 1984 is taken.
    pub fn nanoprobe(key: KeyPair, cma_keys: Vec<PublicKey>) -> Self {
        Self {
            key,
            trusted: Some(cma_keys),
            bind: SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), crate::PORT),
            fallback_ephemeral: true,
            listen: false,
            join: None,
            multicast_ttl: crate::MULTICAST_TTL,
            large_buffers: false,
            state_directory: None,
            keepalive: None,
            idle_timeout: IDLE_TIMEOUT,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            max_connections: 64,
            max_connections_per_address: 1024,
            handshakes_per_second: Some(5),
            datagram_queue: 256,
        }
    }
}

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("cannot start the endpoint: {0}")]
    Io(#[from] io::Error),
}

/// Why a connection did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("who answers at {address} has a key (fingerprint {}) that is not in the key directory; if that is your CMA, copy its *.pub files there", .offered.fingerprint())]
    NotTrusted { address: SocketAddr, offered: PublicKey },
    #[error("nobody answered at {address} within {} s", .waited.as_secs())]
    TimedOut { address: SocketAddr, waited: Duration },
    #[error("{address} did not take the connection: {reason}")]
    Refused { address: SocketAddr, reason: String },
    #[error("{address} cannot be reached from the local address {local}")]
    BadAddress { address: SocketAddr, local: SocketAddr },
    #[error("{address} is a multicast group: it is asked with a hello, not dialled")]
    Multicast { address: SocketAddr },
    #[error("the endpoint was closed")]
    Closed,
    #[error("cannot set up TLS: {0}")]
    Tls(rustls::Error),
}

/// What comes in. Leave neither channel unread for long: both drop what does not fit.
#[derive(Debug)]
pub struct Inbox {
    /// Connections from others, after their handshake. Ends when the endpoint is closed, or at once without `listen`.
    pub connections: mpsc::Receiver<Connection>,
    pub datagrams: mpsc::Receiver<Datagram>,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EndpointStats {
    pub open_connections: usize,
    /// Datagrams put into the inbox.
    pub datagrams: u64,
    /// Datagrams dropped because the inbox was full.
    pub dropped_full: u64,
    /// Datagrams longer than any legal one.
    pub dropped_large: u64,
    /// QUIC packets sent to a multicast group.
    pub dropped_multicast_quic: u64,
    /// Connection attempts that were told to prove their address first.
    pub retries: u64,
    /// Connection attempts left unanswered because too many connections were open, or too many came in a short time.
    pub over_limit: u64,
    /// Handshakes that failed or took too long.
    pub failed_handshakes: u64,
}

/// An open port. Clones share it; it closes when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Endpoint {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    quinn: quinn::Endpoint,
    socket: Mutex<Arc<DemuxSocket>>,
    /// Where the endpoint's own socket does not get what is sent to the group.
    group: Mutex<Option<GroupSocket>>,
    datagrams: mpsc::Sender<Datagram>,
    counters: Arc<Counters>,
    listen: Arc<listen::Counters>,
    identity: Mutex<Identity>,
    /// How connections are taken; `None` when none are.
    served: Option<Arc<Mutex<listen::Served>>>,
    trust: Trust,
    transport: Arc<TransportConfig>,
    config: EndpointConfig,
}

impl Endpoint {
    /// Opens the port. Must be called within a tokio runtime.
    pub fn bind(config: EndpointConfig) -> Result<(Self, Inbox), EndpointError> {
        let identity = Identity::new(&config.key)?;
        let trust = Trust::new(config.trusted.clone());
        let secrets = match &config.state_directory {
            Some(directory) => EndpointSecrets::load_or_create(&directory.join("keys"))?,
            None => EndpointSecrets::temporary()?,
        };
        let transport = Arc::new(transport(&config));
        let server = if config.listen { Some(server(&identity, &trust, &transport, &config)?) } else { None };

        let served = server.clone().map(|config| {
            Arc::new(Mutex::new(listen::Served { config: Arc::new(config), own: identity.public() }))
        });

        let counters = Arc::<Counters>::default();
        let (datagram_sender, datagrams) = mpsc::channel(config.datagram_queue.max(1));
        let socket = bind::open(&config)?;
        let socket = Arc::new(DemuxSocket::new(socket, datagram_sender.clone(), counters.clone())?);
        let quinn = quinn::Endpoint::new_with_abstract_socket(
            quinn_settings(&secrets),
            server,
            socket.clone(),
            Arc::new(TokioRuntime),
        )?;
        let (sender, connections) = mpsc::channel(256);
        let listen = Arc::<listen::Counters>::default();
        if let Some(served) = served.clone() {
            let limits = listen::Limits {
                connections: config.max_connections,
                per_address: config.max_connections_per_address,
                handshake: config.handshake_timeout,
                handshakes_per_second: config.handshakes_per_second,
            };
            tokio::spawn(listen::run(quinn.clone(), sender, limits, listen.clone(), served));
        }
        let shared = Shared {
            quinn,
            socket: Mutex::new(socket),
            group: Mutex::new(None),
            datagrams: datagram_sender,
            counters,
            listen,
            identity: Mutex::new(identity),
            served,
            trust,
            transport,
            config,
        };
        let endpoint = Self { shared: Arc::new(shared) };
        if let Some(group) = endpoint.shared.config.join {
            let interfaces = endpoint.join_multicast();
            tracing::info!(%group, interfaces, "listening for hello packets");
        }
        Ok((endpoint, Inbox { connections, datagrams }))
    }

    /// Dials `address`; whoever answers must hold one of the trusted keys.
    ///
    /// The other side may still refuse our key after this returns: trust its first message only.
    pub async fn connect(&self, address: SocketAddr) -> Result<Connection, ConnectError> {
        self.dial(address, self.shared.trust.clone()).await
    }

    /// As [`Endpoint::connect`], with the keys to expect given here.
    pub async fn connect_to(
        &self,
        address: SocketAddr,
        keys: &[PublicKey],
    ) -> Result<Connection, ConnectError> {
        self.dial(address, Trust::new(Some(keys.to_vec()))).await
    }

    /// Trusts these keys in place of those before, in both directions. Open connections stay; handshakes that end from now
    /// on are judged by these keys.
    pub fn trust(&self, keys: Vec<PublicKey>) {
        self.shared.trust.replace(keys);
    }

    /// Has this key in place of the one before, for connections made from now on, in both directions. Open ones stay: whoever
    /// wants the other side to see the new key ends them.
    ///
    /// # Errors
    /// The key before is kept then.
    pub fn identify(&self, key: &KeyPair) -> Result<(), EndpointError> {
        let shared = &self.shared;
        let identity = Identity::new(key)?;
        // Held until both directions have it.
        let mut current = lock(&shared.identity);
        if let Some(served) = &shared.served {
            let config = server(&identity, &shared.trust, &shared.transport, &shared.config)?;
            // Not quinn's own configuration: that proves addresses, and who is just doing so must not begin anew.
            *lock(served) = listen::Served { config: Arc::new(config), own: identity.public() };
        }
        *current = identity;
        Ok(())
    }

    /// The key that new connections are made with.
    pub fn own_key(&self) -> PublicKey {
        lock(&self.shared.identity).public()
    }

    /// Sends one datagram; its first byte must not have the QUIC bit 0x40. Nothing is queued and nothing is sent
    /// again; an error says that it did not leave this host.
    pub fn send_datagram(&self, destination: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let (socket, destination) = self.way_to(destination)?;
        socket.send(destination, bytes)
    }

    /// The same to somebody who was heard from there a moment ago and does not complain that he hears nothing: spares
    /// the kernel asking (ARP, neighbour discovery) every half minute whether he is still there.
    pub fn send_to_neighbour(&self, destination: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let (socket, destination) = self.way_to(destination)?;
        socket.send_to_neighbour(destination, bytes)
    }

    /// Joins the configured multicast group again, for interfaces that appeared since; returns on how many
    /// interfaces we are a member. Failures are logged. Must be called within a tokio runtime.
    pub fn join_multicast(&self) -> usize {
        let Some(group) = self.shared.config.join else { return 0 };
        let socket = self.socket();
        let Ok(local) = socket.io().local_addr() else { return 0 };
        let interface = match group::reach(local) {
            group::Reach::Itself => return bind::join(socket.io(), group),
            group::Reach::Beside(interface) => interface,
            group::Reach::Never => {
                tracing::debug!(%group, %local, "no hello packets on an IPv6 address: nanoprobes need --cmaaddr");
                return 0;
            }
        };
        match self.join_beside(group, local.port(), interface) {
            Ok(()) => 1,
            Err(error) => {
                tracing::warn!(%group, address = %interface, %error,
                    "hello packets cannot be received: nanoprobes need --cmaaddr; it is tried again");
                0
            }
        }
    }

    /// Moves to another local address; open connections move along (RFC 9000 §9).
    pub fn rebind(&self, bind: SocketAddr) -> Result<(), EndpointError> {
        let shared = &self.shared;
        let config = EndpointConfig { bind, ..shared.config.clone() };
        let socket = bind::open(&config)?;
        let socket = DemuxSocket::new(socket, shared.datagrams.clone(), shared.counters.clone())?;
        let socket = Arc::new(socket);
        shared.quinn.rebind_abstract(socket.clone())?;
        *lock(&shared.socket) = socket;
        *lock(&shared.group) = None;
        self.join_multicast();
        Ok(())
    }

    /// The address we are bound to.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.shared.quinn.local_addr()
    }

    pub fn stats(&self) -> EndpointStats {
        let (socket, listen) = (&self.shared.counters, &self.shared.listen);
        EndpointStats {
            open_connections: self.shared.quinn.open_connections(),
            datagrams: socket.datagrams.load(Ordering::Relaxed),
            dropped_full: socket.dropped_full.load(Ordering::Relaxed),
            dropped_large: socket.dropped_large.load(Ordering::Relaxed),
            dropped_multicast_quic: socket.dropped_multicast_quic.load(Ordering::Relaxed),
            retries: listen.retries.load(Ordering::Relaxed),
            over_limit: listen.over_limit.load(Ordering::Relaxed),
            failed_handshakes: listen.failed.load(Ordering::Relaxed),
        }
    }

    /// Closes all connections, telling the peers, and waits for that at most `patience`.
    pub async fn close(&self, reason: CloseReason, patience: Duration) {
        self.shared.quinn.close(reason.code(), reason.text().as_bytes());
        // Whoever was not told in time finds out by itself.
        let _ = tokio::time::timeout(patience, self.shared.quinn.wait_idle()).await;
    }

    /// Opens the socket of the group, or joins with the one that is open.
    fn join_beside(&self, group: Ipv4Addr, port: u16, interface: Ipv4Addr) -> io::Result<()> {
        let shared = &self.shared;
        let mut open = lock(&shared.group);
        match &*open {
            Some(socket) => socket.join(),
            None => {
                let (inbox, counters) = (shared.datagrams.clone(), shared.counters.clone());
                let socket = GroupSocket::open(&shared.config, group, port, interface, inbox, counters)?;
                *open = Some(socket);
                Ok(())
            }
        }
    }

    async fn dial(&self, address: SocketAddr, trust: Trust) -> Result<Connection, ConnectError> {
        let shared = &self.shared;
        let local = self.local_address().map_err(|_| ConnectError::Closed)?;
        if address.ip().to_canonical().is_multicast() {
            return Err(ConnectError::Multicast { address });
        }
        let target = for_family(address, local).ok_or(ConnectError::BadAddress { address, local })?;
        let refused = Arc::new(OnceLock::new());
        let identity = lock(&shared.identity).clone();
        let tls = identity.client(trust, refused.clone()).map_err(ConnectError::Tls)?;
        let mut config = quinn::ClientConfig::new(Arc::new(tls));
        config.transport_config(shared.transport.clone());
        let connecting =
            shared.quinn.connect_with(config, target, SERVER_NAME).map_err(|error| match error {
                quinn::ConnectError::EndpointStopping => ConnectError::Closed,
                _ => ConnectError::BadAddress { address, local },
            })?;
        let waited = shared.config.handshake_timeout;
        match tokio::time::timeout(waited, connecting).await {
            Err(_) | Ok(Err(quinn::ConnectionError::TimedOut)) => {
                Err(ConnectError::TimedOut { address, waited })
            }
            Ok(Err(error)) => Err(match refused.get() {
                Some(offered) => ConnectError::NotTrusted { address, offered: *offered },
                None => ConnectError::Refused { address, reason: Lost::from(error).to_string() },
            }),
            Ok(Ok(connection)) => Connection::new(connection, identity.public(), None).ok_or_else(|| {
                ConnectError::Refused { address, reason: "it showed no Ed25519 key".to_owned() }
            }),
        }
    }

    fn socket(&self) -> Arc<DemuxSocket> {
        lock(&self.shared.socket).clone()
    }

    /// The socket, and an address as it has to be told to it.
    fn way_to(&self, destination: SocketAddr) -> io::Result<(Arc<DemuxSocket>, SocketAddr)> {
        let socket = self.socket();
        let local = quinn::AsyncUdpSocket::local_addr(&*socket)?;
        let destination = for_family(destination, local)
            .ok_or_else(|| io::Error::new(io::ErrorKind::AddrNotAvailable, "no IPv6 on this socket"))?;
        Ok((socket, destination))
    }
}

impl Drop for Shared {
    /// Ends the listening task, which holds the quinn endpoint too.
    fn drop(&mut self) {
        self.quinn.close(CloseReason::Shutdown.code(), CloseReason::Shutdown.text().as_bytes());
    }
}

/// An address as people write it: IPv4 never in the IPv6-mapped form.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        // Keeps the scope of link-local addresses.
        IpAddr::V6(_) => address,
    }
}

/// The form of `address` that a socket bound to `local` takes; `None` when it cannot reach it.
fn for_family(address: SocketAddr, local: SocketAddr) -> Option<SocketAddr> {
    match (canonical(address), local) {
        (SocketAddr::V4(v4), SocketAddr::V6(_)) => {
            Some(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into())
        }
        (SocketAddr::V6(_), SocketAddr::V4(_)) => None,
        (address, _) => Some(address),
    }
}

fn transport(config: &EndpointConfig) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(4))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(256 << 10))
        .receive_window(VarInt::from_u32(512 << 10))
        .send_window(512 << 10)
        .mtu_discovery_config(None)
        .keep_alive_interval(config.keepalive)
        .max_idle_timeout(Some(idle(config.idle_timeout)));
    transport
}

/// Never without a limit: a half-open handshake would stay for ever.
fn idle(timeout: Duration) -> IdleTimeout {
    IdleTimeout::try_from(timeout)
        .unwrap_or_else(|_| VarInt::from_u32(IDLE_TIMEOUT.as_millis() as u32).into())
}

fn server(
    identity: &Identity,
    trust: &Trust,
    transport: &Arc<TransportConfig>,
    config: &EndpointConfig,
) -> Result<quinn::ServerConfig, EndpointError> {
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(identity.server(trust.clone())?));
    server
        .transport_config(transport.clone())
        // Attempts are answered or dropped at once, so few ever wait.
        .max_incoming(config.max_connections.clamp(16, 4096))
        .incoming_buffer_size(16 << 10)
        .incoming_buffer_size_total(4 << 20);
    Ok(server)
}

fn quinn_settings(secrets: &EndpointSecrets) -> quinn::EndpointConfig {
    let mut settings = quinn::EndpointConfig::new(secrets.reset_key());
    let ids = secrets.clone();
    // Greased packets would lose the bit that the demultiplexer looks at.
    settings.grease_quic_bit(false).cid_generator(move || Box::new(ids.connection_ids()));
    settings
}

/// A poisoned lock only says that another thread panicked; the values in ours are replaced whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
