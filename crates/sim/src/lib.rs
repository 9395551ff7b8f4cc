//! Whole sites in one process, in virtual time, with the cores that are shipped.
//!
//! | module | what it holds |
//! |---|---|
//! | [`world`] | machines, network, CMA and their shells; the loop over all events; what goes wrong |
//! | [`ledger`] | what is true, what the CMA said, and the difference |
//! | [`chaos`] | a random history of faults from a seed |
//! | [`scenario`] | directed histories by name |
//! | [`power_on`] | a whole site gets its power back |
//! | [`cores`] | the code under test, or a faulty one in its place |
//! | [`documents`] | a whole site as documents, for the graph: no liveness in it |
//! | [`network`], [`peers`], [`machine`], [`queue`], [`random`] | the parts of a world |
//!
//! One seed decides everything: the same seed gives the same [`world::World::trace`].

pub mod chaos;
pub mod cores;
pub mod documents;
pub mod ledger;
pub mod machine;
pub mod network;
pub mod peers;
pub mod power_on;
pub mod queue;
pub mod random;
pub mod scenario;
pub mod world;

pub use power_on::{PowerOnReport, power_on};
pub use world::World;
