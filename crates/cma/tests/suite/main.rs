//! Tests of the CMA from outside its modules: what messages change, the writer thread, and the whole program.

mod calls;
mod checksums;
mod heartbeats;
mod hostile;
mod ingest;
mod monitors;
mod process;
mod questions;
mod rule_choice;
mod site;
mod verdicts;
mod writer;
