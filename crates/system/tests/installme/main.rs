//! The installer: what it says and refuses (with stand-ins for ssh and the CMA), and what it does on machines that
//! systemd has started, through real ssh servers.

mod journey;
mod managers;
mod refusals;
mod release;
mod words;
