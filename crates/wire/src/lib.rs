//! Keys, the one UDP port, framed messages and delivery with acknowledgement.
//!
//! In the order in which a nanoprobe meets them: [`keys`] loads its pair and the CMA's public keys, [`endpoint`]
//! opens UDP port 1984 for QUIC and for small datagrams, [`hello`] finds the CMA by multicast, [`framed`] carries
//! `model::message` over a stream, [`body`] compresses documents, [`delivery`] decides when to dial, what to send
//! and what to send again, [`heartbeat`] makes and reads the packets between partners. `hello`, `heartbeat`, `delivery`
//! and `keys::id` are pure; [`address`] reads addresses as people write them.
//!
//! A nanoprobe:
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use wire::endpoint::{Endpoint, EndpointConfig};
//! use wire::keys::KeyDirectory;
//! # let (register, designation): (model::message::ToCma, model::Designation) = unreachable!();
//! let keys = KeyDirectory::open("/usr/share/assimilation/crypto.d")?;
//! let (_, own) = keys.own_pair(&designation)?;
//! let cma_keys = keys.cma_publics()?.into_iter().map(|(_, key)| key).collect();
//! let (endpoint, mut inbox) = Endpoint::bind(EndpointConfig::nanoprobe(own, cma_keys))?;
//! let connection = endpoint.connect("192.0.2.1:1984".parse()?).await?; // `connection.peer` is one of `cma_keys`
//! let (mut writer, mut reader) = connection.open_stream().await?;
//! writer.write(&register, wire::framed::REGISTRATION_LIMIT_BYTES).await?;
//! let answer: Option<model::message::FromCma> = reader.read(wire::framed::MESSAGE_LIMIT_BYTES).await?;
//! let datagram = inbox.datagrams.recv().await;
//! # Ok(()) }
//! ```
//! A CMA binds with [`endpoint::EndpointConfig::cma`], takes connections from `inbox.connections` and calls
//! [`endpoint::Connection::accept_stream`]; `connection.peer` is the key that the client proved to hold.

pub mod address;
pub mod attempt;
pub mod body;
pub mod delivery;
pub mod endpoint;
pub mod framed;
pub mod heartbeat;
pub mod hello;
pub mod keys;

/// UDP port of the CMA and, where it is free, of every nanoprobe (IANA: assimilation).
pub const PORT: u16 = 1984;

/// Where a nanoprobe looks for a CMA that nobody named (IANA: assimilation).
pub const MULTICAST: std::net::Ipv4Addr = std::net::Ipv4Addr::new(224, 0, 2, 5);

/// Time to live of multicast packets, in routers.
pub const MULTICAST_TTL: u32 = 31;
