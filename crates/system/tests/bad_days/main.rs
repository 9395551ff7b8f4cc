//! Bad days of a site, with the real programs: hostile packets and peers, wrong keys, full and read-only disks, broken
//! files, failing scripts, clocks that jump, a database from a backup. Each time somebody is told what is wrong with what, and everything else goes on.

mod alerts;
mod clocks;
mod datagrams;
mod disks;
mod files;
mod keys;
mod peer;
mod questions;
mod restore;
mod rig;
mod strangers;
