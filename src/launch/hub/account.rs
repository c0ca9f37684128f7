//! Whose fault it was, where several hosts have something to say: the first that failed on its own. What a rank says of another that is gone is
//! hearsay; the other's own host knows better, and its word is preferred though it may arrive later.
use super::link::{Link, State};
use super::{Hub, Phase};
use crate::launch::guard::UNKILLABLE;
use crate::launch::verdict::{Cause, Findings, signal_name};
use crate::launch::wire::{Account, Order};
use crate::sys::process::{self, Exit};
use std::os::fd::AsFd;
use std::time::Duration;

/// A cause that tells of another's end.
fn is_hearsay(cause: &Cause) -> bool {
    matches!(cause, Cause::Gone(_))
}

impl Hub {
    /// A host's agent has begun to end its ranks for a reason of its own.
    pub(super) fn fail(&mut self, at: usize, findings: Findings) {
        match &self.culprit {
            Some(known) if !is_hearsay(&known.cause) || is_hearsay(&findings.cause) => {}
            _ => self.culprit = Some(findings),
        }
        self.fail_all(at);
    }

    /// The job ends because of host `at`: all others end their ranks.
    pub(super) fn fail_all(&mut self, at: usize) {
        self.begin_to_end();
        for (other, link) in self.links.iter_mut().enumerate() {
            if other != at {
                link.order(&Order::Fail);
            }
        }
    }

    fn begin_to_end(&mut self) {
        if self.phase == Phase::Running {
            self.phase = Phase::Ending;
            self.ended_after = Some(self.running_for());
        }
    }

