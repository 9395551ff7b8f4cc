//! A connection between two proven keys.

use super::canonical;
use super::listen::Slot;
use super::tls;
use crate::framed::{Reader, Writer};
use model::PublicKey;
use quinn::{ConnectionError, VarInt};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Why we end a connection; the peer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// Nothing to say for a while.
    Idle,
    /// This program stops.
    Shutdown,
    /// The peer was refused at registration.
    Refused,
    /// The peer broke the rules of the conversation.
    Protocol,
    /// The same nanoprobe has a newer connection.
    Superseded,
    /// The peer took too long.
    TimedOut,
    /// A nanoprobe was called and comes with a connection of its own.
    CallsBack,
}

impl CloseReason {
    const ALL: [Self; 7] = [
        Self::Idle,
        Self::Shutdown,
        Self::Refused,
        Self::Protocol,
        Self::Superseded,
        Self::TimedOut,
        Self::CallsBack,
    ];

    pub(super) fn code(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Idle => "nothing to say",
            Self::Shutdown => "the program stops",
            Self::Refused => "refused at registration",
            Self::Protocol => "the conversation's rules were broken",
            Self::Superseded => "a newer connection took over",
            Self::TimedOut => "took too long",
            Self::CallsBack => "it calls back",
        }
    }
}

/// Why a connection is no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    #[error("the other side closed it: {}", .0.text())]
    Closed(CloseReason),
    #[error("the other side was restarted")]
    Restarted,
    #[error("the other side fell silent")]
    Silent,
    #[error("we closed it")]
    Local,
    #[error("{0}")]
    Other(String),
}

impl From<ConnectionError> for Lost {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => {
                let known = CloseReason::ALL.into_iter().find(|reason| reason.code() == close.error_code);
                known.map_or_else(|| Self::Other("closed for an unknown reason".to_owned()), Self::Closed)
            }
            ConnectionError::Reset => Self::Restarted,
            ConnectionError::TimedOut => Self::Silent,
            ConnectionError::LocallyClosed => Self::Local,
            // The peer's own text stays out: it is not ours to print.
            ConnectionError::ConnectionClosed(close) => {
                Self::Other(format!("closed by the other side's QUIC or TLS ({})", close.error_code))
            }
            ConnectionError::TransportError(error) => {
                Self::Other(format!("QUIC or TLS failed ({})", error.code))
            }
            other => Self::Other(other.to_string()),
        }
    }
}

/// An open connection. Clones share it; it ends when the last of them and of its streams is dropped.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The key that the other side proved to hold.
    pub peer: PublicKey,
    /// The key that we proved to hold: our own when the handshake began.
    pub own: PublicKey,
    quinn: quinn::Connection,
    slot: Option<Arc<Slot>>,
}

impl Connection {
    pub(super) fn new(quinn: quinn::Connection, own: PublicKey, slot: Option<Arc<Slot>>) -> Option<Self> {
        let peer = tls::peer_key(&quinn)?;
        Some(Self { peer, own, quinn, slot })
    }

    /// Where the other side is now; changes when it moves.
    pub fn remote(&self) -> SocketAddr {
        canonical(self.quinn.remote_address())
    }

    /// Opens a stream of messages both ways. The other side learns of it with the first message written.
    pub async fn open_stream(&self) -> Result<(Writer, Reader), Lost> {
        let (send, receive) = self.quinn.open_bi().await?;
        Ok((Writer::new(send, self.slot.clone()), Reader::new(receive, self.slot.clone())))
    }

    /// The next stream that the other side opens.
    pub async fn accept_stream(&self) -> Result<(Writer, Reader), Lost> {
        let (send, receive) = self.quinn.accept_bi().await?;
        Ok((Writer::new(send, self.slot.clone()), Reader::new(receive, self.slot.clone())))
    }

    /// Ends the connection now. What was written and not yet acknowledged may be lost.
    pub fn close(&self, reason: CloseReason) {
        self.quinn.close(reason.code(), reason.text().as_bytes());
    }

    /// Waits until the connection is no more.
    pub async fn closed(&self) -> Lost {
        self.quinn.closed().await.into()
    }

    /// Why the connection is no more, if so.
    pub fn lost(&self) -> Option<Lost> {
        self.quinn.close_reason().map(Lost::from)
    }

    /// Current estimate of the round trip time.
    pub fn round_trip(&self) -> Duration {
        self.quinn.rtt()
    }
}
