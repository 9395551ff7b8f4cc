//! Who is alive, with the real programs on hosts of their own: network namespaces. Needs root.

mod deaths;
mod outages;
mod packets;
mod rig;
