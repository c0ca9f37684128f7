//! What the agent has to tell its launcher: reports at once, output as far as the launcher's credit goes.
use super::channel::Channel;
use super::wire::{PAYLOAD, Report, Stream};
use std::collections::VecDeque;
use std::io;

/// Bytes of output that may be under way to the launcher and not yet written by it.
const WINDOW: usize = 1 << 20;
/// With this much more waiting here, the ranks' pipes are left alone: their writers wait, and our memory is bounded.
const BACKLOG: usize = 256 << 10;

#[derive(Default)]
pub(super) struct Outbox {
    reports: VecDeque<Vec<u8>>,
    output: VecDeque<(usize, Vec<u8>)>,
    waiting: usize,
    under_way: usize,
    /// The launcher does not read any more.
    lost: bool,
}

impl Outbox {
    pub(super) fn report(&mut self, report: &Report) {
        self.reports.push_back(report.encode());
    }

    /// Output of a rank, which is sent in one run.
    pub(super) fn output(&mut self, stream: Stream, rank: u32, bytes: &[u8]) {
        let mut pieces = bytes.chunks(PAYLOAD).peekable();
        while let Some(piece) = pieces.next() {
            self.waiting += piece.len();
            let report = Report::Output {
                stream,
                rank,
                more: pieces.peek().is_some(),
                bytes: piece.to_vec(),
            };
            self.output.push_back((piece.len(), report.encode()));
        }
    }

    /// The launcher has written so many bytes.
    pub(super) fn taken(&mut self, bytes: usize) {
        self.under_way = self.under_way.saturating_sub(bytes);
    }

    /// Whether there is room for more output.
    pub(super) fn has_room(&self) -> bool {
        self.waiting < BACKLOG
    }

    /// Whether all output has been handed to the launcher.
    pub(super) fn is_drained(&self) -> bool {
        self.lost || self.output.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lost || (self.output.is_empty() && self.reports.is_empty())
    }

    /// Gives up the output that the launcher did not take.
    pub(super) fn discard_output(&mut self) {
        self.output.clear();
        self.waiting = 0;
    }

    fn may_send_output(&self) -> bool {
        self.output
            .front()
            .is_some_and(|(len, _)| self.under_way == 0 || self.under_way + len <= WINDOW)
    }

    /// Whether something could be sent if the socket had room.
    pub(super) fn wants_room(&self) -> bool {
        !self.lost && (!self.reports.is_empty() || self.may_send_output())
    }

    /// Sends what can be sent without waiting; how much of it was output.
    pub(super) fn send(&mut self, channel: &mut Channel) -> usize {
        let mut sent = 0;
        self.lost |= channel.flush().is_err();
        while self.wants_room() {
            let frame = self
                .reports
                .front()
                .or_else(|| self.output.front().map(|(_, frame)| frame));
            let Some(frame) = frame else { break };
            match channel.send(frame) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.lost = true;
                    break;
                }
            }
            if self.reports.pop_front().is_none() {
                if let Some((len, _)) = self.output.pop_front() {
                    self.waiting -= len;
                    self.under_way += len;
                    sent += len;
                }
            }
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fd;

    #[test]
    fn output_waits_for_credit_and_reports_do_not() {
        let (agent, launcher) = fd::packet_pair().unwrap();
        let (mut agent, mut launcher) = (Channel::Packets(agent), Channel::Packets(launcher));
        let mut outbox = Outbox::default();
        outbox.output(Stream::Out, 3, &vec![b'x'; WINDOW + PAYLOAD]);
        let mut received = 0;
        let mut drain = |outbox: &mut Outbox, received: &mut usize| loop {
            outbox.send(&mut agent);
            let Ok(packet) = launcher.receive() else {
                return;
            };
            match Report::decode(&packet) {
                Some(Report::Output {
                    stream: Stream::Out,
                    rank: 3,
                    bytes,
                    ..
                }) => *received += bytes.len(),
                other => assert_eq!(other, Some(Report::Paused)),
            }
        };
        drain(&mut outbox, &mut received);
        assert_eq!(received, WINDOW);
        assert!(!outbox.is_drained() && !outbox.wants_room());
        outbox.report(&Report::Paused);
        assert!(outbox.wants_room());
        drain(&mut outbox, &mut received);
        outbox.taken(WINDOW);
        drain(&mut outbox, &mut received);
        assert_eq!(received, WINDOW + PAYLOAD);
        assert!(outbox.is_empty() && outbox.has_room());
    }
}
