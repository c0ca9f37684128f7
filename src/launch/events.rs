//! What the agent does about each event.
use super::agent::{Agent, Phase};
use super::guard::UNKILLABLE;
use super::judge::{Culprit, Told};
use super::ranks::{Claimant, Stop, refusal};
use super::running::Ending;
use super::teardown;
use super::verdict::{Cause, signal_name};
use super::wire::{Order, Report, Stream};
use crate::job::RankState;
use crate::job::claim::CLAIM;
use crate::job::directory::Record;
use crate::job::exchange::{self, Request};
use crate::job::spawn::SPAWN;
use crate::sys::fd::{self, Interest, Watch};
use crate::sys::process::{self, Change, Exit};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

/// Read from a pipe at once; as much as a pipe holds.
const CHUNK: usize = 64 << 10;

impl Agent {
    /// The launcher is gone: everything is killed at once, the guard last, and nobody is told.
    pub(super) fn forsaken(&mut self) -> ! {
        self.segment.control().raise_abort();
        let until = Instant::now() + UNKILLABLE;
        while !teardown::kill(&self.ranks).is_empty() && Instant::now() < until {
            let mut watch = Watch::default();
            watch.add(self.children.as_fd(), Interest::Read);
            watch.wait(Some(until.saturating_duration_since(Instant::now())));
            fd::clear_signals(&self.children);
        }
        // It would do so itself, unless it is stopped.
        let _ = process::signal(self.guard.as_fd(), libc::SIGKILL);
        process::exit_now(125)
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
        self.end(Culprit { cause, rank: None });
        self.kill_now();
    }

    /// Gives a sign of life when it is time, and ends everything when there has been none of the launcher's side for too long.
    pub(super) fn keep_pulse(&mut self) {
        let Some(pulse) = &mut self.pulse else { return };
        let now = Instant::now();
        if pulse.look(now) {
            self.outbox.report(&Report::Beat);
        }
        if pulse.silence(now).is_some() {
            self.forsaken();
        }
    }

