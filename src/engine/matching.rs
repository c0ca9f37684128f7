//! Matching: on (context, source, tag) alone. One posted and one unexpected queue a context, in effect.
//!
//! Receives from one source stand in that source's queue, wildcard ones in the context's wild queue; stamps say which was posted first.
//! Unexpected messages stand in their source's queue; stamps say which came first.
use super::RequestId;
use super::fifo::Fifo;
use super::protocol::Offer;
use crate::model::Envelope;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// A receive that waits for its message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Posted {
    stamp: u64,
    tag: Option<i32>,
    pub(super) request: RequestId,
}

impl Posted {
    /// The request, if it takes `tag`.
    #[inline(always)]
    pub(super) fn request_if(&self, tag: i32) -> Option<RequestId> {
        takes(self.tag, tag).then_some(self.request)
    }
}

/// What is known of, or held for, a message that no receive has asked for yet.
#[derive(Debug)]
pub(super) enum Payload {
    Inline([u8; super::protocol::CONTROL]),
    Heap(Box<[u8]>),
    /// Still with its sender.
    Offered(Offer),
    /// On its way through a socket, or there: this one of those that are kept.
    Coming(usize),
    /// A message from this rank to itself, still in the memory of that send.
    Local(RequestId),
}

/// A message that has arrived before its receive.
#[derive(Debug)]
pub(super) struct Unexpected {
    stamp: u64,
    /// `source` is the sender's rank in the communicator.
    pub(super) envelope: Envelope,
    /// The sender's world rank.
    pub(super) from: usize,
    pub(super) payload: Payload,
}

#[derive(Default)]
struct Source {
    posted: Fifo<Posted>,
    unexpected: VecDeque<Unexpected>,
}

/// The queues of one context.
#[derive(Default)]
pub(super) struct Queues {
    sources: Vec<Source>,
    wild: Fifo<Posted>,
    stamp: u64,
}

#[inline(always)]
fn takes(wanted: Option<i32>, tag: i32) -> bool {
    wanted.is_none_or(|w| w == tag)
}

impl Queues {
    #[inline(always)]
    fn source(&mut self, source: usize) -> &mut Source {
        if source >= self.sources.len() {
            self.meet(source);
        }
        &mut self.sources[source]
    }

    #[cold]
    fn meet(&mut self, source: usize) {
        self.sources.resize_with(source + 1, Source::default);
    }

    /// Appends a receive; `from` `None` is any source.
    #[inline(always)]
    pub(super) fn post(&mut self, from: Option<usize>, tag: Option<i32>, request: RequestId) {
        self.stamp += 1;
        let posted = Posted {
            stamp: self.stamp,
            tag,
            request,
        };
        match from {
            Some(source) => self.source(source).posted.push_back(posted),
            None => self.wild.push_back(posted),
        }
    }

    /// Whether nothing unexpected from `source` is held.
    #[inline(always)]
    pub(super) fn none_unexpected(&self, source: usize) -> bool {
        let source = self.sources.get(source);
        source.is_none_or(|s| s.unexpected.is_empty())
    }

    /// The receives that are posted for `source`, where none is from any source.
    #[inline(always)]
    pub(super) fn posted_alone(&mut self, source: usize) -> Option<&mut Fifo<Posted>> {
        let source = self.sources.get_mut(source)?;
        self.wild.is_empty().then_some(&mut source.posted)
    }

    /// Takes the first posted receive that matches a message.
    pub(super) fn match_posted(&mut self, source: usize, tag: i32) -> Option<Posted> {
        let exact = self.sources.get(source).and_then(|s| find(&s.posted, tag));
        let wild = if self.wild.is_empty() {
            None
        } else {
            find(&self.wild, tag)
        };
        match (exact, wild) {
            (None, None) => None,
            (Some((at, stamp)), other) if other.is_none_or(|(_, w)| stamp < w) => {
                self.sources[source].posted.remove(at)
            }
            (_, Some((at, _))) => self.wild.remove(at),
            (Some(_), None) => unreachable!("covered by the guard above"),
        }
    }

    /// Whether no receive is posted that a message from `source` could match, and none of its messages is held.
    #[inline(always)]
    pub(super) fn is_quiet(&self, source: usize) -> bool {
        let source = self.sources.get(source);
        self.wild.is_empty()
            && source.is_none_or(|s| s.posted.is_empty() && s.unexpected.is_empty())
    }

    pub(super) fn add_unexpected(&mut self, envelope: Envelope, from: usize, payload: Payload) {
        self.stamp += 1;
        let unexpected = Unexpected {
            stamp: self.stamp,
            envelope,
            from,
            payload,
        };
        self.source(envelope.source as usize)
            .unexpected
            .push_back(unexpected);
    }

    /// Where the earliest held message that fits is.
    fn locate(&self, from: Option<usize>, tag: Option<i32>) -> Option<(usize, usize)> {
        let first = |source: usize| {
            let held = &self.sources.get(source)?.unexpected;
            held.iter()
                .position(|u| takes(tag, u.envelope.tag))
                .map(|at| (source, at, held[at].stamp))
        };
        let found = match from {
            Some(source) => first(source),
            None => (0..self.sources.len())
                .filter_map(first)
                .min_by_key(|f| f.2),
        };
        found.map(|(source, at, _)| (source, at))
    }

    /// The earliest held message that fits.
    pub(super) fn peek_unexpected(
        &self,
        from: Option<usize>,
        tag: Option<i32>,
    ) -> Option<&Unexpected> {
        let (source, at) = self.locate(from, tag)?;
        self.sources[source].unexpected.get(at)
    }

