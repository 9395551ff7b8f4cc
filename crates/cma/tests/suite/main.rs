//! Tests of the CMA from outside its modules: what messages change, and the whole program.

mod ingest;
mod process;
mod site;
