//! What neighbours on the same cable or radio tell of themselves: LLDP and CDP frames, ARP and IPv6 neighbour discovery.
//!
//! Pure: bytes in, facts out; the nanoprobe opens the sockets, keeps the time-outs and never sends anything. Every byte may be
//! forged: all lengths are checked, frames have a greatest size, nothing here panics. docs/neighbours.md tells where each field
//! of a frame lands.

mod bytes;
mod cdp;
mod document;
mod frame;
mod lldp;
pub mod pcap;
mod sighting;
mod text;

#[cfg(test)]
pub(crate) mod testing;

pub use document::{LINK_TYPE, NEIGHBOURS_TYPE, captured_document, document, neighbours_document};
pub use sighting::{Sighting, sighting};

use serde_json::{Map, Value};
use std::fmt;
use std::net::IpAddr;

/// Frames above this size (the largest that switches forward, jumbo frames with tags) are refused unread.
pub const MAX_FRAME_BYTES: usize = 9216 + 22;

/// The protocol of an advertisement. LLDP comes first where one of two has to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// IEEE 802.1AB.
    Lldp,
    /// Cisco's own, versions 1 and 2.
    Cdp,
}

impl Protocol {
    /// `lldp` or `cdp`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lldp => "lldp",
            Self::Cdp => "cdp",
        }
    }
}

/// An IEEE 802 address of six bytes; its text is lower case with dashes, `00-16-3e-00-00-01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Whether it can be the address of one station: neither a group, nor broadcast, nor all zero.
    pub fn is_station(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }

    /// Reads the text form; colons are taken for dashes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 6];
        let mut parts = text.split(['-', ':']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2 && !part.starts_with('+'))?;
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        parts.next().is_none().then_some(Self(bytes))
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::dashed(&self.0))
    }
}

/// What a neighbour says of itself in one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Advertisement {
    pub protocol: Protocol,
    /// The address that the frame was sent from.
    pub source: MacAddress,
    /// How long what it says holds; 0: the neighbour says goodbye, whatever it said before holds no longer.
    pub ttl_seconds: u16,
    /// Identity of the device (chassis id, device id), printable and not empty.
    pub chassis: String,
    /// Identity of the port within the device, printable and not empty.
    pub port: String,
    /// One neighbour in the shape of `discover switch --explain`, without the host and interface that heard it.
    pub data: Map<String, Value>,
    /// What could not be understood, one sentence each; the rest of `data` is good.
    pub errors: Vec<String>,
}

/// Why a frame of LLDP or CDP was refused altogether: a sentence without the frame's own text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    pub protocol: Protocol,
    pub reason: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no valid {} frame: {}", self.protocol.as_str().to_ascii_uppercase(), self.reason)
    }
}

impl std::error::Error for Malformed {}

/// Reads a whole Ethernet frame, without preamble and checksum; 802.1Q tags are skipped. `None`: neither LLDP nor CDP.
pub fn decode(frame: &[u8]) -> Option<Result<Advertisement, Malformed>> {
    decode_captured(frame, frame.len())
}

/// Like [`decode`], for a frame that had `wire_bytes` bytes and of which perhaps only the first were captured: what they say
/// is told, with an error about the rest.
pub fn decode_captured(frame: &[u8], wire_bytes: usize) -> Option<Result<Advertisement, Malformed>> {
    let found = frame::of_neighbours(frame)?;
    let protocol = found.protocol;
    let refuse = |reason: String| Some(Err(Malformed { protocol, reason }));
    if frame.len() > MAX_FRAME_BYTES {
        return refuse(format!("{} bytes, more than the {MAX_FRAME_BYTES} that are read", frame.len()));
    }
    if let Err(reason) = found.check_addresses() {
        return refuse(reason);
    }
    let is_cut = wire_bytes > frame.len();
    if found.lacks_bytes && !is_cut {
        return refuse("it ends before the length that its header tells".into());
    }
    let read = match protocol {
        Protocol::Lldp => lldp::read(found.payload, is_cut),
        Protocol::Cdp => cdp::read(found.payload, is_cut),
    };
    Some(read.map_err(|reason| Malformed { protocol, reason }).map(|told| {
        let mut advertisement = told.into_advertisement(protocol, found.source);
        if is_cut {
            advertisement.errors.push(format!(
                "only {} of the frame's {wire_bytes} bytes were captured: what the rest says is missing",
                frame.len()
            ));
        }
        advertisement
    }))
}

