//! Receives of any message, started in a ring. README.md has the protocol.
use crate::sys::mpi::{Mpi, Request};
use crate::sys::mpi_request::Arrived;

/// Receives that are started at most.
const SLOTS: usize = 16;
/// Receives that are started when the ring opens.
const FIRST: usize = 2;

/// Those from the head on are started, so many; the head's own may be over.
struct Slot {
    /// MPI keeps its address.
    bytes: Vec<u8>,
    request: Request,
    /// What came, once that was seen.
    arrived: Option<Arrived>,
}

/// A ring without slots receives nothing.
#[derive(Default)]
pub(super) struct Ring {
    slots: Vec<Slot>,
    head: usize,
    started: usize,
    /// So many are to be started: more where messages come faster than they are taken, none while it is to run out.
    width: usize,
    /// Since the last message was taken nobody has looked for the next one.
    passed: bool,
    open: bool,
}

impl Ring {
    /// A closed ring for messages of up to `longest` bytes.
    pub(super) fn of(mpi: &Mpi, longest: usize) -> Ring {
        let slots = (0..SLOTS).map(|_| {
            let mut bytes = vec![0; longest];
            Slot {
                request: mpi.receive(bytes.as_mut_ptr(), longest),
                bytes,
                arrived: None,
            }
        });
        Ring {
            slots: slots.collect(),
            ..Ring::default()
        }
    }

    pub(super) fn has_slots(&self) -> bool {
        !self.slots.is_empty()
    }

    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// What has come next, if it is there by the last of so many looks. A closed ring is opened if anything is there.
    #[inline(always)]
    pub(super) fn look(&mut self, mpi: &Mpi, mut looks: u32) -> Option<Arrived> {
        if !self.open && !self.opens(mpi) {
            return None;
        }
        if self.started == 0 {
            self.width = self.width.max(FIRST);
            self.start(mpi);
        }
        if let Some(arrived) = self.slots[self.head].arrived {
            return Some(arrived);
        }
        let mut passed = core::mem::take(&mut self.passed);
        loop {
            let slot = &mut self.slots[self.head];
            if let Some(arrived) = mpi.received(&mut slot.request) {
                slot.arrived = Some(arrived);
                if passed && self.width > 0 {
                    self.width = (self.width + 1).min(SLOTS);
                }
                return Some(arrived);
            }
            passed = false;
            // Now, so that a message does not wait for it.
            if self.started < self.width {
                self.start(mpi);
            }
            looks = looks.checked_sub(1).filter(|left| *left > 0)?;
        }
    }

    #[inline(never)]
    fn opens(&mut self, mpi: &Mpi) -> bool {
        self.open = self.has_slots() && mpi.is_there(None);
        self.open
    }

    /// Starts receives, in the order of the ring.
    #[inline(never)]
    fn start(&mut self, mpi: &Mpi) {
        while self.started < self.width {
            let at = (self.head + self.started) % SLOTS;
            // SAFETY: the bytes are on the heap and belong to the ring, which touches them only after the receive was seen to be over, and cancels it before it
            // lets go of them.
            unsafe { mpi.start_again(&mut self.slots[at].request) };
            self.started += 1;
        }
    }

    /// Starts no more receives until it is all used up, and is closed then. Whether it is.
    #[inline]
    pub(super) fn runs_out(&mut self) -> bool {
        self.width = 0;
        self.open = self.started > 0;
        !self.open
    }

    /// The bytes of what [`Ring::look`] found.
    #[inline]
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.slots[self.head].bytes
    }

    /// Is done with what [`Ring::look`] found. Its bytes are there.
    #[inline]
    pub(super) fn pass(&mut self) {
        self.slots[self.head].arrived = None;
        self.head = (self.head + 1) % SLOTS;
        self.started -= 1;
        self.passed = true;
    }

    /// Nothing more comes.
    pub(super) fn finish(&mut self, mpi: &Mpi) {
        for (at, slot) in self.slots.drain(..).enumerate() {
            let ahead = (at + SLOTS - self.head) % SLOTS;
            mpi.free(slot.request, ahead < self.started && slot.arrived.is_none());
        }
    }
}

/// Without [`Ring::finish`] MPI may still write to what it was given: then that is never freed.
impl Drop for Ring {
    fn drop(&mut self) {
        core::mem::forget(core::mem::take(&mut self.slots));
    }
}
