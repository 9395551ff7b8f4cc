//! What the rings have to remember, and whom they give up, on its way into the store; what may be told after that.

use super::Task;
use super::restore::{GETS_THROUGH_SETTING, YES};
use crate::commit::{Done, Work, WriterBusy};
use crate::ingest::places;
use crate::ingest::verdict::Decision;
use liveness::center::Member;
use model::Designation;
use model::liveness::Watch;
use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use store::MemberRow;

/// Members written in one request.
const MEMBERS_AT_ONCE: usize = 1000;

/// What goes out together: first it is committed, then it is told.
#[derive(Default)]
pub(super) struct Step {
    /// The last state of each.
    pub(super) members: BTreeMap<Designation, MemberRow>,
    pub(super) decisions: Vec<Decision>,
    pub(super) tells: Tells,
}

/// The newest list of partners of each host: while nothing can be stored, no more than one waits.
pub(super) type Tells = BTreeMap<Designation, Watch>;

/// A request to the writer, and what may be told after it.
pub(super) struct Request {
    pub(super) work: Work,
    pub(super) tells: Tells,
}

pub(super) struct UnderWay {
    pub(super) answer: Pin<Box<dyn Future<Output = Result<Done, WriterBusy>> + Send>>,
    pub(super) tells: Tells,
    pub(super) decisions: Vec<Decision>,
    pub(super) had_members: bool,
}

impl Task {
    /// Hands the next request to the writer, unless one is under way: its answer comes first.
    pub(super) fn submit(&mut self, now: Duration) {
        if self.under_way.is_some() {
            return;
        }
        if self.requests.is_empty() {
            self.close_step();
        }
        let Some(Request { work, tells }) = self.requests.pop_front() else {
            for (host, watch) in std::mem::take(&mut self.step.tells) {
                self.tell(now, host, watch);
            }
            return;
        };
        let (decisions, had_members) = match &work {
            Work::Liveness { members, decisions } => (decisions.clone(), !members.is_empty()),
            _ => (Vec::new(), false),
        };
        let writer = self.writer.clone();
        let answer = Box::pin(async move { writer.submit(work, None).await?.await.map_err(|_| WriterBusy) });
        self.under_way = Some(UnderWay { answer, tells, decisions, had_members });
    }

    /// Has it kept whether the CMA's packets reach nanoprobes, when that is another than before.
    pub(super) fn keep_getting_through(&mut self) {
        let gets_through = self.center.gets_through();
        if gets_through != self.gets_through {
            self.gets_through = gets_through;
            let value = if gets_through { YES } else { "no" }.to_owned();
            let work = Work::Setting { name: GETS_THROUGH_SETTING.into(), value };
            self.requests.push_back(Request { work, tells: Tells::new() });
        }
    }

    /// Makes requests of what has gathered, if it has to be committed.
    fn close_step(&mut self) {
        if self.step.members.is_empty() && self.step.decisions.is_empty() {
            return;
        }
        let Step { members, mut decisions, tells } = std::mem::take(&mut self.step);
        let mut members: Vec<MemberRow> = members.into_values().collect();
        // A verdict and the departure of its hosts are one request; only what is more than that is divided.
        if !decisions.is_empty() {
            let given_up: HashSet<&Designation> =
                decisions.iter().flat_map(|decision| &decision.verdict.hosts).collect();
            let (concerned, others): (Vec<_>, Vec<_>) =
                members.into_iter().partition(|row| given_up.contains(&row.designation));
            members = others;
            let work = Work::Liveness { members: concerned, decisions: std::mem::take(&mut decisions) };
            self.requests.push_back(Request { work, tells: Tells::new() });
        }
        for members in members.chunks(MEMBERS_AT_ONCE) {
            let work = Work::Liveness { members: members.to_vec(), decisions: Vec::new() };
            self.requests.push_back(Request { work, tells: Tells::new() });
        }
        if let Some(last) = self.requests.back_mut() {
            last.tells = tells;
        }
    }

    pub(super) fn committed(&mut self, answer: Result<Done, WriterBusy>) {
        let now = self.start.elapsed();
        let Some(UnderWay { tells, decisions, had_members, .. }) = self.under_way.take() else { return };
        match answer {
            Ok(Done::Judged(alive)) => {
                for host in alive {
                    if let Some(decision) =
                        decisions.iter().find(|decision| decision.verdict.hosts.contains(&host))
                    {
                        self.doubt(now, decision.clone(), host);
                    }
                }
            }
            Ok(Done::Failed(error)) => {
                tracing::error!(%error, "what the heartbeats have to remember could not be stored (a defect; please report it)");
                // An outage is told all the same.
                if had_members {
                    self.step.decisions.extend(decisions);
                }
            }
            // The writer is gone: the CMA ends.
            Ok(_) | Err(WriterBusy) => {}
        }
        for (host, watch) in tells {
            self.tell(now, host, watch);
        }
    }
}

/// The answer to the request that is under way; never, while there is none.
pub(super) async fn committed(under_way: &mut Option<UnderWay>) -> Result<Done, WriterBusy> {
    match under_way {
        Some(under_way) => under_way.answer.as_mut().await,
        None => std::future::pending().await,
    }
}

pub(super) fn row(member: Member) -> MemberRow {
    MemberRow {
        designation: member.designation,
        number: member.number,
        session: member.session.map(|session| session.0),
        place: places::to_text(&member.place),
        position: member.position,
        generation: member.generation,
        address: member.address,
        present: member.present,
    }
}
