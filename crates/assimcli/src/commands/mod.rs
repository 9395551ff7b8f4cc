//! One file per command; `moment` reads the times that several of them take.

pub mod backup;
pub mod changes;
pub mod coverage;
pub mod doctor;
pub mod draw;
pub mod events;
pub mod genkeys;
pub mod groups;
pub mod history;
pub mod hosts;
pub mod impact;
pub mod keys;
pub mod moment;
pub mod notify;
pub mod path;
pub mod query;
pub mod restore;
pub mod rules;
pub mod score;
pub mod sql;
pub mod tokens;
