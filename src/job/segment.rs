//! The memory that the ranks of one host share.
use super::directory::Place;
use super::heap::Heaps;
use super::layout::{self, Map, PAGE};
use crate::model::error::Result;
use crate::model::{Error, ErrorClass};
use crate::sys::mem;
use core::ops::{Deref, Range};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use memmap2::MmapRaw;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// A mapped segment. It hands out references to atomics and raw pointers, never a `&mut` or `&[u8]` to memory that others write.
pub(crate) struct Segment {
    map: MmapRaw,
    layout: Map,
    heaps: Heaps,
    /// `None` for a segment that only threads of this process share.
    fd: Option<OwnedFd>,
    /// Where the directory's next record goes, in units of 8 bytes, for the one process that writes there.
    directory_end: Mutex<u32>,
    /// In jobs with sockets: what rouses each rank of this host, which then sleeps where its sockets are watched too.
    bells: OnceLock<Vec<OwnedFd>>,
}

// SAFETY: the mapping lives as long as the value, and all access to it goes through atomics or raw copies whose protocols order them.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

/// Two programs of a job must be built with the same version of Tercio.
fn build() -> u64 {
    env!("CARGO_PKG_VERSION")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |h: u64, b| {
            (h ^ b as u64).wrapping_mul(0x0000_0100_0000_01b3)
        })
}

fn memory(what: &str, len: usize, error: &std::io::Error) -> Error {
    let why = match error.raw_os_error() {
        Some(libc::ENOSPC | libc::ENOMEM) => "the machine or its memory limit has no more",
        Some(libc::EMFILE | libc::ENFILE) => "too many files are open; raise `ulimit -n`",
        Some(libc::EFBIG) => "the file size limit is lower; raise `ulimit -f`",
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) => {
            "the system call is forbidden here (a container's seccomp profile?)"
        }
        _ => "the system refused",
    };
    Error::new(
        ErrorClass::Memory,
        format!(
            "cannot {what} ({} KiB): {why} ({error}); use fewer ranks or allow more memory",
            len / 1024
        ),
    )
}

impl Segment {
    /// A new segment for `ranks` ranks, with room for `room` in all, held by a descriptor without a name.
    pub(crate) fn create(ranks: usize, room: usize) -> Result<Segment> {
        let layout = Self::layout_for(room)?;
        let total = layout.total();
        // Where the limit on files' sizes has no room for heaps, shared buffers are ordinary memory.
        let with_heaps = (total + room * layout::HEAP) as u64;
        let (len, heap) = match with_heaps <= mem::longest_file() {
            true => (with_heaps, layout::HEAP),
            false => (total as u64, 0),
        };
        let fd = mem::memfd(c"tercio-segment", len)
            .map_err(|e| memory("make the job's shared segment", total, &e))?;
        let map = mem::map_shared(&fd, total)
            .map_err(|e| memory("map the job's shared segment", total, &e))?;
        let segment = Segment {
            map,
            layout,
            heaps: Heaps::new(room, total, heap),
            fd: Some(fd),
            directory_end: Mutex::new(0),
            bells: OnceLock::new(),
        };
        segment.reserve_ranks(0..ranks)?;
        segment.write_header();
        segment.settle_here(ranks)?;
        Ok(segment)
    }

    /// A new segment that threads of this process share.
    pub(crate) fn private(ranks: usize) -> Result<Segment> {
        let layout = Self::layout_for(ranks)?;
        let map = mem::map_private(layout.total())
            .map_err(|e| memory("map memory for the ranks", layout.total(), &e))?;
        let segment = Segment {
            map,
            layout,
            heaps: Heaps::new(ranks, 0, layout::PRIVATE_HEAP),
            fd: None,
            directory_end: Mutex::new(0),
            bells: OnceLock::new(),
        };
        segment.write_header();
        segment.settle_here(ranks)?;
        Ok(segment)
    }

