//! The directory of a job's ranks: where each is, and what each has published. The README says who writes and who reads it.
use super::layout::{DIRECTORY, MAX_RANKS, PAGE, directory};
use super::{RankState, Segment};
use crate::model::error::Result;
use crate::model::{Error, ErrorClass};
use crate::sys::futex;
use core::sync::atomic::{AtomicU32, Ordering};
use std::collections::BTreeMap;

/// Where a rank of the world is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The number of its host among the job's hosts.
    pub(crate) host: u32,
    /// Its index in that host's segment.
    pub(crate) local: u32,
}

/// The places of ranks of which each host is known; a host's ranks are numbered in their order.
pub(crate) fn places(hosts: impl IntoIterator<Item = u32>) -> Vec<Place> {
    let mut next = BTreeMap::<u32, u32>::new();
    let place = |host| {
        let next = next.entry(host).or_default();
        *next += 1;
        Place {
            host,
            local: *next - 1,
        }
    };
    hosts.into_iter().map(place).collect()
}

/// One published value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) rank: u32,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

const HEAD: usize = 16;
/// The most bytes of a record.
const ROOM: usize = DIRECTORY - directory::RECORDS;

/// Reads and writes the directory of a segment.
#[derive(Clone, Copy)]
pub(crate) struct Directory<'s> {
    segment: &'s Segment,
}

impl Segment {
    /// The directory of the job's ranks.
    pub(crate) fn directory(&self) -> Directory<'_> {
        Directory { segment: self }
    }
}

