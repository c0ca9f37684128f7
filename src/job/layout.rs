//! Where everything lies in a host's segment.
//!
//! ```text
//! header page     magic, version, ranks | abort word | first failure | awake | departures | contexts | cell blocks
//! rank pages [n]  claim, state | sleep word | open lanes | last call | failure | panic                      (a page each)
//! counters        sent[src][dst], received[dst][src]: one u64 each, rows padded to 128 bytes
//! sites [n]       the rank's append-only table of call sites                                               (128 KiB, sparse)
//! credits         [src][dst], one 128-byte line each, written by the receiver
//! lanes           [dst][src]: slots, then a byte ring                                                      (sparse)
//! streams         [rank][k]: head line, tail line, staging ring                                            (sparse)
//! long spans      [rank]: where the rank's messages of middle size to near cores go round                  (sparse)
//! cells           [block]: header page, a control page a rank, buffers a rank                                              (sparse)
//! long cells      [block][rank]: of the first blocks, room for the buffers to go round                                       (sparse)
//! directory       head, the world's members, records: see job/README.md                                                    (sparse)
//! heaps [n]       what a rank's program allocated to be read by others where it lies: not mapped before it is used, see job/README.md
//! ```
//!
//! The file is sparse: only what is used takes memory. So there is room for more ranks than the job begins with, for those that are spawned
//! later. Everything shared is either an atomic or copied as raw bytes.

/// Bytes that must not be shared by two writers: two lines, because of adjacent-line prefetch on x86-64 and 128-byte lines on aarch64.
pub(crate) const LINE: usize = 128;
pub(crate) const PAGE: usize = 4096;

/// "TERCIO" and two zero bytes, little-endian.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"TERCIO\0\0");
/// Counts up with every change of this file's meaning.
pub(crate) const LAYOUT_VERSION: u32 = 9;

/// The open-lanes bitmap has this many bits.
pub(crate) const MAX_LOCAL_RANKS: usize = 1024;

pub(crate) const RANK_PAGE: usize = PAGE;
pub(crate) const SITE_ENTRY: usize = 128;
pub(crate) const SITE_TABLE: usize = 128 * 1024;

/// A slot is 17 lines: flag, header and 32 bytes of the body in the first, the rest in those behind it, which most messages leave alone. Lines that follow each
/// other come together: half a round trip of 128, 256 and 512 bytes takes two bare loops 66, 67 and 84 ns, with the body elsewhere 98, 98 and 137. With
/// slots of 11 lines, which fit into the first caches, it is 66, 91 and 139; an odd number of lines keeps the first ones out of each other's cache sets.
pub(crate) const SLOT: usize = 17 * 64;
/// Bytes of the body that are used; 1 KiB is faster through a long ring.
pub(crate) const SLOT_INLINE: usize = 1016;
const _: () = assert!(32 + SLOT_INLINE <= SLOT);
/// Slots of a lane. Measured: 64 are as fast as 32 alone (52 ns) and in a stream (4 ns a message); 128 cost 2 ns more, 256 cost 10.
pub(crate) const LANE_SLOTS: usize = 64;
/// Bytes of a lane's byte ring.
pub(crate) const LANE_RING: usize = 32 * 1024;
pub(crate) const LANE: usize = LANE_SLOTS * SLOT + LANE_RING;

/// Staging streams of a rank; a large message takes one for as long as it travels.
pub(crate) const STREAMS: usize = 8;
/// Messages that one stream can carry at a time.
pub(crate) const STREAM_TAILS: usize = 16;
/// Room for the first stream's ring, which carries nearly everything: how much of it is used is transport/shm/stream.rs's.
pub(crate) const FIRST_RING: usize = 2 * 1024 * 1024;
/// Bytes of the rings of the others, for more large messages at one time.
pub(crate) const OTHER_RING: usize = 64 * 1024;
/// A rank's streams: each a control page and its ring.
pub(crate) const STREAM_AREA: usize = STREAMS * PAGE + FIRST_RING + (STREAMS - 1) * OTHER_RING;

