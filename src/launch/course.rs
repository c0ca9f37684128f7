//! The course of a job: which phase follows when, and the deadlines of each.
use super::agent::{Agent, Phase};
use super::guard::{STOPPED, UNKILLABLE, unkillable};
use super::judge::Culprit;
use super::teardown;
use super::verdict::{Cause, signal_name};
use super::wire::Report;
use crate::sys::fd::{Interest, Watch};
use crate::sys::process;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long processes that outlive their rank may go on writing before they are killed.
const LATE_OUTPUT: Duration = Duration::from_millis(100);
/// How long a launcher that was told to end may take to write output that it has been given.
const BLOCKED_OUTPUT: Duration = Duration::from_secs(1);
/// How long stopping everything may take before the launcher is told that it is stopped.
const PAUSING: Duration = Duration::from_millis(500);
/// How often claimants that are not our children are looked at for stops.
const LOOK: Duration = Duration::from_secs(1);

impl Agent {
    /// Begins to end the job because of `culprit`, unless it is ending already.
    pub(super) fn end(&mut self, culprit: Culprit) {
        self.begin_to_end(Some(culprit));
    }

    /// The same; without a culprit it is somebody of another host.
    pub(super) fn begin_to_end(&mut self, culprit: Option<Culprit>) {
        if !matches!(self.phase, Phase::Running | Phase::Draining(_)) {
            return;
        }
        let told = culprit.as_ref().is_none_or(|culprit| {
            matches!(culprit.cause, Cause::TimeLimit(_) | Cause::Interrupted(_))
        });
        self.culprit = culprit;
        self.ended_after = Some(self.begun.elapsed());
        self.ended_with = (0..self.ranks.len())
            .filter(|&rank| !self.ranks[rank].over())
            .collect();
        if self.job.site.is_some() && !told {
            // The other hosts' ranks end now, not when ours are gone.
            if let Some(findings) = self.findings() {
                self.outbox.report(&Report::Failed(Box::new(findings)));
                self.outbox.send(&mut self.control);
            }
        }
        self.segment.control().raise_abort();
        teardown::tell(&self.ranks);
        self.phase = Phase::Ending(Instant::now() + self.job.grace);
    }

    /// KILL, at once.
    pub(super) fn kill_now(&mut self) {
        self.phase = match self.phase {
            Phase::Running | Phase::Draining(_) | Phase::Ending(_) => {
                Phase::Killing(Instant::now() + UNKILLABLE)
            }
            later => later,
        };
    }

    /// Nothing is left but output that the launcher does not take: it has a little time for that.
    pub(super) fn hurry(&mut self) {
        self.phase = Phase::Telling(Some(Instant::now() + BLOCKED_OUTPUT));
    }

    /// Does everything whose time has come.
    pub(super) fn advance(&mut self) {
        let now = Instant::now();
        self.flush_lines(now);
        if self.time_is_up(now) {
            self.end(Culprit {
                cause: Cause::TimeLimit(self.job.timeout),
                rank: None,
            });
        }
        if self.next_look.is_some_and(|at| at <= now) {
            self.look_at_strangers();
        }
        self.next_look =
            self.ranks
                .iter()
                .any(|rank| rank.has_stranger())
                .then(|| match self.next_look {
                    Some(at) if at > now => at,
                    _ => now + LOOK,
                });
        self.tell_stops(now);
        self.tell_pause(now);
        loop {
            let over = || self.ranks.iter().all(|rank| rank.over());
            self.phase = match self.phase {
                Phase::Running if self.launch.is_none() && over() => {
                    // With other hosts that is one host's part of the account.
                    if self.no_goodbye.is_some() && self.job.site.is_none() {
                        self.culprit = Some(self.accuse_no_goodbye(None));
                    }
                    self.ended_after = Some(self.begun.elapsed());
                    Phase::Draining(now + LATE_OUTPUT)
                }
                Phase::Draining(until)
                    if now >= until || self.ranks.iter().all(|rank| rank.silent()) =>
                {
                    Phase::Killing(now + UNKILLABLE)
                }
                Phase::Ending(until)
                    if now >= until || (over() && !teardown::stragglers(&self.ranks)) =>
                {
                    Phase::Killing(now + UNKILLABLE)
                }
                Phase::Killing(until) => {
                    let living = teardown::kill(&self.ranks);
                    if !living.is_empty() && now < until {
                        return;
                    }
                    if !living.is_empty() {
                        self.note(unkillable(&living));
                    }
                    let impatient = self.culprit.as_ref().is_some_and(|it| {
                        matches!(it.cause, Cause::TimeLimit(_) | Cause::Interrupted(_))
                    });
                    Phase::Telling(impatient.then(|| now + BLOCKED_OUTPUT))
                }
                Phase::Telling(until) => {
                    self.read_to_the_end();
                    let all =
                        self.ranks.iter().all(|rank| rank.silent()) && self.outbox.is_drained();
                    if all || until.is_some_and(|until| now >= until) {
                        self.finish();
                    }
                    return;
                }
                _ => return,
            };
        }
    }

