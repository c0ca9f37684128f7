//! Where and how a member writes its buffers: by turns of eight, around the cache; or, where the others are near, through the cache in an area
//! so long that its lines are in the shared cache again when they are written (transport/shm/README.md says why).
//!
//! Each member decides for itself, and says in its line where a step's buffers are.
use crate::job::layout::LONG_CELLS;
use crate::transport::shm::cells::Cells;
use crate::transport::shm::copy::STREAM_FROM;
use crate::transport::shm::way::{Distance, Way, Ways};
use std::time::Duration;

/// Pieces that count as one message when the ways are compared (`Ways`): a collective may have one piece only, which cannot be compared with
/// another.
const GROUP: usize = 16;

/// A member's own account.
pub(in crate::coll) struct Staging {
    ways: Ways,
    /// Whether there is a long area; it is asked for once.
    long: bool,
    may_grow: bool,
    pieces: usize,
    /// The next free byte of the endless row of long areas.
    next: usize,
}

impl Default for Staging {
    fn default() -> Staging {
        Staging {
            ways: Ways::default(),
            long: false,
            may_grow: true,
            pieces: 0,
            next: 0,
        }
    }
}

/// In the word of a place in a long area: it was written around the cache, and is read upwards, from memory.
const AROUND: u64 = 1 << 62;
/// In the word of any place: it was written by [`Way::Upwards`].
const UPWARDS: u64 = 1 << 61;

/// What was decided for a piece.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// The word that tells readers where it is: 0 where the round says it, else one more than the offset in the long area, and [`AROUND`] where it was written so.
    pub(super) word: u64,
    pub(super) way: Way,
    /// Whether the writing is to be timed, and the time told to [`Staging::took`].
    pub(super) timed: bool,
}

impl Place {
    /// In the buffers of the round itself.
    pub(super) const OF_ROUND: Place = Place {
        word: 0,
        way: Way::Around,
        timed: false,
    };
}

/// The offset in the writer's long area that a line's first word tells; `None`: the buffers are where the round says.
#[inline]
pub(super) fn offset(word: u64) -> Option<usize> {
    usize::try_from(word & !(AROUND | UPWARDS))
        .ok()?
        .checked_sub(1)
}

/// How a piece was written, by its line's first word. (In slots of the round there is no need to know more than whether it was upwards.)
#[inline]
pub(super) fn way(word: u64) -> Way {
    match (word & UPWARDS, word & AROUND) {
        (0, 0) if word != 0 => Way::Through,
        (0, _) => Way::Around,
        _ => Way::Upwards,
    }
}

/// Whether pieces of so many bytes have a choice: shorter ones are written by ordinary stores wherever they are.
#[inline]
pub(super) fn has_choice(bytes: usize) -> bool {
    bytes >= STREAM_FROM
}

impl Staging {
    /// Where and how to write the next piece, `bytes` bytes of which readers see `room`; `mesh`: see [`Way::Upwards`].
    pub(super) fn place(
        &mut self,
        cells: &Cells,
        room: usize,
        bytes: usize,
        mesh: bool,
        crowded: impl FnOnce() -> bool,
    ) -> Place {
        let chunk = self.pieces % GROUP;
        self.pieces = self.pieces.wrapping_add(1);
        if mesh {
            return self.place_on_mesh(cells, room, bytes, crowded());
        }
        if chunk == 0 {
            self.ways.begin();
            if self.may_grow && self.ways.distance() == Distance::Near && !crowded() {
                self.may_grow = false;
                self.long = cells.reserve_long();
            }
        }
        let (way, timed) = self.ways.of_chunk(chunk, self.long);
        let word = match (self.long, way) {
            (false, _) => 0,
            (true, Way::Around) => AROUND | (1 + self.turn(room, bytes) as u64),
            (true, _) => 1 + self.turn(room, bytes) as u64,
        };
        Place { word, way, timed }
    }

    /// The long area, which is taken once there were some pieces; or the slots of the round, from the first time on that ranks share cores and so their caches.
    fn place_on_mesh(&mut self, cells: &Cells, room: usize, bytes: usize, crowded: bool) -> Place {
        if self.may_grow && (crowded || self.pieces > GROUP) {
            self.may_grow = false;
            self.long = !crowded && cells.reserve_long();
        }
        if !self.long || crowded {
            return Place {
                word: UPWARDS,
                way: Way::Through,
                timed: false,
            };
        }
        Place {
            word: UPWARDS | (1 + self.turn(room, bytes) as u64),
            way: Way::Upwards,
            timed: false,
        }
    }

    /// The offset of the next `bytes` bytes in the long area, of which readers see `room`.
    fn turn(&mut self, room: usize, bytes: usize) -> usize {
        if self.next % LONG_CELLS + room.max(bytes) > LONG_CELLS {
            self.next = self.next.next_multiple_of(LONG_CELLS);
        }
        let at = self.next % LONG_CELLS;
        self.next = self.next.wrapping_add(bytes.next_multiple_of(64));
        at
    }

    /// As if the others had been found near.
    #[cfg(test)]
    pub(in crate::coll) fn grow(&mut self, cells: &Cells) {
        self.may_grow = false;
        self.long = cells.reserve_long();
        self.ways.is_near();
        assert!(self.long);
    }

    /// A timed piece took so long.
    pub(super) fn took(&mut self, way: Way, bytes: usize, time: Duration) {
        self.ways.took(way, bytes, time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coll::cells::LONGEST_PIECE;
    use crate::transport::shm::cells::{SLOT, SLOTS};

    /// What coll/README.md's proof asks for: what the last eight rounds wrote is not written.
    #[test]
    fn no_place_comes_round_within_eight_rounds() {
        let mut staging = Staging::default();
        let mut written: Vec<(u64, usize, usize)> = Vec::new();
        let mut round = 0;
        for i in 0..2000_u64 {
            let rounds = if i % 7 < 3 { 4 } else { 1 };
            round += rounds;
            let mut room = rounds as usize * SLOT;
            if rounds == 4 && i % 2 == 0 {
                room = LONGEST_PIECE;
            }
            let len = room - (i as usize * 997) % SLOT;
            let at = staging.turn(room, len);
            assert!(at % 64 == 0 && at + len <= LONG_CELLS);
            written.retain(|(last, ..)| last + SLOTS > round - rounds + 1);
            assert!(
                written
                    .iter()
                    .all(|&(_, a, n)| at + len <= a || a + n <= at)
            );
            written.push((round, at, len));
        }
    }
}