    /// Maps the segment behind `fd` after checking that this version made it.
    pub(crate) fn attach(fd: OwnedFd) -> Result<Segment> {
        let join = |text: String| Error::new(ErrorClass::Join, text);
        let strange = "the descriptor in TERCIO_SEGMENT_FD is not a job's segment; start the program by `tercio run`, and let wrappers \
                       (sudo, ssh, env -i) keep descriptors and TERCIO_* variables";
        let seals = mem::seals(&fd).map_err(|_| join(strange.to_string()))?;
        let len = mem::file_len(&fd)
            .map_err(|e| join(format!("cannot inspect the job's segment: {e}")))?
            as usize;
        if seals & libc::F_SEAL_SHRINK == 0 || len < PAGE {
            return Err(join(strange.to_string()));
        }
        let head = mem::map_shared(&fd, PAGE)
            .map_err(|e| memory("map the job's shared segment", PAGE, &e))?;
        // SAFETY: the page is mapped, aligned and outlives the reads; the header's constants were written before any rank started.
        let (magic, version, ranks, made_by) = unsafe {
            let p = head.as_mut_ptr();
            (
                p.add(layout::header::MAGIC).cast::<u64>().read_volatile(),
                p.add(layout::header::VERSION).cast::<u32>().read_volatile(),
                p.add(layout::header::RANKS).cast::<u32>().read_volatile() as usize,
                p.add(layout::header::BUILD).cast::<u64>().read_volatile(),
            )
        };
        drop(head);
        if magic != layout::MAGIC {
            return Err(join(strange.to_string()));
        }
        if version != layout::LAYOUT_VERSION || made_by != build() {
            return Err(join(format!(
                "this program was built with tercio {} (segment layout {}), the launcher with another version (segment layout {version}); \
                 build both with the same version of tercio",
                env!("CARGO_PKG_VERSION"),
                layout::LAYOUT_VERSION
            )));
        }
        let heap = match ranks {
            1..=layout::MAX_LOCAL_RANKS => len.checked_sub(Map::new(ranks).total()),
            _ => None,
        };
        // Heaps of whole pages, one for each rank.
        let Some(heap) = heap
            .filter(|all| all % (ranks * PAGE) == 0)
            .map(|all| all / ranks)
        else {
            return Err(join(format!(
                "the job's segment says {ranks} ranks, which does not fit its {len} bytes; it is damaged"
            )));
        };
        let layout = Map::new(ranks);
        let total = layout.total();
        let map = mem::map_shared(&fd, total)
            .map_err(|e| memory("map the job's shared segment", total, &e))?;
        Ok(Segment {
            map,
            layout,
            heaps: Heaps::new(ranks, total, heap),
            fd: Some(fd),
            directory_end: Mutex::new(0),
            bells: OnceLock::new(),
        })
    }

    fn layout_for(ranks: usize) -> Result<Map> {
        if ranks == 0 || ranks > layout::MAX_LOCAL_RANKS {
            let text = format!(
                "{ranks} ranks on one host were asked for; it can be 1 to {}",
                layout::MAX_LOCAL_RANKS
            );
            return Err(Error::new(ErrorClass::Arg, text));
        }
        Ok(Map::new(ranks))
    }

    /// All `ranks` ranks of the job are here, until somebody says otherwise.
    pub(crate) fn settle_here(&self, ranks: usize) -> Result<()> {
        let places: Vec<Place> = (0..ranks as u32)
            .map(|local| Place { host: 0, local })
            .collect();
        self.directory().settle(&places, 0)
    }

    fn write_header(&self) {
        self.u64(layout::header::BUILD)
            .store(build(), Ordering::Relaxed);
        self.u32(layout::header::RANKS)
            .store(self.layout.ranks() as u32, Ordering::Relaxed);
        self.u32(layout::header::VERSION)
            .store(layout::LAYOUT_VERSION, Ordering::Relaxed);
        // Contexts 0 and 1 are the world's, 2 and 3 each rank's communicator with itself, 4 and 5 where groups form without their parent.
        self.u32(layout::header::NEXT_CONTEXT)
            .store(6, Ordering::Relaxed);
        // Release: pairs with whatever hands the segment to other threads or processes (fork, thread start).
        self.u64(layout::header::MAGIC)
            .store(layout::MAGIC, Ordering::Release);
    }

    /// Where the directory's next record goes; whoever holds this is its one writer.
    pub(super) fn directory_cursor(&self) -> MutexGuard<'_, u32> {
        self.directory_end
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands over what rouses each rank of this host, by its index. Once, before anybody waits.
    pub(crate) fn set_bells(&self, bells: Vec<OwnedFd>) {
        let _ = self.bells.set(bells);
    }

    /// What rouses each rank, in a job with sockets.
    pub(crate) fn bells(&self) -> &[OwnedFd] {
        self.bells.get().map_or(&[], Vec::as_slice)
    }