/// Bytes of a rank's long ring, for messages of middle size to all whose cores are near. It must be longer than the private caches of both cores:
/// transport/shm/README.md.
pub(crate) const LONG_SPANS: usize = 2 * 1024 * 1024;

/// Communicators that can have cells at one time; the others' collectives run as schedules.
pub(crate) const CELL_BLOCKS: usize = 64;
/// A rank's part of a cell block: a control page and its buffers. What is inside them: transport/shm/cells.rs.
pub(crate) const CELL_AREA: usize = 256 * 1024;
/// The first blocks, the world's among them, have room for a member's buffers to go round in so many bytes.
pub(crate) const LONG_CELL_BLOCKS: usize = 4;
pub(crate) const LONG_CELLS: usize = 2 * 1024 * 1024;

/// Ranks of a world, on all its hosts.
pub(crate) const MAX_RANKS: usize = 64 * 1024;
/// Bytes of the directory: address space; what is not written takes no memory.
pub(crate) const DIRECTORY: usize = 64 << 20;

/// Bytes of a rank's heap behind all this: length of the file, which costs nothing, and address space where it is used. Who wants more in one rank has
/// the rest as ordinary memory.
pub(crate) const HEAP: usize = 4 << 30;
/// The same where the ranks are threads of one process.
pub(crate) const PRIVATE_HEAP: usize = if cfg!(miri) { 256 << 10 } else { 64 << 20 };

/// Offsets inside the directory.
pub(crate) mod directory {
    use super::{MAX_RANKS, PAGE};
    pub(crate) const WORLD: usize = 0;
    pub(crate) const HOSTS: usize = 4;
    pub(crate) const HERE: usize = 8;
    pub(crate) const FILLED: usize = 12;
    pub(crate) const CHANGES: usize = 128;
    pub(crate) const MEMBERS: usize = PAGE;
    /// A member: host, index in that host's segment, state, room.
    pub(crate) const MEMBER: usize = 16;
    pub(crate) const RECORDS: usize = MEMBERS + MAX_RANKS * MEMBER;
}

/// Offsets inside the header page.
pub(crate) mod header {
    pub(crate) const MAGIC: usize = 0;
    pub(crate) const VERSION: usize = 8;
    pub(crate) const RANKS: usize = 12;
    /// A hash of the crate's version: two programs of one job must be built with the same Tercio.
    pub(crate) const BUILD: usize = 16;
    pub(crate) const CLAIMED_CORES: usize = 24;
    /// What ranks are told as the universe's size.
    pub(crate) const UNIVERSE: usize = 28;
    pub(crate) const ABORT: usize = 128;
    pub(crate) const FIRST_FAILED: usize = 256;
    pub(crate) const AWAKE: usize = 384;
    pub(crate) const DEPARTURES: usize = 512;
    pub(crate) const NEXT_CONTEXT: usize = 640;
    /// One bit a block.
    pub(crate) const CELL_BITMAP: usize = 768;
    /// The sleep word of ranks that are not on this host: nobody ever sleeps on it.
    pub(crate) const NOBODY: usize = 896;
}

/// Offsets inside a rank page.
pub(crate) mod rank {
    pub(crate) const CLAIM: usize = 0;
    pub(crate) const STATE: usize = 8;
    pub(crate) const SLEEP: usize = 128;
    /// One bit for each local rank that has opened its lane to this one; set by the sender.
    pub(crate) const OPEN_LANES: usize = 256;
    /// The call in which the rank is, or was last: call-site id, and the call's number above it.
    pub(crate) const LAST_CALL: usize = 384;
    pub(crate) const FAILURE: usize = 512;
    pub(crate) const PANIC: usize = 1536;
    pub(crate) const REPORT: usize = 1024;
}

const _: () = assert!(rank::OPEN_LANES + MAX_LOCAL_RANKS / 8 <= rank::LAST_CALL);
const _: () =
    assert!(rank::FAILURE + rank::REPORT <= rank::PANIC && rank::PANIC + rank::REPORT <= RANK_PAGE);
const _: () = assert!(
    SITE_TABLE % PAGE == 0 && LANE % PAGE == 0 && STREAM_AREA % PAGE == 0 && CELL_AREA % PAGE == 0
);

