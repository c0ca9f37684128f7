//! The heaps: memory of the application that the other ranks of the host can read where it lies. README.md has who owns what and when.
use super::Segment;
use super::layout::PAGE;
use crate::sys::mem;
use core::ptr::NonNull;
use memmap2::MmapRaw;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// All heaps of a segment, as one process sees them. A process that has to do with none of them maps none.
pub(super) struct Heaps {
    /// Where the first begins in the segment's file.
    start: usize,
    /// Bytes of each; 0 where there is no room for any.
    each: usize,
    areas: Box<[Area]>,
}

/// One rank's heap.
#[derive(Default)]
struct Area {
    /// `None` inside: it cannot be mapped here.
    map: OnceLock<Option<MmapRaw>>,
    /// Used by its owner alone.
    holes: Mutex<Holes>,
}

impl Heaps {
    pub(super) fn new(ranks: usize, start: usize, each: usize) -> Heaps {
        Heaps {
            start,
            each,
            areas: (0..ranks).map(|_| Area::default()).collect(),
        }
    }
}

/// Which bytes of a heap are free: gaps, and everything from `end` on.
#[derive(Debug, Default)]
struct Holes {
    gaps: BTreeMap<usize, usize>,
    end: usize,
}

impl Holes {
    /// Takes `len` bytes below `limit`, where they fit first.
    fn take(&mut self, len: usize, limit: usize) -> Option<usize> {
        let gap = self.gaps.iter().find(|&(_, &free)| free >= len);
        if let Some((at, free)) = gap.map(|(&at, &free)| (at, free)) {
            self.gaps.remove(&at);
            if free > len {
                self.gaps.insert(at + len, free - len);
            }
            return Some(at);
        }
        let at = self.end;
        (len <= limit - at).then(|| {
            self.end += len;
            at
        })
    }

    fn give_back(&mut self, mut at: usize, mut len: usize) {
        if let Some((&before, &free)) = self.gaps.range(..at).next_back() {
            if before + free == at {
                self.gaps.remove(&before);
                (at, len) = (before, free + len);
            }
        }
        if let Some(free) = self.gaps.remove(&(at + len)) {
            len += free;
        }
        if at + len == self.end {
            self.end = at;
        } else {
            self.gaps.insert(at, len);
        }
    }
}

impl Segment {
    /// The heap of the rank with index `local`, which the first call maps; `None` where it cannot be.
    fn heap(&self, local: usize) -> Option<&MmapRaw> {
        let heaps = self.heaps();
        let map = || {
            if heaps.each == 0 {
                return None;
            }
            let map = match self.fd() {
                Some(fd) => mem::map_part(fd, heaps.start + local * heaps.each, heaps.each),
                None => mem::map_private(heaps.each),
            };
            let map = map.ok()?;
            // A core dump takes what is allocated, not all that there is room for.
            mem::dump(&map, 0, heaps.each, false);
            Some(map)
        };
        heaps.areas.get(local)?.map.get_or_init(map).as_ref()
    }

    /// Where `len` bytes at `ptr` are in the heap of `local`, if they are all in there and it is mapped here, as its owner's is.
    #[inline]
    pub(crate) fn place_in_heap(&self, local: usize, ptr: *const u8, len: usize) -> Option<usize> {
        let map = self.heaps().areas.get(local)?.map.get()?.as_ref()?;
        let at = ptr.addr().checked_sub(map.as_ptr().addr())?;
        (at < map.len() && len <= map.len() - at).then_some(at)
    }

    /// Whether heaps have `len` bytes from `at` on: what a peer tells is looked at by this first.
    #[inline]
    pub(crate) fn heaps_hold(&self, at: u64, len: u64) -> bool {
        let each = self.heaps().each as u64;
        at <= each && len <= each - at
    }

    /// The `len` bytes at `at` of the heap of `local`, good for raw copies as long as the segment lives; `None` where they cannot be mapped here. Panics
    /// if no heap has them.
    pub(crate) fn in_heap(&self, local: usize, at: usize, len: usize) -> Option<*const u8> {
        assert!(self.heaps_hold(at as u64, len as u64));
        // SAFETY: inside the mapping, which is as long as each heap, by the assertion.
        self.heap(local).map(|map| unsafe { map.as_ptr().add(at) })
    }
}

