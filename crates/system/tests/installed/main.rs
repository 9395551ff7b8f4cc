//! Machines with systemd, as administrators have them: the packages are installed, upgraded and removed, the machines
//! reboot and lose their power.

mod bad_days;
mod firewall;
mod journey;
mod machines;
mod mail;
mod rig;
