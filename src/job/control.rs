//! Typed access to the segment's control part: the header's words and the rank pages.
//!
//! Every word may be written by a faulty neighbour, so each is read once, checked, and never trusted as an index.
use super::Segment;
use super::layout::{MAX_LOCAL_RANKS, SITE_ENTRY, SITE_TABLE, header, rank};
use crate::sys::{futex, net};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How far a rank has come. Written by the rank (`Active`, `Finalized`, `Exited`) or, when it has ended, by its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum RankState {
    /// Not initialized yet (it may still be).
    Empty = 0,
    /// Between initialize and finalize.
    Active = 1,
    /// Said goodbye.
    Finalized = 2,
    /// Initialized, and ended without goodbye but with exit code 0.
    Exited = 3,
    /// Ended without ever initializing.
    EndedWithoutInit = 4,
    /// Ended by a signal or a non-zero exit code.
    Died = 5,
}

impl RankState {
    pub(crate) fn from_word(word: u32) -> RankState {
        match word {
            1 => RankState::Active,
            2 => RankState::Finalized,
            3 => RankState::Exited,
            4 => RankState::EndedWithoutInit,
            5 => RankState::Died,
            _ => RankState::Empty,
        }
    }

    /// Whether nothing more can come from such a rank.
    pub(crate) fn is_gone(self) -> bool {
        !matches!(self, RankState::Empty | RankState::Active)
    }

    /// "which has ...", for sentences.
    pub(crate) fn words(self) -> &'static str {
        match self {
            RankState::Empty => "has not initialized yet",
            RankState::Active => "is running",
            RankState::Finalized => "has finalized",
            RankState::Exited => "has exited without finalizing",
            RankState::EndedWithoutInit => "has ended without initializing",
            RankState::Died => "has died",
        }
    }
}

/// Why a rank ends the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum FailureKind {
    /// Left its main by a panic, or blocked while panicking.
    Panic = 1,
    /// Called abort.
    Abort = 2,
    /// Waited for a rank that is gone.
    Gone = 3,
    /// Collectives or message types that do not go together.
    Mismatch = 4,
    /// The segment was damaged.
    Corrupt = 5,
    /// Anything else that the runtime cannot go on after.
    Other = 6,
}

impl FailureKind {
    fn from_word(word: u32) -> FailureKind {
        match word {
            1 => FailureKind::Panic,
            2 => FailureKind::Abort,
            3 => FailureKind::Gone,
            4 => FailureKind::Mismatch,
            5 => FailureKind::Corrupt,
            _ => FailureKind::Other,
        }
    }
}

/// What a rank wrote about its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) kind: FailureKind,
    /// The exit code that the rank asks for (`abort`), else 120 or 101.
    pub(crate) code: i32,
    pub(crate) text: String,
}

/// A report on a rank page: {state u32, kind u32, code i32, len u32, text}.
const REPORT_TEXT: usize = 16;
const REPORT_ROOM: usize = rank::REPORT - REPORT_TEXT;

/// Reads and writes the control part of a segment.
#[derive(Clone, Copy)]
pub(crate) struct Control<'s> {
    segment: &'s Segment,
}

impl Segment {
    /// The control part.
    #[inline]
    pub(crate) fn control(&self) -> Control<'_> {
        Control { segment: self }
    }
}

impl<'s> Control<'s> {
    fn page(&self, rank: usize) -> usize {
        self.segment.layout().rank_page(rank)
    }

    pub(crate) fn ranks(&self) -> usize {
        self.segment.ranks()
    }

