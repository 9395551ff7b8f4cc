//! What both daemons (and assimcli) need around their own work: pid files, logging, signals, giving up root,
//! local sockets and reading settings. Nothing in here knows what a discovery or a rule is.

pub mod local_socket;
pub mod logging;
pub mod pidfile;
pub mod privileges;
pub mod service;
pub mod settings;
pub mod signals;
