//! Captures of packets: the classic format of libpcap in either byte order, with micro- or nanoseconds, and pcapng. Read from
//! the front to the end with bounded memory, whatever the file claims of itself.

mod next_generation;

use super::MAX_FRAME_BYTES;
use std::fmt;
use std::io::{self, Read};

/// A frame as a capture has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// From 1 on, as all programs that read captures count.
    pub number: u64,
    /// When it was captured, since 1970 UTC.
    pub microseconds: i64,
    /// What was captured; of a frame above [`MAX_FRAME_BYTES`] the beginning.
    pub bytes: Vec<u8>,
    /// How long the frame was on the wire.
    pub wire_bytes: usize,
}

/// Why a capture cannot be read, or not to its end: a sentence.
#[derive(Debug)]
pub struct Unreadable(String);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreadable {}

/// The frames of a capture in their order. After an error there are no more.
pub struct Frames<R> {
    input: R,
    format: Format,
    number: u64,
    has_ended: bool,
}

/// Ethernet, in the list of link types of tcpdump.org.
const ETHERNET: u32 = 1;
/// No program writes longer ones (libpcap's own bound).
const MAX_RECORD_BYTES: u32 = 256 * 1024;

enum Format {
    Classic { order: Order, is_nano: bool },
    NextGeneration(next_generation::State),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }
}

impl<R: Read> Frames<R> {
    /// Reads the header.
    pub fn open(mut input: R) -> Result<Self, Unreadable> {
        let mut magic = [0; 4];
        fill(&mut input, &mut magic, "the capture is empty or too short to be one")?;
        let format = match u32::from_le_bytes(magic) {
            0xa1b2_c3d4 => Format::Classic { order: Order::Little, is_nano: false },
            0xd4c3_b2a1 => Format::Classic { order: Order::Big, is_nano: false },
            0xa1b2_3c4d => Format::Classic { order: Order::Little, is_nano: true },
            0x4d3c_b2a1 => Format::Classic { order: Order::Big, is_nano: true },
            next_generation::SECTION => Format::NextGeneration(next_generation::open(&mut input)?),
            _ => {
                return Err(Unreadable(
                    "this is no capture of packets: it begins neither as pcap nor as pcapng".into(),
                ));
            }
        };
        if let Format::Classic { order, .. } = format {
            let mut header = [0; 20];
            fill(&mut input, &mut header, "the capture ends in its header")?;
            let [.., a, b, c, d] = header;
            // The upper half may tell of checksums behind the frames.
            check_link_type(order.u32([a, b, c, d]) & 0xffff)?;
        }
        Ok(Self { input, format, number: 0, has_ended: false })
    }

    fn read_next(&mut self) -> Result<Option<Frame>, Unreadable> {
        let read = match &mut self.format {
            Format::Classic { order, is_nano } => classic(&mut self.input, *order, *is_nano)?,
            Format::NextGeneration(state) => state.read_next(&mut self.input)?,
        };
        self.number += 1;
        Ok(read.map(|frame| Frame { number: self.number, ..frame }))
    }
}

impl<R: Read> Iterator for Frames<R> {
    type Item = Result<Frame, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let next = self.read_next().map_err(|why| Unreadable(format!("after frame {}: {why}", self.number)));
        self.has_ended = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}

fn classic(input: &mut impl Read, order: Order, is_nano: bool) -> Result<Option<Frame>, Unreadable> {
    let mut header = [0; 16];
    if !fill_or_end(input, &mut header)? {
        return Ok(None);
    }
    let word = |at: usize| order.u32([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (seconds, fraction, captured, wire_bytes) = (word(0), word(4), word(8), word(12));
    let bytes = record(input, captured)?;
    let microseconds = if is_nano { fraction / 1000 } else { fraction };
    Ok(Some(Frame {
        number: 0,
        microseconds: i64::from(seconds) * 1_000_000 + i64::from(microseconds),
        bytes,
        wire_bytes: (wire_bytes as usize).max(captured as usize),
    }))
}

/// `length` bytes of a record, of which no more are kept than any frame has and one that shows that it has more.
fn record(input: &mut impl Read, length: u32) -> Result<Vec<u8>, Unreadable> {
    if length > MAX_RECORD_BYTES {
        return Err(Unreadable(format!("a frame of {length} bytes, which no program writes: it is damaged")));
    }
    let mut bytes = vec![0; (length as usize).min(MAX_FRAME_BYTES + 1)];
    fill(input, &mut bytes, "it ends in the middle of a frame")?;
    discard(input, u64::from(length) - bytes.len() as u64)?;
    Ok(bytes)
}

fn discard(input: &mut impl Read, count: u64) -> Result<(), Unreadable> {
    let passed = io::copy(&mut input.by_ref().take(count), &mut io::sink()).map_err(unreadable)?;
    if passed < count { Err(Unreadable("it ends in the middle of a frame".into())) } else { Ok(()) }
}

fn check_link_type(kind: u32) -> Result<(), Unreadable> {
    if kind == ETHERNET {
        return Ok(());
    }
    Err(Unreadable(format!(
        "it has frames of link type {kind}, and only Ethernet (1) is read: capture on one interface, not on `any`"
    )))
}

fn fill(input: &mut impl Read, bytes: &mut [u8], otherwise: &str) -> Result<(), Unreadable> {
    input.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Unreadable(otherwise.into()),
        _ => unreadable(error),
    })
}

/// `false`: it ended before the first byte.
fn fill_or_end(input: &mut impl Read, bytes: &mut [u8]) -> Result<bool, Unreadable> {
    let Some((first, rest)) = bytes.split_first_mut() else { return Ok(true) };
    match input.read_exact(std::slice::from_mut(first)) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        Err(error) => return Err(unreadable(error)),
        Ok(()) => {}
    }
    fill(input, rest, "it ends in the middle of a frame's header")?;
    Ok(true)
}

fn unreadable(error: io::Error) -> Unreadable {
    Unreadable(error.to_string())
}

#[cfg(test)]
mod tests;
