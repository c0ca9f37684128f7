//! The limits of two cores, measured without anything of the library: the same two processes that run a benchmark's rows
//! ping-pong, stream and copy through a shared mapping of their own. Sides 0 and 1 make the same calls in the same order.
//!
//! This file is the referee beside the runtime, so it has its own unsafe code: raw memory that two processes share, touched
//! by atomics, and by copies of which the atomics say whose turn it is. `tercio bench --check-limits` compares it with
//! programs in C (benches/limits/).
use std::fs::OpenOptions;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{
    AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

/// The largest ring.
pub const RING: usize = 1 << 20;
/// The largest source that the other side copies from.
pub const SOURCE: usize = 4 << 20;
/// Offsets in the mapping: a page of words, each on lines of its own, then one ring for each direction, then one source for each.
const WORDS: usize = 4096;
const SOURCES: usize = WORDS + 2 * RING;
const SIZE: usize = SOURCES + 2 * SOURCE;
const TOLD: usize = 0;
const TURN: [usize; 2] = [256, 384];
const HEAD: [usize; 2] = [512, 1024];
const TAIL: [usize; 2] = [1536, 2048];
const SLEEP: usize = 2560;
const WOKEN: usize = 3072;
const CREDIT: usize = 3584;

/// The mapping as one of its two sides sees it, and how far the protocols in it have come (equal on both sides).
pub struct Probe {
    side: usize,
    base: *mut u8,
    fd: OwnedFd,
    /// The process's own buffer, source and target of the copies: from the first whole page on, as the referee's.
    buffer: Vec<u8>,
    told: u64,
    slots: u64,
    moved: [u64; 2],
    woken: u32,
    allowed: Vec<usize>,
    apart: bool,
}

/// What the private buffer has from the beginning; a larger message makes it grow.
const PRIVATE: usize = 4 << 20;

impl Probe {
    /// Side 0: makes the mapping; [`Probe::path`] is what side 1 needs to open it.
    pub fn create() -> io::Result<Probe> {
        // SAFETY: the name is a C string; the result is checked before it is used.
        let fd = unsafe { libc::memfd_create(c"tercio-bench".as_ptr(), libc::MFD_CLOEXEC) };
        check(fd)?;
        // SAFETY: a descriptor just opened, owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: a call without pointers.
        check(unsafe { libc::ftruncate(fd.as_raw_fd(), SIZE as libc::off_t) })?;
        Probe::map(0, fd, 0)
    }

    /// What side 1 needs: where this user's processes can open the mapping while side 0 lives, and at which address it lies. Two
    /// siblings on one core whose addresses differ are slower: the cache they share goes by them.
    pub fn path(&self) -> String {
        let (process, fd) = (std::process::id(), self.fd.as_raw_fd());
        format!("/proc/{process}/fd/{fd}@{}", self.base as usize)
    }

    /// Side 1: opens what side 0 made.
    pub fn open(path: &str) -> io::Result<Probe> {
        let (path, address) = path.split_once('@').unwrap_or((path, "0"));
        let fd = OpenOptions::new().read(true).write(true).open(path)?.into();
        Probe::map(1, fd, address.parse().unwrap_or(0))
    }

    /// Maps the memory at this address, if there is room, or else anywhere.
    fn map(side: usize, fd: OwnedFd, address: usize) -> io::Result<Probe> {
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_POPULATE,
        );
        let wish = ptr::without_provenance_mut(address);
        // SAFETY: a new mapping of a file of that size; without MAP_FIXED the address is a wish, and nothing is replaced.
        let base = unsafe { libc::mmap(wish, SIZE, protection, flags, fd.as_raw_fd(), 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let allowed = affinity()?;
        let buffer = vec![1; PRIVATE + 4096];
        let (told, slots, moved, woken) = (0, 0, [0; 2], 0);
        Ok(Probe {
            side,
            base: base.cast(),
            fd,
            buffer,
            told,
            slots,
            moved,
            woken,
            allowed,
            apart: false,
        })
    }

    /// At least n bytes of the private buffer. They were written once: pages that never were are all one and the same, and
    /// reading them costs next to nothing.
    fn private(&mut self, n: usize) -> *mut u8 {
        if self.buffer.len() < n + 4096 {
            self.buffer = vec![1; n + 4096];
        }
        let page = self.buffer.as_ptr().align_offset(4096);
        self.buffer[page..].as_mut_ptr()
    }

    #[inline(always)]
    fn word(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset % 8 == 0 && offset + 8 <= SIZE);
        // SAFETY: inside the mapping, which lives as long as self and is aligned to a page; the word at this offset is only
        // ever touched as an atomic while a protocol uses it as a flag.
        unsafe { &*self.base.add(offset).cast::<AtomicU64>() }
    }

    /// Side 0's value on both sides; neither goes on before both are here.
    pub fn tell(&mut self, value: f64) -> f64 {
        self.meet(value)[0]
    }

    /// Both sides' values.
    fn meet(&mut self, value: f64) -> [f64; 2] {
        self.told += 1;
        let (mine, other) = (TOLD + 128 * self.side, TOLD + 128 * (1 - self.side));
        self.word(mine + 8).store(value.to_bits(), Relaxed);
        self.word(mine).store(self.told, Release); // pairs with the Acquire below, on the other side
        while self.word(other).load(Acquire) < self.told {}
        let theirs = f64::from_bits(self.word(other + 8).load(Relaxed));
        // The words are written again only after the other side has read them.
        self.word(mine + 64).store(self.told, Release);
        while self.word(other + 64).load(Acquire) < self.told {}
        if self.side == 0 {
            [value, theirs]
        } else {
            [theirs, value]
        }
    }

    /// Puts the two sides on cores of their own while `measure` runs, if there are two.
    pub fn apart<T>(&mut self, measure: impl FnOnce(&mut Probe) -> T) -> T {
        self.apart = true;
        self.place();
        let result = measure(self);
        self.apart = false;
        self.place();
        result
    }

    /// Puts this side where it belongs now.
    fn place(&self) {
        match self.allowed.len() {
            cores if self.apart && cores > 1 => pin(&[self.allowed[self.side % cores]]),
            _ => pin(&self.allowed),
        }
    }

    /// Nanoseconds of `steps` steps, by side 0's clock, told to side 1.
    fn time(&mut self, steps: usize, mut step: impl FnMut()) -> f64 {
        self.tell(0.0);
        let start = now();
        for _ in 0..steps {
            step();
        }
        let each = (now() - start) as f64 / steps as f64;
        self.tell(each)
    }

    /// L(n), and L0 for n = 8: half the round trip of n bytes with the flag in the last line of the message, in ns.
    pub fn slot_latency(&mut self, n: usize, round_trips: usize) -> f64 {
        match n {
            8 => self.latency_of::<8>(n, round_trips),
            _ => self.latency_of::<0>(n, round_trips),
        }
    }

    /// `N` is the size where the compiler is to know it, as it does in a loop that sends one type; else 0.
    fn latency_of<const N: usize>(&mut self, n: usize, round_trips: usize) -> f64 {
        let (there, back) = (self.slots_of::<N>(0, n), self.slots_of::<N>(1, n));
        let mut number = self.slots;
        let each = if self.side == 0 {
            self.time(round_trips, || {
                number += 1;
                there.put(number);
                back.take(number);
            })
        } else {
            self.time(round_trips, || {
                number += 1;
                there.take(number);
                back.put(number);
            })
        };
        self.slots = number;
        each / 2.0
    }

    /// S(n), and S0 for n = 8: one way in a stream of such slots, ns a message.
    pub fn slot_stream(&mut self, n: usize, messages: usize) -> f64 {
        match n {
            8 => self.stream_of::<8>(n, messages),
            _ => self.stream_of::<0>(n, messages),
        }
    }

    fn stream_of<const N: usize>(&mut self, n: usize, messages: usize) -> f64 {
        let slots = self.slots_of::<N>(0, n);
        let ring = slots.mask() + 1;
        let mut number = self.slots;
        // SAFETY: a word of the first page, for as long as the mapping lives, which self outlives.
        let credit = unsafe { &*self.base.add(CREDIT).cast::<AtomicU64>() };
        self.tell(0.0);
        credit.store(number, Release); // both sides write the same
        let each = if self.side == 0 {
            self.time(messages, || {
                number += 1;
                // Credit comes back for a part of the ring at a time.
                if number & (ring / 2 - 1) == 0 {
                    while number > credit.load(Acquire) + ring / 2 {}
                }
                slots.put(number);
            })
        } else {
            self.time(messages, || {
                number += 1;
                slots.take(number);
                if number & (ring / 4 - 1) == 0 {
                    credit.store(number, Release); // pairs with the Acquire above
                }
            })
        };
        self.slots = number;
        each
    }

    fn slots_of<const N: usize>(&mut self, direction: usize, n: usize) -> Slots<N> {
        let private = self.private(n);
        // SAFETY: the direction's ring begins inside the mapping.
        let first = unsafe { self.base.add(WORDS + direction * RING) };
        let slots = Slots { first, private, n };
        assert!(slots.stride() * (slots.mask() as usize + 1) <= RING);
        slots
    }

    /// P(n): half the round trip of a double copy through rings of this shape, in ns.
    pub fn ring_latency(&mut self, n: usize, shape: Shape, round_trips: usize) -> f64 {
        let (mut there, mut back) = (self.ring(0, n, shape), self.ring(1, n, shape));
        let each = if self.side == 0 {
            self.time(round_trips, || {
                there.send(n);
                back.receive(n);
            })
        } else {
            self.time(round_trips, || {
                there.receive(n);
                back.send(n);
            })
        };
        self.moved = [there.moved, back.moved];
        each / 2.0
    }

    /// The same one way in a stream, ns a message.
    pub fn ring_stream(&mut self, n: usize, shape: Shape, messages: usize) -> f64 {
        let mut ring = self.ring(0, n, shape);
        let each = if self.side == 0 {
            self.time(messages, || ring.send(n))
        } else {
            self.time(messages, || ring.receive(n))
        };
        self.moved[0] = ring.moved;
        each
    }

    fn ring(&mut self, direction: usize, n: usize, shape: Shape) -> Ring {
        assert!(shape.ring <= RING && shape.ring % shape.chunk == 0);
        let (moved, private) = (self.moved[direction], self.private(n));
        // SAFETY: offsets inside the mapping.
        let (head, tail, bytes) = unsafe {
            let ring = self.base.add(WORDS + direction * RING);
            (
                self.base.add(HEAD[direction]).cast(),
                self.base.add(TAIL[direction]).cast(),
                ring,
            )
        };
        Ring {
            head,
            tail,
            bytes,
            private,
            shape,
            first: moved,
            moved,
        }
    }

    /// C(n): half the round trip when each side copies straight out of shared memory, in ns. `rewritten`: the other has written it in place
    /// before; else nobody writes it.
    pub fn shared_copy(&mut self, n: usize, rewritten: bool, round_trips: usize) -> f64 {
        assert!(n <= SOURCE);
        let private = self.private(n);
        let turns = [TURN[0], TURN[1]].map(|turn| self.word(turn) as *const AtomicU64);
        // SAFETY: these words and both sources live in the mapping; a side writes its own between the other's turns, of which the words tell.
        unsafe {
            let [own, other] =
                [self.side, 1 - self.side].map(|side| self.base.add(SOURCES + side * SOURCE));
            let mut turn = (*turns[0]).load(Acquire);
            let write = |turn: u64| {
                if rewritten {
                    ptr::write_bytes(std::hint::black_box(own), turn as u8 | 1, n);
                }
            };
            let each = if self.side == 0 {
                self.time(round_trips, || {
                    turn += 1;
                    write(turn);
                    (*turns[0]).store(turn, Release);
                    while (*turns[1]).load(Acquire) != turn {}
                    ptr::copy_nonoverlapping(other, private, n);
                })
            } else {
                self.time(round_trips, || {
                    turn += 1;
                    while (*turns[0]).load(Acquire) != turn {}
                    ptr::copy_nonoverlapping(other, private, n);
                    write(turn);
                    (*turns[1]).store(turn, Release);
                })
            };
            each / 2.0
        }
    }

    /// M(n): one core's copy of n bytes from one private buffer to another, in ns.
    pub fn copy(&mut self, n: usize, copies: usize) -> f64 {
        let private = self.private(2 * n);
        self.time(copies, || {
            // SAFETY: two halves of the private buffer, which nothing else uses meanwhile.
            unsafe { ptr::copy_nonoverlapping(std::hint::black_box(private), private.add(n), n) };
        })
    }

    /// Writing n bytes of a private buffer, in ns: what `--rewrite` adds.
    pub fn fill(&mut self, n: usize, fills: usize) -> f64 {
        let private = self.private(n);
        let mut value = 0_u8;
        self.time(fills, || {
            value = value.wrapping_add(1) | 1;
            // SAFETY: inside the private buffer, which nothing else uses meanwhile.
            unsafe { ptr::write_bytes(std::hint::black_box(private), value, n) };
        })
    }

    /// W0: from the wake call of one process to the first instruction of the one that slept so many ns, in ns (median). The
    /// longer a core of a virtual machine was idle, the longer it takes.
    pub fn wake(&mut self, wakes: usize, asleep_ns: u64) -> f64 {
        let mut samples = Vec::new();
        for _ in 0..wakes {
            let asleep = self.woken;
            self.woken += 1;
            self.tell(0.0);
            if self.side == 0 {
                let start = now();
                while now() - start < asleep_ns {} // the other side falls asleep, and its core becomes idle
                let start = now();
                self.sleep_word().store(self.woken, Release);
                futex(self.sleep_word(), libc::FUTEX_WAKE, 1);
                while self.word(WOKEN + 64).load(Acquire) != u64::from(self.woken) {}
                samples.push((self.word(WOKEN).load(Relaxed) as i64 - start as i64).max(0) as f64);
            } else {
                while self.sleep_word().load(Acquire) == asleep {
                    futex(self.sleep_word(), libc::FUTEX_WAIT, asleep);
                }
                self.word(WOKEN).store(now(), Relaxed);
                self.word(WOKEN + 64).store(u64::from(self.woken), Release);
            }
        }
        samples.sort_by(f64::total_cmp);
        self.tell(samples.get(samples.len() / 2).copied().unwrap_or(0.0))
    }

    fn sleep_word(&self) -> &AtomicU32 {
        // SAFETY: a word of its own in the first page, only ever used as this atomic.
        unsafe { &*self.base.add(SLEEP).cast::<AtomicU32>() }
    }

    /// Y0: one hand-over between two processes on the same core by sched_yield, in ns.
    pub fn hand_over(&mut self, round_trips: usize) -> f64 {
        let core = self.tell(self.allowed[0] as f64) as usize;
        pin(&[core]);
        let mut turn = (self.word(TURN[0]).load(Acquire)).max(self.word(TURN[1]).load(Acquire));
        self.yielding_meeting();
        // Moving to that core can cost one of them a whole time slice, once: the median of a few batches does not see it.
        let mut batches: Vec<f64> = (0..9)
            .map(|_| {
                let start = now();
                self.hand_overs(&mut turn, round_trips.div_ceil(9));
                (now() - start) as f64 / round_trips.div_ceil(9) as f64 / 2.0
            })
            .collect();
        batches.sort_by(f64::total_cmp);
        let each = batches[4];
        self.place();
        self.tell(each)
    }

    fn hand_overs(&self, turn: &mut u64, round_trips: usize) {
        for _ in 0..round_trips {
            *turn += 1;
            if self.side == 0 {
                self.word(TURN[0]).store(*turn, Release);
            }
            while self.word(TURN[1 - self.side]).load(Acquire) < *turn {
                yield_now();
            }
            if self.side == 1 {
                self.word(TURN[1]).store(*turn, Release);
            }
        }
    }

    /// As `tell`, for two sides that share a core.
    fn yielding_meeting(&mut self) {
        self.told += 1;
        self.word(TOLD + 128 * self.side).store(self.told, Release);
        while self.word(TOLD + 128 * (1 - self.side)).load(Acquire) < self.told {
            yield_now();
        }
        self.word(TOLD + 128 * self.side + 64)
            .store(self.told, Release);
        while self.word(TOLD + 128 * (1 - self.side) + 64).load(Acquire) < self.told {
            yield_now();
        }
    }

    /// Whether the two sides can run at the same time.
    pub fn two_cores(&mut self) -> bool {
        let first = self.meet(self.allowed[0] as f64);
        let many = self.meet(self.allowed.len() as f64);
        first[0] != first[1] || many.iter().any(|&cores| cores > 1.0)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // SAFETY: the mapping that `map` made; no reference into it outlives self.
        unsafe { libc::munmap(self.base.cast(), SIZE) };
    }
}

/// How a double copy goes through shared memory.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Bytes that are copied before the other side is told.
    pub chunk: usize,
    /// Bytes of the ring.
    pub ring: usize,
}

