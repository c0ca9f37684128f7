//! How a job of several hosts starts: an agent on each, and all of them sent off together, or none.
use super::link::{Link, State};
use super::part::part;
use super::why::Failed;
use super::{AT_ONCE, Hub, Phase};
use crate::launch::describe::describe;
use crate::launch::job::Error;
use crate::launch::wire::{Order, Report};
use crate::sys::process;
use std::time::Instant;

impl Hub {
    /// Starts as many commands as may be under way, and sends everybody off once all are there.
    pub(super) fn start(&mut self, now: Instant) {
        for at in 0..self.links.len() {
            let link = &mut self.links[at];
            if matches!(link.state, State::Connecting)
                && now.duration_since(link.since) >= self.job.start_limit
            {
                let text = link.why(&Failed::Late(self.job.start_limit));
                self.give_up(at, text);
            }
        }
        let connecting = |link: &&Link| matches!(link.state, State::Connecting);
        let mut free = AT_ONCE.saturating_sub(self.links.iter().filter(connecting).count());
        for at in 0..self.links.len() {
            if free > 0 && matches!(self.links[at].state, State::Waiting) {
                free -= 1;
                match self.links[at].connect(&self.job) {
                    Err(text) => self.give_up(at, text),
                    Ok(()) if self.links[at].is_up() => {
                        self.links[at].order(&Order::Secret(self.secret))
                    }
                    Ok(()) => {}
                }
            }
        }
        self.tell_progress(now);
        if self
            .links
            .iter()
            .any(|link| !link.is_up() && !link.is_over())
        {
            return;
        }
        if self.unusable.is_empty() {
            return self.go();
        }
        let (bad, all) = (self.unusable.len(), self.links.len());
        let text = match all {
            1 => self.unusable[0].clone(),
            _ => format!(
                "{bad} of {all} hosts cannot be used, and nothing was started:\n  {}",
                self.unusable.join("\n  ")
            ),
        };
        self.refused = Some(Error::new(125, text));
        self.abandon();
    }

    /// Every agent is there: each gets its part of the job.
    pub(super) fn go(&mut self) {
        for (at, link) in self.links.iter_mut().enumerate() {
            for order in describe(&part(&self.job, at, &self.name, &self.around)) {
                link.order(&order);
            }
        }
        self.phase = Phase::Running;
        if self.job.verbose {
            self.note(format!(
                "job {}: guard {}, hub {}, hosts: {}",
                self.name,
                self.guard_pid,
                process::id(),
                self.links.len()
            ));
        }
    }

    /// Ends a job of which no rank was started.
    pub(super) fn abandon(&mut self) {
        self.phase = Phase::Ending;
        for link in &mut self.links {
            link.drop_it(None);
            link.kill();
        }
    }

    pub(super) fn give_up(&mut self, at: usize, text: String) {
        self.unusable.push(text);
        self.links[at].drop_it(None);
        self.links[at].kill();
    }

    /// Ranks are being started.
    pub(super) fn look_at_start(&mut self, now: Instant) {
        if self.started.is_some() {
            return;
        }
        self.tell_progress(now);
        if self
            .links
            .iter()
            .all(|link| matches!(link.state, State::Running | State::Over(_)))
        {
            let mut pids = vec![0; self.job.ranks()];
            for link in &self.links {
                for (&rank, &pid) in link.ranks.iter().zip(&link.pids) {
                    pids[rank] = pid;
                }
            }
            for report in Report::ranks(&pids) {
                self.outbox.report(&report);
            }
            self.outbox.report(&Report::Started {
                agent: process::id(),
            });
            self.started = Some(now);
            return;
        }
        for at in 0..self.links.len() {
            let link = &self.links[at];
            if matches!(link.state, State::Up)
                && now.duration_since(link.since) >= 2 * self.job.start_limit
            {
                let how = format!(
                    "host \"{}\" did not start its ranks within {} s",
                    link.name,
                    (2 * self.job.start_limit).as_secs_f64()
                );
                self.lose(at, how);
            }
        }
    }

    /// `17/64 hosts up, waiting for node23 (ssh, 4 s)`
    pub(super) fn tell_progress(&mut self, now: Instant) {
        let since = now.duration_since(self.begun);
        if since < self.progress {
            return;
        }
        self.progress = since.max(self.progress * 2);
        let waiting: Vec<String> = self
            .links
            .iter()
            .filter(|link| !matches!(link.state, State::Running | State::Over(_)))
            .filter(|link| self.phase != Phase::Starting || !link.is_up())
            .map(|link| {
                let what = match link.state {
                    State::Waiting => "its turn".into(),
                    State::Up | State::Running => "its ranks".into(),
                    _ => link.program(),
                };
                let since = now.duration_since(link.since).as_secs();
                format!("{} ({what}, {since} s)", link.name)
            })
            .collect();
        let more = match waiting.len() {
            0 => return,
            1..=3 => String::new(),
            more => format!(" and {} more", more - 3),
        };
        let named = waiting[..waiting.len().min(3)].join(", ");
        let unusable = match self.unusable.len() {
            0 => String::new(),
            some => format!("{some} cannot be used, "),
        };
        self.note(format!(
            "{}/{} hosts up, {unusable}waiting for {named}{more}",
            self.links.len() - waiting.len() - self.unusable.len(),
            self.links.len()
        ));
    }
}
