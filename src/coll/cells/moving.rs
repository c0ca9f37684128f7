//! Collectives that move bytes.
use super::in_place::Offer;
use super::{Cut, LARGE, Run, Step, Words, even, piece, to_words, words_of};
use crate::engine::{RecvSpan, SendSpan};
use crate::model::CollKind;
use crate::model::error::Result;
use crate::transport::shm::cells::{INLINE, SLOT};
use core::cell::Cell;
use core::iter::once;

#[inline(always)]
pub(in crate::coll) fn barrier(run: &Run<'_>) -> Result<()> {
    let step = run.step(1);
    run.claim_line(&step)?;
    run.announce(&step, step.first, &Words::default());
    for member in run.others() {
        run.wait(member, &step, true)?;
    }
    run.learn(step.first);
    Ok(())
}

#[inline(always)]
pub(in crate::coll) fn broadcast(run: &Run<'_>, root: usize, span: &RecvSpan) -> Result<()> {
    let bytes = span.len();
    let is_root = run.rank() == root;
    if bytes <= INLINE {
        let step = run.step(1);
        if is_root {
            run.claim_line(&step)?;
            let words = words_of(&span.source(), 0, bytes);
            run.announce_and_go_on(&step, &words);
        } else {
            run.wait(root, &step, true)?;
            span.fill_at(0, &run.words(root, &step)[..bytes]);
            run.pass(&step);
        }
        return Ok(());
    }
    let source = is_root.then(|| {
        let source = span.source();
        let offer = run.offer(CollKind::Broadcast, &source, run.others());
        (source, offer)
    });
    let cut = Cut::new(bytes, piece(bytes), 1);
    for i in 0..cut.count() {
        let step = run.step(1);
        let (at, len) = (cut.at(i), cut.len(i));
        if let Some((source, offer)) = &source {
            run.contribute(&step, offer, source, at, len)?;
        } else {
            run.wait(root, &step, i == 0)?;
            span.fill_from(at, &run.piece_or_slots(root, &step, len));
            run.pass(&step);
        }
    }
    match source {
        Some((_, offer)) => run.withdraw(&offer, run.others()),
        None => Ok(()),
    }
}

/// Copies this member's own part from one of its spans to the other.
pub(super) fn copy_own(send: &SendSpan, from: usize, recv: &RecvSpan, to: usize, len: usize) {
    let mut room = vec![
        0;
        if send.contiguous_ptr().is_some() {
            0
        } else {
            4096
        }
    ];
    let most = if room.is_empty() {
        len.max(1)
    } else {
        room.len()
    };
    for at in (0..len).step_by(most) {
        let n = most.min(len - at);
        recv.fill_at(to + at, send.bytes_at(from + at, n, &mut room));
    }
}

#[inline(always)]
pub(in crate::coll) fn gather(
    run: &Run<'_>,
    root: usize,
    send: &SendSpan,
    recv: Option<&RecvSpan>,
) -> Result<()> {
    let bytes = send.len();
    if bytes <= INLINE {
        return gather_lines(run, root, send, recv);
    }
    if let Some(recv) = recv {
        copy_own(send, 0, recv, root * bytes, bytes);
    }
    let offer = match recv {
        None => run.offer(CollKind::Gather, send, once(root)),
        Some(_) => Offer::NONE,
    };
    let cut = Cut::new(bytes, piece(bytes), 1);
    for i in 0..cut.count() {
        let step = run.step(1);
        let (at, len) = (cut.at(i), cut.len(i));
        let Some(recv) = recv else {
            run.contribute(&step, &offer, send, at, len)?;
            continue;
        };
        for member in run.others() {
            run.wait(member, &step, i == 0)?;
            let to = member * bytes + at;
            recv.fill_from(to, &run.piece_or_slots(member, &step, len));
        }
        run.pass(&step);
    }
    run.withdraw(&offer, once(root))
}