/// A direction's byte ring: chunks that the head says are written and the tail says are read.
struct Ring {
    head: *const AtomicU64,
    tail: *const AtomicU64,
    bytes: *mut u8,
    private: *mut u8,
    shape: Shape,
    first: u64,
    moved: u64,
}

impl Ring {
    fn send(&mut self, n: usize) {
        let chunk = self.shape.chunk;
        for done in (0..n).step_by(chunk) {
            let at = (self.moved - self.first) as usize % self.shape.ring;
            // SAFETY: head and tail live in the mapping; the chunk lies in the ring (asserted in Probe::ring) and in the
            // private buffer, which has n bytes. The tail says that the other side is done with this chunk.
            unsafe {
                while self.moved + chunk as u64 - (*self.tail).load(Acquire)
                    > self.shape.ring as u64
                {}
                ptr::copy_nonoverlapping(
                    self.private.add(done),
                    self.bytes.add(at),
                    chunk.min(n - done),
                );
                self.moved += chunk as u64;
                (*self.head).store(self.moved, Release); // pairs with the Acquire in receive
            }
        }
    }

    fn receive(&mut self, n: usize) {
        let chunk = self.shape.chunk;
        for done in (0..n).step_by(chunk) {
            let at = (self.moved - self.first) as usize % self.shape.ring;
            // SAFETY: as in send; the head says that the chunk is written.
            unsafe {
                while (*self.head).load(Acquire) == self.moved {}
                ptr::copy_nonoverlapping(
                    self.bytes.add(at),
                    self.private.add(done),
                    chunk.min(n - done),
                );
                self.moved += chunk as u64;
                (*self.tail).store(self.moved, Release); // pairs with the Acquire in send
            }
        }
    }
}

