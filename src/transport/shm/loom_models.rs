//! Loom runs the lane, with two slots and a byte ring of two spans, through every interleaving of its two ends.
use super::lane::{Arrival, Rx, SlotHead, Tx};
use super::memory::{BODY, Credit, LaneMemory, SLOT_WORDS, Word};
use core::sync::atomic::Ordering;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::thread;
use std::collections::VecDeque;

const SLOTS: usize = 2;
const SPAN: usize = 128;
/// One that goes through the byte ring.
const LONG: usize = 97;
/// One of several lines in its slot.
const LINES: usize = 120;

impl Word for AtomicU64 {
    fn load(&self, order: Ordering) -> u64 {
        AtomicU64::load(self, order)
    }

    fn store(&self, value: u64, order: Ordering) {
        AtomicU64::store(self, value, order);
    }
}

struct Shared {
    words: [[AtomicU64; SLOT_WORDS]; SLOTS],
    credit: [AtomicU64; 3],
    /// Loom checks every access to a span against every other.
    spans: [UnsafeCell<[u8; SPAN]>; 2],
    /// The bodies of slots that are not written by words; so too.
    bodies: [UnsafeCell<[u8; LINES]>; SLOTS],
}

#[derive(Clone)]
struct LoomLane(Arc<Shared>);

impl LoomLane {
    fn new() -> LoomLane {
        let word = |_| AtomicU64::new(0);
        LoomLane(Arc::new(Shared {
            words: core::array::from_fn(|_| core::array::from_fn(word)),
            credit: core::array::from_fn(word),
            spans: core::array::from_fn(|_| UnsafeCell::new([0; SPAN])),
            bodies: core::array::from_fn(|_| UnsafeCell::new([0; LINES])),
        }))
    }

    /// The body of several lines in slot `slot`, read now.
    fn read_body(&self, slot: usize) -> [u8; LINES] {
        // SAFETY: loom checks that nobody writes it meanwhile.
        self.0.bodies[slot].with(|body| unsafe { *body })
    }

    /// The span at byte `at`, read now.
    fn read(&self, at: usize) -> [u8; SPAN] {
        // SAFETY: loom checks that nobody writes it meanwhile.
        self.0.spans[at / SPAN].with(|span| unsafe { *span })
    }
}

impl LaneMemory for LoomLane {
    type Word = AtomicU64;
    const SLOTS: usize = SLOTS;
    const RING: usize = 2 * SPAN;
    const LONG: usize = 2 * SPAN;

    fn slot(&self, slot: usize) -> &[AtomicU64; SLOT_WORDS] {
        &self.0.words[slot]
    }

    fn credit(&self, which: Credit) -> &AtomicU64 {
        &self.0.credit[which as usize]
    }

    fn body(&self, _slot: usize) -> *const u8 {
        // The models read the words, or through `read_body`.
        core::ptr::null()
    }

    fn fill_body(&self, slot: usize, len: usize, fill: impl FnOnce(*mut u8)) {
        assert!(len <= LINES);
        self.0.bodies[slot].with_mut(|body| fill(body.cast()));
    }

    fn fill(&self, at: usize, len: usize, fill: impl FnOnce(*mut u8)) {
        assert!(at % SPAN == 0 && len <= SPAN);
        self.0.spans[at / SPAN].with_mut(|span| fill(span.cast()));
    }

    fn span(&self, at: usize, len: usize) -> *const u8 {
        assert!(at % SPAN == 0 && len <= SPAN);
        // The offset takes the pointer's place: the models read through `read`, so that loom sees it.
        core::ptr::without_provenance(at)
    }

    fn long_span(&self, at: usize, len: usize) -> *const u8 {
        // The models have one ring, of which either sort of message uses all.
        self.span(at, len)
    }
}

fn head(message: u64) -> SlotHead {
    SlotHead {
        kind: 1,
        tag: message as i32,
        code: message << 32,
        ..SlotHead::default()
    }
}

const MESSAGES: u64 = 3;

/// Waits for the next message.
fn next(rx: &Rx<LoomLane>) -> Arrival {
    loop {
        match rx.peek().unwrap() {
            Some(arrival) => return arrival,
            None => thread::yield_now(),
        }
    }
}

