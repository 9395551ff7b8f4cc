//! What agent and network side say to each other: CBOR as on the wire to the CMA, one message in each frame.
//!
//! The agent reads [`News`] as it would read the network itself: whoever takes the network side over can say here what the
//! network could say anyway, and nothing else.

use minicbor::{Decode, Encode};
use model::PublicKey;
use model::message::{FromCma, Register, ToCma};
use std::fmt;
use std::net::SocketAddr;
use wire::delivery::Closing;
use wire::framed::MESSAGE_LIMIT_BYTES;
use zeroize::Zeroize;

/// Longest [`Order`]: a report as large as the CMA takes, and what goes around it.
pub const ORDER_LIMIT_BYTES: usize = MESSAGE_LIMIT_BYTES + 4096;

/// Longest message of a CMA that is taken, in bytes: a configuration has at most one MiB, lists of documents have less.
pub const FROM_CMA_LIMIT_BYTES: usize = 4 * 1024 * 1024;

/// Longest [`News`].
pub const NEWS_LIMIT_BYTES: usize = FROM_CMA_LIMIT_BYTES + 4096;

/// Longest text in [`News`].
pub const TEXT_LIMIT_CHARACTERS: usize = 1024;

/// What the network side is to do.
#[derive(Debug, Encode, Decode)]
pub enum Order {
    /// The first one.
    #[n(1)]
    Start(#[n(0)] Start),
    /// Dial; of a multicast group, who answered the hello.
    #[n(2)]
    Dial {
        #[n(0)]
        epoch: u64,
        #[n(1)]
        connection: u64,
        /// As `wire::address::PeerAddress` writes it; a name is resolved now.
        #[n(2)]
        address: String,
    },
    /// `Register` gets session and generation of the watch on its way.
    #[n(3)]
    Register {
        #[n(0)]
        connection: u64,
        #[n(1)]
        register: Box<Register>,
    },
    #[n(4)]
    Say {
        #[n(0)]
        connection: u64,
        #[n(1)]
        message: Box<ToCma>,
    },
    /// Tell the CMA what was observed of partners.
    #[n(5)]
    Speak {
        #[n(0)]
        connection: u64,
    },
    #[n(6)]
    Close {
        #[n(0)]
        connection: u64,
        #[n(1)]
        reason: Reason,
    },
    /// End the connection, and say nothing more of it.
    #[n(7)]
    StartOver,
    /// Ask a multicast group for a CMA, or an address whether one is there.
    #[n(8)]
    Hello {
        /// As `wire::address::PeerAddress` writes it.
        #[n(0)]
        address: String,
        #[n(1)]
        attempt: u64,
    },
    /// Trust these CMA keys in place of those before.
    #[n(9)]
    Pin(#[n(0)] Keys),
    /// The agent lives; answered by [`News::Tock`].
    #[n(10)]
    Tick {
        #[n(0)]
        debug_level: u8,
    },
    /// Tell the partners that this nanoprobe stops.
    #[n(11)]
    Part,
    /// Close everything, answer with [`News::Ended`], and end.
    #[n(12)]
    Finish,
}

/// What a network side works with.
#[derive(Debug, Encode, Decode)]
pub struct Start {
    /// Of the nanoprobe's own pair.
    #[n(0)]
    pub seed: Seed,
    #[n(1)]
    pub pinned: Keys,
    /// Local addresses in the order in which they are tried: `address:port`.
    #[n(2)]
    pub bind: Vec<String>,
    /// In routers.
    #[n(3)]
    pub multicast_ttl: u32,
    /// Keep the connection alive while there is nothing to say.
    #[n(4)]
    pub keepalive: bool,
    #[n(5)]
    pub debug_level: u8,
}

/// Secret part of a key pair. Wiped when dropped, never printed.
#[derive(Clone, Encode, Decode)]
#[cbor(transparent)]
pub struct Seed(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

impl Drop for Seed {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// Public keys.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Keys(#[n(0)] Vec<Key>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
struct Key(#[cbor(n(0), with = "minicbor::bytes")] [u8; 32]);

impl Keys {
    pub fn new(keys: &[PublicKey]) -> Self {
        Self(keys.iter().map(|key| Key(key.0)).collect())
    }

    pub fn get(&self) -> Vec<PublicKey> {
        self.0.iter().map(|key| PublicKey(key.0)).collect()
    }
}

/// [`Closing`] on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Reason {
    #[n(1)]
    Idle,
    #[n(2)]
    TimedOut,
    #[n(3)]
    Refused,
    #[n(4)]
    Protocol,
    #[n(5)]
    Stopping,
}

impl From<Closing> for Reason {
    fn from(closing: Closing) -> Self {
        match closing {
            Closing::Idle => Self::Idle,
            Closing::TimedOut => Self::TimedOut,
            Closing::Refused => Self::Refused,
            Closing::Protocol => Self::Protocol,
            Closing::Stopping => Self::Stopping,
        }
    }
}

/// What happened on the network.
#[derive(Debug, PartialEq, Encode, Decode)]
pub enum News {
    /// The port is open: the first word, if it can be opened.
    #[n(1)]
    Ready {
        #[n(0)]
        address: String,
    },
    /// The port cannot be opened, or privileges cannot be given up; the last word.
    #[n(2)]
    Failed {
        #[n(0)]
        error: String,
    },
    #[n(3)]
    Connected {
        #[n(0)]
        epoch: u64,
        #[n(1)]
        connection: u64,
        #[n(2)]
        address: String,
    },
    #[n(4)]
    DialFailed {
        #[n(0)]
        epoch: u64,
        #[n(1)]
        connection: u64,
        #[n(2)]
        error: String,
    },
    /// All that the CMA says but what is about partners.
    #[n(5)]
    Message {
        #[n(0)]
        epoch: u64,
        #[n(1)]
        connection: u64,
        #[n(2)]
        message: Box<FromCma>,
    },
    #[n(6)]
    Lost {
        #[n(0)]
        epoch: u64,
        #[n(1)]
        connection: u64,
        #[n(2)]
        error: String,
    },
    /// A CMA answered the hello.
    #[n(7)]
    Answered,
    /// A CMA dialled us: it has something to say.
    #[n(8)]
    Called,
    /// There is something about partners to tell the CMA.
    #[n(9)]
    Waiting,
    /// Answer to [`Order::Tick`].
    #[n(10)]
    Tock,
    /// The last word after [`Order::Finish`].
    #[n(11)]
    Ended(#[n(0)] Beats),
}

/// Counts of heartbeats since the start of the network side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Beats {
    #[n(0)]
    pub sent: u64,
    #[n(1)]
    pub received: u64,
    #[n(2)]
    pub refused: u64,
}

/// Text that fits into [`News`].
pub fn text(text: impl fmt::Display) -> String {
    model::text::shortened(&text.to_string(), TEXT_LIMIT_CHARACTERS).into_owned()
}

/// An address as it is told.
pub fn address(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::message::{decode, encode};
    use proptest::prelude::*;

    fn start() -> Start {
        Start {
            seed: Seed([7; 32]),
            pinned: Keys::new(&[PublicKey([1; 32]), PublicKey([2; 32])]),
            bind: vec!["[::]:1984".into()],
            multicast_ttl: 31,
            keepalive: true,
            debug_level: 2,
        }
    }

    #[test]
    fn orders_and_news_round_trip_and_the_secret_is_not_printed() {
        let order = Order::Start(start());
        let shown = format!("{order:?}");
        assert!(!shown.contains("7, 7") && shown.contains("Seed(..)"), "{shown}");
        let Order::Start(again) = decode(&encode(&order)).unwrap() else { panic!("another order") };
        assert_eq!(
            (again.seed.0, again.pinned.get()),
            ([7; 32], vec![PublicKey([1; 32]), PublicKey([2; 32])])
        );
        assert_eq!((again.bind, again.multicast_ttl, again.keepalive), (start().bind, 31, true));
        let news = News::Message { epoch: 1, connection: 2, message: Box::new(FromCma::Farewell) };
        assert_eq!(decode::<News>(&encode(&news)).unwrap(), news);
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(text("x".repeat(100_000)).chars().count(), TEXT_LIMIT_CHARACTERS);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode::<News>(&bytes);
            let _ = decode::<Order>(&bytes);
        }
    }
}