/// The offsets of a segment for `ranks` local ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Map {
    ranks: usize,
    counters: usize,
    sites: usize,
    credits: usize,
    lanes: usize,
    streams: usize,
    long_spans: usize,
    cells: usize,
    long_cells: usize,
    directory: usize,
    total: usize,
}

const fn pages(bytes: usize) -> usize {
    bytes.div_ceil(PAGE) * PAGE
}

impl Map {
    /// The map for `ranks` ranks; at most [`MAX_LOCAL_RANKS`].
    pub(crate) const fn new(ranks: usize) -> Map {
        assert!(ranks >= 1 && ranks <= MAX_LOCAL_RANKS);
        let counters = PAGE + ranks * RANK_PAGE;
        let sites = counters + pages(2 * ranks * Self::counter_row(ranks));
        let credits = sites + ranks * SITE_TABLE;
        let lanes = credits + pages(ranks * ranks * LINE);
        let streams = lanes + ranks * ranks * LANE;
        let long_spans = streams + ranks * STREAM_AREA;
        let cells = long_spans + ranks * LONG_SPANS;
        let long_cells = cells + CELL_BLOCKS * (PAGE + ranks * CELL_AREA);
        let directory = long_cells + LONG_CELL_BLOCKS * ranks * LONG_CELLS;
        let total = directory + DIRECTORY;
        Map {
            ranks,
            counters,
            sites,
            credits,
            lanes,
            streams,
            long_spans,
            cells,
            long_cells,
            directory,
            total,
        }
    }

    const fn counter_row(ranks: usize) -> usize {
        (ranks * 8).div_ceil(LINE) * LINE
    }

    pub(crate) const fn ranks(&self) -> usize {
        self.ranks
    }

    /// Bytes of the whole segment but for the heaps, which follow.
    pub(crate) const fn total(&self) -> usize {
        self.total
    }

    /// What everybody touches of the ranks `first..end`, as offsets and lengths: taken before they start. Those of rank 0 include the header.
    pub(crate) const fn always(&self, first: usize, end: usize) -> [(usize, usize); 3] {
        assert!(first < end && end <= self.ranks);
        let pages = if first == 0 { 0 } else { self.rank_page(first) };
        let rows = (end - first) * Self::counter_row(self.ranks);
        [
            (pages, self.rank_page(end - 1) + RANK_PAGE - pages),
            (self.sent(first, 0), rows),
            (self.received(first, 0), rows),
        ]
    }

    pub(crate) const fn rank_page(&self, rank: usize) -> usize {
        assert!(rank < self.ranks);
        PAGE + rank * RANK_PAGE
    }

    /// Messages that `src` has started towards `dst`; written by `src`.
    pub(crate) const fn sent(&self, src: usize, dst: usize) -> usize {
        assert!(src < self.ranks && dst < self.ranks);
        self.counters + src * Self::counter_row(self.ranks) + dst * 8
    }

    /// Messages from `src` that `dst` has taken out of the lane; written by `dst`.
    pub(crate) const fn received(&self, dst: usize, src: usize) -> usize {
        assert!(src < self.ranks && dst < self.ranks);
        self.counters + (self.ranks + dst) * Self::counter_row(self.ranks) + src * 8
    }

    pub(crate) const fn site_table(&self, rank: usize) -> usize {
        assert!(rank < self.ranks);
        self.sites + rank * SITE_TABLE
    }

    /// The credit line of the lane from `src` to `dst`. A sender's credits stand side by side.
    pub(crate) const fn credit(&self, src: usize, dst: usize) -> usize {
        assert!(src < self.ranks && dst < self.ranks);
        self.credits + (src * self.ranks + dst) * LINE
    }

    /// The slots of the lane from `src` to `dst`; the byte ring follows them.
    pub(crate) const fn lane(&self, src: usize, dst: usize) -> usize {
        assert!(src < self.ranks && dst < self.ranks);
        self.lanes + (dst * self.ranks + src) * LANE
    }

