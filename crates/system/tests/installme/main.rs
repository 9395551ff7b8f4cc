//! The installer, and the book's walks that begin with it: what it says and refuses (with stand-ins for ssh and the CMA), and what it does on machines that
//! systemd has started, through real ssh servers.

mod book;
mod enrolment;
mod journey;
mod managers;
mod refusals;
mod release;
mod words;
