//! The site's MPI, by its C interface: what the transport needs of it, typed. Errors are fatal in MPI itself, which is its default.
use super::mpi_request::{Arrived, Threads};
use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use rsmpi::ffi;
use std::io;

/// Communicators of our own over all processes that MPI started: one for messages that any receive may take, one for those that have a receive of their own.
pub(crate) struct Mpi {
    comm: ffi::MPI_Comm,
    own: ffi::MPI_Comm,
    rank: usize,
    size: usize,
    /// Whether MPI was initialized here, and is to be finalized.
    ours: bool,
    threads: Threads,
}

// SAFETY: handles of MPI are plain values that any thread may use; the caller keeps calls apart, as the level of threads demands.
unsafe impl core::marker::Send for Mpi {}

/// A message under way.
pub(crate) struct Request(ffi::MPI_Request);

// SAFETY: as `Mpi`.
unsafe impl core::marker::Send for Request {}

/// Tests of a receive that MPI was asked to take back. An MPI that does so later than in its next call is none that we know.
const TESTS: u32 = 100;

/// MPI's calls that start a send.
type Send = unsafe extern "C" fn(
    *const c_void,
    c_int,
    ffi::MPI_Datatype,
    c_int,
    c_int,
    ffi::MPI_Comm,
    *mut ffi::MPI_Request,
) -> c_int;

fn int(n: usize) -> c_int {
    c_int::try_from(n).unwrap_or(c_int::MAX)
}

impl Mpi {
    /// Whether programs of this build can use it at all.
    pub(crate) const PRESENT: bool = true;

    /// Initializes MPI, for a program in which so many threads call.
    pub(crate) fn start(threads: Threads) -> io::Result<Mpi> {
        let mut flag = 0;
        // SAFETY: may be asked at any time; the result has room.
        unsafe { ffi::MPI_Finalized(&mut flag) };
        if flag != 0 {
            return Err(io::Error::other("MPI has been finalized in this process"));
        }
        // SAFETY: as above.
        unsafe { ffi::MPI_Initialized(&mut flag) };
        let ours = flag == 0;
        let mut granted = 0;
        // SAFETY: MPI is initialized once; no arguments need to be given to it. The constants are MPI's own.
        unsafe {
            if ours {
                // No more than is needed: Open MPI 4.1 takes its locks from funneled on, which doubles what a short message costs.
                let wanted = match threads {
                    Threads::Single => ffi::RSMPI_THREAD_SINGLE,
                    Threads::Funneled => ffi::RSMPI_THREAD_FUNNELED,
                    Threads::Serialized => ffi::RSMPI_THREAD_SERIALIZED,
                };
                ffi::MPI_Init_thread(
                    core::ptr::null_mut(),
                    core::ptr::null_mut(),
                    wanted,
                    &mut granted,
                );
            } else {
                ffi::MPI_Query_thread(&mut granted);
            }
        }
        let (mut rank, mut size) = (0, 0);
        // SAFETY: MPI is initialized; it writes the communicators, and asks of one follow.
        let [comm, own] = unsafe {
            let both = [(); 2].map(|()| {
                let mut comm = MaybeUninit::uninit();
                ffi::MPI_Comm_dup(ffi::RSMPI_COMM_WORLD, comm.as_mut_ptr());
                comm.assume_init()
            });
            ffi::MPI_Comm_rank(both[0], &mut rank);
            ffi::MPI_Comm_size(both[0], &mut size);
            both
        };
        Ok(Mpi {
            comm,
            own,
            rank: rank as usize,
            size: size as usize,
            ours,
            // SAFETY: constants, which grow with what they allow.
            threads: unsafe {
                match granted {
                    level if level >= ffi::RSMPI_THREAD_SERIALIZED => Threads::Serialized,
                    level if level >= ffi::RSMPI_THREAD_FUNNELED => Threads::Funneled,
                    _ => Threads::Single,
                }
            },
        })
    }

    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Who may call it.
    pub(crate) fn threads(&self) -> Threads {
        self.threads
    }

