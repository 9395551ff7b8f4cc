//! Names of addresses, asked of the system's resolver beside everything else: nothing waits for an answer, few questions are
//! under way at once, and every answer is kept, also that there is no name. The names are shown and decide nothing: whoever
//! owns the reverse zone can write what he likes.
//!
//! Off unless the CMA is that of the whole system or `[dns] reverse = true` says so: a demonstration, a test or a second CMA
//! below a directory of its own sends nothing to name servers.

use crate::commit::{Done, Work, Writer};
use crate::knowledge::SharedKnowledge;
use crate::readers::Readers;
use dns_lookup::LookupErrorKind;
use model::Timestamp;
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Names are asked for again when they are so old, at the earliest and at the latest.
const REFRESH: (Duration, Duration) = (Duration::from_secs(20 * 3600), Duration::from_secs(28 * 3600));
/// Names of addresses that nobody asked about any more.
const FORGET_AFTER: Duration = Duration::from_secs(7 * 86_400);
/// An address whose question failed is asked about again after this.
const RETRY_AFTER: Duration = Duration::from_secs(3600);
/// How often the store is asked for addresses: when there are new ones, and when nothing seems to happen.
const REFILL_SOON: Duration = Duration::from_secs(20);
const REFILL_LATE: Duration = Duration::from_secs(3600);
/// Addresses taken from the store at once.
const REFILL: usize = 2000;
/// Questions under way at once, and the pause between two: three a second.
const AT_ONCE: usize = 4;
const BETWEEN: Duration = Duration::from_millis(333);
/// Answers are written together.
const WRITE_ANSWERS: usize = 50;
const WRITE_AFTER: Duration = Duration::from_secs(5);
const WRITE_PATIENCE: Duration = Duration::from_secs(600);
/// Of a host's name (RFC 1035 2.3.4).
const MAX_NAME_CHARS: usize = 253;
/// getnameinfo(3): no name is an error, instead of the address as text.
const NI_NAMEREQD: i32 = 8;

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Name(String),
    /// There is none, for sure.
    NoName,
    /// The name server does not answer.
    Failed,
}

/// Asks the system. Blocks.
pub fn ask_system(address: IpAddr) -> Answer {
    match dns_lookup::getnameinfo(&(address, 0).into(), NI_NAMEREQD) {
        Ok((name, _)) => legal(&name).map_or(Answer::NoName, Answer::Name),
        Err(error) => match error.kind() {
            LookupErrorKind::NoName | LookupErrorKind::NoData => Answer::NoName,
            _ => Answer::Failed,
        },
    }
}

/// A name as it may be kept: what no host name can have makes it none.
fn legal(name: &str) -> Option<String> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let is_legal = !name.is_empty()
        && name.len() <= MAX_NAME_CHARS
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    is_legal.then_some(name)
}

/// What to ask when: pure.
#[derive(Debug, Default)]
struct Lookups {
    queue: VecDeque<IpAddr>,
    /// In the queue or under way.
    known: HashSet<IpAddr>,
    under_way: usize,
    failed: HashMap<IpAddr, Duration>,
    /// Not before this.
    next_question: Duration,
    next_refill: Duration,
}

impl Lookups {
    /// There may be new addresses.
    fn handle_news(&mut self, now: Duration) {
        self.next_refill = self.next_refill.min(now + REFILL_SOON);
    }

    /// Whether addresses are wanted now. An answer to that is [`Lookups::handle_addresses`].
    fn wants_addresses(&self, now: Duration) -> bool {
        self.queue.is_empty() && now >= self.next_refill
    }

    fn handle_addresses(&mut self, now: Duration, addresses: Vec<IpAddr>) {
        // Whoever gave many has more.
        let pause = if addresses.len() >= REFILL { REFILL_SOON } else { REFILL_LATE };
        self.next_refill = now + pause;
        self.failed.retain(|_, until| now < *until);
        for address in addresses {
            if !self.failed.contains_key(&address) && self.known.insert(address) {
                self.queue.push_back(address);
            }
        }
    }

