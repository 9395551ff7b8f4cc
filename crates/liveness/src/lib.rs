//! Who is alive: heartbeats, suspicion, rings and verdicts, without clock, socket or randomness.
//!
//! | module | where it runs | what it decides |
//! |---|---|---|
//! | [`observer`] | on every nanoprobe, and on the CMA for hosts that nobody else can watch | when to send a heartbeat, whom to suspect, when to probe, what to tell the CMA |
//! | [`rings`] | CMA | who is whose partner: one ring for each switch or subnet, one over all of those, at most four partners for any host |
//! | [`center`] | CMA | whom to believe: collects what several witnesses saw, asks others, tries itself, and gives one verdict for each outage |
//!
//! All of them take `now` as the time since some fixed start, never going back, and are driven alike: `handle_*` tells
//! them what happened, `poll_output` is emptied afterwards, `poll_timeout` says when `handle_timeout` is due.

pub mod center;
pub mod observer;
pub mod rings;
