//! Tests of the CMA from outside its modules: what messages change, the writer thread, and the whole program.

mod addresses;
mod calls;
mod checksums;
mod enrolment;
mod groups;
mod heartbeats;
mod hostile;
mod ingest;
mod keys;
mod listening;
mod monitors;
mod names;
mod newcomers;
mod process;
mod questions;
mod restore;
mod rule_choice;
mod site;
mod subgraph;
mod surroundings;
mod verdicts;
mod web;
mod writer;