/// For the fuzzer: the bytes are a frame. What is told of it keeps what [`Advertisement`] and [`document`] promise.
pub(crate) fn any_advertisement(bytes: &[u8]) {
    let cut = decode_captured(bytes, bytes.len() + 1);
    for told in decode(bytes).into_iter().chain(cut).flatten() {
        for text in [&told.chassis, &told.port].into_iter().chain(&told.errors) {
            assert!(!text.is_empty() && model::text::printable(text) == *text, "{text:?}");
        }
        assert!(told.data["ports"][&told.port].is_object() && told.source.is_station());
        let envelope = document("host", "eth0", std::slice::from_ref(&told));
        assert!(envelope.canonical().len() < 64 * MAX_FRAME_BYTES, "{} bytes", envelope.canonical().len());
        let facts = (crate::all::switch::DISCOVERY.graph)("host", &envelope);
        assert!(facts.sources.len() == 1 || told.chassis.len() > 512 || told.port.len() > 512);
    }
}

/// For the fuzzer: the bytes are a frame.
pub(crate) fn any_sighting(bytes: &[u8]) {
    if let Some(found) = sighting(bytes) {
        assert!(found.mac.is_station() && !found.ip.is_unspecified() && !found.ip.is_multicast());
    }
}

/// For the fuzzer: the bytes are a file.
pub(crate) fn any_capture(bytes: &[u8]) {
    let Ok(frames) = pcap::Frames::open(bytes) else { return };
    for frame in frames.flatten() {
        assert!(frame.bytes.len() <= MAX_FRAME_BYTES + 1 && frame.wire_bytes >= frame.bytes.len());
        any_advertisement(&frame.bytes);
        any_sighting(&frame.bytes);
    }
}

/// What the readers of both protocols fill in.
#[derive(Default)]
struct Told {
    ttl_seconds: u16,
    chassis: String,
    port: String,
    /// Fields of the device.
    device: Map<String, Value>,
    /// Fields of its port.
    of_port: Map<String, Value>,
    unknown: Unknown,
    errors: Vec<String>,
}

impl Told {
    /// The errors of one frame, above which no more are kept: a forged one could make hundreds.
    const MAX_ERRORS: usize = 16;

    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.device.insert(name.into(), value.into());
    }

    fn put_port(&mut self, name: &str, value: impl Into<Value>) {
        self.of_port.insert(name.into(), value.into());
    }

    /// Appends to a list among the fields of the port.
    fn add_port(&mut self, name: &str, value: Value) {
        add(&mut self.of_port, name, value);
    }

    fn error(&mut self, sentence: String) {
        if self.errors.len() < Self::MAX_ERRORS {
            self.errors.push(sentence);
        }
    }

    fn into_advertisement(mut self, protocol: Protocol, source: MacAddress) -> Advertisement {
        self.unknown.put_into(&mut self.device);
        self.put("ChassisId", self.chassis.clone());
        self.put("protocols", vec![protocol.as_str()]);
        self.put_port("PortId", self.port.clone());
        self.put_port("sourceMAC", source.to_string());
        let ports = Map::from_iter([(self.port.clone(), Value::Object(self.of_port))]);
        self.device.insert("ports".into(), Value::Object(ports));
        Advertisement {
            protocol,
            source,
            ttl_seconds: self.ttl_seconds,
            chassis: self.chassis,
            port: self.port,
            data: self.device,
            errors: self.errors,
        }
    }
}

/// Whether an address means the same interface to all hosts of a network, so that it can stand in the graph without its host.
pub(crate) fn is_routable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let is_wide = ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast();
            !(is_wide || ip.is_loopback() || ip.is_link_local())
        }
        IpAddr::V6(ip) => {
            !(ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() || ip.is_unicast_link_local())
        }
    }
}

fn add(fields: &mut Map<String, Value>, name: &str, value: Value) {
    let list = fields.entry(name.to_owned()).or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(list) = list {
        list.push(value);
    }
}

/// Elements that nobody here knows, up to a bound.
#[derive(Default)]
struct Unknown {
    kept: Vec<Value>,
    left_out: u32,
}

impl Unknown {
    const MAX: usize = 16;
    const MAX_BYTES: usize = 64;

    /// `fields` say what it is; `bytes` are its content, as far as it is kept.
    fn add(&mut self, mut fields: Map<String, Value>, bytes: &[u8]) {
        if self.kept.len() == Self::MAX {
            self.left_out += 1;
            return;
        }
        let shown = &bytes[..bytes.len().min(Self::MAX_BYTES)];
        if !shown.is_empty() {
            fields.insert("hex".into(), text::hex(shown).into());
        }
        if shown.len() < bytes.len() {
            fields.insert("bytes".into(), bytes.len().into());
        }
        self.kept.push(Value::Object(fields));
    }

    fn put_into(&mut self, data: &mut Map<String, Value>) {
        if !self.kept.is_empty() {
            data.insert("unknown_tlvs".into(), std::mem::take(&mut self.kept).into());
        }
        if self.left_out > 0 {
            data.insert("unknown_tlvs_left_out".into(), self.left_out.into());
        }
    }
}

#[cfg(test)]
mod tests;
