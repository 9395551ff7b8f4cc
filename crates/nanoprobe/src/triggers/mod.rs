//! What makes a discovery run before its time: files (inotify) and the network (netlink).
//!
//! [`mapping`] decides, [`files`] and [`netlink`] do the input. Reading never triggers: only changes are watched.

pub mod files;
pub mod mapping;
pub mod netlink;