    /// Not 0: the job is ending, and every call of ours leaves.
    #[inline]
    pub(crate) fn abort_word(&self) -> &'s AtomicU32 {
        self.segment.u32(header::ABORT)
    }

    /// Ends the job: sets the abort word and wakes every sleeper. Idempotent.
    pub(crate) fn raise_abort(&self) {
        // Release: pairs with the Acquire of whoever sees it and then reads reports.
        self.abort_word().store(1, Ordering::Release);
        self.wake_all();
    }

    #[inline]
    pub(crate) fn is_aborted(&self) -> bool {
        self.abort_word().load(Ordering::Acquire) != 0
    }

    /// How many ranks are awake (claimed, initialized, and not asleep in a wait).
    pub(crate) fn awake(&self) -> &'s AtomicU32 {
        self.segment.u32(header::AWAKE)
    }

    /// Counts up whenever a rank is gone; waiting ranks then look who.
    #[inline]
    pub(crate) fn departures(&self) -> &'s AtomicU32 {
        self.segment.u32(header::DEPARTURES)
    }

    /// Cores that this job claimed on this host.
    pub(crate) fn claimed_cores(&self) -> &'s AtomicU32 {
        self.segment.u32(header::CLAIMED_CORES)
    }

    /// How many ranks the job may have in all.
    pub(crate) fn universe(&self) -> &'s AtomicU32 {
        self.segment.u32(header::UNIVERSE)
    }

    /// A context that no other communicator of the job has: an even number. Hosts draw by turns, so that they need not ask each other.
    pub(crate) fn draw_context(&self) -> u32 {
        let directory = self.segment.directory();
        let hosts = directory.hosts().max(1) as u32;
        let drawn = self
            .segment
            .u32(header::NEXT_CONTEXT)
            .fetch_add(2 * hosts, Ordering::Relaxed);
        drawn + 2 * directory.here()
    }

    /// Free and taken cell blocks, one bit each.
    pub(crate) fn cell_bitmap(&self) -> &'s AtomicU64 {
        self.segment.u64(header::CELL_BITMAP)
    }

    /// The word on which `rank` sleeps: an epoch, and 1 in its lowest bit while it is asleep.
    #[inline]
    pub(crate) fn sleep_word(&self, rank: usize) -> &'s AtomicU32 {
        self.segment.u32(self.sleep_word_at(rank))
    }

    /// Where that word is.
    pub(crate) fn sleep_word_at(&self, rank: usize) -> usize {
        self.page(rank) + rank::SLEEP
    }

    /// Word `word` of the bitmap of lanes that have been opened towards `rank`.
    #[inline]
    pub(crate) fn open_lanes(&self, rank: usize, word: usize) -> &'s AtomicU64 {
        assert!(word < MAX_LOCAL_RANKS / 64);
        self.segment
            .u64(self.page(rank) + rank::OPEN_LANES + 8 * word)
    }

    /// The process that is this rank: pid << 32 | low half of its start time; 0 for none.
    pub(crate) fn claim(&self, rank: usize) -> &'s AtomicU64 {
        self.segment.u64(self.page(rank) + rank::CLAIM)
    }

    pub(crate) fn state(&self, rank: usize) -> RankState {
        // Acquire: pairs with the Release in `set_state`; what a rank sent before it left is seen after this.
        RankState::from_word(
            self.segment
                .u32(self.page(rank) + rank::STATE)
                .load(Ordering::Acquire),
        )
    }

    /// Sets a rank's state; one that is gone counts as a departure, and all sleepers look.
    pub(crate) fn set_state(&self, rank: usize, state: RankState) {
        // Release: pairs with the Acquire in `state`.
        self.segment
            .u32(self.page(rank) + rank::STATE)
            .store(state as u32, Ordering::Release);
        if state.is_gone() {
            self.departures().fetch_add(1, Ordering::AcqRel);
            self.wake_all();
        }
    }

    /// Ends the sleep of a rank whose sleep word has been moved on: on the word, or where its sockets are watched.
    pub(crate) fn rouse(&self, rank: usize) {
        if let Some(bell) = self.segment.bell(rank) {
            net::ring(bell);
        }
        futex::wake(self.sleep_word(rank), u32::MAX);
    }

    /// Wakes every rank that sleeps, so that it looks at the abort word, the departures and the directory.
    pub(crate) fn wake_all(&self) {
        // SeqCst fence: pairs with the sleeper's between announcing and its last look; see wait/README.md.
        core::sync::atomic::fence(Ordering::SeqCst);
        self.segment.directory().changed();
        for rank in 0..self.ranks() {
            let word = self.sleep_word(rank);
            let seen = word.load(Ordering::Relaxed);
            if seen & 1 == 1
                && word
                    .compare_exchange(
                        seen,
                        seen.wrapping_add(1),
                        Ordering::SeqCst,
                        Ordering::Relaxed,
                    )
                    .is_ok()
            {
                // Whoever wakes a rank counts it; see wait/.
                self.awake().fetch_add(1, Ordering::Relaxed);
                self.rouse(rank);
            }
        }
    }

    /// Where the call in which `rank` is gets noted: what a verdict shows as the last call (see [`note_call`]).
    pub(crate) fn last_call_word(&self, rank: usize) -> usize {
        self.page(rank) + rank::LAST_CALL
    }

    /// The last call of `rank` (number, call-site id); 0 for none.
    pub(crate) fn last_call(&self, rank: usize) -> (u32, u32) {
        let word = self
            .segment
            .u64(self.last_call_word(rank))
            .load(Ordering::Relaxed);
        ((word >> 32) as u32, word as u32)
    }

    /// Writes why `rank` ends the job. The first report of a rank stays; the first rank of the job to report is remembered.
    pub(crate) fn record_failure(&self, rank: usize, kind: FailureKind, code: i32, text: &str) {
        self.write_report(self.page(rank) + rank::FAILURE, true, kind, code, text);
        let _ = self.segment.u32(header::FIRST_FAILED).compare_exchange(
            0,
            rank as u32 + 1,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
    }

    /// Remembers a panic (it may yet be caught); a later one replaces it.
    pub(crate) fn record_panic(&self, rank: usize, text: &str) {
        self.write_report(
            self.page(rank) + rank::PANIC,
            false,
            FailureKind::Panic,
            101,
            text,
        );
    }

    /// The first rank that reported a failure.
    pub(crate) fn first_failed(&self) -> Option<usize> {
        let word = self
            .segment
            .u32(header::FIRST_FAILED)
            .load(Ordering::Acquire) as usize;
        (1..=self.ranks()).contains(&word).then(|| word - 1)
    }

    pub(crate) fn failure(&self, rank: usize) -> Option<Report> {
        self.read_report(self.page(rank) + rank::FAILURE)
    }

    pub(crate) fn last_panic(&self, rank: usize) -> Option<Report> {
        self.read_report(self.page(rank) + rank::PANIC)
    }

    fn write_report(&self, at: usize, keep_first: bool, kind: FailureKind, code: i32, text: &str) {
        let state = self.segment.u32(at);
        // 0 empty, 1 being written, 2 complete.
        let from = if keep_first {
            0
        } else {
            state.load(Ordering::Relaxed)
        };
        if from == 1
            || state
                .compare_exchange(from, 1, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
        {
            return;
        }
        let mut len = text.len().min(REPORT_ROOM);
        while !text.is_char_boundary(len) {
            len -= 1;
        }
        self.segment
            .u32(at + 4)
            .store(kind as u32, Ordering::Relaxed);
        self.segment
            .u32(at + 8)
            .store(code as u32, Ordering::Relaxed);
        self.segment
            .u32(at + 12)
            .store(len as u32, Ordering::Relaxed);
        // SAFETY: `at` checks the bounds, `len` fits them, and state 1 keeps other writers out.
        unsafe {
            core::ptr::copy_nonoverlapping(
                text.as_ptr(),
                self.segment.at(at + REPORT_TEXT, len),
                len,
            )
        };
        // Release: pairs with the Acquire in `read_report`.
        state.store(2, Ordering::Release);
    }

    fn read_report(&self, at: usize) -> Option<Report> {
        if self.segment.u32(at).load(Ordering::Acquire) != 2 {
            return None;
        }
        let kind = FailureKind::from_word(self.segment.u32(at + 4).load(Ordering::Relaxed));
        let code = self.segment.u32(at + 8).load(Ordering::Relaxed) as i32;
        let len = (self.segment.u32(at + 12).load(Ordering::Relaxed) as usize).min(REPORT_ROOM);
        Some(Report {
            kind,
            code,
            text: self.copy_text(at + REPORT_TEXT, len),
        })
    }

    /// Copies bytes out before anything looks at them.
    fn copy_text(&self, at: usize, len: usize) -> String {
        let mut bytes = vec![0_u8; len];
        // SAFETY: `at` checks the bounds; the copy reads bytes whose value nothing relies on.
        unsafe {
            core::ptr::copy_nonoverlapping(self.segment.at(at, len), bytes.as_mut_ptr(), len)
        };
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Appends a place in the user's program to `rank`'s table; the id is 0 if the table is full. One writer at a time.
    pub(crate) fn add_site(&self, rank: usize, file: &str, line: u32) -> u32 {
        let table = self.segment.layout().site_table(rank);
        let count = self.segment.u32(table);
        let id = count.load(Ordering::Relaxed) as usize + 1;
        if (id + 1) * SITE_ENTRY > SITE_TABLE {
            return 0;
        }
        let at = table + id * SITE_ENTRY;
        // Only the file's end matters when it does not fit.
        let mut from = file.len().saturating_sub(SITE_ENTRY - 8);
        while !file.is_char_boundary(from) {
            from += 1;
        }
        let text = &file[from..];
        self.segment.u32(at).store(line, Ordering::Relaxed);
        self.segment
            .u32(at + 4)
            .store(text.len() as u32, Ordering::Relaxed);
        // SAFETY: bounds checked by `at`; the entry is not yet published, so nobody reads it.
        unsafe {
            core::ptr::copy_nonoverlapping(
                text.as_ptr(),
                self.segment.at(at + 8, text.len()),
                text.len(),
            )
        };
        // Release: pairs with the Acquire in `site`.
        count.store(id as u32, Ordering::Release);
        id as u32
    }

    /// "file:line" of call site `id` of `rank`.
    pub(crate) fn site(&self, rank: usize, id: u32) -> Option<String> {
        let table = self.segment.layout().site_table(rank);
        let id = id as usize;
        if id == 0
            || (id + 1) * SITE_ENTRY > SITE_TABLE
            || id > self.segment.u32(table).load(Ordering::Acquire) as usize
        {
            return None;
        }
        let at = table + id * SITE_ENTRY;
        let line = self.segment.u32(at).load(Ordering::Relaxed);
        let len = (self.segment.u32(at + 4).load(Ordering::Relaxed) as usize).min(SITE_ENTRY - 8);
        Some(format!("{}:{line}", self.copy_text(at + 8, len)))
    }
}

/// Notes call number `call` at call site `site` in a rank's last-call word.
#[inline(always)]
pub(crate) fn note_call(word: &AtomicU64, call: u32, site: u32) {
    word.store((call as u64) << 32 | site as u64, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_stays() {
        let segment = Segment::private(3).unwrap();
        let control = segment.control();
        assert_eq!(control.first_failed(), None);
        control.record_failure(2, FailureKind::Gone, 120, "rank 2 waits for nobody");
        control.record_failure(2, FailureKind::Abort, 7, "later");
        control.record_failure(1, FailureKind::Abort, 7, "later");
        assert_eq!(control.first_failed(), Some(2));
        let report = control.failure(2).unwrap();
        assert_eq!(
            (report.kind, report.code, report.text.as_str()),
            (FailureKind::Gone, 120, "rank 2 waits for nobody")
        );
        control.record_panic(0, "first");
        control.record_panic(0, &"x".repeat(5000));
        assert_eq!(control.last_panic(0).unwrap().text.len(), REPORT_ROOM);
    }

    #[test]
    fn call_sites_are_told_by_number() {
        let segment = Segment::private(2).unwrap();
        let control = segment.control();
        let id = control.add_site(1, "src/main.rs", 42);
        assert_eq!(control.site(1, id).as_deref(), Some("src/main.rs:42"));
        assert_eq!(control.site(0, id), None);
        assert_eq!(control.site(1, u32::MAX), None);
        let long = "d/".repeat(100) + "end.rs";
        let id = control.add_site(1, &long, 1);
        assert!(control.site(1, id).unwrap().ends_with("end.rs:1"));
    }
}
