//! Whose fault it was: from how processes ended, and from what ranks left on the control page.
use super::agent::Agent;
use super::verdict::{Cause, Findings, Subject};
use super::wire::Account;
use crate::job::control::Report;
use crate::job::{Control, FailureKind, RankState};
use crate::model::{Call, call_name};
use crate::sys::process::Exit;

/// What ended the job, and the rank that did it, if one did.
#[derive(Clone, Debug)]
pub(super) struct Culprit {
    pub(super) cause: Cause,
    pub(super) rank: Option<Subject>,
}

/// How a rank's process ended, as far as the kernel told.
pub(super) type Told = Option<Exit>;

/// What a rank reported before it ended as `told` (or while it lives), if the two go together.
fn reported(control: Control<'_>, rank: usize, told: Option<Told>) -> Option<Report> {
    control.failure(rank).filter(|report| match told {
        None => true,
        Some(told) => told == Some(Exit::Code(report.code)),
    })
}

/// What a rank said that waited for one that is gone.
pub(super) fn gone(control: Control<'_>, rank: usize, told: Option<Told>) -> Option<String> {
    reported(control, rank, told)
        .filter(|report| report.kind == FailureKind::Gone)
        .map(|report| report.text)
}

/// Why a rank failed: what it reported, or else how it ended.
pub(super) fn cause(control: Control<'_>, rank: usize, told: Option<Told>) -> Cause {
    let panic = |code: i32| {
        let record = control.last_panic(rank)?;
        let (place, text) = record.text.split_once('\n').unwrap_or(("", &record.text));
        Some(Cause::Panic {
            place: place.into(),
            text: text.into(),
            code,
        })
    };
    if let Some(report) = reported(control, rank, told) {
        return match report.kind {
            FailureKind::Panic => panic(report.code).unwrap_or(Cause::Exit(report.code)),
            FailureKind::Abort => Cause::Abort {
                code: report.code,
                text: report.text,
            },
            FailureKind::Gone => Cause::Gone(report.text),
            _ => Cause::Reported(report.text),
        };
    }
    match told.flatten() {
        Some(Exit::Code(101)) => panic(101).unwrap_or(Cause::Exit(101)),
        Some(Exit::Signal(libc::SIGABRT)) => {
            panic(128 + libc::SIGABRT).unwrap_or(Cause::Signal(libc::SIGABRT))
        }
        Some(Exit::Signal(signal)) => Cause::Signal(signal),
        Some(Exit::Code(code)) => Cause::Exit(code),
        None => Cause::Vanished,
    }
}

/// The last call of `rank` and its place in the program; empty if it told none.
pub(super) fn last_call(control: Control<'_>, rank: usize) -> String {
    let (call, site) = control.last_call(rank);
    match (call_name(call), control.site(rank, site)) {
        // The end of a scope has no place in the program's text.
        (Some(name), Some(_)) if call == Call::Finalize as u32 => name.into(),
        (Some(name), Some(place)) => format!("{name} at {place}"),
        _ => String::new(),
    }
}

/// A command line as a verdict shows it.
pub(super) fn shortened(words: &str) -> String {
    let words = words.replace('\n', " ");
    if words.chars().count() > 60 {
        return words.chars().take(59).chain(['…']).collect();
    }
    words
}

impl Agent {
    /// What it means that a process of `rank` ended: `Some` if that is a failure of its own.
    pub(super) fn judge_end(&mut self, rank: usize, told: Told, claimant: bool) -> Option<Told> {
        let control = self.segment.control();
        let state = control.state(rank);
        match told {
            Some(Exit::Code(0)) if claimant => {
                if state == RankState::Active {
                    self.no_goodbye.get_or_insert(rank);
                    control.set_state(rank, RankState::Exited);
                }
                None
            }
            Some(Exit::Code(0)) => {
                if self.ranks[rank].claimant.is_none() && state == RankState::Empty {
                    control.set_state(rank, RankState::EndedWithoutInit);
                }
                None
            }
            None if state == RankState::Finalized => None,
            told => Some(told),
        }
    }