/// A direction's ring of slots for messages of n bytes (`N`, if that is not 0), each with its number in its last word.
#[derive(Clone, Copy)]
struct Slots<const N: usize> {
    first: *mut u8,
    private: *mut u8,
    n: usize,
}

impl<const N: usize> Slots<N> {
    #[inline(always)]
    fn bytes(self) -> usize {
        if N > 0 { N } else { self.n }
    }

    #[inline(always)]
    fn stride(self) -> usize {
        (self.bytes() + 8).next_multiple_of(64)
    }

    #[inline(always)]
    fn mask(self) -> u64 {
        if self.bytes() <= 56 { 63 } else { 15 }
    }

    #[inline(always)]
    fn at(self, number: u64) -> (*mut u8, *const AtomicU64) {
        // SAFETY: the slots lie in their direction's ring (asserted where they are made), strides are whole lines.
        unsafe {
            let slot = self
                .first
                .add((number & self.mask()) as usize * self.stride());
            (slot, slot.add(self.stride() - 8).cast())
        }
    }

    #[inline(always)]
    fn put(self, number: u64) {
        let (slot, flag) = self.at(number);
        // SAFETY: the other side reads this slot only when the flag says so, and has read what was there before: it answered
        // or gave credit. The flag is only ever touched as an atomic while these slots are in use.
        unsafe {
            ptr::copy_nonoverlapping(self.private, slot, self.bytes());
            (*flag).store(number, Release); // pairs with the Acquire in take
        }
    }

