//! The Collective Management Authority: the central daemon of Assimilation.
//!
//! Its modules in the order of a fact's journey: [`inbox`] takes messages from nanoprobes, [`commit`] has one thread
//! write them in groups, [`ingest`] decides what each changes, [`notify`] tells people. Beside it: [`knowledge`]
//! (configuration and rules), [`reevaluate`] (when those change), [`hosts`] (who is connected), [`calls`] (who is not,
//! and has an old configuration), [`liveness`] (who is alive), [`listeners`] (who listens for its subnet), [`looks`] (what was
//! put off), [`reverse_dns`] and [`vendors`] (names of addresses), [`health`] (what is wrong here), [`readers`],
//! [`questions`] (what the graph and its history answer), [`api`] (the local socket) and [`web`].
//! [`settings`], [`account`] and [`startup`] bring it all up; [`service`] tells the service manager.

pub mod account;
pub mod api;
pub mod calls;
pub mod commit;
pub mod health;
pub mod hosts;
pub mod inbox;
pub mod ingest;
pub mod knowledge;
pub mod listeners;
pub mod liveness;
pub mod looks;
pub mod notify;
pub mod questions;
pub mod readers;
pub mod reevaluate;
pub mod reverse_dns;
pub mod service;
pub mod settings;
pub mod startup;
pub mod vendors;
pub mod web;
