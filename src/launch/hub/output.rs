//! What ranks of all hosts print, on its way to the launcher, and the credit that goes back for it.
use super::Hub;
use crate::launch::wire::{Order, Stream};

/// Output of a host that waits for the launcher, and what its agent may send once the launcher has it.
pub(super) struct Owed {
    link: usize,
    left: usize,
    credit: u32,
}

impl Hub {
    /// Passes output on in one run for each run that a host sent.
    pub(super) fn relay(
        &mut self,
        at: usize,
        stream: Stream,
        rank: u32,
        more: bool,
        bytes: Vec<u8>,
    ) {
        let link = &mut self.links[at];
        let credit = bytes.len() as u32;
        if more {
            // What is held here is less than a line's limit, so that its credit may be given at once.
            link.held.extend(bytes);
            return link.order(&Order::Taken(credit));
        }
        let mut whole = std::mem::take(&mut link.held);
        whole.extend(bytes);
        self.outbox.output(stream, rank, &whole);
        self.owed.push_back(Owed {
            link: at,
            left: whole.len(),
            credit,
        });
    }

    /// A host that is lost amid a run has sent what it has sent.
    pub(super) fn flush_held(&mut self, at: usize) {
        let held = std::mem::take(&mut self.links[at].held);
        if !held.is_empty() {
            let rank = self.links[at].ranks.first().copied().unwrap_or(0) as u32;
            self.outbox.output(Stream::Out, rank, &held);
            self.owed.push_back(Owed {
                link: at,
                left: held.len(),
                credit: 0,
            });
        }
    }

    /// So much output has gone to the launcher: those whose it was may send more.
    pub(super) fn pay(&mut self, mut sent: usize) {
        while let Some(owed) = self.owed.front_mut().filter(|_| sent > 0) {
            let part = sent.min(owed.left);
            owed.left -= part;
            sent -= part;
            if owed.left == 0 {
                let (link, credit) = (owed.link, owed.credit);
                self.links[link].order(&Order::Taken(credit));
                self.owed.pop_front();
            }
        }
    }
}
