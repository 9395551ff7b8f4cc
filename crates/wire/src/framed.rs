//! Messages on a QUIC stream: a 4-byte big-endian length and that many bytes of CBOR.
//!
//! Both halves may be dropped in a `select!` at any await and called again: what was read or not yet written so
//! far stays in the half.

use crate::endpoint::Slot;
use minicbor::{Decode, Encode};
use model::envelope::MAX_DOCUMENT_BYTES;
use model::message;
use std::sync::Arc;
use std::time::Duration;

/// Longest message on a registered connection: a body and what goes around it.
pub const MESSAGE_LIMIT_BYTES: usize = MAX_DOCUMENT_BYTES + 64 * 1024;

/// Longest message before the peer is registered.
pub const REGISTRATION_LIMIT_BYTES: usize = 64 * 1024;

const HEADER_BYTES: usize = 4;
/// Memory taken for a message grows with what has really arrived, in steps of this.
const STEP_BYTES: usize = 64 * 1024;

/// Why a message could not be read or written. After any of these the connection is of no further use.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a message of {bytes} bytes is over the limit of {limit_bytes}")]
    TooLarge { bytes: usize, limit_bytes: usize },
    #[error("a message could not be decoded: {0}")]
    Malformed(minicbor::decode::Error),
    #[error("the stream ended in the middle of a message")]
    Truncated,
    #[error("no whole message within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    #[error("the connection was lost: {0}")]
    Lost(String),
}

/// The half of a stream that messages come out of.
#[derive(Debug)]
pub struct Reader {
    stream: quinn::RecvStream,
    frame: Frame,
    /// A stream keeps its connection open, and so the place that it takes.
    _slot: Option<Arc<Slot>>,
}

impl Reader {
    pub(crate) fn new(stream: quinn::RecvStream, slot: Option<Arc<Slot>>) -> Self {
        Self { stream, frame: Frame::default(), _slot: slot }
    }

    /// The next message, or `None` when the peer finished the stream. Waits as long as it takes.
    ///
    /// A message longer than `limit_bytes` is refused by its length alone.
    pub async fn read<T>(&mut self, limit_bytes: usize) -> Result<Option<T>, FrameError>
    where
        T: for<'b> Decode<'b, ()>,
    {
        loop {
            let missing = self.frame.missing(limit_bytes)?;
            if missing == 0 {
                let message = message::decode(self.frame.payload()).map_err(FrameError::Malformed);
                self.frame.clear();
                return message.map(Some);
            }
            match self.stream.read_chunk(missing, true).await {
                Ok(Some(chunk)) => self.frame.push(&chunk.bytes),
                Ok(None) if self.frame.is_empty() => return Ok(None),
                Ok(None) => return Err(FrameError::Truncated),
                Err(error) => return Err(FrameError::Lost(error.to_string())),
            }
        }
    }

    /// As [`Reader::read`], for at most `patience`.
    pub async fn read_within<T>(
        &mut self,
        limit_bytes: usize,
        patience: Duration,
    ) -> Result<Option<T>, FrameError>
    where
        T: for<'b> Decode<'b, ()>,
    {
        match tokio::time::timeout(patience, self.read(limit_bytes)).await {
            Ok(result) => result,
            Err(_) => Err(FrameError::TimedOut(patience)),
        }
    }
}

/// The half of a stream that messages are put into.
#[derive(Debug)]
pub struct Writer {
    stream: quinn::SendStream,
    pending: Vec<u8>,
    written: usize,
    _slot: Option<Arc<Slot>>,
}

impl Writer {
    pub(crate) fn new(stream: quinn::SendStream, slot: Option<Arc<Slot>>) -> Self {
        Self { stream, pending: Vec::new(), written: 0, _slot: slot }
    }