impl<'s> Directory<'s> {
    fn word(&self, offset: usize) -> &'s AtomicU32 {
        self.segment.u32(self.segment.layout().directory() + offset)
    }

    /// Writes where all ranks are, before any of them is started; `here` is this host's number.
    pub(crate) fn settle(&self, places: &[Place], here: u32) -> Result<()> {
        if places.is_empty() || places.len() > MAX_RANKS {
            return Err(Error::new(
                ErrorClass::Arg,
                format!(
                    "{} ranks were asked for; a job can have 1 to {MAX_RANKS}",
                    places.len()
                ),
            ));
        }
        let at = self.segment.layout().directory();
        self.segment.reserve(
            at,
            (directory::MEMBERS + places.len() * directory::MEMBER).next_multiple_of(PAGE),
        )?;
        let hosts = places.iter().map(|place| place.host).max().unwrap_or(0) + 1;
        for (rank, place) in places.iter().enumerate() {
            let at = directory::MEMBERS + rank * directory::MEMBER;
            self.word(at).store(place.host, Ordering::Relaxed);
            self.word(at + 4).store(place.local, Ordering::Relaxed);
        }
        for (at, value) in [
            (directory::WORLD, places.len() as u32),
            (directory::HOSTS, hosts),
            (directory::HERE, here),
        ] {
            self.word(at).store(value, Ordering::Relaxed);
        }
        Ok(())
    }

    /// How many ranks the job has on all hosts. A damaged number is no more than there is room for.
    pub(crate) fn world(&self) -> usize {
        (self.word(directory::WORLD).load(Ordering::Relaxed) as usize).min(MAX_RANKS)
    }

    /// How many hosts the job has.
    pub(crate) fn hosts(&self) -> usize {
        self.word(directory::HOSTS).load(Ordering::Relaxed) as usize
    }

    /// This host's number.
    pub(crate) fn here(&self) -> u32 {
        self.word(directory::HERE).load(Ordering::Relaxed)
    }

    /// Where `rank` is.
    pub(crate) fn place(&self, rank: usize) -> Place {
        assert!(rank < MAX_RANKS);
        let at = directory::MEMBERS + rank * directory::MEMBER;
        Place {
            host: self.word(at).load(Ordering::Relaxed),
            local: self.word(at + 4).load(Ordering::Relaxed),
        }
    }

    /// "file:line" of call site `id` of a rank of this host; what those of others mean is not known here.
    pub(crate) fn site(&self, rank: usize, id: u32) -> Option<String> {
        let place = self.place(rank);
        let here = place.host == self.here() && (place.local as usize) < self.segment.ranks();
        here.then(|| self.segment.control().site(place.local as usize, id))?
    }

    /// The state of any rank of the world: of a local one what its control page says, of another what its agent told.
    pub(crate) fn state(&self, rank: usize) -> RankState {
        let place = self.place(rank);
        if place.host == self.here() && (place.local as usize) < self.segment.ranks() {
            return self.segment.control().state(place.local as usize);
        }
        // Acquire: pairs with the Release in `set_state`.
        RankState::from_word(
            self.word(directory::MEMBERS + rank * directory::MEMBER + 8)
                .load(Ordering::Acquire),
        )
    }

    /// Notes the state of a rank of another host; one that is gone counts as a departure.
    pub(crate) fn set_state(&self, rank: usize, state: RankState) {
        assert!(rank < MAX_RANKS);
        // Release: pairs with the Acquire in `state`.
        self.word(directory::MEMBERS + rank * directory::MEMBER + 8)
            .store(state as u32, Ordering::Release);
        if state.is_gone() {
            let control = self.segment.control();
            control.departures().fetch_add(1, Ordering::AcqRel);
            control.wake_all();
        }
    }

    /// Counts up whenever there may be something new: a record, a rank that is gone, the job's end.
    pub(crate) fn changes(&self) -> u32 {
        // Acquire: pairs with the AcqRel in `changed`; whoever sees the count sees what it was raised for.
        self.word(directory::CHANGES).load(Ordering::Acquire)
    }

    /// Raises that count and wakes who waits for it.
    pub(crate) fn changed(&self) {
        let word = self.word(directory::CHANGES);
        word.fetch_add(1, Ordering::AcqRel);
        futex::wake(word, u32::MAX);
    }

    /// Sleeps until `changes` is no longer `seen`. It may return early: the caller looks again.
    pub(crate) fn wait(&self, seen: u32) {
        futex::wait(self.word(directory::CHANGES), seen, None);
    }

    fn filled(&self) -> &'s AtomicU32 {
        self.word(directory::FILLED)
    }

    /// Appends a record and wakes who waits for one.
    pub(crate) fn append(&self, record: &Record) -> Result<()> {
        let mut units = self.segment.directory_cursor();
        let at = *units as usize * 8;
        let len =
            (HEAD as u64 + record.key.len() as u64 + record.value.len() as u64).next_multiple_of(8);
        if len > (ROOM - at) as u64 {
            return Err(Error::new(
                ErrorClass::Memory,
                format!(
                    "the ranks have published more than {} MiB, which is all that the directory takes",
                    ROOM >> 20
                ),
            ));
        }
        let len = len as usize;
        let base = self.segment.layout().directory() + directory::RECORDS + at;
        let first = base / PAGE * PAGE;
        self.segment
            .reserve(first, (base + len - first).next_multiple_of(PAGE))?;
        for (offset, value) in [
            (0, record.rank),
            (4, record.key.len() as u32),
            (8, record.value.len() as u32),
        ] {
            self.segment
                .u32(base + offset)
                .store(value, Ordering::Relaxed);
        }
        for (offset, bytes) in [
            (HEAD, &record.key),
            (HEAD + record.key.len(), &record.value),
        ] {
            // SAFETY: `at` checks the bounds; readers look only below `filled`, which does not count this yet, and the lock that
            // `units` is keeps other writers out.
            unsafe {
                core::ptr::copy_nonoverlapping(
                    bytes.as_ptr(),
                    self.segment.at(base + offset, bytes.len()),
                    bytes.len(),
                )
            };
        }
        *units += (len / 8) as u32;
        // Release: pairs with the Acquire in `next`.
        self.filled().store(*units, Ordering::Release);
        drop(units);
        self.segment.control().wake_all();
        Ok(())
    }

    /// The record at `*at` (in units of 8 bytes), past which `*at` is moved; `None` if there is none yet.
    pub(crate) fn next(&self, at: &mut u32) -> Option<Record> {
        let filled = self.filled().load(Ordering::Acquire) as usize * 8;
        let from = *at as usize * 8;
        let rest = filled.min(ROOM).checked_sub(from)?;
        if rest < HEAD {
            return None;
        }
        let base = self.segment.layout().directory() + directory::RECORDS + from;
        let head = |offset| self.segment.u32(base + offset).load(Ordering::Relaxed);
        let (rank, key, value) = (head(0), head(4) as usize, head(8) as usize);
        if key > rest - HEAD || value > rest - HEAD - key {
            // Damaged: nothing behind it can be found.
            return None;
        }
        *at += (HEAD + key + value).div_ceil(8) as u32;
        Some(Record {
            rank,
            key: self.copy(base + HEAD, key),
            value: self.copy(base + HEAD + key, value),
        })
    }

    fn copy(&self, at: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0_u8; len];
        // SAFETY: `at` checks the bounds; the copy reads bytes whose value nothing relies on.
        unsafe {
            core::ptr::copy_nonoverlapping(self.segment.at(at, len), bytes.as_mut_ptr(), len)
        };
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(rank: u32, key: &str, value: &[u8]) -> Record {
        Record {
            rank,
            key: key.into(),
            value: value.into(),
        }
    }

    #[test]
    fn records_are_read_in_the_order_in_which_they_came() {
        let segment = Segment::private(2).unwrap();
        let directory = segment.directory();
        let records = [
            record(1, "tcp", b"192.0.2.1:7"),
            record(0, "", b""),
            record(70_000, "x", &[7; 5000]),
        ];
        let mut at = 0;
        assert_eq!(directory.next(&mut at), None);
        for record in &records {
            directory.append(record).unwrap();
        }
        for record in &records {
            assert_eq!(directory.next(&mut at).as_ref(), Some(record));
        }
        assert_eq!(directory.next(&mut at), None);
    }

    #[test]
    fn a_damaged_record_ends_the_list_and_nothing_else() {
        let segment = Segment::private(1).unwrap();
        let directory = segment.directory();
        directory.append(&record(0, "key", b"value")).unwrap();
        let base = segment.layout().directory() + directory::RECORDS;
        for offset in [4, 8] {
            let word = segment.u32(base + offset);
            let was = word.swap(u32::MAX, Ordering::Relaxed);
            assert_eq!(directory.next(&mut 0), None);
            word.store(was, Ordering::Relaxed);
        }
        directory.filled().store(u32::MAX, Ordering::Relaxed);
        assert!(directory.next(&mut 0).is_some());
        assert_eq!(directory.next(&mut (u32::MAX - 1)), None);
    }

    #[test]
    fn places_tell_rank_from_index() {
        let segment = Segment::private(2).unwrap();
        let place = |host, local| Place { host, local };
        let directory = segment.directory();
        directory
            .settle(&[place(0, 0), place(1, 0), place(0, 1), place(1, 1)], 1)
            .unwrap();
        assert_eq!((directory.world(), directory.hosts()), (4, 2));
        assert_eq!(directory.place(2), place(0, 1));
        segment.control().set_state(1, RankState::Finalized);
        let states: Vec<_> = (0..4).map(|rank| directory.state(rank)).collect();
        assert_eq!(
            states,
            [
                RankState::Empty,
                RankState::Empty,
                RankState::Empty,
                RankState::Finalized
            ]
        );
        assert!(directory.settle(&[], 0).is_err());
    }
}