    /// The bytes that every process gives, by rank. All call it.
    pub(crate) fn all_gather(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut counts = vec![0 as c_int; self.size];
        let own = int(bytes.len());
        // SAFETY: one int from each process, and room for all of them.
        unsafe {
            ffi::MPI_Allgather(
                (&raw const own).cast(),
                int(size_of::<c_int>()),
                ffi::RSMPI_UINT8_T,
                counts.as_mut_ptr().cast(),
                int(size_of::<c_int>()),
                ffi::RSMPI_UINT8_T,
                self.comm,
            );
        }
        let mut displacements = Vec::with_capacity(self.size);
        let mut total = 0;
        for &count in &counts {
            displacements.push(total);
            total += count;
        }
        // One byte more than needed: the address of nothing may be the constant that MPI takes for "in place".
        let mut all = vec![0_u8; total as usize + 1];
        let bytes = if bytes.is_empty() { &[0][..0] } else { bytes };
        // SAFETY: the room is as long as all counts together, and each part lies inside of it.
        unsafe {
            ffi::MPI_Allgatherv(
                bytes.as_ptr().cast(),
                own,
                ffi::RSMPI_UINT8_T,
                all.as_mut_ptr().cast(),
                counts.as_ptr(),
                displacements.as_ptr(),
                ffi::RSMPI_UINT8_T,
                self.comm,
            );
        }
        let mut rest = &all[..];
        let parts = counts.iter().map(|&count| {
            let (part, behind) = rest.split_at(count as usize);
            rest = behind;
            part.to_vec()
        });
        parts.collect()
    }

    /// Starts a send to a receive that takes any message.
    ///
    /// # Safety
    /// The `len` bytes at `from` stay as they are until the request has been seen to be over.
    #[inline]
    pub(crate) unsafe fn send(&self, to: usize, tag: i32, from: *const u8, len: usize) -> Request {
        // SAFETY: the caller keeps the memory.
        unsafe { self.start_send(ffi::MPI_Isend, self.comm, to, tag, from, len) }
    }

    /// Starts a send to a receive of its own, with this tag.
    ///
    /// # Safety
    /// As for [`Mpi::send`].
    pub(crate) unsafe fn send_own(
        &self,
        to: usize,
        tag: i32,
        from: *const u8,
        len: usize,
    ) -> Request {
        // SAFETY: the caller keeps the memory.
        unsafe { self.start_send(ffi::MPI_Isend, self.own, to, tag, from, len) }
    }

    /// As [`Mpi::send_own`], but the send is over only when its receive has begun.
    ///
    /// # Safety
    /// As for [`Mpi::send`].
    pub(crate) unsafe fn send_matched(
        &self,
        to: usize,
        tag: i32,
        from: *const u8,
        len: usize,
    ) -> Request {
        // SAFETY: the caller keeps the memory.
        unsafe { self.start_send(ffi::MPI_Issend, self.own, to, tag, from, len) }
    }

    /// # Safety
    /// As for [`Mpi::send`].
    #[inline]
    unsafe fn start_send(
        &self,
        start: Send,
        comm: ffi::MPI_Comm,
        to: usize,
        tag: i32,
        from: *const u8,
        len: usize,
    ) -> Request {
        let mut request = MaybeUninit::uninit();
        // SAFETY: the caller keeps the memory; MPI writes the request.
        unsafe {
            start(
                from.cast(),
                int(len),
                ffi::RSMPI_UINT8_T,
                int(to),
                tag,
                comm,
                request.as_mut_ptr(),
            );
            Request(request.assume_init())
        }
    }

    /// A receive of any message of [`Mpi::send`], which [`Mpi::start_again`] starts.
    pub(crate) fn receive(&self, to: *mut u8, len: usize) -> Request {
        // SAFETY: the constant is MPI's own.
        self.receive_again(self.comm, unsafe { ffi::RSMPI_ANY_TAG }, to, len)
    }