    /// What rouses the rank with this index, in a job with sockets.
    #[inline]
    pub(crate) fn bell(&self, local: usize) -> Option<BorrowedFd<'_>> {
        self.bells.get()?.get(local).map(|bell| bell.as_fd())
    }

    pub(crate) fn layout(&self) -> &Map {
        &self.layout
    }

    pub(super) fn heaps(&self) -> &Heaps {
        &self.heaps
    }

    /// How many ranks there is room for: those that the job began with, and those that are spawned.
    pub(crate) fn ranks(&self) -> usize {
        self.layout.ranks()
    }

    /// The descriptor to hand to ranks; `None` if only threads share it.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(|fd| fd.as_fd())
    }

    /// Takes memory for a range now: an error here instead of a bus error at the first touch. Idempotent; callers do it once per object.
    pub(crate) fn reserve(&self, offset: usize, len: usize) -> Result<()> {
        let Some(fd) = &self.fd else { return Ok(()) };
        mem::allocate(fd, offset as u64, len as u64)
            .map_err(|e| memory("take shared memory for messages", len, &e))
    }

    /// As [`Segment::reserve`], and [`Segment::map_now`].
    pub(crate) fn reserve_mapped(&self, offset: usize, len: usize) -> Result<()> {
        self.reserve(offset, len)?;
        self.map_now(offset..offset + len);
        Ok(())
    }

    /// Maps a range, whose memory has been taken, into this process at once: in a virtual machine a page that is met while a message is copied
    /// costs 1.8 us, so that the first round through a ring of 2 MiB takes a millisecond, and every measurement in it is wrong.
    pub(crate) fn map_now(&self, range: Range<usize>) {
        if self.fd.is_some() {
            // An old kernel may refuse; then the pages come one by one.
            let _ = mem::populate(&self.map, range.start, range.len());
        }
    }

    /// Takes the memory that everybody touches of these ranks, before they start.
    pub(crate) fn reserve_ranks(&self, ranks: Range<usize>) -> Result<()> {
        for (offset, len) in self.layout.always(ranks.start, ranks.end) {
            self.reserve(offset, len)?;
        }
        Ok(())
    }

    /// A pointer to `len` bytes at `offset`. Panics if they are not all inside: offsets come from [`Map`], never from a peer unchecked.
    #[inline]
    pub(crate) fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset <= self.layout.total() && len <= self.layout.total() - offset);
        // SAFETY: in bounds by the assertion; the mapping is `total` bytes long.
        unsafe { self.map.as_mut_ptr().add(offset) }
    }

    /// The 32-bit atomic at `offset`.
    #[inline]
    pub(crate) fn u32(&self, offset: usize) -> &AtomicU32 {
        assert!(offset % 4 == 0);
        // SAFETY: in bounds (checked by `at`), aligned, lives as long as `self`, and everybody accesses it atomically.
        unsafe { AtomicU32::from_ptr(self.at(offset, 4).cast()) }
    }

    /// The 64-bit atomic at `offset`.
    #[inline]
    pub(crate) fn u64(&self, offset: usize) -> &AtomicU64 {
        assert!(offset % 8 == 0);
        // SAFETY: as for `u32`.
        unsafe { AtomicU64::from_ptr(self.at(offset, 8).cast()) }
    }
}

/// One atomic word of a segment, found once: what a hot path holds instead of an offset to check each time.
pub(crate) struct Word<A> {
    at: NonNull<A>,
    /// Keeps the mapping, into which the pointer points.
    _segment: Arc<Segment>,
}

// SAFETY: the pointer leads into the segment's mapping, which the value keeps alive and which any thread may use.
unsafe impl<A: Sync> Send for Word<A> {}
// SAFETY: as above.
unsafe impl<A: Sync> Sync for Word<A> {}

impl Word<AtomicU32> {
    /// The 32-bit atomic at `offset`.
    pub(crate) fn at32(segment: &Arc<Segment>, offset: usize) -> Word<AtomicU32> {
        Word {
            at: NonNull::from(segment.u32(offset)),
            _segment: segment.clone(),
        }
    }
}

impl Word<AtomicU64> {
    /// The 64-bit atomic at `offset`.
    pub(crate) fn at64(segment: &Arc<Segment>, offset: usize) -> Word<AtomicU64> {
        Word {
            at: NonNull::from(segment.u64(offset)),
            _segment: segment.clone(),
        }
    }
}

impl<A> Deref for Word<A> {
    type Target = A;
    #[inline(always)]
    fn deref(&self) -> &A {
        // SAFETY: made from a reference into the mapping that `_segment` keeps alive.
        unsafe { self.at.as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_found_again_by_its_descriptor() {
        let made = Segment::create(3, 3).unwrap();
        made.u32(layout::header::CLAIMED_CORES)
            .store(7, Ordering::Relaxed);
        let fd = made.fd().unwrap().try_clone_to_owned().unwrap();
        let found = Segment::attach(fd).unwrap();
        assert_eq!(found.ranks(), 3);
        assert_eq!(
            found
                .u32(layout::header::CLAIMED_CORES)
                .load(Ordering::Relaxed),
            7
        );
    }

    #[test]
    fn strange_descriptors_get_a_sentence() {
        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let text = Segment::attach(file).err().unwrap().to_string();
        assert!(text.contains("not a job's segment"), "{text}");
        let other = Segment::create(1, 1).unwrap();
        other
            .u32(layout::header::VERSION)
            .store(99, Ordering::Relaxed);
        let fd = other.fd().unwrap().try_clone_to_owned().unwrap();
        let text = Segment::attach(fd).err().unwrap().to_string();
        assert!(text.contains("another version"), "{text}");
        assert!(
            Segment::create(0, 0)
                .err()
                .unwrap()
                .to_string()
                .contains("1 to 1024")
        );
    }
}