    /// The culprit among ranks that failed in the same moment. A rank that reported a failure was first: the others may have followed it.
    pub(super) fn find_culprit(&self, failed: &[(usize, Told)]) -> Option<Culprit> {
        let control = self.segment.control();
        if control.is_aborted() {
            if let Some(first) = control.first_failed() {
                return Some(self.accuse(first, None));
            }
        }
        // Nothing tells which of them was first; the same choice each time is worth more than a guess.
        let (rank, told) = failed.iter().min_by_key(|(rank, _)| *rank)?;
        Some(self.accuse(*rank, Some(*told)))
    }

    /// The case against `rank`: how it ended, if it has, or else what it reported.
    fn accuse(&self, rank: usize, told: Option<Told>) -> Culprit {
        let control = self.segment.control();
        if let Some(waiter) = gone(control, rank, told).filter(|_| self.no_goodbye.is_some()) {
            return self.accuse_no_goodbye(Some(waiter));
        }
        let cause = match cause(control, rank, told) {
            Cause::Signal(libc::SIGKILL) if self.memory_ran_out() => {
                Cause::OutOfMemory(self.memory.as_ref().and_then(|groups| groups.memory()))
            }
            cause => cause,
        };
        Culprit {
            cause,
            rank: Some(self.subject(rank)),
        }
    }

    /// The case against the rank that exited without goodbye, if one did; `waiter` is what another said that waited for it.
    pub(super) fn accuse_no_goodbye(&self, waiter: Option<String>) -> Culprit {
        Culprit {
            cause: Cause::NoGoodbye(waiter),
            rank: self.no_goodbye.map(|rank| self.subject(rank)),
        }
    }

    fn memory_ran_out(&self) -> bool {
        let now = self
            .memory
            .as_ref()
            .and_then(|groups| groups.out_of_memory_kills());
        matches!((self.kills_before, now), (Some(before), Some(now)) if now > before)
    }

    fn subject(&self, rank: usize) -> Subject {
        let program = &self.job.programs[self.ranks[rank].program];
        let mut words = program.command.to_string_lossy().into_owned();
        for arg in &program.args {
            words = words + " " + &arg.to_string_lossy();
        }
        Subject {
            rank: self.number(rank),
            pid: self.ranks[rank].main_pid(),
            program: shortened(&words),
            call: last_call(self.segment.control(), rank),
        }
    }

    /// What the ranks that were ended were doing.
    fn doing(&self) -> Vec<(usize, String)> {
        self.ended_with
            .iter()
            .map(|&rank| (self.number(rank), last_call(self.segment.control(), rank)))
            .filter(|(_, call)| !call.is_empty())
            .collect()
    }

    /// What came of the job, or of its part on this host.
    pub(super) fn account(&self) -> Account {
        Account {
            findings: self.findings(),
            ended: self
                .ended_with
                .iter()
                .map(|&rank| self.number(rank))
                .collect(),
            doing: self.doing(),
            suspect: self.no_goodbye.map(|rank| self.subject(rank)),
        }
    }

    /// Everything that the verdict says, if the job failed.
    pub(super) fn findings(&self) -> Option<Findings> {
        let culprit = self.culprit.clone()?;
        let after = self.ended_after.unwrap_or_else(|| self.begun.elapsed());
        let own = culprit.rank.as_ref().map(|subject| subject.rank);
        let doing = match culprit.cause {
            Cause::TimeLimit(_) => self.doing(),
            _ => Vec::new(),
        };
        let (size, host) = match &self.job.site {
            Some(site) => (site.host_of_rank.len(), site.name.clone()),
            None => (self.ranks.len(), super::host()),
        };
        Some(Findings {
            cause: culprit.cause,
            rank: culprit.rank,
            size,
            host,
            job: self.name.clone(),
            after,
            ended: self
                .ended_with
                .iter()
                .map(|&rank| self.number(rank))
                .filter(|rank| Some(*rank) != own)
                .collect(),
            doing,
        })
    }
}