    /// Hands `message` to the connection; returns when flow control let all of it in, not when it arrived.
    ///
    /// Refuses a message longer than `limit_bytes` without sending any of it. When the future is dropped half-way
    /// the message stays queued and goes out with the next call.
    pub async fn write<T: Encode<()>>(&mut self, message: &T, limit_bytes: usize) -> Result<(), FrameError> {
        let payload = message::encode(message);
        if payload.len() > limit_bytes || u32::try_from(payload.len()).is_err() {
            return Err(FrameError::TooLarge { bytes: payload.len(), limit_bytes });
        }
        self.pending.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        self.pending.extend_from_slice(&payload);
        self.flush().await
    }

    /// Goes on with a write whose future was dropped.
    pub async fn flush(&mut self) -> Result<(), FrameError> {
        while self.written < self.pending.len() {
            match self.stream.write(&self.pending[self.written..]).await {
                Ok(bytes) => self.written += bytes,
                Err(error) => return Err(FrameError::Lost(error.to_string())),
            }
        }
        // A buffer that once held a 16 MiB body is given back.
        if self.pending.capacity() > STEP_BYTES {
            self.pending = Vec::new();
        }
        self.pending.clear();
        self.written = 0;
        Ok(())
    }

    /// Says that nothing more will come, and waits until the peer has everything (at most `patience`).
    pub async fn finish(&mut self, patience: Duration) -> Result<(), FrameError> {
        let work = async {
            self.flush().await?;
            self.stream.finish().map_err(|error| FrameError::Lost(error.to_string()))?;
            match self.stream.stopped().await {
                Ok(_) => Ok(()),
                Err(error) => Err(FrameError::Lost(error.to_string())),
            }
        };
        tokio::time::timeout(patience, work).await.unwrap_or(Err(FrameError::TimedOut(patience)))
    }
}

/// A message as far as it has arrived.
#[derive(Debug, Default)]
struct Frame {
    bytes: Vec<u8>,
}

impl Frame {
    /// How many bytes to read next; 0 when the message is whole.
    fn missing(&self, limit_bytes: usize) -> Result<usize, FrameError> {
        let Some(header) = self.bytes.first_chunk::<HEADER_BYTES>() else {
            return Ok(HEADER_BYTES - self.bytes.len());
        };
        let bytes = u32::from_be_bytes(*header) as usize;
        if bytes > limit_bytes {
            return Err(FrameError::TooLarge { bytes, limit_bytes });
        }
        // An empty message is no CBOR item; reading on would let a peer send nothing for ever.
        if bytes == 0 {
            return Err(FrameError::Malformed(minicbor::decode::Error::end_of_input()));
        }
        Ok((HEADER_BYTES + bytes - self.bytes.len()).min(STEP_BYTES))
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn payload(&self) -> &[u8] {
        self.bytes.get(HEADER_BYTES..).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn clear(&mut self) {
        if self.bytes.capacity() > STEP_BYTES {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announce(bytes: u32) -> Frame {
        Frame { bytes: bytes.to_be_bytes().to_vec() }
    }

    #[test]
    fn the_length_alone_decides_about_the_limit() {
        assert_eq!(announce(100).missing(100).unwrap(), 100);
        assert!(matches!(
            announce(101).missing(100),
            Err(FrameError::TooLarge { bytes: 101, limit_bytes: 100 })
        ));
        assert!(matches!(announce(u32::MAX).missing(MESSAGE_LIMIT_BYTES), Err(FrameError::TooLarge { .. })));
        assert!(matches!(announce(0).missing(100), Err(FrameError::Malformed(_))));
    }

    #[test]
    fn memory_grows_with_what_arrives_not_with_what_is_announced() {
        let frame = announce(MESSAGE_LIMIT_BYTES as u32);
        assert_eq!(frame.missing(MESSAGE_LIMIT_BYTES).unwrap(), STEP_BYTES);
        assert!(frame.bytes.capacity() < STEP_BYTES);
    }

    #[test]
    fn a_frame_may_arrive_byte_by_byte() {
        let mut frame = Frame::default();
        for (byte, missing) in [(0, 3), (0, 2), (0, 1), (2, 2), (7, 1), (8, 0)] {
            frame.push(&[byte]);
            assert_eq!(frame.missing(10).unwrap(), missing);
        }
        assert_eq!(frame.payload(), [7, 8]);
    }
}