/// Memory of a rank's heap that belongs to whoever holds this, until it is dropped.
pub(crate) struct HeapBlock {
    segment: Arc<Segment>,
    local: usize,
    at: usize,
    len: usize,
    ptr: NonNull<u8>,
}

// SAFETY: the range is this value's alone to write, and the segment's mapping is there as long as the value.
unsafe impl Send for HeapBlock {}
// SAFETY: as above; a shared reference gives the address only.
unsafe impl Sync for HeapBlock {}

impl HeapBlock {
    /// Takes at least `bytes` bytes, all pages of their own, out of the heap of the rank with index `local`, for that rank. They are initialized, to
    /// whatever. `None`: there is no heap, no room in it, or no memory for it.
    pub(crate) fn take(segment: &Arc<Segment>, local: usize, bytes: usize) -> Option<HeapBlock> {
        let each = segment.heaps().each;
        let len = bytes.max(1).checked_next_multiple_of(PAGE)?;
        if len > each {
            return None;
        }
        let map = segment.heap(local)?;
        let at = segment.holes(local).take(len, each)?;
        let taken = segment.fd().map_or(Ok(()), |fd| {
            mem::allocate(fd, segment.in_file(local, at), len as u64)
        });
        if taken.is_err() {
            segment.holes(local).give_back(at, len);
            return None;
        }
        mem::dump(map, at, len, true);
        if segment.fd().is_some() {
            // An old kernel may refuse; then the pages come one by one.
            let _ = mem::populate(map, at, len);
        }
        // SAFETY: inside the mapping: `take` stays below its length.
        let ptr = NonNull::new(unsafe { map.as_mut_ptr().add(at) })?;
        Some(HeapBlock {
            segment: segment.clone(),
            local,
            at,
            len,
            ptr,
        })
    }

    /// All bytes, for tests.
    #[cfg(test)]
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the range is this value's, which is borrowed exclusively, and initialized; others only read it while a call borrows it.
        unsafe { core::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }

    /// The first byte, at the beginning of a page.
    #[inline]
    pub(crate) fn ptr(&self) -> NonNull<u8> {
        self.ptr
    }
}

impl Segment {
    fn holes(&self, local: usize) -> std::sync::MutexGuard<'_, Holes> {
        // A panic in there is a bug of `Holes` alone, which the next call may or may not survive.
        let holes = &self.heaps().areas[local].holes;
        holes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where byte `at` of a heap is in the segment's file.
    fn in_file(&self, local: usize, at: usize) -> u64 {
        let heaps = self.heaps();
        (heaps.start + local * heaps.each + at) as u64
    }
}

