//! Lanes over a segment: two threads, a model, and a scribbler.
use super::spans::LongSpans;
use super::way::Way;
use super::{EAGER_MAX, INLINE, LONG_MAX, LaneRx, LaneTx, SlotHead};
use crate::job::Segment;
use crate::job::layout::{LANE, LANE_SLOTS, LINE, LONG_SPANS, SLOT};
use crate::model::ErrorClass;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Miri takes a second for what takes a millisecond.
const OPERATIONS: usize = if cfg!(miri) { 20 } else { 500 };
const LONG_OPERATIONS: Range<usize> = if cfg!(miri) { 10..30 } else { 500..2000 };
const LONGEST: usize = if cfg!(miri) { INLINE + 500 } else { LONG_MAX };

fn lane() -> (Arc<Segment>, LaneTx, LaneRx) {
    let segment = Arc::new(Segment::private(3).unwrap());
    let tx = LaneTx::open(&segment, 2, 1).unwrap();
    let rx = LaneRx::new(&segment, 2, 1);
    (segment, tx, rx)
}

fn head(message: u64) -> SlotHead {
    SlotHead {
        kind: message as u8,
        flags: (message >> 3) as u8 & 0x3f,
        context: message as u32 ^ 0x8000_0001,
        tag: (message as i32).wrapping_neg(),
        site: message as u32 * 3,
        source: message as u32 + 7,
        code: message.wrapping_mul(0x9e37_79b9_7f4a_7c15),
    }
}

fn bytes(message: u64, len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (at as u64 * 13 + message) as u8)
        .collect()
}

fn try_send(tx: &mut LaneTx, message: u64, len: usize) -> bool {
    let data = bytes(message, len);
    if len <= INLINE && message % 2 == 0 {
        tx.try_inline(&head(message), &data)
    } else if len <= INLINE && !(len > 96 && message % 3 == 0) {
        // SAFETY: the vector has `len` bytes, and so has the room.
        tx.try_slot(&head(message), len, |out| unsafe {
            super::copy::to_shared(data.as_ptr(), out, len)
        })
    } else {
        // SAFETY: the vector has `len` bytes, and so has the room.
        tx.try_ring(&head(message), len, |out| unsafe {
            super::copy::to_shared(data.as_ptr(), out, len)
        })
    }
}

/// Takes the next message if there is one, and checks that it is `message` with `len` bytes. Every second one by the short way, if it is short.
fn try_take(rx: &mut LaneRx, message: u64, len: usize) -> bool {
    let short = match message % 2 {
        0 => rx.first().and_then(|first| rx.short(first)),
        _ => None,
    };
    let Some(arrival) = short.or_else(|| rx.peek().unwrap()) else {
        return false;
    };
    assert_eq!((arrival.head, arrival.len as usize), (head(message), len));
    let mut got = vec![0_u8; len];
    // SAFETY: a peeked payload has `len` bytes until it is consumed.
    unsafe { arrival.copy_to(got.as_mut_ptr()) };
    assert_eq!(got, bytes(message, len));
    rx.consume(&arrival, len as u64);
    true
}

fn length(message: u64) -> usize {
    let spread = message.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40;
    match message % 4 {
        0 => 8,
        1 => spread as usize % (INLINE + 1),
        2 => INLINE + 1 + spread as usize % 200,
        _ if cfg!(miri) => INLINE + 1 + spread as usize % 500,
        _ => INLINE + 1 + spread as usize % (EAGER_MAX - INLINE),
    }
}

