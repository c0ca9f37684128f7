//! The ranks' output: whole lines, or after 100 ms the part of a line that there is, labelled on demand.
//!
//! Bytes and times go in, bytes and deadlines come out; reading and writing are the agent's.
use std::time::{Duration, Instant};

/// A line's part is shown after this, so that prompts appear.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);
/// A longer line is passed on in pieces: what a rank can make us hold is bounded.
const LONGEST: usize = 1 << 20;

/// One stream of one rank: what has come and is no whole line yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    held: Vec<u8>,
    since: Option<Instant>,
}

impl Lines {
    /// Takes what was read; what can be passed on now.
    pub(super) fn push(&mut self, bytes: &[u8], now: Instant) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        let whole = match last_newline(bytes) {
            Some(at) => self.held.len() - bytes.len() + at + 1,
            None if self.held.len() >= LONGEST => self.held.len(),
            None => 0,
        };
        let rest = self.held.split_off(whole);
        let out = std::mem::replace(&mut self.held, rest);
        if self.held.is_empty() {
            self.since = None;
        } else if whole > 0 || self.since.is_none() {
            self.since = Some(now);
        }
        out
    }

    /// When what is held is to be passed on as it is.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + PATIENCE)
    }

    /// All that is held.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.since = None;
        std::mem::take(&mut self.held)
    }
}

fn last_newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().rposition(|&byte| byte == b'\n')
}

/// Where streams of several ranks come together: puts the labels, and keeps one rank's line apart from another's.
#[derive(Debug, Default)]
pub(super) struct Merge {
    tag: bool,
    /// The rank whose line has no end yet.
    open: Option<usize>,
}

impl Merge {
    pub(super) fn new(tag: bool) -> Merge {
        Merge { tag, open: None }
    }

    /// What to write for `bytes` of `rank`. Without labels that is `bytes`: a stream may be anything, and must come through exactly.
    pub(super) fn pass(&mut self, rank: usize, bytes: Vec<u8>) -> Vec<u8> {
        if !self.tag || bytes.is_empty() {
            return bytes;
        }
        let mut out = Vec::with_capacity(bytes.len() + 16);
        if self.open.is_some_and(|open| open != rank) {
            out.push(b'\n');
            self.open = None;
        }
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            if self.open.is_none() {
                out.extend(format!("[{rank}] ").into_bytes());
            }
            out.extend(line);
            self.open = (!line.ends_with(b"\n")).then_some(rank);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_whole_and_a_prompt_comes_after_its_time() {
        let start = Instant::now();
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"one\ntwo\nthr", start), b"one\ntwo\n");
        assert_eq!(lines.deadline(), Some(start + PATIENCE));
        // More of the same line does not put the deadline off: a slow trickle shows too.
        let later = start + Duration::from_millis(60);
        assert_eq!(lines.push(b"ee", later), b"");
        assert_eq!(lines.deadline(), Some(start + PATIENCE));
        assert_eq!(lines.take(), b"three");
        assert_eq!(lines.deadline(), None);
        assert_eq!(lines.push(b"!\n", later), b"!\n");
        assert_eq!(lines.deadline(), None);
    }

    #[test]
    fn a_line_without_end_is_passed_on_in_pieces() {
        let mut lines = Lines::default();
        let piece = vec![b'x'; LONGEST / 2];
        assert_eq!(lines.push(&piece, Instant::now()), b"");
        assert_eq!(lines.push(&piece, Instant::now()).len(), LONGEST);
    }

    #[test]
    fn labels_stand_at_the_start_of_lines() {
        let mut merge = Merge::new(true);
        assert_eq!(merge.pass(3, b"a\nb\n".to_vec()), b"[3] a\n[3] b\n");
        assert_eq!(merge.pass(3, b"name? ".to_vec()), b"[3] name? ");
        assert_eq!(merge.pass(3, b"x\n".to_vec()), b"x\n");
        assert_eq!(merge.pass(0, b"half".to_vec()), b"[0] half");
        assert_eq!(merge.pass(1, b"whole\n".to_vec()), b"\n[1] whole\n");
        assert_eq!(merge.pass(0, b" rest\n".to_vec()), b"[0]  rest\n");
        assert_eq!(Merge::new(false).pass(0, b"\0\xff".to_vec()), b"\0\xff");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_torn(chunks in prop::collection::vec("[ab\n]{0,9}", 0..12)) {
            let now = Instant::now();
            let (mut lines, mut out) = (Lines::default(), Vec::new());
            for chunk in &chunks {
                let passed = lines.push(chunk.as_bytes(), now);
                prop_assert!(passed.is_empty() || passed.ends_with(b"\n"));
                out.extend(passed);
            }
            out.extend(lines.take());
            prop_assert_eq!(out, chunks.concat().into_bytes());
        }
    }
}