impl Drop for HeapBlock {
    /// The memory goes back to the system first: from then on the range may be taken again.
    fn drop(&mut self) {
        let segment = &self.segment;
        if let Some(map) = segment.heap(self.local) {
            mem::dump(map, self.at, self.len, false);
            match segment.fd() {
                // Where the system cannot, the memory stays with the heap, for its next user.
                Some(fd) => {
                    let _ =
                        mem::give_back(fd, segment.in_file(self.local, self.at), self.len as u64);
                }
                None => mem::give_back_private(map, self.at, self.len),
            }
        }
        segment.holes(self.local).give_back(self.at, self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Nothing is given out twice, nothing is lost, and gaps that meet are one.
        #[test]
        fn holes_are_what_is_not_taken(steps in prop::collection::vec((any::<bool>(), 1..9_usize), 1..200)) {
            const LIMIT: usize = 64;
            let mut holes = Holes::default();
            let mut taken: Vec<(usize, usize)> = Vec::new();
            for (give, n) in steps {
                if give && !taken.is_empty() {
                    let (at, len) = taken.swap_remove(n % taken.len());
                    holes.give_back(at, len);
                } else if let Some(at) = holes.take(n, LIMIT) {
                    prop_assert!(at + n <= LIMIT);
                    prop_assert!(taken.iter().all(|&(a, l)| at + n <= a || a + l <= at));
                    taken.push((at, n));
                } else {
                    let mut used = [false; LIMIT];
                    for &(at, len) in &taken {
                        used[at..at + len].fill(true);
                    }
                    prop_assert!(used.windows(n).all(|place| place.contains(&true)));
                }
                let free: usize = holes.gaps.values().sum();
                let held: usize = taken.iter().map(|t| t.1).sum();
                prop_assert_eq!(free + held, holes.end);
                for (&at, &len) in &holes.gaps {
                    prop_assert!(at + len < holes.end && !holes.gaps.contains_key(&(at + len)));
                }
            }
        }
    }

    fn fill(block: &HeapBlock, len: usize, value: u8) {
        // SAFETY: the block has so many bytes, which are its owner's alone.
        unsafe { block.ptr().as_ptr().write_bytes(value, len) };
    }

    /// The byte at `at` of what another process, which has mapped the segment by itself, sees.
    fn seen(segment: &Segment, local: usize, at: usize) -> u8 {
        let ptr = segment.in_heap(local, at, 1).unwrap();
        // SAFETY: inside the heap; nobody writes meanwhile.
        unsafe { ptr.read_volatile() }
    }

    #[test]
    fn others_see_what_the_owner_writes_and_memory_goes_back() {
        if cfg!(miri) {
            return;
        }
        let mine = Arc::new(Segment::create(2, 2).unwrap());
        let theirs = Segment::attach(mine.fd().unwrap().try_clone_to_owned().unwrap()).unwrap();
        let first = HeapBlock::take(&mine, 1, 5000).unwrap();
        let second = HeapBlock::take(&mine, 1, 1 << 20).unwrap();
        fill(&first, 5000, 1);
        fill(&second, 1 << 20, 2);
        let at = |block: &HeapBlock| mine.place_in_heap(1, block.ptr().as_ptr(), 1).unwrap();
        assert_eq!((at(&first), at(&second)), (0, 8192));
        assert_eq!(seen(&theirs, 1, 4999), 1);
        assert_eq!(seen(&theirs, 1, 8192 + (1 << 20) - 1), 2);
        // A part of it is found too; what reaches out of the heap, or lies elsewhere, is not.
        let inside = second.ptr().as_ptr().wrapping_add(77);
        assert_eq!(mine.place_in_heap(1, inside, 1000), Some(8192 + 77));
        assert_eq!(mine.place_in_heap(1, inside, mine.heaps().each), None);
        assert_eq!(mine.place_in_heap(0, inside, 1), None);
        assert_eq!(mine.place_in_heap(1, (&raw const at).cast(), 1), None);

        let blocks = |segment: &Segment| mem::blocks(segment.fd().unwrap()).unwrap();
        let before = blocks(&mine);
        drop(second);
        assert!(before - blocks(&mine) >= 1 << 20);
        assert_eq!(seen(&theirs, 1, 4999), 1);
        drop(first);
        let again = HeapBlock::take(&mine, 1, 100).unwrap();
        assert_eq!(at(&again), 0);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_the_rest_goes_on() {
        let segment = Arc::new(Segment::private(1).unwrap());
        let each = segment.heaps().each;
        assert!(HeapBlock::take(&segment, 0, each + 1).is_none());
        assert!(HeapBlock::take(&segment, 0, usize::MAX).is_none());
        let most = HeapBlock::take(&segment, 0, each - PAGE).unwrap();
        assert!(HeapBlock::take(&segment, 0, PAGE + 1).is_none());
        let last = HeapBlock::take(&segment, 0, PAGE).unwrap();
        fill(&last, PAGE, 7);
        assert!(HeapBlock::take(&segment, 0, 1).is_none());
        drop(most);
        assert!(HeapBlock::take(&segment, 0, each - PAGE).is_some());
        assert!(segment.heaps_hold(0, each as u64) && segment.heaps_hold(each as u64, 0));
        assert!(!segment.heaps_hold(1, each as u64) && !segment.heaps_hold(u64::MAX, 2));
    }
}
