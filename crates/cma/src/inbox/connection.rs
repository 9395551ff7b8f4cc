//! One nanoprobe's connection: registration first, then reports, acknowledged in order after their commit.

use super::Reception;
use crate::calls;
use crate::commit::{Done, Work};
use crate::ingest::Sender;
use crate::ingest::document::{self, Incoming};
use crate::ingest::register::Registration;
use crate::ingest::report::Outcome;
use model::envelope::MAX_DOCUMENT_BYTES;
use model::message::{
    Ack, CmaKeys, FromCma, Refused, RefusedReason, Register, Rejection, Report, ToCma, Welcome,
};
use model::{Designation, DocumentHash, Timestamp};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use wire::endpoint::{CloseReason, Connection};
use wire::framed::{FrameError, MESSAGE_LIMIT_BYTES, REGISTRATION_LIMIT_BYTES, Reader, Writer};
use wire::hello::TokenBucket;

/// A peer that has not registered by then is sent away.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a registration may wait for its commit before the nanoprobe is told to come back later.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(20);
/// A peer that does not take our answers for so long is dropped.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Reports of one connection that may wait for their commit.
const IN_FLIGHT: usize = 32;
/// Reports per second that one connection may send for long, and how many at once.
const REPORTS_PER_SECOND: u32 = 500;
const REPORT_BURST: u32 = 2000;
/// Pause before asking again when a connection has used up its allowance.
const ALLOWANCE_PAUSE: Duration = Duration::from_millis(5);
/// Documents up to this size are unpacked on the event loop, larger ones on another thread.
const SMALL_DOCUMENT_BYTES: usize = 64 * 1024;
const KIB: usize = 1024;

/// Serves one connection to its end.
pub async fn serve(reception: Arc<Reception>, connection: Connection) {
    let remote = connection.remote();
    let streams = tokio::time::timeout(REGISTRATION_TIMEOUT, connection.accept_stream()).await;
    let Ok(Ok((mut writer, mut reader))) = streams else {
        connection.close(CloseReason::TimedOut);
        return;
    };
    let message = match reader.read_within::<ToCma>(REGISTRATION_LIMIT_BYTES, REGISTRATION_TIMEOUT).await {
        Ok(Some(ToCma::Register(message))) => message,
        Ok(_) => {
            return end(&connection, &mut writer, malformed("the first message must be a registration"))
                .await;
        }
        Err(FrameError::Malformed(_) | FrameError::TooLarge { .. }) => {
            return end(&connection, &mut writer, malformed("the registration cannot be read")).await;
        }
        Err(error) => {
            tracing::debug!(%remote, %error, "a peer did not register");
            return connection.close(CloseReason::TimedOut);
        }
    };
    let trusted = message.cma_keys.clone();
    let clocks = (message.clock, Timestamp::now());
    match register(&reception, &connection, message).await {
        Registration::Refused(refused) => {
            tracing::debug!(%remote, reason = ?refused.reason, "registration refused");
            end(&connection, &mut writer, refused).await;
        }
        Registration::Welcome { sender, welcome, config } => {
            let mut ticket = reception.hosts.enter(&sender.designation, config);
            reception.hosts.told_clock(&sender.designation, clocks.0, clocks.1);
            reception.liveness.entered(sender.designation.clone());
            // Made while another key was in use: what is said on it would count as said by that one.
            if !reception.keys.is_in_use(&connection.own) {
                connection.close(CloseReason::Superseded);
            } else if welcomed(&reception, &sender, &mut writer, welcome, trusted).await.is_ok() {
                remember(&reception, &sender.designation, config).await;
                let mut conversation = Conversation {
                    reception: &reception,
                    sender: &sender,
                    connection: &connection,
                    remote,
                    writer,
                    waiting: VecDeque::new(),
                };
                let reason = conversation.run(&mut reader, &mut ticket).await;
                tracing::debug!(host = %sender.designation, ?reason, "connection ends");
                connection.close(reason);
            }
            reception.hosts.leave(&sender.designation, &ticket);
        }
    }
}

/// Says welcome, and which keys to trust where the host says that it trusts others.
async fn welcomed(
    reception: &Reception,
    sender: &Sender,
    writer: &mut Writer,
    welcome: Welcome,
    trusted: Option<CmaKeys>,
) -> Result<(), FrameError> {
    send(writer, &FromCma::Welcome(welcome)).await?;
    let offer = reception.keys.offer(&sender.key, trusted.as_ref());
    keep_trusted(reception, sender, trusted, false).await;
    match offer {
        Some(keys) => send(writer, &keys).await,
        None => Ok(()),
    }
}

/// Has kept which keys a host trusts. Lost, it is said again at the next registration.
async fn keep_trusted(reception: &Reception, sender: &Sender, trusted: Option<CmaKeys>, is_answer: bool) {
    if let Some(work) = reception.keys.heard(sender, trusted, is_answer) {
        drop(reception.writer.submit(work, None).await);
    }
}

