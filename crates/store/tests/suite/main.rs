//! One test program: the conformance suite with its implementations, the canned queries over a small site, random
//! histories.

mod conformance;
mod copies;
mod queries;
mod random;
mod sqlite;
