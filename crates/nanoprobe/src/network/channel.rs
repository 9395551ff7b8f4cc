//! Frames over a stream between two processes of one nanoprobe: a 4-byte big-endian length and that many bytes of CBOR.

use minicbor::{Decode, Encode};
use model::message::decode;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const HEADER_BYTES: usize = 4;

/// Memory taken for a frame grows with what has really arrived, in steps of this.
const STEP_BYTES: usize = 16 * 1024;

/// Almost all messages are shorter.
const SMALL_BYTES: usize = 4096;

/// Why nothing more can be read. The stream is of no further use.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    #[error("a message of {bytes} bytes is over the limit of {limit_bytes}")]
    TooLarge { bytes: usize, limit_bytes: usize },
    #[error("a message could not be decoded: {0}")]
    Malformed(minicbor::decode::Error),
    #[error("the stream ended in the middle of a message")]
    Truncated,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The half that messages come out of.
#[derive(Debug)]
pub struct Incoming<R> {
    stream: R,
    limit_bytes: usize,
    buffer: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    pub fn new(stream: R, limit_bytes: usize) -> Self {
        Self { stream, limit_bytes, buffer: Vec::new() }
    }

    /// The next message, or `None` when the other side is gone. May be dropped in a `select!` and called again.
    pub async fn next<T: for<'b> Decode<'b, ()>>(&mut self) -> Result<Option<T>, ChannelError> {
        loop {
            let wanted = self.wanted()?;
            if self.buffer.len() >= wanted && wanted > HEADER_BYTES {
                let message = decode(&self.buffer[HEADER_BYTES..wanted]).map_err(ChannelError::Malformed);
                self.buffer.drain(..wanted);
                if self.buffer.capacity() > 4 * STEP_BYTES {
                    self.buffer.shrink_to(STEP_BYTES);
                }
                return message.map(Some);
            }
            self.buffer.reserve((wanted - self.buffer.len()).min(STEP_BYTES));
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(ChannelError::Truncated) };
            }
        }
    }

    /// Bytes of the header, or of header and message as far as that is known.
    fn wanted(&self) -> Result<usize, ChannelError> {
        let Some(header) = self.buffer.first_chunk::<HEADER_BYTES>() else { return Ok(HEADER_BYTES) };
        let bytes = u32::from_be_bytes(*header) as usize;
        if bytes == 0 || bytes > self.limit_bytes {
            return Err(ChannelError::TooLarge { bytes, limit_bytes: self.limit_bytes });
        }
        Ok(HEADER_BYTES + bytes)
    }
}

/// A message as it goes into the stream; what is longer than any reader takes is refused there.
pub fn frame<T: Encode<()>>(message: &T) -> Vec<u8> {
    // Small messages, secrets among them, are never copied to a larger buffer.
    let mut frame = Vec::with_capacity(SMALL_BYTES);
    frame.extend_from_slice(&[0; HEADER_BYTES]);
    // Writing to a Vec cannot fail, and none of our types has a failing encoder.
    let _ = minicbor::encode(message, &mut frame);
    let bytes = u32::try_from(frame.len() - HEADER_BYTES).unwrap_or(u32::MAX);
    frame[..HEADER_BYTES].copy_from_slice(&bytes.to_be_bytes());
    frame.shrink_to_fit();
    frame
}

/// Writes frames until there are no more, or the other side is gone.
pub async fn write<W: AsyncWrite + Unpin>(mut stream: W, mut frames: impl Frames) {
    while let Some(frame) = frames.next().await {
        if stream.write_all(&frame).await.is_err() {
            return;
        }
    }
    let _ = stream.shutdown().await;
}

/// Where frames come from.
pub trait Frames: Send {
    fn next(&mut self) -> impl Future<Output = Option<Vec<u8>>> + Send;
}

impl Frames for tokio::sync::mpsc::Receiver<Vec<u8>> {
    async fn next(&mut self) -> Option<Vec<u8>> {
        self.recv().await
    }
}

impl Frames for tokio::sync::mpsc::UnboundedReceiver<Vec<u8>> {
    async fn next(&mut self) -> Option<Vec<u8>> {
        self.recv().await
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::News;
    use super::*;

    async fn read(bytes: &[u8], limit: usize) -> Result<Vec<News>, ChannelError> {
        // A byte at a time: wherever it is cut, nothing is lost.
        let (mut there, here) = tokio::io::duplex(1);
        let bytes = bytes.to_vec();
        let writer = tokio::spawn(async move {
            let _ = there.write_all(&bytes).await;
        });
        let mut incoming = Incoming::new(here, limit);
        let mut all = Vec::new();
        while let Some(news) = incoming.next::<News>().await? {
            all.push(news);
        }
        writer.await.unwrap();
        Ok(all)
    }

    #[tokio::test]
    async fn messages_arrive_whole_and_in_order() {
        let failed = || News::Failed { error: "x".repeat(300) };
        let bytes = [frame(&News::Tock), frame(&failed()), frame(&News::Called)].concat();
        assert_eq!(read(&bytes, 1000).await.unwrap(), [News::Tock, failed(), News::Called]);
        assert!(matches!(read(&bytes, 100).await, Err(ChannelError::TooLarge { limit_bytes: 100, .. })));
        assert!(matches!(read(&bytes[..bytes.len() - 1], 1000).await, Err(ChannelError::Truncated)));
    }

    #[tokio::test]
    async fn what_a_stranger_writes_ends_the_conversation_and_takes_no_memory() {
        assert!(matches!(read(&[0xff; 64], 1000).await, Err(ChannelError::TooLarge { .. })));
        assert!(matches!(read(&[0; 64], 1000).await, Err(ChannelError::TooLarge { .. })));
        assert!(matches!(read(&[0, 0, 0, 2, 0xff, 0xff], 1000).await, Err(ChannelError::Malformed(_))));
        let (mut there, here) = tokio::io::duplex(64);
        there.write_all(&[0, 0x3f, 0xff, 0xff, 1]).await.unwrap();
        let mut incoming = Incoming::new(here, 1 << 24);
        let waiting =
            tokio::time::timeout(std::time::Duration::from_millis(50), incoming.next::<News>()).await;
        assert!(waiting.is_err() && incoming.buffer.capacity() < 4 * STEP_BYTES);
    }
}