    /// Takes the earliest held message that fits.
    pub(super) fn take_unexpected(
        &mut self,
        from: Option<usize>,
        tag: Option<i32>,
    ) -> Option<Unexpected> {
        let (source, at) = self.locate(from, tag)?;
        self.sources[source].unexpected.remove(at)
    }

    /// Takes a posted receive back.
    pub(super) fn unpost(&mut self, request: RequestId) -> bool {
        let queues = self
            .sources
            .iter_mut()
            .map(|s| &mut s.posted)
            .chain([&mut self.wild]);
        for queue in queues {
            let at = queue.iter().position(|p| p.request == request);
            if let Some(at) = at {
                queue.remove(at);
                return true;
            }
        }
        false
    }

    /// All messages that nobody received.
    pub(super) fn leftovers(&self) -> impl Iterator<Item = &Unexpected> {
        self.sources.iter().flat_map(|s| s.unexpected.iter())
    }

    fn is_idle(&self) -> bool {
        self.wild.is_empty()
            && self
                .sources
                .iter()
                .all(|s| s.posted.is_empty() && s.unexpected.is_empty())
    }
}

fn find(queue: &Fifo<Posted>, tag: i32) -> Option<(usize, u64)> {
    queue
        .iter()
        .enumerate()
        .find_map(|(at, p)| takes(p.tag, tag).then_some((at, p.stamp)))
}

/// Contexts are small numbers that nobody chooses to collide: one multiplication spreads them.
#[derive(Default)]
pub(super) struct ContextHasher(u64);

impl Hasher for ContextHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.write_u32(b as u32);
        }
    }
    fn write_u32(&mut self, value: u32) {
        self.0 = (self.0 ^ value as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// The queues of all contexts, and the last one used.
pub(super) struct Contexts {
    index: HashMap<u32, usize, BuildHasherDefault<ContextHasher>>,
    queues: Vec<Queues>,
    free: Vec<usize>,
    last: (u32, usize),
}

impl Contexts {
    pub(super) fn new() -> Contexts {
        let mut contexts = Contexts {
            index: HashMap::default(),
            queues: vec![Queues::default()],
            free: Vec::new(),
            last: (0, 0),
        };
        contexts.index.insert(0, 0);
        contexts
    }

    /// The queues of `context`, made if need be.
    #[inline(always)]
    pub(super) fn of(&mut self, context: u32) -> &mut Queues {
        if self.last.0 != context {
            self.last = (context, self.find_or_make(context));
        }
        &mut self.queues[self.last.1]
    }

    #[inline(never)]
    fn find_or_make(&mut self, context: u32) -> usize {
        if let Some(&at) = self.index.get(&context) {
            return at;
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.queues.push(Queues::default());
            self.queues.len() - 1
        });
        self.index.insert(context, at);
        at
    }

    /// Forgets a context that has nothing left; one that has stays until the end, so that the leftovers are told.
    pub(super) fn forget(&mut self, context: u32) {
        if context < 4
            || self
                .index
                .get(&context)
                .is_none_or(|&at| !self.queues[at].is_idle())
        {
            return;
        }
        let at = self.index.remove(&context).unwrap_or_default();
        self.queues[at] = Queues::default();
        self.free.push(at);
        self.last = (0, self.index[&0]);
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Queues> {
        self.queues.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TypeCode;

    fn envelope(source: u32, tag: i32) -> Envelope {
        Envelope {
            context: 0,
            source,
            tag,
            bytes: 0,
            code: TypeCode::UNCHECKED,
            site: 0,
            sync: false,
            ready: false,
        }
    }

    fn id(index: u32) -> RequestId {
        RequestId::new(index, 0)
    }

    #[test]
    fn receives_match_in_the_order_of_posting_across_wildcards() {
        let mut queues = Queues::default();
        queues.post(Some(1), Some(5), id(0));
        queues.post(None, Some(5), id(1));
        queues.post(Some(1), None, id(2));
        queues.post(None, None, id(3));
        let mut next = |source, tag| queues.match_posted(source, tag).map(|p| p.request.index());
        assert_eq!(next(1, 5), Some(0));
        assert_eq!(next(1, 6), Some(2));
        assert_eq!(next(1, 5), Some(1));
        assert_eq!(next(0, 9), Some(3));
        assert_eq!(next(0, 9), None);
    }

    #[test]
    fn a_wildcard_takes_the_earliest_arrival() {
        let mut queues = Queues::default();
        for (source, tag) in [(2, 1), (0, 2), (2, 2), (1, 1)] {
            queues.add_unexpected(
                envelope(source, tag),
                source as usize,
                Payload::Inline([0; 32]),
            );
        }
        let mut next = |from, tag| {
            queues
                .take_unexpected(from, tag)
                .map(|u| (u.envelope.source, u.envelope.tag))
        };
        assert_eq!(next(None, Some(2)), Some((0, 2)));
        assert_eq!(next(Some(2), None), Some((2, 1)));
        assert_eq!(next(None, None), Some((2, 2)));
        assert_eq!(next(None, Some(2)), None);
        assert_eq!(next(None, None), Some((1, 1)));
    }

    #[test]
    fn contexts_are_used_again() {
        let mut contexts = Contexts::new();
        for context in 4..2000 {
            contexts.of(context).post(None, None, id(0));
            assert!(contexts.of(context).unpost(id(0)));
            contexts.forget(context);
        }
        assert!(contexts.queues.len() < 4);
    }
}