    /// A receive of any message of [`Mpi::send_own`] with this tag, which [`Mpi::start_again`] starts.
    pub(crate) fn receive_tagged(&self, tag: i32, to: *mut u8, len: usize) -> Request {
        self.receive_again(self.own, tag, to, len)
    }

    fn receive_again(&self, comm: ffi::MPI_Comm, tag: i32, to: *mut u8, len: usize) -> Request {
        let mut request = MaybeUninit::uninit();
        // SAFETY: MPI writes the request, and nothing else before it is started. The constants are MPI's own.
        unsafe {
            ffi::MPI_Recv_init(
                to.cast(),
                int(len),
                ffi::RSMPI_UINT8_T,
                ffi::RSMPI_ANY_SOURCE,
                tag,
                comm,
                request.as_mut_ptr(),
            );
            Request(request.assume_init())
        }
    }

    /// Starts a request of [`Mpi::receive`] or [`Mpi::receive_tagged`], which was never started, or has been seen to be over since.
    ///
    /// # Safety
    /// The memory that it receives into is nobody else's until the request has been seen to be over, or was cancelled.
    #[inline]
    pub(crate) unsafe fn start_again(&self, request: &mut Request) {
        // SAFETY: the caller keeps the memory.
        unsafe { ffi::MPI_Start(&mut request.0) };
    }

    /// Starts the receive of a message of [`Mpi::send`] from this process with this tag.
    ///
    /// # Safety
    /// The `len` bytes at `to` are nobody else's until the request has been seen to be over, or was taken back.
    #[inline(always)]
    pub(crate) unsafe fn receive_numbered(
        &self,
        from: usize,
        tag: i32,
        to: *mut u8,
        len: usize,
    ) -> Request {
        // SAFETY: the caller keeps the memory.
        unsafe { self.start_receive(self.comm, from, tag, to, len) }
    }

    /// Starts the receive of one message that was not sent by [`Mpi::send`].
    ///
    /// # Safety
    /// The `len` bytes at `to` are nobody else's until the request has been seen to be over, or was taken back.
    pub(crate) unsafe fn receive_own(
        &self,
        from: usize,
        tag: i32,
        to: *mut u8,
        len: usize,
    ) -> Request {
        // SAFETY: the caller keeps the memory.
        unsafe { self.start_receive(self.own, from, tag, to, len) }
    }

    /// # Safety
    /// As for [`Mpi::receive_own`].
    #[inline(always)]
    unsafe fn start_receive(
        &self,
        comm: ffi::MPI_Comm,
        from: usize,
        tag: i32,
        to: *mut u8,
        len: usize,
    ) -> Request {
        let mut request = MaybeUninit::uninit();
        // SAFETY: the caller keeps the memory; MPI writes the request.
        unsafe {
            ffi::MPI_Irecv(
                to.cast(),
                int(len),
                ffi::RSMPI_UINT8_T,
                int(from),
                tag,
                comm,
                request.as_mut_ptr(),
            );
            Request(request.assume_init())
        }
    }

    /// Whether a message of [`Mpi::send`] is there that no receive has taken: from this process, or from any.
    #[inline]
    pub(crate) fn is_there(&self, from: Option<usize>) -> bool {
        let mut there = 0;
        // SAFETY: no status is asked for; the constants are MPI's own.
        unsafe {
            ffi::MPI_Iprobe(
                from.map_or(ffi::RSMPI_ANY_SOURCE, int),
                ffi::RSMPI_ANY_TAG,
                self.comm,
                &mut there,
                ffi::RSMPI_STATUS_IGNORE,
            );
        }
        there != 0
    }

    /// Who sent the first message of [`Mpi::send`] that no receive has taken, and its tag, if one is there.
    pub(crate) fn first_unasked(&self) -> Option<(usize, i32)> {
        let mut there = 0;
        let mut status = MaybeUninit::<ffi::MPI_Status>::uninit();
        // SAFETY: the status is written where there is a message; the constants are MPI's own.
        unsafe {
            ffi::MPI_Iprobe(
                ffi::RSMPI_ANY_SOURCE,
                ffi::RSMPI_ANY_TAG,
                self.comm,
                &mut there,
                status.as_mut_ptr(),
            );
            if there == 0 {
                return None;
            }
            let status = status.assume_init();
            Some((status.MPI_SOURCE as usize, status.MPI_TAG))
        }
    }