    fn poll_question(&mut self, now: Duration) -> Option<IpAddr> {
        if now < self.next_question || self.under_way >= AT_ONCE {
            return None;
        }
        let address = self.queue.pop_front()?;
        self.under_way += 1;
        self.next_question = now + BETWEEN;
        Some(address)
    }

    /// A question ended.
    fn handle_answer(&mut self, now: Duration, address: IpAddr, answer: &Answer) {
        self.under_way = self.under_way.saturating_sub(1);
        self.known.remove(&address);
        if *answer == Answer::Failed && self.failed.len() < 10 * REFILL {
            self.failed.insert(address, now + RETRY_AFTER);
        }
    }

    fn poll_timeout(&self) -> Option<Duration> {
        if self.queue.is_empty() {
            return Some(self.next_refill);
        }
        (self.under_way < AT_ONCE).then_some(self.next_question)
    }
}

/// What the task needs.
pub struct Parts<R> {
    pub writer: Writer,
    pub readers: Arc<Readers>,
    pub knowledge: SharedKnowledge,
    /// What counts when the configuration says nothing.
    pub by_default: bool,
    /// Told when there may be new addresses.
    pub news: Arc<Notify>,
    /// Becomes true when the CMA stops.
    pub stop: watch::Receiver<bool>,
    /// [`ask_system`], unless in a test.
    pub resolver: R,
}