async fn register(reception: &Reception, connection: &Connection, message: Register) -> Registration {
    let busy = |text: String| Registration::Refused(Refused { reason: RefusedReason::Busy, text });
    if *reception.stop.borrow() {
        return busy("the CMA stops".into());
    }
    if let Some(problem) = reception.health.store_problem() {
        return busy(format!("the CMA cannot store anything at the moment: {problem}"));
    }
    let work = Work::Register { key: connection.peer, remote: connection.remote(), message };
    match reception.writer.ask(work, COMMIT_TIMEOUT).await {
        Ok(Done::Registered(registration)) => registration,
        Ok(Done::Failed(reason)) => busy(format!("the registration could not be stored: {reason}")),
        _ => busy("the CMA is too busy to store anything".into()),
    }
}

/// Keeps which configuration a host was given, so that it is not called for it. A nanoprobe that never reads its
/// welcome registers again.
async fn remember(reception: &Reception, designation: &Designation, config: DocumentHash) {
    if reception.hosts.gave(designation, config) {
        let work = Work::Setting { name: calls::setting_of(designation), value: config.to_string() };
        // Lost, it costs one call after the next start.
        drop(reception.writer.submit(work, None).await);
    }
}

fn malformed(text: &str) -> Refused {
    Refused { reason: RefusedReason::Malformed, text: text.to_owned() }
}

/// Says why, and closes when the peer has read it, or after a moment.
async fn end(connection: &Connection, writer: &mut Writer, refused: Refused) {
    if send(writer, &FromCma::Refused(refused)).await.is_ok() {
        let _ = tokio::time::timeout(Duration::from_secs(2), connection.closed()).await;
    }
    connection.close(CloseReason::Refused);
}

async fn send(writer: &mut Writer, message: &FromCma) -> Result<(), FrameError> {
    match tokio::time::timeout(WRITE_TIMEOUT, writer.write(message, MESSAGE_LIMIT_BYTES)).await {
        Ok(result) => result,
        Err(_) => Err(FrameError::TimedOut(WRITE_TIMEOUT)),
    }
}

enum Waiting {
    Report { sequence: u64, done: oneshot::Receiver<Done> },
    Goodbye(oneshot::Receiver<Done>),
}

struct Conversation<'a> {
    reception: &'a Reception,
    sender: &'a Sender,
    connection: &'a Connection,
    /// Where it registered from.
    remote: SocketAddr,
    writer: Writer,
    /// Requests whose commit is awaited, in the order in which they came.
    waiting: VecDeque<Waiting>,
}