#[test]
fn messages_arrive_in_order_and_whole() {
    let (segment, mut tx, mut rx) = lane();
    assert_eq!(
        segment.control().open_lanes(1, 0).load(Ordering::Acquire),
        1 << 2
    );
    let messages = if cfg!(miri) { 80 } else { 100_000 };
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut sent = 0;
            for message in 0..messages {
                while !try_send(&mut tx, message, length(message)) {
                    tx.check().unwrap();
                    std::thread::yield_now();
                }
                sent += length(message) as u64;
            }
            while tx.matched_bytes() < sent {
                std::thread::yield_now();
            }
            assert_eq!(tx.matched_bytes(), sent);
        });
        for message in 0..messages {
            while !try_take(&mut rx, message, length(message)) {
                std::thread::yield_now();
            }
        }
        rx.publish();
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 200 }))]

    /// Against a queue: a send is refused only when the model says that the lane may be full, nothing is lost or reordered, and a lane
    /// whose credit has been published takes everything that an empty one takes.
    #[test]
    fn a_lane_is_a_bounded_queue(
        operations in prop::collection::vec((any::<bool>(), 0..=EAGER_MAX), 1..OPERATIONS),
    ) {
        let (_segment, mut tx, mut rx) = lane();
        let mut model = VecDeque::new();
        let mut next = 0;
        for (send, len) in operations {
            // Which asks for a line, also of a lane that is full, and changes nothing.
            tx.expect_answer(len);
            if send {
                if try_send(&mut tx, next, len) {
                    model.push_back((next, len));
                    next += 1;
                } else {
                    // What the receiver has freed but not told is at most a quarter.
                    let ring: usize = model.iter().map(|&(_, l)| if l > 96 { l } else { 0 }).sum();
                    prop_assert!(model.len() >= LANE_SLOTS * 3 / 4 || ring + 2 * EAGER_MAX >= 16 * 1024);
                }
                prop_assert!(model.len() <= LANE_SLOTS);
            } else if let Some((message, len)) = model.pop_front() {
                prop_assert!(try_take(&mut rx, message, len));
            } else {
                prop_assert!(rx.peek().unwrap().is_none());
            }
        }
        while let Some((message, len)) = model.pop_front() {
            prop_assert!(try_take(&mut rx, message, len));
        }
        rx.publish();
        prop_assert!(try_send(&mut tx, next, EAGER_MAX));
        prop_assert!(try_take(&mut rx, next, EAGER_MAX));
        prop_assert!(tx.check().is_ok());
    }

    /// Anything may be written over anything that the two ends share. Each call then still returns, stays inside the segment, and either
    /// hands out bytes or says that the lane is damaged.
    #[test]
    fn a_scribbled_lane_is_an_error_or_garbage(
        rounds in prop::collection::vec(
            (0..4_usize, any::<prop::sample::Index>(), any::<u64>(), 0..64_u32, 0..=EAGER_MAX),
            1..OPERATIONS,
        ),
    ) {
        let (segment, mut tx, mut rx) = lane();
        let map = segment.layout();
        let inside = segment.at(0, map.total()) as usize;
        let mut failed = false;
        for (what, place, value, shift, len) in rounds {
            // Small values are the ones that almost fit.
            let value = value >> shift;
            let at = match what {
                0 => map.lane(2, 1) + place.index(LANE_SLOTS * SLOT / 8) * 8,
                // The slots and fields in use now.
                1 => map.lane(2, 1) + place.index(64) * 8,
                2 => map.credit(2, 1) + place.index(LINE / 8) * 8,
                _ => map.lane(2, 1) + place.index(LANE / 8) * 8,
            };
            segment.u64(at).store(value, Ordering::Relaxed);
            try_send(&mut tx, value % 1000, len);
            tx.matched_bytes();
            for _ in 0..2 {
                match rx.peek() {
                    Ok(None) => break,
                    Ok(Some(arrival)) => {
                        let at = arrival.payload as usize;
                        prop_assert!(arrival.len as usize <= LONG_MAX);
                        prop_assert!(at >= inside && at + arrival.len as usize <= inside + map.total());
                        rx.consume(&arrival, arrival.len as u64);
                    }
                    Err(error) => {
                        prop_assert_eq!(error.class(), ErrorClass::Corrupt);
                        failed = true;
                        break;
                    }
                }
            }
            if let Err(error) = tx.check() {
                prop_assert_eq!(error.class(), ErrorClass::Corrupt);
                prop_assert!(error.text().contains("from rank 2 to rank 1"));
            }
            if failed {
                break;
            }
        }
    }

    #[test]
    fn a_scribbled_stream_is_an_error_or_garbage(
        rounds in prop::collection::vec((0..3_usize, any::<u64>(), 0..64_u32, 0..100_000_usize), 1..OPERATIONS),
        place in 0..0x2_1010_u32,
        start in any::<u64>(),
    ) {
        let segment = Arc::new(Segment::private(1).unwrap());
        let map = segment.layout();
        let inside = segment.at(0, map.total()) as usize;
        let within = |ptr: *const u8, len: usize| {
            let at = ptr as usize;
            at >= inside && at + len <= inside + map.total()
        };
        let Some(passage) = super::Passage::of(place & 0x3_1f0f, start) else {
            return Ok(());
        };
        let k = passage.stream;
        let mut rx = super::StreamRx::new(&segment, 0, passage).unwrap();
        let mut tx = super::StreamTx::open(&segment, 0, k).unwrap();
        if passage.long {
            tx.grow();
        }
        for (what, value, shift, len) in rounds {
            segment
                .u64(map.stream(0, k) + what * LINE)
                .store(value >> shift, Ordering::Relaxed);
            if tx.takes(len, 0) {
                tx.begin(0, len % 2 == 0);
            }
            let (ptr, room) = tx.room();
            prop_assert!(within(ptr, room));
            tx.publish(room.min(len));
            if len % 3 == 0 {
                tx.end(len % 2 == 0);
            }
            if let Ok((ptr, there)) = rx.available(len) {
                prop_assert!(within(ptr, there));
                rx.consume(there.min(len));
            }
            // The error, if any, names the damage; either way the call returned.
            let _ = tx.check();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 30 }))]

    /// One long ring for two receivers, which take their messages when they like: nothing is written over before it is taken, and room comes back.
    #[test]
    fn long_spans_of_two_receivers_share_a_ring(
        operations in prop::collection::vec((0..3_usize, 0..2_usize, INLINE + 1..=LONGEST), LONG_OPERATIONS),
    ) {
        let segment = Arc::new(Segment::private(3).unwrap());
        let mut tx = [0, 1].map(|to| LaneTx::open(&segment, 2, to).unwrap());
        let mut rx = [0, 1].map(|to| LaneRx::new(&segment, 2, to));
        let mut spans = LongSpans::open(&segment, 2).unwrap();
        let mut model = [VecDeque::new(), VecDeque::new()];
        let mut next = 0;
        for (what, to, len) in operations {
            if what > 0 {
                let data = bytes(next, len);
                let room = spans.room(len, |to, position| tx[to].has_freed(position));
                if let Some(room) = room.filter(|_| tx[to].has_slot()) {
                    // SAFETY: the vector has `len` bytes, and so has the room.
                    unsafe { super::copy::to_ring(data.as_ptr(), room.ptr, len, Way::Through) };
                    let position = tx[to].try_long(&head(next), len, room.at).unwrap();
                    spans.lend(room, len, to, position);
                    model[to].push_back((next, len));
                    next += 1;
                } else {
                    let held: usize = model.iter().flatten().map(|&(_, len)| len.next_multiple_of(64)).sum();
                    // What the receivers have freed but not told is at most a quarter of the slots each.
                    prop_assert!(model[to].len() >= LANE_SLOTS * 3 / 4 || held + 33 * LONGEST >= LONG_SPANS);
                }
            } else if let Some((message, len)) = model[to].pop_front() {
                prop_assert!(try_take(&mut rx[to], message, len));
            } else {
                prop_assert!(rx[to].peek().unwrap().is_none());
            }
        }
        for (to, model) in model.iter_mut().enumerate() {
            while let Some((message, len)) = model.pop_front() {
                prop_assert!(try_take(&mut rx[to], message, len));
            }
            rx[to].publish();
            prop_assert!(tx[to].check().is_ok());
        }
    }
}