/// As [`gather`], of what fits a line.
#[inline(always)]
fn gather_lines(
    run: &Run<'_>,
    root: usize,
    send: &SendSpan,
    recv: Option<&RecvSpan>,
) -> Result<()> {
    let bytes = send.len();
    let step = run.step(1);
    let Some(recv) = recv else {
        run.claim_line(&step)?;
        run.announce_and_go_on(&step, &words_of(send, 0, bytes));
        return Ok(());
    };
    copy_own(send, 0, recv, root * bytes, bytes);
    for member in run.others() {
        run.wait(member, &step, true)?;
        recv.fill_at(member * bytes, &run.words(member, &step)[..bytes]);
    }
    run.pass(&step);
    Ok(())
}

/// Where the piece for `reader` lies among those that `writer` writes side by side: a member writes none for itself.
fn place(writer: usize, reader: usize) -> usize {
    if reader < writer { reader } else { reader - 1 }
}

/// Bytes of each of `size - 1` pieces in `room` bytes: whole lines where there is room for that.
fn share(room: usize, size: usize) -> usize {
    let even = room / (size - 1);
    if even >= 64 { even & !63 } else { even }
}

/// So many bytes in whole lines: pieces are no longer, so that little of a long area is taken for a short exchange.
pub(super) fn in_lines(bytes: usize) -> usize {
    bytes.next_multiple_of(64)
}

#[inline(always)]
pub(in crate::coll) fn scatter(
    run: &Run<'_>,
    root: usize,
    send: Option<&SendSpan>,
    recv: &RecvSpan,
) -> Result<()> {
    let bytes = recv.len();
    if let Some(send) = send {
        copy_own(send, root * bytes, recv, 0, bytes);
    }
    let inline = bytes * (run.size() - 1) <= INLINE;
    let room = share(
        piece(bytes * (run.size() - 1))
            .max(64 * run.size())
            .min(SLOT),
        run.size(),
    );
    let most = if inline {
        INLINE
    } else {
        room.min(in_lines(bytes))
    };
    let cut = Cut::new(bytes, most, 1);
    for i in 0..cut.count() {
        let step = run.step(1);
        let (at, len) = (cut.at(i), cut.len(i));
        if let Some(send) = send {
            if inline {
                run.claim_line(&step)?;
                let mut words = [0; INLINE];
                for member in run.others() {
                    let to = place(root, member) * bytes;
                    send.pack_at(member * bytes, &mut words[to..to + bytes]);
                }
                run.announce(&step, step.first, &to_words(&words));
            } else {
                let all = (run.size() - 1) * cut.piece;
                let slots = run.claim_slots(&step, all)?;
                run.write(all, || write_pieces(run, send, &cut, i, &slots));
                run.announce_slots(&step, step.first);
            }
        } else {
            run.wait(root, &step, i == 0)?;
            let from = place(root, run.rank());
            if inline {
                let from = from * bytes;
                recv.fill_at(0, &run.words(root, &step)[from..from + bytes]);
            } else {
                let slots = run.slots(root, &step);
                recv.fill_from(at, &slots.part(from * cut.piece, len));
            }
            run.pass(&step);
        }
    }
    Ok(())
}

/// How an exchange among all members of `bytes` bytes of each goes through the buffers: (rounds of a step, bytes of a member's buffers in it). Small steps
/// for what fits one; else large ones, so that few wait for the slowest and each member writes long, and then reads long (bare loops of two members, Zen 4,
/// 64 KiB to and fro in pieces of 16 KiB and in one: near 5.6 and 5.1 us, far around the cache 8.1 and 7.1).
fn exchange_steps(bytes: usize, mesh: bool) -> (u64, usize) {
    match (bytes <= piece(bytes), mesh) {
        (true, _) => (1, SLOT),
        (false, true) => (1, even(bytes, SLOT)),
        (false, false) => (LARGE, LARGE as usize * SLOT),
    }
}

