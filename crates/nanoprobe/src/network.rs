//! The network side of the nanoprobe, a process of its own without any privilege (docs/decisions/0013).
//!
//! It owns the UDP port: QUIC with the CMA ([`links`]), hellos, heartbeats and probes ([`partners`]). The agent, which may read
//! everything on the host, hears nothing from the network but [`protocol::News`] over one socket ([`channel`]), and says
//! what it wants with [`protocol::Order`]. [`side`] is the event loop, [`process`] the program around it, [`confine`] gives
//! up everything that the loop does not need.

pub mod channel;
pub mod confine;
pub mod links;
pub mod partners;
pub mod process;
pub mod protocol;
pub mod side;
