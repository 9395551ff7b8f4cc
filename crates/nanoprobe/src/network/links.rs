//! One task per connection: dials, then carries messages both ways between the agent and the CMA. Hellos go to where was dialled.

use super::channel::frame;
use super::protocol::{FROM_CMA_LIMIT_BYTES, News, Reason, text};
use model::liveness::{Ask, Watch};
use model::message::{FromCma, ToCma};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use wire::address::PeerAddress;
use wire::endpoint::{CloseReason, Connection, Endpoint};
use wire::framed::{MESSAGE_LIMIT_BYTES, Reader, Writer};
use wire::hello::HELLO_BYTES;

/// What of a connection concerns partners.
#[derive(Debug)]
pub enum OfPartners {
    /// The CMA is reached there.
    Cma(SocketAddr),
    Watch(Watch),
    Ask(Ask),
}

/// Where to dial.
#[derive(Debug, Clone)]
pub enum Target {
    /// As configured; a name is resolved now.
    Configured(PeerAddress),
    /// Who answered a hello.
    Answered(SocketAddr),
}

/// The present connection, if any. Dropping it, or starting another, ends it.
pub struct Links {
    endpoint: Endpoint,
    /// Frames of [`News`]. When the agent does not read them, the CMA is not read either.
    news: mpsc::Sender<Vec<u8>>,
    partners: mpsc::Sender<OfPartners>,
    current: Option<Link>,
    resolved: Resolved,
    /// A hello that waits for its name to be resolved.
    asking: Option<JoinHandle<()>>,
}

/// Addresses of a name that are said hello to.
const MOST_HELLOS: usize = 4;

/// What the names that were dialled stood for last: a hello every few seconds must not ask the name servers each time.
/// As many as there are configured addresses.
type Resolved = Arc<Mutex<HashMap<PeerAddress, Vec<SocketAddr>>>>;

struct Link {
    connection: u64,
    commands: mpsc::UnboundedSender<Command>,
}

enum Command {
    Say(Box<ToCma>),
    Close(CloseReason),
}

impl Links {
    pub fn new(endpoint: Endpoint, news: mpsc::Sender<Vec<u8>>, partners: mpsc::Sender<OfPartners>) -> Self {
        Self { endpoint, news, partners, current: None, resolved: Resolved::default(), asking: None }
    }

    /// Ends the connection, because everything of it has become meaningless.
    pub fn start_over(&mut self) {
        if let Some(link) = self.current.take() {
            let _ = link.commands.send(Command::Close(CloseReason::Superseded));
        }
    }

    /// Dials in the background. `epoch` is told with everything that comes of it.
    pub fn dial(&mut self, epoch: u64, connection: u64, target: Target) {
        let (commands, receiver) = mpsc::unbounded_channel();
        let sink = Sink { epoch, connection, news: self.news.clone(), partners: self.partners.clone() };
        tokio::spawn(run(self.endpoint.clone(), self.resolved.clone(), target, receiver, sink));
        self.current = Some(Link { connection, commands });
    }

    /// Sends these bytes to where `address` is. A name of which no dial found out what it stands for is resolved in the
    /// background, one at a time.
    pub fn hello(&mut self, address: PeerAddress, bytes: [u8; HELLO_BYTES]) {
        let known = match &address {
            PeerAddress::Socket(address) => Some(vec![*address]),
            PeerAddress::Name { .. } => lock(&self.resolved).get(&address).cloned(),
        };
        if let Some(addresses) = known {
            return send_hello(&self.endpoint, &addresses, &bytes);
        }
        if self.asking.as_ref().is_some_and(|asking| !asking.is_finished()) {
            return;
        }
        let (endpoint, resolved) = (self.endpoint.clone(), self.resolved.clone());
        self.asking = Some(tokio::spawn(async move {
            match resolve(&resolved, &address).await {
                Ok(addresses) => send_hello(&endpoint, &addresses, &bytes),
                Err(error) => tracing::debug!(error, "a hello was not sent"),
            }
        }));
    }

    /// Sends a message; nothing happens when the connection is gone already (its news is under way).
    pub fn say(&self, connection: u64, message: Box<ToCma>) {
        if let Some(link) = self.current.as_ref().filter(|link| link.connection == connection) {
            let _ = link.commands.send(Command::Say(message));
        }
    }

    pub fn close(&mut self, connection: u64, reason: Reason) {
        if let Some(link) = self.current.take_if(|link| link.connection == connection) {
            let reason = match reason {
                Reason::Idle => CloseReason::Idle,
                Reason::TimedOut => CloseReason::TimedOut,
                Reason::Refused => CloseReason::Refused,
                Reason::Protocol => CloseReason::Protocol,
                Reason::Stopping => CloseReason::Shutdown,
            };
            let _ = link.commands.send(Command::Close(reason));
        }
    }
}

struct Sink {
    epoch: u64,
    connection: u64,
    news: mpsc::Sender<Vec<u8>>,
    partners: mpsc::Sender<OfPartners>,
}

impl Sink {
    async fn connected(&self, remote: SocketAddr) {
        self.of_partners(OfPartners::Cma(remote)).await;
        let Self { epoch, connection, .. } = *self;
        self.tell(&News::Connected { epoch, connection, address: remote.to_string() }).await;
    }

    async fn failed(&self, error: impl std::fmt::Display) {
        let Self { epoch, connection, .. } = *self;
        self.tell(&News::DialFailed { epoch, connection, error: text(error) }).await;
    }

    async fn lost(&self, error: String) {
        let Self { epoch, connection, .. } = *self;
        self.tell(&News::Lost { epoch, connection, error: text(error) }).await;
    }