    #[inline(always)]
    fn take(self, number: u64) {
        let (slot, flag) = self.at(number);
        // SAFETY: as in put; the flag says that the slot is written.
        unsafe {
            while (*flag).load(Acquire) != number {}
            ptr::copy_nonoverlapping(slot, self.private, self.bytes());
        }
    }
}

/// Nanoseconds of a clock that all processes share.
pub fn now() -> u64 {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the call fills in the structure, and cannot fail for this clock.
    let time = unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, time.as_mut_ptr());
        time.assume_init()
    };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn futex(word: &AtomicU32, operation: libc::c_int, value: u32) {
    // SAFETY: the word lives through the call; without a time limit the other arguments are not read.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            operation,
            value,
            ptr::null::<libc::timespec>(),
        )
    };
}

fn yield_now() {
    // SAFETY: a call without arguments.
    unsafe { libc::sched_yield() };
}

/// The cores that this process may use.
fn affinity() -> io::Result<Vec<usize>> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: a zeroed set is an empty one; the call writes at most its size.
    let set = unsafe {
        check(libc::sched_getaffinity(
            0,
            size_of::<libc::cpu_set_t>(),
            set.as_mut_ptr(),
        ))?;
        set.assume_init()
    };
    let bits = 8 * size_of::<libc::cpu_set_t>();
    // SAFETY: below the number of bits in a set.
    Ok((0..bits)
        .filter(|&core| unsafe { libc::CPU_ISSET(core, &set) })
        .collect())
}

/// Keeps the calling thread on these cores. A refusal is no error: the figure is then that of the cores it had.
fn pin(cores: &[usize]) {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: a zeroed set is an empty one; the cores come from `affinity`.
    unsafe {
        for &core in cores {
            libc::CPU_SET(core, &mut *set.as_mut_ptr());
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set.as_ptr());
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
