//! pcapng (draft-ietf-opsawg-pcapng): sections, interfaces and packets; all other blocks are passed over.

use super::{Frame, MAX_RECORD_BYTES, Order, Unreadable, discard, fill, fill_or_end, record};
use std::io::Read;

/// The type of the block that begins a section; the same in either byte order.
pub const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
/// Of an interface: units of its times.
const OPTION_TIME_UNIT: u16 = 9;
/// A capture has a few; a damaged one might claim millions.
const MAX_INTERFACES: usize = 4096;
/// Descriptions of interfaces are short.
const MAX_DESCRIPTION_BYTES: u32 = 64 * 1024;

/// The section that is read.
pub struct State {
    order: Order,
    interfaces: Vec<Interface>,
}

#[derive(Clone, Copy)]
struct Interface {
    link_type: u16,
    max_bytes: u32,
    /// Of one second.
    units: Units,
}

#[derive(Clone, Copy)]
enum Units {
    PowerOfTen(u32),
    PowerOfTwo(u32),
}

impl Units {
    fn microseconds(self, time: u64) -> i64 {
        let parts = match self {
            Self::PowerOfTen(power) => 10u128.checked_pow(power),
            Self::PowerOfTwo(power) => 1u128.checked_shl(power),
        };
        let microseconds = parts.map_or(0, |parts| u128::from(time) * 1_000_000 / parts);
        i64::try_from(microseconds).unwrap_or(i64::MAX)
    }
}

/// The block header's type has been read.
pub fn open(input: &mut impl Read) -> Result<State, Unreadable> {
    let mut state = State { order: Order::Little, interfaces: Vec::new() };
    state.section(input)?;
    Ok(state)
}

impl State {
    /// The next packet; link types that are not Ethernet are an error.
    pub fn read_next(&mut self, input: &mut impl Read) -> Result<Option<Frame>, Unreadable> {
        loop {
            let mut kind = [0; 4];
            if !fill_or_end(input, &mut kind)? {
                return Ok(None);
            }
            if u32::from_le_bytes(kind) == SECTION {
                self.section(input)?;
                continue;
            }
            let mut length = [0; 4];
            fill(input, &mut length, "it ends in the middle of a block")?;
            let length = self.order.u32(length);
            // Type and length in front, the length again behind.
            let inside = length.checked_sub(12).filter(|_| length.is_multiple_of(4));
            let inside =
                inside.ok_or_else(|| Unreadable(format!("a block of {length} bytes: it is damaged")))?;
            let frame = match self.order.u32(kind) {
                INTERFACE => self.interface(input, inside).map(|()| None)?,
                ENHANCED_PACKET => Some(self.enhanced(input, inside)?),
                SIMPLE_PACKET => Some(self.simple(input, inside)?),
                _ => discard(input, u64::from(inside)).map(|()| None)?,
            };
            discard(input, 4)?;
            if frame.is_some() {
                return Ok(frame);
            }
        }
    }

    /// From behind the block's type to its end: byte order, and nothing else that matters.
    fn section(&mut self, input: &mut impl Read) -> Result<(), Unreadable> {
        let mut header = [0; 8];
        fill(input, &mut header, "it ends in the header of a section")?;
        let [a, b, c, d, magic @ ..] = header;
        self.order = match u32::from_le_bytes(magic) {
            0x1a2b_3c4d => Order::Little,
            0x4d3c_2b1a => Order::Big,
            _ => return Err(Unreadable("a section without a byte order: it is damaged".into())),
        };
        self.interfaces.clear();
        let length = self.order.u32([a, b, c, d]);
        let rest = length.checked_sub(12).filter(|_| length >= 28 && length.is_multiple_of(4));
        let rest =
            rest.ok_or_else(|| Unreadable(format!("a section header of {length} bytes: it is damaged")))?;
        discard(input, u64::from(rest))
    }

    fn interface(&mut self, input: &mut impl Read, inside: u32) -> Result<(), Unreadable> {
        if !(8..=MAX_DESCRIPTION_BYTES).contains(&inside) || self.interfaces.len() == MAX_INTERFACES {
            return Err(Unreadable("too many interfaces, or a damaged one".into()));
        }
        let mut bytes = vec![0; inside as usize];
        fill(input, &mut bytes, "it ends in the middle of a block")?;
        self.interfaces.push(Interface {
            link_type: u16_at(self.order, &bytes, 0),
            max_bytes: u32_at(self.order, &bytes, 4),
            units: units(self.order, &bytes[8..]),
        });
        Ok(())
    }

    fn enhanced(&mut self, input: &mut impl Read, inside: u32) -> Result<Frame, Unreadable> {
        let mut header = [0; 20];
        let rest = inside.checked_sub(20).ok_or_else(|| Unreadable("a packet without a header".into()))?;
        fill(input, &mut header, "it ends in the middle of a block")?;
        let word = |at: usize| u32_at(self.order, &header, at);
        let interface = self.ethernet(word(0))?;
        let time = u64::from(word(4)) << 32 | u64::from(word(8));
        let (captured, wire_bytes) = (word(12), word(16));
        let rest =
            rest.checked_sub(captured).ok_or_else(|| Unreadable("a packet longer than its block".into()))?;
        let bytes = record(input, captured)?;
        discard(input, u64::from(rest))?;
        Ok(Frame {
            number: 0,
            microseconds: interface.units.microseconds(time),
            bytes,
            wire_bytes: (wire_bytes as usize).max(captured as usize),
        })
    }

    /// Has no time, and no length of its own but that of the block and the interface.
    fn simple(&mut self, input: &mut impl Read, inside: u32) -> Result<Frame, Unreadable> {
        let mut header = [0; 4];
        let rest = inside.checked_sub(4).ok_or_else(|| Unreadable("a packet without a header".into()))?;
        fill(input, &mut header, "it ends in the middle of a block")?;
        let wire_bytes = self.order.u32(header);
        let most = match self.ethernet(0)?.max_bytes {
            0 => MAX_RECORD_BYTES,
            most => most,
        };
        let captured = wire_bytes.min(most).min(rest);
        let bytes = record(input, captured)?;
        discard(input, u64::from(rest - captured))?;
        Ok(Frame { number: 0, microseconds: 0, bytes, wire_bytes: wire_bytes as usize })
    }

    fn ethernet(&self, number: u32) -> Result<Interface, Unreadable> {
        let found = usize::try_from(number).ok().and_then(|number| self.interfaces.get(number));
        let found =
            found.ok_or_else(|| Unreadable(format!("a packet of interface {number}, which it lacks")))?;
        super::check_link_type(u32::from(found.link_type))?;
        Ok(*found)
    }
}

/// Among the options: microseconds without one.
fn units(order: Order, mut options: &[u8]) -> Units {
    while options.len() >= 4 {
        let (kind, length) = (u16_at(order, options, 0), usize::from(u16_at(order, options, 2)));
        if kind == OPTION_TIME_UNIT && length == 1 && options.len() > 4 {
            let power = u32::from(options[4] & 0x7f);
            return if options[4] & 0x80 == 0 { Units::PowerOfTen(power) } else { Units::PowerOfTwo(power) };
        }
        let Some(rest) = options.get(4 + length.next_multiple_of(4)..).filter(|_| kind != 0) else { break };
        options = rest;
    }
    Units::PowerOfTen(6)
}

/// The callers have seen that the bytes are there.
fn u16_at(order: Order, bytes: &[u8], at: usize) -> u16 {
    order.u16([bytes[at], bytes[at + 1]])
}

fn u32_at(order: Order, bytes: &[u8], at: usize) -> u32 {
    order.u32([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