    async fn message(&self, message: FromCma) {
        match message {
            FromCma::Watch(watch) => self.of_partners(OfPartners::Watch(watch)).await,
            FromCma::Ask(ask) => self.of_partners(OfPartners::Ask(ask)).await,
            message => {
                let Self { epoch, connection, .. } = *self;
                self.tell(&News::Message { epoch, connection, message: Box::new(message) }).await;
            }
        }
    }

    /// The receivers are gone only when the process ends.
    async fn tell(&self, news: &News) {
        let _ = self.news.send(frame(news)).await;
    }

    async fn of_partners(&self, what: OfPartners) {
        let _ = self.partners.send(what).await;
    }
}

fn lock(
    resolved: &Mutex<HashMap<PeerAddress, Vec<SocketAddr>>>,
) -> std::sync::MutexGuard<'_, HashMap<PeerAddress, Vec<SocketAddr>>> {
    resolved.lock().unwrap_or_else(PoisonError::into_inner)
}

fn send_hello(endpoint: &Endpoint, addresses: &[SocketAddr], bytes: &[u8]) {
    for address in addresses.iter().take(MOST_HELLOS) {
        if let Err(error) = endpoint.send_datagram(*address, bytes) {
            tracing::debug!(%address, %error, "a hello was not sent");
        }
    }
}

async fn resolve(resolved: &Resolved, address: &PeerAddress) -> Result<Vec<SocketAddr>, String> {
    let found = address.resolve().await.map_err(|error| format!("{address} cannot be resolved: {error}"))?;
    if matches!(address, PeerAddress::Name { .. }) && !found.is_empty() {
        lock(resolved).insert(address.clone(), found.clone());
    }
    Ok(found)
}

async fn run(
    endpoint: Endpoint,
    resolved: Resolved,
    target: Target,
    mut commands: mpsc::UnboundedReceiver<Command>,
    sink: Sink,
) {
    let connection = tokio::select! {
        dialled = dial(&endpoint, &resolved, &target) => match dialled {
            Ok(connection) => connection,
            Err(error) => return sink.failed(error).await,
        },
        // Closed, or given up, before it came about.
        _ = commands.recv() => return,
    };
    let (writer, reader) = match connection.open_stream().await {
        Ok(stream) => stream,
        Err(error) => return sink.failed(error).await,
    };
    sink.connected(connection.remote()).await;
    // Reading goes on while a write waits for the other side to take more.
    let end = tokio::select! {
        end = read(reader, &sink) => Err(end),
        end = write(writer, &mut commands) => end,
    };
    match end {
        Ok(reason) => connection.close(reason),
        Err(error) => {
            let reason = connection.lost().map_or(error, |lost| lost.to_string());
            connection.close(CloseReason::Protocol);
            sink.lost(reason).await;
        }
    }
}

async fn dial(endpoint: &Endpoint, resolved: &Resolved, target: &Target) -> Result<Connection, String> {
    let addresses = match target {
        Target::Answered(address) => vec![*address],
        Target::Configured(address) => resolve(resolved, address).await?,
    };
    let mut last = "the name has no address".to_owned();
    for address in addresses {
        match endpoint.connect(address).await {
            Ok(connection) => return Ok(connection),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

async fn read(mut reader: Reader, sink: &Sink) -> String {
    loop {
        match reader.read::<FromCma>(FROM_CMA_LIMIT_BYTES).await {
            Ok(Some(message)) => sink.message(message).await,
            Ok(None) => return "the CMA ended the conversation".into(),
            Err(error) => return error.to_string(),
        }
    }
}

async fn write(
    mut writer: Writer,
    commands: &mut mpsc::UnboundedReceiver<Command>,
) -> Result<CloseReason, String> {
    loop {
        match commands.recv().await {
            Some(Command::Say(message)) => {
                writer.write(&*message, MESSAGE_LIMIT_BYTES).await.map_err(|error| error.to_string())?;
            }
            Some(Command::Close(reason)) => return Ok(reason),
            None => return Ok(CloseReason::Shutdown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::endpoint::EndpointConfig;
    use wire::keys::KeyPair;

    #[tokio::test]
    async fn a_hello_reaches_addresses_and_names_and_asks_for_a_name_once() {
        let config = EndpointConfig {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..EndpointConfig::nanoprobe(KeyPair::generate().unwrap(), Vec::new())
        };
        let (endpoint, _inbox) = Endpoint::bind(config).unwrap();
        let (news, _news) = mpsc::channel(1);
        let (partners, _partners) = mpsc::channel(1);
        let mut links = Links::new(endpoint, news, partners);
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let name = PeerAddress::Name { host: "localhost".into(), port: address.port() };
        let mut bytes = [0x21; HELLO_BYTES];
        let mut packet = [0; 2 * HELLO_BYTES];
        for (turn, target) in
            [PeerAddress::Socket(address), name.clone(), name.clone()].into_iter().enumerate()
        {
            bytes[1] = turn as u8;
            links.hello(target, bytes);
            let came =
                tokio::time::timeout(std::time::Duration::from_secs(20), socket.recv(&mut packet)).await;
            let length = came.expect("a hello").unwrap();
            assert_eq!(packet[..length], bytes, "turn {turn}");
        }
        assert_eq!(lock(&links.resolved).keys().collect::<Vec<_>>(), [&name]);
        // What is known is not asked for again: this stands for the answer.
        let other = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        lock(&links.resolved).insert(name.clone(), vec![other.local_addr().unwrap()]);
        links.hello(name, bytes);
        let came = tokio::time::timeout(std::time::Duration::from_secs(20), other.recv(&mut packet)).await;
        assert_eq!(came.expect("a hello there").unwrap(), HELLO_BYTES);
    }
}