    /// Takes a receive back that was started, and has not been seen to be over. `Some(None)`: it is over, and got nothing; `Some`: it has got this; `None`: what
    /// it gets is on its way.
    pub(crate) fn take_back(&self, request: &mut Request) -> Option<Option<Arrived>> {
        // SAFETY: a receive that was started.
        unsafe { ffi::MPI_Cancel(&mut request.0) };
        (0..TESTS).find_map(|_| self.came_or_taken_back(request))
    }

    fn came_or_taken_back(&self, request: &mut Request) -> Option<Option<Arrived>> {
        let (mut over, mut taken) = (0, 0);
        let mut status = MaybeUninit::<ffi::MPI_Status>::uninit();
        // SAFETY: a request that was started; the status is read only where MPI wrote it.
        unsafe {
            ffi::MPI_Test(&mut request.0, &mut over, status.as_mut_ptr());
            if over == 0 {
                return None;
            }
            let status = status.assume_init();
            ffi::MPI_Test_cancelled(&status, &mut taken);
            Some((taken == 0).then(|| arrived(&status)))
        }
    }

    /// Whether a receive is over, and what it got.
    #[inline]
    pub(crate) fn received(&self, request: &mut Request) -> Option<Arrived> {
        let mut over = 0;
        let mut status = MaybeUninit::<ffi::MPI_Status>::uninit();
        // SAFETY: a request that was started; the status is read only where MPI wrote it.
        unsafe {
            ffi::MPI_Test(&mut request.0, &mut over, status.as_mut_ptr());
            (over != 0).then(|| arrived(&status.assume_init()))
        }
    }

    /// Whether a request is over.
    #[inline]
    pub(crate) fn is_over(&self, request: &mut Request) -> bool {
        let mut over = 0;
        // SAFETY: a request that was started; no status is asked for.
        unsafe { ffi::MPI_Test(&mut request.0, &mut over, ffi::RSMPI_STATUS_IGNORE) };
        over != 0
    }

    /// As [`Mpi::is_over`], but the request stays, and is to be given to that later: MPI lets go of what it has for it then, which takes its time.
    #[inline]
    pub(crate) fn is_here(&self, request: &Request) -> bool {
        let mut over = 0;
        // SAFETY: a request that was started; no status is asked for.
        unsafe {
            ffi::MPI_Request_get_status(request.0, &mut over, ffi::RSMPI_STATUS_IGNORE);
        }
        over != 0
    }

    /// Lets go of a request of [`Mpi::receive`] or [`Mpi::receive_tagged`]. If it is `started`, nothing will come for it.
    pub(crate) fn free(&self, mut request: Request, started: bool) {
        // SAFETY: a persistent receive, which is cancelled only if it was started.
        unsafe {
            if started {
                ffi::MPI_Cancel(&mut request.0);
                ffi::MPI_Wait(&mut request.0, ffi::RSMPI_STATUS_IGNORE);
            }
            ffi::MPI_Request_free(&mut request.0);
        }
    }

    /// Leaves MPI. All call it.
    pub(crate) fn finish(&mut self) {
        // SAFETY: nothing is under way on the communicator, and nothing of MPI is used after it by us.
        unsafe {
            ffi::MPI_Comm_free(&mut self.own);
            ffi::MPI_Comm_free(&mut self.comm);
            if self.ours {
                ffi::MPI_Finalize();
            }
        }
    }
}

#[inline]
fn arrived(status: &ffi::MPI_Status) -> Arrived {
    let mut bytes = 0;
    // SAFETY: the status of a receive of bytes that is over.
    unsafe { ffi::MPI_Get_count(status, ffi::RSMPI_UINT8_T, &mut bytes) };
    Arrived {
        from: status.MPI_SOURCE as usize,
        tag: status.MPI_TAG,
        bytes: bytes as usize,
    }
}