impl Conversation<'_> {
    async fn run(&mut self, reader: &mut Reader, ticket: &mut crate::hosts::Ticket) -> CloseReason {
        let mut stop = self.reception.stop.clone();
        let mut ended = false;
        let begun = Instant::now();
        let mut allowance = TokenBucket::new(REPORT_BURST, REPORTS_PER_SECOND);
        let mut allowed = false;
        loop {
            if ended && self.waiting.is_empty() {
                return CloseReason::Idle;
            }
            allowed = allowed || allowance.take(begun.elapsed());
            let has_room = !ended && self.waiting.len() < IN_FLIGHT;
            let step = tokio::select! {
                biased;
                answer = front(&mut self.waiting), if !self.waiting.is_empty() => self.answer(answer).await,
                _ = &mut ticket.superseded => Err(CloseReason::Superseded),
                () = told(&mut stop) => Err(CloseReason::Shutdown),
                Some(message) = ticket.messages.recv() => {
                    let message = self.reception.keys.addressed(&self.sender.key, message);
                    self.say(message).await
                }
                message = reader.read::<ToCma>(MESSAGE_LIMIT_BYTES), if has_room && allowed => match message {
                    Ok(Some(message)) => {
                        allowed = false;
                        self.take(message).await
                    }
                    Ok(None) => { ended = true; Ok(()) }
                    Err(FrameError::Malformed(_) | FrameError::TooLarge { .. }) => {
                        tracing::warn!(host = %self.sender.designation, "a message cannot be read; connection closed");
                        Err(CloseReason::Protocol)
                    }
                    Err(_) => Err(CloseReason::Idle),
                },
                () = tokio::time::sleep(ALLOWANCE_PAUSE), if has_room && !allowed => Ok(()),
            };
            if let Err(reason) = step {
                return reason;
            }
        }
    }

    async fn take(&mut self, message: ToCma) -> Result<(), CloseReason> {
        // QUIC follows a host to another address (RFC 9000 §9). Its partners have to be told, so it registers from there.
        if self.connection.remote() != self.remote && !matches!(message, ToCma::Goodbye(_)) {
            return Err(CloseReason::Superseded);
        }
        let sender = self.sender.clone();
        match message {
            ToCma::Register(_) => Err(CloseReason::Protocol),
            ToCma::Trusts(keys) => {
                keep_trusted(self.reception, &sender, Some(keys), true).await;
                Ok(())
            }
            ToCma::Heard(heard) => self.reception.liveness.heard(sender.designation, heard).await,
            ToCma::Goodbye(goodbye) => {
                let done = self.submit(Work::Goodbye { sender, reason: goodbye.reason }, None).await?;
                self.waiting.push_back(Waiting::Goodbye(done));
                Ok(())
            }
            ToCma::Report(report) => {
                let sequence = report.sequence;
                let (incoming, memory) = self.open(report).await?;
                let done = self.submit(Work::Report { sender, incoming }, Some(memory)).await?;
                self.waiting.push_back(Waiting::Report { sequence, done });
                Ok(())
            }
        }
    }

    async fn submit(
        &self,
        work: Work,
        memory: Option<OwnedSemaphorePermit>,
    ) -> Result<oneshot::Receiver<Done>, CloseReason> {
        self.reception.writer.submit(work, memory).await.map_err(|_| CloseReason::Shutdown)
    }

    /// Unpacks and checks a report, within the memory that all connections share.
    async fn open(&self, report: Report) -> Result<(Incoming, OwnedSemaphorePermit), CloseReason> {
        let memory = |kib: usize| {
            let kib = u32::try_from(kib).unwrap_or(u32::MAX);
            let shared = self.reception.memory.clone();
            async move { shared.acquire_many_owned(kib).await.map_err(|_| CloseReason::Shutdown) }
        };
        let body = report.body.as_deref().map_or(&[][..], Vec::as_slice);
        // Nothing is unpacked twice that is small; what is not small fails here before much was done.
        if let Ok(document) = wire::body::decompress_within(body, SMALL_DOCUMENT_BYTES) {
            let permit = memory(1 + document.len() / KIB).await?;
            return Ok((document::open(report, |_| Ok(document)), permit));
        }
        let mut permit = memory(MAX_DOCUMENT_BYTES / KIB).await?;
        let opened =
            tokio::task::spawn_blocking(move || document::open(report, wire::body::decompress)).await;
        let incoming = opened.map_err(|_| CloseReason::Protocol)?;
        let unused = (MAX_DOCUMENT_BYTES / KIB).saturating_sub(1 + incoming.bytes() / KIB);
        drop(permit.split(unused));
        Ok((incoming, permit))
    }

    /// Answers the oldest request and all others that are done too, in one acknowledgement.
    async fn answer(&mut self, first: Result<Done, oneshot::error::RecvError>) -> Result<(), CloseReason> {
        let mut ack = Ack { sequence: 0, rejected: Vec::new() };
        let mut acknowledge = false;
        let mut done = first;
        loop {
            let Some(request) = self.waiting.pop_front() else { break };
            match (request, done) {
                (Waiting::Report { sequence, .. }, Ok(Done::Report(outcome))) => {
                    acknowledge = true;
                    match outcome {
                        Outcome::Durable { last } | Outcome::Gap { last } => ack.sequence = last,
                        Outcome::Rejected { last, reason } => {
                            ack.sequence = last;
                            ack.rejected.push(Rejection { sequence, reason });
                        }
                        Outcome::Unregistered => return Err(CloseReason::Superseded),
                    }
                }
                (Waiting::Goodbye(_), Ok(Done::Goodbye)) => {
                    if acknowledge {
                        self.say(FromCma::Ack(std::mem::replace(
                            &mut ack,
                            Ack { sequence: 0, rejected: Vec::new() },
                        )))
                        .await?;
                        acknowledge = false;
                    }
                    self.say(FromCma::Farewell).await?;
                }
                // The writer is gone, or could not even record the refusal: without an answer it is sent again.
                _ => return Err(CloseReason::Shutdown),
            }
            let next = match self.waiting.front_mut() {
                Some(Waiting::Report { done, .. } | Waiting::Goodbye(done)) => done.try_recv(),
                None => break,
            };
            match next {
                Ok(next) => done = Ok(next),
                Err(oneshot::error::TryRecvError::Empty) => break,
                Err(oneshot::error::TryRecvError::Closed) => return Err(CloseReason::Shutdown),
            }
        }
        if acknowledge { self.say(FromCma::Ack(ack)).await } else { Ok(()) }
    }

    async fn say(&mut self, message: FromCma) -> Result<(), CloseReason> {
        send(&mut self.writer, &message).await.map_err(|_| CloseReason::TimedOut)
    }
}

/// Waits until `stop` is true; the guard of the value must not live across another wait.
async fn told(stop: &mut tokio::sync::watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

async fn front(waiting: &mut VecDeque<Waiting>) -> Result<Done, oneshot::error::RecvError> {
    match waiting.front_mut() {
        Some(Waiting::Report { done, .. } | Waiting::Goodbye(done)) => done.await,
        None => std::future::pending().await,
    }
}
