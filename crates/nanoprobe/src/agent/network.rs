//! One task per connection: dials, then carries messages both ways between the event loop and the CMA.

use model::PublicKey;
use model::message::{FromCma, ToCma};
use std::net::SocketAddr;
use tokio::sync::mpsc;
use wire::address::PeerAddress;
use wire::delivery::{Closing, ConnectionId};
use wire::endpoint::{CloseReason, Connection, Endpoint};
use wire::framed::{MESSAGE_LIMIT_BYTES, Reader, Writer};

/// What happened on a connection.
#[derive(Debug)]
pub struct NetworkEvent {
    /// Which [`Links`] life the connection belongs to; older ones are of no interest.
    pub epoch: u64,
    pub connection: ConnectionId,
    pub what: Happening,
}

#[derive(Debug)]
pub enum Happening {
    /// To this address, whose other side proved to hold this key.
    Connected(SocketAddr, PublicKey),
    DialFailed(String),
    Message(FromCma),
    Lost(String),
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
    events: mpsc::UnboundedSender<NetworkEvent>,
    epoch: u64,
    current: Option<Link>,
}

struct Link {
    connection: ConnectionId,
    commands: mpsc::UnboundedSender<Command>,
}

enum Command {
    Say(Box<ToCma>),
    Close(CloseReason),
}

impl Links {
    /// Events are few: messages from a CMA are answers to what we sent, and it has pinned keys.
    pub fn new(endpoint: Endpoint, events: mpsc::UnboundedSender<NetworkEvent>) -> Self {
        Self { endpoint, events, epoch: 0, current: None }
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Ends the connection, and makes everything of it meaningless: connection numbers start anew.
    pub fn start_over(&mut self) {
        if let Some(link) = self.current.take() {
            let _ = link.commands.send(Command::Close(CloseReason::Superseded));
        }
        self.epoch += 1;
    }

    /// Dials in the background.
    pub fn dial(&mut self, connection: ConnectionId, target: Target) {
        let (commands, receiver) = mpsc::unbounded_channel();
        let sink = Sink { epoch: self.epoch, connection, events: self.events.clone() };
        tokio::spawn(run(self.endpoint.clone(), target, receiver, sink));
        self.current = Some(Link { connection, commands });
    }

    /// Sends a message; nothing happens when the connection is gone already (its event is under way).
    pub fn say(&self, connection: ConnectionId, message: ToCma) {
        if let Some(link) = self.current.as_ref().filter(|link| link.connection == connection) {
            let _ = link.commands.send(Command::Say(Box::new(message)));
        }
    }

    pub fn close(&mut self, connection: ConnectionId, reason: Closing) {
        if let Some(link) = self.current.take_if(|link| link.connection == connection) {
            let reason = match reason {
                Closing::Idle => CloseReason::Idle,
                Closing::TimedOut => CloseReason::TimedOut,
                Closing::Refused => CloseReason::Refused,
                Closing::Protocol => CloseReason::Protocol,
                Closing::Stopping => CloseReason::Shutdown,
            };
            let _ = link.commands.send(Command::Close(reason));
        }
    }
}

struct Sink {
    epoch: u64,
    connection: ConnectionId,
    events: mpsc::UnboundedSender<NetworkEvent>,
}

impl Sink {
    fn tell(&self, what: Happening) {
        let _ = self.events.send(NetworkEvent { epoch: self.epoch, connection: self.connection, what });
    }
}

async fn run(endpoint: Endpoint, target: Target, mut commands: mpsc::UnboundedReceiver<Command>, sink: Sink) {
    let connection = tokio::select! {
        dialled = dial(&endpoint, &target) => match dialled {
            Ok(connection) => connection,
            Err(error) => return sink.tell(Happening::DialFailed(error)),
        },
        // Closed, or given up, before it came about.
        _ = commands.recv() => return,
    };
    let (writer, reader) = match connection.open_stream().await {
        Ok(stream) => stream,
        Err(error) => return sink.tell(Happening::DialFailed(error.to_string())),
    };
    sink.tell(Happening::Connected(connection.remote(), connection.peer));
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
            sink.tell(Happening::Lost(reason));
        }
    }
}

async fn dial(endpoint: &Endpoint, target: &Target) -> Result<Connection, String> {
    let addresses = match target {
        Target::Answered(address) => vec![*address],
        Target::Configured(address) => {
            address.resolve().await.map_err(|error| format!("{address} cannot be resolved: {error}"))?
        }
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
        match reader.read::<FromCma>(MESSAGE_LIMIT_BYTES).await {
            Ok(Some(message)) => sink.tell(Happening::Message(message)),
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