#[inline(always)]
pub(in crate::coll) fn all_gather(run: &Run<'_>, send: &SendSpan, recv: &RecvSpan) -> Result<()> {
    let bytes = send.len();
    let own = run.rank() * bytes;
    if bytes <= INLINE {
        let step = run.step(1);
        run.claim_line(&step)?;
        run.announce(&step, step.first, &words_of(send, 0, bytes));
        copy_own(send, 0, recv, own, bytes);
        for member in run.others() {
            run.wait(member, &step, true)?;
            recv.fill_at(member * bytes, &run.words(member, &step)[..bytes]);
        }
        run.learn(step.first);
        return Ok(());
    }
    let (rounds, room) = exchange_steps(bytes, run.is_on_mesh());
    let cut = Cut::new(bytes, room, 1);
    // Of the piece that was written last, and of the one before: whether this member's own result has it already.
    let in_place = [Cell::new(false), Cell::new(false)];
    run.exchange(
        cut.count(),
        rounds,
        room.min(bytes),
        |i, slots| {
            let slots = slots.part(0, cut.len(i));
            // Through the cache both places are written at once: one load less.
            let both = run.writes_through() && send.pack_twice(cut.at(i), &slots, recv, own);
            if !both {
                send.pack_to(cut.at(i), &slots);
            }
            in_place[i % 2].set(both);
        },
        |i, step| {
            // While it is still in this core's cache.
            if !in_place[i % 2].get() {
                copy_own(send, cut.at(i), recv, own + cut.at(i), cut.len(i));
            }
            for member in run.others() {
                run.wait(member, step, i == 0)?;
                let slots = run.slots(member, step);
                recv.fill_from(member * bytes + cut.at(i), &slots.part(0, cut.len(i)));
            }
            Ok(())
        },
    )
}

#[inline(always)]
pub(in crate::coll) fn all_to_all(run: &Run<'_>, send: &SendSpan, recv: &RecvSpan) -> Result<()> {
    let (rank, size) = (run.rank(), run.size());
    let bytes = send.len() / size;
    if bytes * (size - 1) <= INLINE {
        let step = run.step(1);
        run.claim_line(&step)?;
        let mut words = [0; INLINE];
        for member in run.others() {
            let to = place(rank, member) * bytes;
            send.pack_at(member * bytes, &mut words[to..to + bytes]);
        }
        run.announce(&step, step.first, &to_words(&words));
        copy_own(send, rank * bytes, recv, rank * bytes, bytes);
        for member in run.others() {
            run.wait(member, &step, true)?;
            let from = place(member, rank) * bytes;
            recv.fill_at(
                member * bytes,
                &run.words(member, &step)[from..from + bytes],
            );
        }
        run.learn(step.first);
        return Ok(());
    }
    let (rounds, room) = exchange_steps(bytes * (size - 1), run.is_on_mesh());
    let cut = Cut::new(bytes, share(room, size).min(in_lines(bytes)), 1);
    let write = |i: usize, slots: &_| write_pieces(run, send, &cut, i, slots);
    let read = |i: usize, step: &Step| {
        for member in run.others() {
            run.wait(member, step, i == 0)?;
            let from = place(member, rank) * cut.piece;
            let slots = run.slots(member, step);
            recv.fill_from(member * bytes + cut.at(i), &slots.part(from, cut.len(i)));
        }
        Ok(())
    };
    run.exchange(cut.count(), rounds, (size - 1) * cut.piece, write, read)?;
    copy_own(send, rank * bytes, recv, rank * bytes, bytes);
    Ok(())
}

/// Writes piece `i` of the blocks of all other members side by side.
pub(super) fn write_pieces(
    run: &Run<'_>,
    send: &SendSpan,
    cut: &Cut,
    i: usize,
    slots: &crate::transport::shm::cells::Window<'_>,
) {
    for member in run.others() {
        let to = place(run.rank(), member) * cut.piece;
        send.pack_to(member * cut.bytes + cut.at(i), &slots.part(to, cut.len(i)));
    }
}

/// Where [`write_pieces`] of `writer` put the piece for `reader`.
pub(super) fn piece_at(cut: &Cut, writer: usize, reader: usize) -> usize {
    place(writer, reader) * cut.piece
}

/// [`share`] for pieces that are cut only between elements.
pub(super) fn share_of(room: usize, size: usize) -> usize {
    share(room, size)
}
