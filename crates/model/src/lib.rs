//! The nouns of Assimilation, without any input or output.
//!
//! In the order in which a fact meets them: an [`envelope`] is what a discovery found, a [`message`] carries
//! it to the CMA, [`liveness`] what hosts tell about each other, [`graph`] is what it means, [`subgraph`] a part of it to be shown, an [`event`] is what people are told. [`config`] holds the
//! settings of both daemons, [`enrolment`] what tokens and marks of machines are, [`paths`] where things live on disk, [`text`] how hostile text is made harmless,
//! [`template`] how an answer becomes lines.

pub mod config;
pub mod coverage;
pub mod enrolment;
pub mod envelope;
pub mod event;
pub mod graph;
pub mod ids;
pub mod liveness;
pub mod message;
pub mod paths;
pub mod subgraph;
pub mod template;
pub mod text;
pub mod time;

pub use envelope::Envelope;
pub use event::{Event, EventType};
pub use graph::GraphFacts;
pub use ids::{Designation, DocumentHash, PublicKey};
pub use time::Timestamp;
