//! Watches up to four partners from where it stands.

use model::liveness::{Ask, HostNumber, Observation, PortState, Watch};
use std::collections::VecDeque;
use std::time::Duration;

/// The sealed byte of a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Beat {
    /// One of the regular ones.
    Regular = 0,
    /// Are you there? Answered at once.
    Probe = 1,
    /// Yes.
    Answer = 2,
    /// The last one: the sender stops on purpose.
    Stopping = 3,
}

impl Beat {
    /// From the byte of a packet; `None` for what a later version may mean.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Regular, Self::Probe, Self::Answer, Self::Stopping]
            .into_iter()
            .find(|beat| *beat as u8 == byte)
    }
}

/// What the shell found out about a partner's host by other means than heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tried {
    pub port: PortState,
    /// Answer to an ICMP echo request; `None`: none could be sent.
    pub echo: Option<bool>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send one heartbeat.
    Send { to: HostNumber, beat: Beat },
    /// Try the port and the echo of a partner's host; the result comes by [`Observer::handle_tried`].
    Try { to: HostNumber },
    /// Tell the CMA, under this generation of the watch.
    Tell { generation: u64, observation: Observation },
}

/// The watching side of one host.
#[derive(Debug)]
pub struct Observer {
    #[allow(dead_code)]
    outputs: VecDeque<Output>,
}

impl Observer {
    /// Without partners.
    pub fn new(now: Duration) -> Self {
        let _ = now;
        Self { outputs: VecDeque::new() }
    }

    /// Replaces partners and timing; a watch that is not newer than the present one is ignored. Former partners are
    /// remembered for a while, so that they are recognised as martians.
    pub fn handle_watch(&mut self, now: Duration, watch: &Watch) {
        let _ = (now, watch);
    }

    /// The CMA asks for a probe.
    pub fn handle_ask(&mut self, now: Duration, ask: Ask) {
        let _ = (now, ask);
    }

    /// An authentic heartbeat of a partner or a former one.
    pub fn handle_beat(&mut self, now: Duration, from: HostNumber, beat: Beat) {
        let _ = (now, from, beat);
    }

    /// The answer to [`Output::Try`].
    pub fn handle_tried(&mut self, now: Duration, about: HostNumber, tried: Tried) {
        let _ = (now, about, tried);
    }

    /// Says goodbye to all partners and then nothing more.
    pub fn stop(&mut self, now: Duration) {
        let _ = now;
    }

    /// To be called when due; also measures by how much it was late, which is what the doubt in oneself comes from.
    pub fn handle_timeout(&mut self, now: Duration) {
        let _ = now;
    }

    pub fn poll_timeout(&self) -> Option<Duration> {
        None
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Generation of the watch in use, 0 for none.
    pub fn generation(&self) -> u64 {
        0
    }
}