    /// How long ranks have run.
    fn running_for(&self) -> Duration {
        self.started.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn findings(&self, cause: Cause) -> Findings {
        Findings {
            cause,
            rank: None,
            size: self.job.ranks(),
            host: crate::launch::host(),
            job: self.name.clone(),
            after: self.running_for(),
            ended: Vec::new(),
            doing: Vec::new(),
        }
    }

    /// The launcher ends the job. A second time it has less patience: the agents know what that means.
    pub(super) fn end_by(&mut self, cause: Cause, order: &Order) {
        if self.culprit.is_none() && self.refused.is_none() {
            self.culprit = Some(self.findings(cause));
        }
        if self.phase == Phase::Starting {
            return self.abandon();
        }
        self.begin_to_end();
        for link in &mut self.links {
            // A stopped agent would not hear it.
            if let Some(agent) = link.agent.filter(|_| !link.is_remote() && !link.is_over()) {
                let _ = process::signal_number(agent, libc::SIGCONT);
            }
            link.order(order);
        }
    }

    /// Host `at` is lost, in these words: the job ends, and what is here of the way there too.
    pub(super) fn lose(&mut self, at: usize, how: String) {
        let link = &mut self.links[at];
        link.drop_it(None);
        link.kill();
        let host = link.name.clone();
        if self.phase == Phase::Ending {
            // It was told to end; the verdict is another's, but what ran there may not have ended.
            return self.note(how);
        }
        let mut findings = self.findings(Cause::LostHost(how));
        findings.host = host;
        self.fail(at, findings);
    }

    /// All is known that will be of how the way to host `at` ended.
    pub(super) fn bury(&mut self, at: usize) {
        self.flush_held(at);
        let link = &mut self.links[at];
        match self.phase {
            Phase::Starting if link.is_remote() => {
                let text = link.why_ended();
                self.give_up(at, text);
            }
            _ => {
                let how = match link.is_remote() {
                    true => format!(
                        "host \"{}\" was lost: its connection ended ({})",
                        link.name,
                        link.how_ended()
                    ),
                    false => "the agent of this host was killed".into(),
                };
                self.lose(at, how);
            }
        }
    }

    /// The guard is gone: nobody would watch us, so the job ends.
    pub(super) fn lose_guard(&mut self) {
        self.guard_is_gone = true;
        let how = match process::exit_of_stranger(self.guard.as_fd(), self.guard_pid) {
            Some(Exit::Signal(signal)) => {
                format!("was killed by signal {signal} ({})", signal_name(signal))
            }
            Some(Exit::Code(code)) => format!("ended early with code {code}"),
            None => "ended early".into(),
        };
        let cause = Cause::Lost {
            who: "guard".into(),
            pid: self.guard_pid,
            how,
        };
        if self.culprit.is_none() {
            self.culprit = Some(self.findings(cause));
        }
        self.begin_to_end();
        for link in &mut self.links {
            link.drop_it(None);
        }
        self.sweep(UNKILLABLE);
    }

    /// The job's account, of those of its hosts.
    pub(super) fn account(&self) -> Account {
        Account {
            findings: combine(self.culprit.clone(), &self.links, || {
                self.findings(Cause::NoGoodbye(None))
            })
            .map(|findings| Findings {
                after: self.ended_after.unwrap_or(findings.after),
                size: self.job.ranks(),
                ..findings
            }),
            ..Account::default()
        }
    }
}

/// What the verdict is made of. `none` makes findings without a culprit.
fn combine(
    culprit: Option<Findings>,
    links: &[Link],
    none: impl Fn() -> Findings,
) -> Option<Findings> {
    let accounts = || {
        links.iter().filter_map(|link| match &link.state {
            State::Over(Some(account)) => Some((link, account)),
            _ => None,
        })
    };
    let suspect = accounts().find_map(|(link, it)| Some((link.name.clone(), it.suspect.clone()?)));
    let mut findings = match (culprit, suspect) {
        (None, None) => return None,
        (Some(culprit), Some((host, suspect))) if is_hearsay(&culprit.cause) => {
            let Cause::Gone(waiter) = culprit.cause else {
                unreachable!("hearsay is what a waiter says")
            };
            Findings {
                cause: Cause::NoGoodbye(Some(waiter)),
                rank: Some(suspect),
                host,
                ..culprit
            }
        }
        (Some(culprit), _) => culprit,
        (None, Some((host, suspect))) => Findings {
            rank: Some(suspect),
            host,
            ..none()
        },
    };
    let own = findings.rank.as_ref().map(|subject| subject.rank);
    let time_limit = matches!(findings.cause, Cause::TimeLimit(_));
    let mut ended = findings.ended;
    for link in links {
        match &link.state {
            State::Over(Some(account)) => {
                ended.extend(&account.ended);
                if time_limit {
                    findings.doing.extend(account.doing.iter().cloned());
                }
            }
            // Nobody told of them, and they cannot have gone on.
            State::Over(None) => ended.extend(&link.ranks),
            _ => {}
        }
    }
    ended.sort_unstable();
    ended.dedup();
    ended.retain(|rank| Some(*rank) != own);
    findings.doing.sort();
    Some(Findings { ended, ..findings })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::verdict::Subject;
    use crate::launch::{Host, Reach};

    fn subject(rank: usize) -> Subject {
        Subject {
            rank,
            pid: 100 + rank as u32,
            program: "./x".into(),
            call: String::new(),
        }
    }

    fn findings(cause: Cause, rank: Option<usize>, ended: &[usize]) -> Findings {
        Findings {
            cause,
            rank: rank.map(subject),
            size: 4,
            host: "a".into(),
            job: "1-1".into(),
            after: Duration::from_secs(1),
            ended: ended.to_vec(),
            doing: Vec::new(),
        }
    }

    /// Two hosts with ranks 0, 1 and 2, 3, and what each has told at last.
    fn links(accounts: [Option<Account>; 2]) -> Vec<Link> {
        let names = ["a", "b"].into_iter().zip([[0, 1], [2, 3]]);
        names
            .zip(accounts)
            .map(|((name, ranks), account)| {
                let mut link = Link::new(&Host {
                    name: name.into(),
                    reach: Reach::Here,
                    ranks: ranks.to_vec(),
                });
                link.state = State::Over(account.map(Box::new));
                link
            })
            .collect()
    }

    fn none() -> Findings {
        findings(Cause::NoGoodbye(None), None, &[])
    }

    #[test]
    fn nothing_failed() {
        let links = links([Some(Account::default()), Some(Account::default())]);
        assert_eq!(combine(None, &links, none), None);
    }

    #[test]
    fn those_who_ended_with_the_culprit_are_of_all_hosts() {
        let first = Account {
            findings: Some(findings(Cause::Signal(11), Some(1), &[0])),
            ended: vec![0, 1],
            ..Account::default()
        };
        let second = Account {
            ended: vec![3],
            ..Account::default()
        };
        let culprit = findings(Cause::Signal(11), Some(1), &[0]);
        let all = combine(Some(culprit), &links([Some(first), Some(second)]), none).unwrap();
        assert_eq!(all.ended, [0, 3]);
        assert_eq!(all.cause, Cause::Signal(11));
    }

    #[test]
    fn a_lost_hosts_ranks_have_ended() {
        let first = Account {
            ended: vec![0],
            ..Account::default()
        };
        let lost = findings(Cause::LostHost("host \"b\" was lost".into()), None, &[]);
        let all = combine(Some(lost), &links([Some(first), None]), none).unwrap();
        assert_eq!(all.ended, [0, 2, 3]);
    }

    #[test]
    fn a_rank_that_left_without_goodbye_is_accused_by_its_own_host() {
        let account = Account {
            suspect: Some(subject(2)),
            ..Account::default()
        };
        let links = links([Some(Account::default()), Some(account)]);
        let alone = combine(None, &links, none).unwrap();
        assert_eq!(alone.cause, Cause::NoGoodbye(None));
        assert_eq!((alone.rank, alone.host.as_str()), (Some(subject(2)), "b"));
        let waiter = findings(Cause::Gone("rank 0 waits for rank 2".into()), Some(0), &[]);
        let told = combine(Some(waiter), &links, none).unwrap();
        assert_eq!(
            told.cause,
            Cause::NoGoodbye(Some("rank 0 waits for rank 2".into()))
        );
        assert_eq!(told.rank, Some(subject(2)));
        let other = findings(Cause::Exit(3), Some(0), &[]);
        assert_eq!(
            combine(Some(other), &links, none).unwrap().cause,
            Cause::Exit(3)
        );
    }
}