/// Works until the CMA stops.
pub async fn run<R>(parts: Parts<R>)
where
    R: Fn(IpAddr) -> Answer + Clone + Send + 'static,
{
    let mut stop = parts.stop.clone();
    tokio::select! {
        () = work(parts) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

async fn work<R>(parts: Parts<R>)
where
    R: Fn(IpAddr) -> Answer + Clone + Send + 'static,
{
    let start = Instant::now();
    let mut lookups = Lookups::default();
    let mut questions: JoinSet<(IpAddr, Answer)> = JoinSet::new();
    let mut answers: Vec<(IpAddr, Option<String>)> = Vec::new();
    let mut write_at = None;
    let mut configured = parts.knowledge.changes();
    loop {
        let is_on = configured.borrow_and_update().config.dns.reverse.unwrap_or(parts.by_default);
        let now = start.elapsed();
        if is_on && lookups.wants_addresses(now) {
            lookups.handle_addresses(start.elapsed(), addresses(&parts.readers).await);
        }
        while is_on && let Some(address) = lookups.poll_question(start.elapsed()) {
            let resolver = parts.resolver.clone();
            questions.spawn_blocking(move || (address, resolver(address)));
        }
        let due = write_at.into_iter().chain(lookups.poll_timeout().filter(|_| is_on)).min();
        tokio::select! {
            Some(done) = questions.join_next() => {
                // A resolver that panics is a defect of the system's library; the address stays known and is left alone.
                let Ok((address, answer)) = done else { continue };
                lookups.handle_answer(start.elapsed(), address, &answer);
                match answer {
                    Answer::Name(name) => answers.push((address, Some(name))),
                    Answer::NoName => answers.push((address, None)),
                    Answer::Failed => tracing::debug!(%address, "the name of an address could not be asked for"),
                }
                write_at = write_at.or((!answers.is_empty()).then(|| start.elapsed() + WRITE_AFTER));
            }
            () = parts.news.notified() => lookups.handle_news(start.elapsed()),
            changed = configured.changed() => if changed.is_err() { return },
            () = sleep_until(start + due.unwrap_or_default()), if due.is_some() => {}
        }
        if answers.len() >= WRITE_ANSWERS || write_at.is_some_and(|at| at <= start.elapsed()) {
            write_at = None;
            write(&parts.writer, std::mem::take(&mut answers)).await;
        }
    }
}

async fn addresses(readers: &Arc<Readers>) -> Vec<IpAddr> {
    let older_than = before(Timestamp::now(), age(uuid::Uuid::now_v7().as_bytes()[15]));
    let found = readers.read(move |reader| reader.addresses_to_look_up(REFILL, older_than)).await;
    found.unwrap_or_else(|error| {
        tracing::warn!(%error, "the addresses to look up cannot be read");
        Vec::new()
    })
}

/// How old a name may be, between the bounds: names that were learnt together are not asked for together for ever.
fn age(random: u8) -> Duration {
    REFRESH.0 + (REFRESH.1 - REFRESH.0) * u32::from(random) / 255
}

async fn write(writer: &Writer, found: Vec<(IpAddr, Option<String>)>) {
    let forget_before = before(Timestamp::now(), FORGET_AFTER);
    match writer.ask(Work::Names { found, forget_before }, WRITE_PATIENCE).await {
        Ok(Done::Written) => {}
        // They are asked for again.
        _ => tracing::warn!("names of addresses could not be stored"),
    }
}

fn before(now: Timestamp, duration: Duration) -> Timestamp {
    Timestamp(now.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn addresses(count: u8) -> Vec<IpAddr> {
        (0..count).map(|number| IpAddr::from([10, 0, 0, number])).collect()
    }

    /// The file of hosts answers this one, so nobody is asked over the network.
    #[test]
    fn the_system_knows_its_own_name() {
        assert_eq!(ask_system(IpAddr::from([127, 0, 0, 1])), Answer::Name("localhost".into()));
    }

    #[test]
    fn questions_are_few_at_once_and_slow() {
        let mut lookups = Lookups::default();
        lookups.handle_addresses(at(0), addresses(10));
        lookups.handle_addresses(at(0), addresses(10));
        assert_eq!(lookups.queue.len(), 10, "each once");
        let mut asked = 0;
        for time in 0..2000 {
            asked += usize::from(lookups.poll_question(at(time)).is_some());
        }
        assert_eq!(asked, AT_ONCE, "nobody answered");
        assert_eq!(lookups.poll_timeout(), None, "nothing to do before one of them ends");
        for address in addresses(4) {
            lookups.handle_answer(at(2000), address, &Answer::NoName);
        }
        assert!(lookups.poll_question(at(2000)).is_some());
        assert_eq!((lookups.poll_question(at(2001)), lookups.poll_timeout()), (None, Some(at(2333))));
    }

    #[test]
    fn who_fails_is_left_alone_for_an_hour() {
        let mut lookups = Lookups::default();
        lookups.handle_addresses(at(0), addresses(1));
        let address = lookups.poll_question(at(0)).unwrap();
        lookups.handle_answer(at(5000), address, &Answer::Failed);
        lookups.handle_addresses(at(6000), addresses(1));
        assert!(lookups.queue.is_empty());
        lookups.handle_addresses(at(5000) + RETRY_AFTER, addresses(1));
        assert_eq!(lookups.queue.len(), 1);
    }

    #[test]
    fn the_store_is_asked_when_there_is_news_and_else_seldom() {
        let mut lookups = Lookups::default();
        assert!(lookups.wants_addresses(at(0)));
        lookups.handle_addresses(at(0), Vec::new());
        assert_eq!(lookups.poll_timeout(), Some(REFILL_LATE));
        lookups.handle_news(at(1000));
        lookups.handle_news(at(2000));
        assert_eq!(
            lookups.poll_timeout(),
            Some(at(1000) + REFILL_SOON),
            "a stream of news does not put it off"
        );
        assert!(!lookups.wants_addresses(at(1000)) && lookups.wants_addresses(at(1000) + REFILL_SOON));
        assert_eq!((age(0), age(255)), REFRESH);
    }

    #[test]
    fn what_is_no_host_name_is_none() {
        assert_eq!(legal("Web1.Example.ORG."), Some("web1.example.org".into()));
        let long = "x".repeat(254);
        for name in ["", ".", "a b", "<script>", "a\u{1b}[2J", "häuser.de", "a;rm", long.as_str()] {
            assert_eq!(legal(name), None, "{name}");
        }
    }
}