    pub(super) fn take_orders(&mut self) {
        loop {
            match self.control.receive() {
                Ok(frame) => {
                    if let Some(pulse) = &mut self.pulse {
                        pulse.hear(Instant::now());
                    }
                    if let Some(order) = Order::decode(&frame) {
                        self.obey(order);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.forsaken(),
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Describe(_) | Order::Go | Order::Secret(_) | Order::Beat => {}
            Order::Fail => self.begin_to_end(None),
            Order::Publish(record) => self.append(&record),
            Order::Gone(rank, state) => {
                let world = self.segment.directory().world();
                if (rank as usize) < world {
                    let state = RankState::from_word(state);
                    self.segment.directory().set_state(rank as usize, state);
                }
            }
            Order::End(Ending::TimeLimit) => self.end(Culprit {
                cause: Cause::TimeLimit(self.job.timeout),
                rank: None,
            }),
            Order::End(Ending::Signal(_)) if matches!(self.phase, Phase::Ending(_)) => {
                self.kill_now()
            }
            Order::End(Ending::Signal(_)) if matches!(self.phase, Phase::Telling(None)) => {
                self.hurry()
            }
            Order::End(Ending::Signal(signal)) => self.end(Culprit {
                cause: Cause::Interrupted(signal),
                rank: None,
            }),
            Order::Pause if matches!(self.phase, Phase::Running) => {
                self.paused = true;
                self.pausing = Some(Instant::now());
                teardown::signal_all(&self.ranks, libc::SIGSTOP);
            }
            Order::Pause => self.outbox.report(&Report::Paused),
            Order::Resume => {
                self.paused = false;
                self.pausing = None;
                // Now, not when the kernel says so: else a pause that follows at once takes them for stopped.
                self.ranks.iter_mut().for_each(|rank| rank.stop = None);
                teardown::signal_all(&self.ranks, libc::SIGCONT);
            }
            Order::Signal(signal) => {
                for rank in self.ranks.iter().filter(|rank| !rank.over()) {
                    let _ = process::signal(rank.main_process(), signal);
                }
            }
            Order::Taken(bytes) => self.outbox.taken(bytes as usize),
            Order::Closed(stream) => {
                // As if the ranks wrote there themselves: they get SIGPIPE.
                let stream = match stream {
                    Stream::Out => 0,
                    Stream::Err => 1,
                };
                for rank in &mut self.ranks {
                    rank.streams[stream] = Default::default();
                }
            }
            Order::Stdin(bytes) if bytes.is_empty() => self.feed.ended = true,
            Order::Stdin(bytes) if self.feed.pipe.is_some() => self.feed.held.extend(bytes),
            Order::Stdin(bytes) => self.outbox.report(&Report::StdinTaken(bytes.len() as u32)),
        }
    }

    /// Gives the rank that reads standard input what there is for it.
    pub(super) fn feed(&mut self) {
        let Some(pipe) = &self.feed.pipe else { return };
        if !self.feed.held.is_empty() {
            match fd::write(pipe.as_raw_fd(), &self.feed.held) {
                Ok(len) => {
                    self.feed.held.drain(..len);
                    self.outbox.report(&Report::StdinTaken(len as u32));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.outbox
                        .report(&Report::StdinTaken(self.feed.held.len() as u32));
                    self.feed.held.clear();
                    self.feed.ended = true;
                }
            }
        }
        if self.feed.held.is_empty() && self.feed.ended {
            self.feed.pipe = None;
        }
    }

    /// The launch pipe: at its end every rank has executed its program.
    pub(super) fn take_launch(&mut self) {
        let Some(pipe) = &self.launch else { return };
        let mut told = [0_u8; 64];
        let len = fd::read(pipe.as_raw_fd(), &mut told).unwrap_or(0);
        self.launch = None;
        match refusal(&told[..len], &self.job, &self.numbers) {
            Some(error) => {
                self.refused = Some(error);
                self.segment.control().raise_abort();
                self.kill_now();
            }
            None => {
                let pids: Vec<u32> = self.ranks.iter().map(|rank| rank.pid).collect();
                for report in Report::ranks(&pids) {
                    self.outbox.report(&report);
                }
                self.outbox.report(&Report::Started {
                    agent: process::id(),
                });
            }
        }
    }

    /// A rank says something over its claim socket: first who it is, then what it publishes.
    pub(super) fn take_claim(&mut self, number: usize) {
        let rank = &mut self.ranks[number];
        let Some(socket) = &rank.claim else { return };
        let packet = match fd::receive_descriptors(socket.as_fd(), exchange::PACKET) {
            Ok(Some(packet)) => packet,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // Nobody can claim it any more.
            Ok(None) | Err(_) => {
                rank.claim = None;
                return;
            }
        };
        let Some((pid, _)) = packet.sender else {
            return;
        };
        match &rank.claimant {
            None => self.introduce(number, pid, packet),
            Some(claimant) if claimant.pid == pid => self.serve(number, packet),
            Some(_) => {}
        }
    }

    /// A claimant introduces itself.
    fn introduce(&mut self, number: usize, pid: u32, packet: fd::Packet) {
        let rank = &mut self.ranks[number];
        let mut descriptors = packet.descriptors.into_iter();
        let (Some(lifeline), Some(claimant)) = (descriptors.next(), descriptors.next()) else {
            return;
        };
        // The kernel vouches for the sender's number; the descriptor must mean the same process, or one that a wrapper has waited for
        // already, which has no number any more.
        let other = process::number(claimant.as_fd()).is_some_and(|number| number != pid);
        if packet.bytes != CLAIM || other {
            return;
        }
        let ended = pid == rank.pid && rank.exit.is_some();
        rank.claimant = Some(Claimant {
            pid,
            process: claimant,
            _lifeline: lifeline,
            ended,
        });
    }

    /// A rank publishes something, asks for the secret, or for further ranks.
    fn serve(&mut self, number: usize, packet: fd::Packet) {
        if packet.bytes == SPAWN {
            return self.take_request(packet.descriptors);
        }
        match Request::decode(&packet.bytes) {
            Some(Request::Put { key, value }) => self.publish(Record {
                rank: self.number(number) as u32,
                key,
                value,
            }),
            Some(Request::Secret) => {
                if let Some(socket) = &self.ranks[number].claim {
                    let _ = fd::send(socket.as_fd(), Request::answer(self.secret.as_ref()), false);
                }
            }
            None => {}
        }
    }

    /// A rank here has published something.
    fn publish(&mut self, record: Record) {
        self.append(&record);
        if self.job.site.is_some() {
            self.outbox.report(&Report::Published(record));
        }
    }

    /// Puts a record into this host's directory.
    fn append(&mut self, record: &Record) {
        if let Err(error) = self.segment.directory().append(record) {
            self.note(error.to_string());
        }
    }

    /// Processes have ended: of each the rank, and whether it was a claimant that is not our child.
    pub(super) fn take_ends(&mut self, ends: impl Iterator<Item = (usize, bool)>) {
        let mut told: Vec<(usize, Told, bool)> = Vec::new();
        for (number, stranger) in ends {
            self.take_claim(number);
            let rank = &mut self.ranks[number];
            rank.stop = None;
            if stranger {
                let given_up = rank.given_up;
                if let Some(claimant) = &mut rank.claimant {
                    claimant.ended = true;
                    if given_up {
                        continue;
                    }
                    told.push((
                        number,
                        process::exit_of_stranger(claimant.process.as_fd(), claimant.pid),
                        true,
                    ));
                }
                continue;
            }
            let exit = match process::peek(rank.process.as_fd()) {
                Ok(Some(exit)) => exit,
                Ok(None) => continue,
                // Somebody else waited for it, which only a bug can do.
                Err(_) => Exit::Code(125),
            };
            rank.exit = Some(exit);
            let is_claimant = rank.is_claimant();
            if let Some(claimant) = rank.claimant.as_mut().filter(|_| is_claimant) {
                claimant.ended = true;
            }
            if rank.given_up {
                // Nobody knows of it, so that nobody waits for it.
                continue;
            }
            told.push((number, Some(exit), is_claimant));
        }
        if self.phase != Phase::Running {
            return;
        }
        let mut failed: Vec<(usize, Told)> = Vec::new();
        for (rank, exit, claimant) in told {
            if let Some(told) = self.judge_end(rank, exit, claimant) {
                // A wrapper's code says more than a claimant's end of which the kernel does not tell.
                match failed.iter_mut().find(|(other, _)| *other == rank) {
                    Some((_, known)) => *known = known.or(told),
                    None => failed.push((rank, told)),
                }
            }
        }
        self.tell_departures();
        if !failed.is_empty() || self.segment.control().is_aborted() {
            if let Some(culprit) = self.find_culprit(&failed) {
                self.end(culprit);
            }
        }
    }

    /// Tells the other hosts which ranks are gone.
    fn tell_departures(&mut self) {
        if self.job.site.is_none() {
            return;
        }
        for local in 0..self.ranks.len() {
            let state = self.segment.control().state(local);
            if state.is_gone() && !self.ranks[local].departed && self.ranks[local].over() {
                self.ranks[local].departed = true;
                let number = self.number(local) as u32;
                self.outbox.report(&Report::Gone(number, state as u32));
            }
        }
    }

    /// Children have stopped, gone on, or been adopted and ended.
    pub(super) fn take_changes(&mut self) {
        teardown::reap_adopted(&self.ranks);
        let now = Instant::now();
        for rank in self.ranks.iter_mut().filter(|rank| rank.exit.is_none()) {
            match process::change(rank.process.as_fd()) {
                // A pause that was asked for needs no telling.
                Some(Change::Stopped(signal)) => {
                    rank.stop = Some(Stop {
                        since: now,
                        signal,
                        told: self.paused,
                    })
                }
                Some(Change::Continued) => rank.stop = None,
                None => {}
            }
        }
    }

    /// Looks at claimants that are not our children, of whose stops nobody tells.
    pub(super) fn look_at_strangers(&mut self) {
        let now = Instant::now();
        for rank in self.ranks.iter_mut().filter(|rank| rank.has_stranger()) {
            let stopped = process::state(rank.main_pid()) == Some('T');
            match (&rank.stop, stopped) {
                (None, true) => {
                    rank.stop = Some(Stop {
                        since: now,
                        signal: libc::SIGSTOP,
                        told: self.paused,
                    })
                }
                (Some(_), false) => rank.stop = None,
                _ => {}
            }
        }
    }

    /// Reads what a rank's stream has, once. Whether there may be more now.
    pub(super) fn take_output(&mut self, rank: usize, stream: usize) -> bool {
        let (Some(pipe), lines) = &mut self.ranks[rank].streams[stream] else {
            return false;
        };
        let mut buffer = vec![0_u8; CHUNK];
        let (bytes, more) = match fd::read(pipe.as_raw_fd(), &mut buffer) {
            Ok(len) if len > 0 => (lines.push(&buffer[..len], Instant::now()), true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Ok(_) | Err(_) => {
                let rest = lines.take();
                self.ranks[rank].streams[stream].0 = None;
                (rest, false)
            }
        };
        self.put(rank, stream, bytes);
        more
    }

    /// Passes output of a rank on to where it goes.
    pub(super) fn put(&mut self, rank: usize, stream: usize, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let number = self.number(rank);
        match &mut self.logs {
            Some(logs) => {
                if let Some(text) = logs.write(rank, number, stream, bytes) {
                    self.note(text);
                }
            }
            None => {
                self.outbox.output(
                    if stream == 0 {
                        Stream::Out
                    } else {
                        Stream::Err
                    },
                    number as u32,
                    &bytes,
                );
            }
        }
    }
}
