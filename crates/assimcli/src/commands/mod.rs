//! One file per command.

pub mod doctor;
pub mod draw;
pub mod events;
pub mod genkeys;
pub mod hosts;
pub mod notify;
pub mod query;
pub mod rules;
pub mod score;
pub mod sql;
