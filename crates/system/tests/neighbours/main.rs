//! What hosts hear of the devices around them, with the real programs and a real lldpd in network namespaces. Needs root and
//! the packages lldpd and python3.

mod addresses;
mod rig;
mod switches;