/// More messages than slots, each in its slot.
#[test]
fn loom_lane_slots_are_reused_in_order() {
    loom::model(|| {
        let memory = LoomLane::new();
        let mut tx = Tx::new(memory.clone(), 0, 1);
        let mut rx = Rx::over(memory.clone(), 0, 1);
        let sender = thread::spawn(move || {
            for message in 0..MESSAGES {
                while !tx.try_inline(&head(message), &(message + 10).to_le_bytes()) {
                    thread::yield_now();
                }
            }
            tx.check().unwrap();
        });
        for message in 0..MESSAGES {
            let arrival = next(&rx);
            assert_eq!((arrival.head, arrival.len), (head(message), 8));
            let slot = message as usize % SLOTS;
            let body = LaneMemory::slot(&memory, slot)[BODY].load(Ordering::Relaxed);
            assert_eq!(body, message + 10);
            rx.consume(&arrival, 0);
        }
        assert!(rx.peek().unwrap().is_none());
        sender.join().unwrap();
    });
}

/// More messages of several lines than slots.
#[test]
fn loom_lane_bodies_of_several_lines_are_reused_in_order() {
    loom::model(|| {
        let memory = LoomLane::new();
        let mut tx = Tx::new(memory.clone(), 0, 1);
        let mut rx = Rx::over(memory.clone(), 0, 1);
        let sender = thread::spawn(move || {
            for message in 0..MESSAGES {
                let bytes = [message as u8 + 1; LINES];
                while !tx.try_inline(&head(message), &bytes) {
                    thread::yield_now();
                }
            }
            tx.check().unwrap();
        });
        for message in 0..MESSAGES {
            let arrival = next(&rx);
            assert_eq!((arrival.head, arrival.len), (head(message), LINES as u16));
            let body = memory.read_body(message as usize % SLOTS);
            assert_eq!(body, [message as u8 + 1; LINES]);
            rx.consume(&arrival, LINES as u64);
        }
        sender.join().unwrap();
    });
}

/// More messages than spans, through the byte ring; matched bytes are told in the end.
#[test]
fn loom_lane_spans_are_reused_in_order() {
    loom::model(|| {
        let memory = LoomLane::new();
        let mut tx = Tx::new(memory.clone(), 0, 1);
        let mut rx = Rx::over(memory.clone(), 0, 1);
        let sender = thread::spawn(move || {
            for message in 0..MESSAGES {
                let bytes = [message as u8 + 1; LONG];
                // SAFETY: LONG bytes at both ends.
                while !tx.try_ring(&head(message), LONG, |out| unsafe {
                    out.copy_from_nonoverlapping(bytes.as_ptr(), LONG)
                }) {
                    thread::yield_now();
                }
            }
            tx.check().unwrap();
            assert!(tx.matched_bytes() <= LONG as u64 * MESSAGES);
            tx
        });
        for message in 0..MESSAGES {
            let arrival = next(&rx);
            assert_eq!((arrival.head, arrival.len), (head(message), LONG as u16));
            assert_eq!(
                memory.read(arrival.payload as usize)[..LONG],
                [message as u8 + 1; LONG]
            );
            rx.consume(&arrival, LONG as u64);
        }
        rx.publish();
        let mut tx = sender.join().unwrap();
        assert_eq!(tx.matched_bytes(), LONG as u64 * MESSAGES);
    });
}

/// More messages than the long ring has room for: a span is written again only when the slot that told of it is free.
#[test]
fn loom_lane_long_spans_are_reused_in_order() {
    loom::model(|| {
        let memory = LoomLane::new();
        let (mut tx, ring) = (Tx::new(memory.clone(), 0, 1), memory.clone());
        let mut rx = Rx::over(memory.clone(), 0, 1);
        let sender = thread::spawn(move || {
            let mut lent = VecDeque::new();
            for message in 0..MESSAGES {
                if lent.len() == 2 {
                    let first = lent.pop_front().unwrap();
                    while !tx.has_freed(first) {
                        thread::yield_now();
                    }
                }
                let bytes = [message as u8 + 1; LONG];
                let at = message as usize % 2 * SPAN;
                // SAFETY: LONG bytes at both ends.
                ring.fill(at, LONG, |out| unsafe {
                    out.copy_from_nonoverlapping(bytes.as_ptr(), LONG)
                });
                let position = loop {
                    match tx.try_long(&head(message), LONG, message * SPAN as u64) {
                        Some(position) => break position,
                        None => thread::yield_now(),
                    }
                };
                lent.push_back(position);
            }
            tx.check().unwrap();
        });
        for message in 0..MESSAGES {
            let arrival = next(&rx);
            assert_eq!((arrival.head, arrival.len), (head(message), LONG as u16));
            assert_eq!(
                memory.read(arrival.payload as usize)[..LONG],
                [message as u8 + 1; LONG]
            );
            rx.consume(&arrival, LONG as u64);
        }
        sender.join().unwrap();
    });
}