    /// When [`Agent::advance`] has something to do next, if nothing happens before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Running => self.job.timeout.map(|limit| self.begun + limit),
            Phase::Draining(at) | Phase::Ending(at) | Phase::Killing(at) => Some(at),
            Phase::Telling(at) => at,
        };
        let lines = self
            .ranks
            .iter()
            .flat_map(|rank| rank.streams.iter())
            .filter_map(|(_, lines)| lines.deadline());
        let stops = self
            .ranks
            .iter()
            .filter_map(|rank| rank.stop.as_ref())
            .filter(|stop| !stop.told)
            .map(|stop| stop.since + STOPPED);
        let pausing = self.pausing.map(|since| since + PAUSING);
        lines
            .chain(stops)
            .chain(pausing)
            .chain(self.pulse.as_ref().map(|pulse| pulse.deadline()))
            .chain(phase)
            .chain(self.next_look)
            .min()
    }

    fn time_is_up(&self, now: Instant) -> bool {
        self.phase == Phase::Running
            && self
                .job
                .timeout
                .is_some_and(|limit| now.duration_since(self.begun) >= limit)
    }

    /// Shows parts of lines that have waited long enough.
    fn flush_lines(&mut self, now: Instant) {
        for rank in 0..self.ranks.len() {
            for stream in 0..2 {
                let lines = &mut self.ranks[rank].streams[stream].1;
                if lines.deadline().is_some_and(|at| at <= now) {
                    let bytes = lines.take();
                    self.put(rank, stream, bytes);
                }
            }
        }
    }

    fn tell_stops(&mut self, now: Instant) {
        for number in 0..self.ranks.len() {
            let rank = &mut self.ranks[number];
            let pid = rank.main_pid();
            let Some(stop) = rank
                .stop
                .as_mut()
                .filter(|stop| !stop.told && now.duration_since(stop.since) >= STOPPED)
            else {
                continue;
            };
            stop.told = true;
            let signal = signal_name(stop.signal);
            let rank = self.number(number);
            self.note(format!("rank {rank} (process {pid}) is stopped ({signal}), and the job waits for it; `kill -CONT {pid}` lets it go on"));
        }
    }

    fn tell_pause(&mut self, now: Instant) {
        let Some(since) = self.pausing else { return };
        let stopped = self
            .ranks
            .iter()
            .all(|rank| rank.exit.is_some() || rank.stop.is_some());
        if stopped || now.duration_since(since) >= PAUSING {
            self.pausing = None;
            self.outbox.report(&Report::Paused);
        }
    }

    /// Nothing is left that could write: reads what the pipes still hold, as far as the launcher takes it, and closes them.
    fn read_to_the_end(&mut self) {
        for rank in 0..self.ranks.len() {
            for stream in 0..2 {
                while self.outbox.has_room() && self.ranks[rank].streams[stream].0.is_some() {
                    if !self.take_output(rank, stream) {
                        // Its end, or nothing more now: a writer outside the job may have it open for good.
                        self.ranks[rank].streams[stream].0 = None;
                        let rest = self.ranks[rank].streams[stream].1.take();
                        self.put(rank, stream, rest);
                    }
                }
            }
        }
    }

    /// Tells the launcher what came of the job, and ends.
    fn finish(&mut self) -> ! {
        if !self.outbox.is_drained() {
            self.outbox.discard_output();
        }
        let report = match &self.refused {
            Some(error) => Report::Refused {
                code: error.code(),
                text: error.to_string(),
            },
            None => Report::Done(Box::new(self.account())),
        };
        self.outbox.report(&report);
        loop {
            self.outbox.send(&mut self.control);
            if self.outbox.is_empty() && self.control.is_flushed() {
                break;
            }
            let mut watch = Watch::default();
            let orders = self.control.watch(&mut watch, true);
            if let Some(launcher) = &self.launcher {
                watch.add(launcher.as_fd(), Interest::Read);
            }
            watch.wait(self.pulse.as_ref().map(|_| BLOCKED_OUTPUT));
            if watch.ready(orders) || self.pulse.is_some() {
                self.take_orders();
                self.keep_pulse();
            }
        }
        for rank in &self.ranks {
            process::reap(rank.pid);
        }
        process::exit_now(0)
    }
}