    /// Stream `k` of `rank`: a control page, then the ring.
    pub(crate) const fn stream(&self, rank: usize, k: usize) -> usize {
        assert!(rank < self.ranks && k < STREAMS);
        let before = if k == 0 {
            0
        } else {
            PAGE + FIRST_RING + (k - 1) * (PAGE + OTHER_RING)
        };
        self.streams + rank * STREAM_AREA + before
    }

    /// The long ring of `rank`.
    pub(crate) const fn long_spans(&self, rank: usize) -> usize {
        assert!(rank < self.ranks);
        self.long_spans + rank * LONG_SPANS
    }

    /// The header page of a cell block; the control pages of its members follow, then their buffers.
    pub(crate) const fn cell_block(&self, block: usize) -> usize {
        assert!(block < CELL_BLOCKS);
        self.cells + block * (PAGE + self.ranks * CELL_AREA)
    }

    /// The control page of member `member` (a rank of the communicator) in a cell block.
    pub(crate) const fn cell_control(&self, block: usize, member: usize) -> usize {
        assert!(member < self.ranks);
        self.cell_block(block) + PAGE + member * PAGE
    }

    /// The directory of the job's ranks.
    pub(crate) const fn directory(&self) -> usize {
        self.directory
    }

    /// The buffers of member `member` in a cell block: `CELL_AREA - PAGE` bytes.
    pub(crate) const fn cell_buffers(&self, block: usize, member: usize) -> usize {
        assert!(member < self.ranks);
        self.cell_block(block) + PAGE + self.ranks * PAGE + member * (CELL_AREA - PAGE)
    }

    /// Where the buffers of member `member` may go round, in the first cell blocks.
    pub(crate) const fn long_cells(&self, block: usize, member: usize) -> usize {
        assert!(block < LONG_CELL_BLOCKS && member < self.ranks);
        self.long_cells + (block * self.ranks + member) * LONG_CELLS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_do_not_overlap() {
        for n in [1, 2, 3, 17, 128, MAX_LOCAL_RANKS] {
            let map = Map::new(n);
            let last = n - 1;
            assert!(map.rank_page(last) + RANK_PAGE <= map.sent(0, 0));
            assert!(map.sent(last, last) + 8 <= map.received(0, 0));
            assert!(map.received(last, last) + 8 <= map.site_table(0));
            assert!(map.site_table(last) + SITE_TABLE <= map.credit(0, 0));
            assert!(map.credit(last, last) + LINE <= map.lane(0, 0));
            assert!(map.lane(last, last) + LANE <= map.stream(0, 0));
            assert!(map.stream(last, 0) + PAGE + FIRST_RING <= map.stream(last, 1));
            assert!(map.stream(last, STREAMS - 1) + PAGE + OTHER_RING <= map.long_spans(0));
            assert!(map.long_spans(last) + LONG_SPANS <= map.cell_block(0));
            assert!(map.cell_control(0, last) + PAGE <= map.cell_buffers(0, 0));
            assert!(map.cell_buffers(0, last) + CELL_AREA - PAGE <= map.cell_block(1));
            assert_eq!(
                map.cell_buffers(CELL_BLOCKS - 1, last) + CELL_AREA - PAGE,
                map.long_cells(0, 0)
            );
            assert!(map.long_cells(0, last) + LONG_CELLS <= map.long_cells(1, 0));
            assert_eq!(
                map.long_cells(LONG_CELL_BLOCKS - 1, last) + LONG_CELLS,
                map.directory()
            );
            assert_eq!(map.directory() + DIRECTORY, map.total());
            let [pages, sent, received] = map.always(0, n);
            assert_eq!((pages.0, sent.0), (0, pages.1));
            assert!(received.0 + received.1 <= map.site_table(0));
            assert_eq!(
                map.always(last, n)[0].0,
                if n == 1 { 0 } else { map.rank_page(last) }
            );
            for offset in [
                map.site_table(last),
                map.lane(last, last),
                map.stream(last, 0),
                map.cell_buffers(1, last),
                map.long_cells(1, last),
                map.directory(),
            ] {
                assert!(offset % PAGE == 0);
            }
        }
    }
}
