//! Whose failure it was, of all hosts' ranks, as the agent of ranks that another launcher started finds it.
use super::{ANSWER, Attendant, DYING, PASSED_ON};
use crate::launch::judge::{self, Told};
use crate::launch::verdict::{Cause, Findings, Subject};
use crate::launch::wire::{Order, Report};
use crate::sys::process::Exit;
use std::time::Instant;

impl Attendant {
    /// Who of this host's ranks failed first, and why, as far as is known by now.
    fn accused(&mut self) -> Option<Findings> {
        let control = self.segment.control();
        self.failed.sort_by_key(|(_, told)| is_by_launcher(*told));
        let (at, told) = match (control.first_failed(), self.failed.first()) {
            (Some(at), _) => (at, None),
            (None, Some(&(at, told))) => (at, Some(told)),
            (None, None) => return None,
        };
        Some(self.findings(at, judge::cause(control, at, told)))
    }

    /// Ends the job if a rank failed and it is known which did so first.
    pub(super) fn judge(&mut self) {
        let failed = !self.failed.is_empty() || self.segment.control().is_aborted();
        if self.ending.is_some() || (!failed && self.elsewhere.is_empty()) {
            return;
        }
        let (now, own) = (Instant::now(), self.accused());
        if self.company.is_member() {
            let Some(own) = own else { return };
            let again = |told: &Findings| is_doubtful(&told.cause) && !is_doubtful(&own.cause);
            let (since, told) = match self.told.take() {
                Some((since, told)) if !again(&told) => (since, told),
                _ => {
                    self.company.report(&Report::Failed(Box::new(own.clone())));
                    (now, own)
                }
            };
            if now >= since + ANSWER {
                eprint!("{}", told.verdict().text());
                self.end();
            }
            self.told = Some((since, told));
            return;
        }
        let mut all: Vec<&Findings> = self.elsewhere.iter().collect();
        all.extend(&own);
        // What others may have caused comes behind what nobody can have caused.
        all.sort_by_key(|findings| is_doubtful(&findings.cause));
        let Some(&cause) = all.first() else { return };
        let alive = self.ranks.iter().any(|rank| !rank.over) || self.company.expects_more();
        let doubtful = match cause.cause {
            Cause::Gone(_) => self.company.is_several(),
            _ => is_doubtful(&cause.cause),
        };
        if doubtful && self.no_goodbye.is_none() && alive {
            let until = *self.judged.get_or_insert(now + DYING);
            if now < until {
                return;
            }
        }
        let findings = match (self.no_goodbye.take(), &cause.cause) {
            (Some(left), Cause::Signal(libc::SIGTERM | libc::SIGKILL)) => left,
            (Some(left), Cause::Gone(waiter)) => Findings {
                cause: Cause::NoGoodbye(Some(waiter.clone())),
                ..left
            },
            _ => cause.clone(),
        };
        let findings = self.with_all_that_ended(findings);
        // First of all, and not when all have ended: some launchers stop listening soon.
        eprint!("{}", findings.verdict().text());
        std::thread::sleep(PASSED_ON);
        self.company.order(&Order::Fail, None);
        self.end();
    }

    /// The same, with the ranks of all hosts that end with the accused.
    fn with_all_that_ended(&self, mut findings: Findings) -> Findings {
        if self.company.is_several() {
            let accused = findings.rank.as_ref().map(|subject| subject.rank);
            let here = |rank| self.ranks.iter().find(|other| other.number == rank);
            let runs = |rank: &usize| {
                let is_over = here(*rank).is_some_and(|other| other.over);
                let is_gone = self.segment.directory().state(*rank).is_gone();
                Some(*rank) != accused && !is_over && !is_gone
            };
            findings.ended = (0..self.service.hosts.len()).filter(runs).collect();
        }
        findings
    }

    pub(super) fn findings(&self, at: usize, cause: Cause) -> Findings {
        let rank = &self.ranks[at];
        let others = self.ranks.iter().filter(|other| !other.over);
        let mut ended: Vec<usize> = others.map(|other| other.number).collect();
        ended.retain(|number| *number != rank.number);
        ended.sort_unstable();
        Findings {
            cause,
            rank: Some(Subject {
                rank: rank.number,
                pid: rank.pid,
                program: rank.program.clone(),
                call: judge::last_call(self.segment.control(), at),
            }),
            size: self.service.hosts.len(),
            host: crate::launch::host(),
            job: self.name.clone(),
            after: self.begun.elapsed(),
            ended,
            doing: Vec::new(),
        }
    }
}

/// Whether this may be what another failure caused: a launcher's kill, a wait for one that is gone. A host that is lost is not:
/// what failed there, or here, is heard of before the launcher acts on it.
fn is_doubtful(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::Signal(libc::SIGTERM | libc::SIGKILL) | Cause::Gone(_)
    )
}

/// Whether a rank ended as those do that a launcher ends because of another.
fn is_by_launcher(told: Told) -> bool {
    matches!(told, Some(Exit::Signal(libc::SIGTERM | libc::SIGKILL)))
}
