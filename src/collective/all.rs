//! Collectives that treat all processes alike.
use super::call::{recv_even, recv_parts, reduction, send_even, send_parts, start, sure};
use super::{Operation, TryCollectives};
use crate::coll::Call;
use crate::datatype::{Buffer, BufferMut, PartitionedBuffer, PartitionedBufferMut, span};
use crate::request::{Request, Scope, StaticScope};
use crate::topology::Communicator;
use crate::topology::communicator::shared;

/// What all processes of a communicator do together, without a root.
pub trait CommunicatorCollectives: Communicator {
    /// Returns when all processes have called it.
    ///
    /// Corresponds to `MPI_Barrier`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| world.barrier());
    /// ```
    #[track_caller]
    fn barrier(&self) {
        sure(shared(self), self.try_barrier());
    }

    /// Starts a barrier: the request is complete when all processes have started it.
    ///
    /// Corresponds to `MPI_Ibarrier`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let request = world.immediate_barrier();
    ///     // compute something
    ///     request.wait();
    /// });
    /// ```
    #[track_caller]
    fn immediate_barrier(&self) -> Request<'static, ()> {
        Request::new(start(shared(self), Call::Barrier), &(), StaticScope)
    }

    /// Gathers the elements of all processes, in the order of ranks, at all of them.
    ///
    /// Corresponds to `MPI_Allgather`. Panics if the receive buffer has not as many elements for each process as each sends.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let mut all = vec![0; 3];
    ///     world.all_gather_into(&world.rank(), &mut all);
    ///     assert_eq!(all, [0, 1, 2]);
    /// });
    /// ```
    #[track_caller]
    fn all_gather_into<S, R>(&self, sendbuf: &S, recvbuf: &mut R)
    where
        S: ?Sized + Buffer,
        R: ?Sized + BufferMut,
    {
        sure(shared(self), self.try_all_gather_into(sendbuf, recvbuf));
    }

    /// Starts [`all_gather_into`](Self::all_gather_into).
    ///
    /// Corresponds to `MPI_Iallgather`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (mine, mut all) = (world.rank(), vec![0; 3]);
    ///     tercio::request::scope(|scope| {
    ///         world.immediate_all_gather_into(scope, &mine, &mut all).wait();
    ///     });
    ///     assert_eq!(all, [0, 1, 2]);
    /// });
    /// ```
    #[track_caller]
    fn immediate_all_gather_into<'a, S, R, Sc>(
        &self,
        scope: Sc,
        sendbuf: &'a S,
        recvbuf: &'a mut R,
    ) -> Request<'a, R, Sc>
    where
        S: 'a + ?Sized + Buffer,
        R: 'a + ?Sized + BufferMut,
        Sc: Scope<'a>,
    {
        let shared = shared(self);
        let data: *mut R = recvbuf;
        // SAFETY: both are borrowed for 'a, and the request completes before 'a ends.
        let (send, recv) = unsafe {
            (
                span::send(sendbuf),
                recv_even(&mut *data, shared.coll().size()),
            )
        };
        Request::new(
            start(
                shared,
                Call::AllGather {
                    send: &send,
                    recv: &recv,
                },
            ),
            data,
            scope,
        )
    }

    /// Gathers the elements of all processes, each into its part, at all of them.
    ///
    /// Corresponds to `MPI_Allgatherv`. Panics if the partition is not for so many processes.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let mine = vec![world.rank(); world.rank() as usize];
    ///     let mut all = [0; 3];
    ///     let mut parts = tercio::datatype::PartitionMut::new(&mut all, vec![0, 1, 2], vec![0, 0, 1]);
    ///     world.all_gather_varcount_into(&mine[..], &mut parts);
    ///     assert_eq!(all, [1, 2, 2]);
    /// });
    /// ```
    #[track_caller]
    fn all_gather_varcount_into<S, R>(&self, sendbuf: &S, recvbuf: &mut R)
    where
        S: ?Sized + Buffer,
        R: ?Sized + PartitionedBufferMut,
    {
        sure(
            shared(self),
            self.try_all_gather_varcount_into(sendbuf, recvbuf),
        );
    }

    /// Starts [`all_gather_varcount_into`](Self::all_gather_varcount_into).
    ///
    /// Corresponds to `MPI_Iallgatherv`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let mine = vec![world.rank(); world.rank() as usize];
    ///     let mut all = [0; 3];
    ///     let mut parts = tercio::datatype::PartitionMut::new(&mut all, vec![0, 1, 2], vec![0, 0, 1]);
    ///     tercio::request::scope(|scope| {
    ///         world.immediate_all_gather_varcount_into(scope, &mine[..], &mut parts).wait();
    ///     });
    ///     assert_eq!(all, [1, 2, 2]);
    /// });
    /// ```
    #[track_caller]
    fn immediate_all_gather_varcount_into<'a, S, R, Sc>(
        &self,
        scope: Sc,
        sendbuf: &'a S,
        recvbuf: &'a mut R,
    ) -> Request<'a, R, Sc>
    where
        S: 'a + ?Sized + Buffer,
        R: 'a + ?Sized + PartitionedBufferMut,
        Sc: Scope<'a>,
    {
        let shared = shared(self);
        let data: *mut R = recvbuf;
        // SAFETY: both are borrowed for 'a, and the request completes before 'a ends.
        let (send, recv) = unsafe {
            (
                span::send(sendbuf),
                sure(
                    shared,
                    recv_parts(
                        "immediate_all_gather_varcount_into",
                        &mut *data,
                        shared.coll().size(),
                    ),
                ),
            )
        };
        Request::new(
            start(
                shared,
                Call::AllGatherVar {
                    send: &send,
                    recv: &recv.span,
                    parts: &recv.parts,
                },
            ),
            data,
            scope,
        )
    }

    /// Sends to each process its part of the send buffer, all parts being equally long, and receives one from each.
    ///
    /// Corresponds to `MPI_Alltoall`. Panics if what is sent to a process is not as long as what is received from one.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (mine, mut theirs) = ([10 * world.rank(); 3], [0; 3]);
    ///     world.all_to_all_into(&mine, &mut theirs);
    ///     assert_eq!(theirs, [0, 10, 20]);
    /// });
    /// ```
    #[track_caller]
    fn all_to_all_into<S, R>(&self, sendbuf: &S, recvbuf: &mut R)
    where
        S: ?Sized + Buffer,
        R: ?Sized + BufferMut,
    {
        sure(shared(self), self.try_all_to_all_into(sendbuf, recvbuf));
    }

    /// Starts [`all_to_all_into`](Self::all_to_all_into).
    ///
    /// Corresponds to `MPI_Ialltoall`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (mine, mut theirs) = ([10 * world.rank(); 3], [0; 3]);
    ///     tercio::request::scope(|scope| {
    ///         world.immediate_all_to_all_into(scope, &mine, &mut theirs).wait();
    ///     });
    ///     assert_eq!(theirs, [0, 10, 20]);
    /// });
    /// ```
    #[track_caller]
    fn immediate_all_to_all_into<'a, S, R, Sc>(
        &self,
        scope: Sc,
        sendbuf: &'a S,
        recvbuf: &'a mut R,
    ) -> Request<'a, R, Sc>
    where
        S: 'a + ?Sized + Buffer,
        R: 'a + ?Sized + BufferMut,
        Sc: Scope<'a>,
    {
        let shared = shared(self);
        let data: *mut R = recvbuf;
        let ranks = shared.coll().size();
        // SAFETY: both are borrowed for 'a, and the request completes before 'a ends.
        let (send, recv) = unsafe { (send_even(sendbuf, ranks), recv_even(&mut *data, ranks)) };
        Request::new(
            start(
                shared,
                Call::AllToAll {
                    send: &send,
                    recv: &recv,
                },
            ),
            data,
            scope,
        )
    }

    /// Sends to each process its part of the send buffer, and receives one from each into its part of the receive buffer.
    ///
    /// Corresponds to `MPI_Alltoallv`. Panics if a partition is not for so many processes.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     // the process with rank r sends r elements to each
    ///     let (r, mine) = (world.rank(), vec![world.rank(); 3 * world.rank() as usize]);
    ///     let mut theirs = [0; 3];
    ///     let send = tercio::datatype::Partition::new(&mine[..], vec![r; 3], vec![0, r, 2 * r]);
    ///     let mut receive = tercio::datatype::PartitionMut::new(&mut theirs, vec![0, 1, 2], vec![0, 0, 1]);
    ///     world.all_to_all_varcount_into(&send, &mut receive);
    ///     assert_eq!(theirs, [1, 2, 2]);
    /// });
    /// ```
    #[track_caller]
    fn all_to_all_varcount_into<S, R>(&self, sendbuf: &S, recvbuf: &mut R)
    where
        S: ?Sized + PartitionedBuffer,
        R: ?Sized + PartitionedBufferMut,
    {
        sure(
            shared(self),
            self.try_all_to_all_varcount_into(sendbuf, recvbuf),
        );
    }

    /// Starts [`all_to_all_varcount_into`](Self::all_to_all_varcount_into).
    ///
    /// Corresponds to `MPI_Ialltoallv`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (r, mine) = (world.rank(), vec![world.rank(); 3 * world.rank() as usize]);
    ///     let mut theirs = [0; 3];
    ///     let send = tercio::datatype::Partition::new(&mine[..], vec![r; 3], vec![0, r, 2 * r]);
    ///     let mut receive = tercio::datatype::PartitionMut::new(&mut theirs, vec![0, 1, 2], vec![0, 0, 1]);
    ///     tercio::request::scope(|scope| {
    ///         world.immediate_all_to_all_varcount_into(scope, &send, &mut receive).wait();
    ///     });
    ///     assert_eq!(theirs, [1, 2, 2]);
    /// });
    /// ```
    #[track_caller]
    fn immediate_all_to_all_varcount_into<'a, S, R, Sc>(
        &self,
        scope: Sc,
        sendbuf: &'a S,
        recvbuf: &'a mut R,
    ) -> Request<'a, R, Sc>
    where
        S: 'a + ?Sized + PartitionedBuffer,
        R: 'a + ?Sized + PartitionedBufferMut,
        Sc: Scope<'a>,
    {
        let shared = shared(self);
        let data: *mut R = recvbuf;
        let ranks = shared.coll().size();
        // SAFETY: both are borrowed for 'a, and the request completes before 'a ends.
        let (send, recv) = unsafe {
            (
                sure(
                    shared,
                    send_parts("immediate_all_to_all_varcount_into", sendbuf, ranks),
                ),
                sure(
                    shared,
                    recv_parts("immediate_all_to_all_varcount_into", &mut *data, ranks),
                ),
            )
        };
        Request::new(
            start(
                shared,
                Call::AllToAllVar {
                    send: &send.span,
                    send_parts: &send.parts,
                    recv: &recv.span,
                    recv_parts: &recv.parts,
                },
            ),
            data,
            scope,
        )
    }

    /// Combines the elements of all processes, each with those in its place, at all of them.
    ///
    /// Corresponds to `MPI_Allreduce`. Panics if the receive buffer is shorter or of another type, or the operation is not defined for the type.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let mut sums = [0; 2];
    ///     world.all_reduce_into(&[world.rank(), 1], &mut sums, tercio::collective::SystemOperation::sum());
    ///     assert_eq!(sums, [3, 3]);
    /// });
    /// ```
    #[track_caller]
    fn all_reduce_into<S, R, O>(&self, sendbuf: &S, recvbuf: &mut R, op: O)
    where
        S: ?Sized + Buffer,
        R: ?Sized + BufferMut,
        O: Operation,
    {
        sure(shared(self), self.try_all_reduce_into(sendbuf, recvbuf, op));
    }

    /// Starts [`all_reduce_into`](Self::all_reduce_into).
    ///
    /// Corresponds to `MPI_Iallreduce`. The operation is borrowed as the buffers are.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (mine, mut sum) = (world.rank(), 0);
    ///     tercio::request::scope(|scope| {
    ///         let op = tercio::collective::SystemOperation::sum();
    ///         world.immediate_all_reduce_into(scope, &mine, &mut sum, op).wait();
    ///     });
    ///     assert_eq!(sum, 3);
    /// });
    /// ```
    #[track_caller]
    fn immediate_all_reduce_into<'a, S, R, O, Sc>(
        &self,
        scope: Sc,
        sendbuf: &'a S,
        recvbuf: &'a mut R,
        op: O,
    ) -> Request<'a, R, Sc>
    where
        S: 'a + ?Sized + Buffer,
        R: 'a + ?Sized + BufferMut,
        O: 'a + Operation,
        Sc: Scope<'a>,
    {
        let shared = shared(self);
        let data: *mut R = recvbuf;
        // SAFETY: both are borrowed for 'a, and the request completes before 'a ends.
        let r = unsafe {
            sure(
                shared,
                reduction("immediate_all_reduce_into", sendbuf, &mut *data, None, &op),
            )
        };
        Request::new(
            start(
                shared,
                Call::AllReduce {
                    send: &r.send,
                    recv: &r.recv,
                    op: &r.op,
                    element: r.element,
                },
            ),
            data,
            scope,
        )
    }

    /// Combines the elements of all processes, each with those in its place, and gives each process its part of the result, all parts being
    /// equally long.
    ///
    /// Corresponds to `MPI_Reduce_scatter_block`. Panics if the send buffer is not as many times longer as there are processes, or of another type, or the operation is not defined for the
    /// type.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let mut sum = 0;
    ///     world.reduce_scatter_block_into(&[1, 10, 100], &mut sum, tercio::collective::SystemOperation::sum());
    ///     assert_eq!(sum, [3, 30, 300][world.rank() as usize]);
    /// });
    /// ```
    #[track_caller]
    fn reduce_scatter_block_into<S, R, O>(&self, sendbuf: &S, recvbuf: &mut R, op: O)
    where
        S: ?Sized + Buffer,
        R: ?Sized + BufferMut,
        O: Operation,
    {
        sure(
            shared(self),
            self.try_reduce_scatter_block_into(sendbuf, recvbuf, op),
        );
    }

    /// Starts [`reduce_scatter_block_into`](Self::reduce_scatter_block_into).
    ///
    /// Corresponds to `MPI_Ireduce_scatter_block`. The operation is borrowed as the buffers are.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (mine, mut sum) = ([1, 10, 100], 0);
    ///     tercio::request::scope(|scope| {
    ///         let op = tercio::collective::SystemOperation::sum();
    ///         world.immediate_reduce_scatter_block_into(scope, &mine, &mut sum, op).wait();
    ///     });
    ///     assert_eq!(sum, [3, 30, 300][world.rank() as usize]);
    /// });
    /// ```
    #[track_caller]
    fn immediate_reduce_scatter_block_into<'a, S, R, O, Sc>(
        &self,
        scope: Sc,
        sendbuf: &'a S,
        recvbuf: &'a mut R,
        op: O,
    ) -> Request<'a, R, Sc>
    where
        S: 'a + ?Sized + Buffer,
        R: 'a + ?Sized + BufferMut,
        O: 'a + Operation,
        Sc: Scope<'a>,
    {
        let shared = shared(self);
        let data: *mut R = recvbuf;
        // SAFETY: both are borrowed for 'a, and the request completes before 'a ends.
        let r = unsafe {
            sure(
                shared,
                reduction(
                    "immediate_reduce_scatter_block_into",
                    sendbuf,
                    &mut *data,
                    Some(shared.coll().size()),
                    &op,
                ),
            )
        };
        Request::new(
            start(
                shared,
                Call::ReduceScatterBlock {
                    send: &r.send,
                    recv: &r.recv,
                    op: &r.op,
                    element: r.element,
                },
            ),
            data,
            scope,
        )
    }

    /// Combines the elements of this process and all before it.
    ///
    /// Corresponds to `MPI_Scan`. Panics if the receive buffer is shorter or of another type, or the operation is not defined for the type.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let mut sum = 0;
    ///     world.scan_into(&(world.rank() + 1), &mut sum, tercio::collective::SystemOperation::sum());
    ///     assert_eq!(sum, [1, 3, 6][world.rank() as usize]);
    /// });
    /// ```
    #[track_caller]
    fn scan_into<S, R, O>(&self, sendbuf: &S, recvbuf: &mut R, op: O)
    where
        S: ?Sized + Buffer,
        R: ?Sized + BufferMut,
        O: Operation,
    {
        sure(shared(self), self.try_scan_into(sendbuf, recvbuf, op));
    }

    /// Starts [`scan_into`](Self::scan_into).
    ///
    /// Corresponds to `MPI_Iscan`. The operation is borrowed as the buffers are.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (mine, mut sum) = (world.rank() + 1, 0);
    ///     tercio::request::scope(|scope| {
    ///         let op = tercio::collective::SystemOperation::sum();
    ///         world.immediate_scan_into(scope, &mine, &mut sum, op).wait();
    ///     });
    ///     assert_eq!(sum, [1, 3, 6][world.rank() as usize]);
    /// });
    /// ```
    #[track_caller]
    fn immediate_scan_into<'a, S, R, O, Sc>(
        &self,
        scope: Sc,
        sendbuf: &'a S,
        recvbuf: &'a mut R,
        op: O,
    ) -> Request<'a, R, Sc>
    where
        S: 'a + ?Sized + Buffer,
        R: 'a + ?Sized + BufferMut,
        O: 'a + Operation,
        Sc: Scope<'a>,
    {
        let shared = shared(self);
        let data: *mut R = recvbuf;
        // SAFETY: both are borrowed for 'a, and the request completes before 'a ends.
        let r = unsafe {
            sure(
                shared,
                reduction("immediate_scan_into", sendbuf, &mut *data, None, &op),
            )
        };
        Request::new(
            start(
                shared,
                Call::Scan {
                    send: &r.send,
                    recv: &r.recv,
                    op: &r.op,
                    element: r.element,
                },
            ),
            data,
            scope,
        )
    }

    /// Combines the elements of all processes before this one; the buffer of rank 0 stays as it is.
    ///
    /// Corresponds to `MPI_Exscan`. Panics if the receive buffer is shorter or of another type, or the operation is not defined for the type.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let mut before = 0;
    ///     world.exclusive_scan_into(&(world.rank() + 1), &mut before, tercio::collective::SystemOperation::sum());
    ///     assert_eq!(before, [0, 1, 3][world.rank() as usize]);
    /// });
    /// ```
    #[track_caller]
    fn exclusive_scan_into<S, R, O>(&self, sendbuf: &S, recvbuf: &mut R, op: O)
    where
        S: ?Sized + Buffer,
        R: ?Sized + BufferMut,
        O: Operation,
    {
        sure(
            shared(self),
            self.try_exclusive_scan_into(sendbuf, recvbuf, op),
        );
    }

    /// Starts [`exclusive_scan_into`](Self::exclusive_scan_into).
    ///
    /// Corresponds to `MPI_Iexscan`. The operation is borrowed as the buffers are.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (mine, mut before) = (world.rank() + 1, 0);
    ///     tercio::request::scope(|scope| {
    ///         let op = tercio::collective::SystemOperation::sum();
    ///         world.immediate_exclusive_scan_into(scope, &mine, &mut before, op).wait();
    ///     });
    ///     assert_eq!(before, [0, 1, 3][world.rank() as usize]);
    /// });
    /// ```
    #[track_caller]
    fn immediate_exclusive_scan_into<'a, S, R, O, Sc>(
        &self,
        scope: Sc,
        sendbuf: &'a S,
        recvbuf: &'a mut R,
        op: O,
    ) -> Request<'a, R, Sc>
    where
        S: 'a + ?Sized + Buffer,
        R: 'a + ?Sized + BufferMut,
        O: 'a + Operation,
        Sc: Scope<'a>,
    {
        let shared = shared(self);
        let data: *mut R = recvbuf;
        // SAFETY: both are borrowed for 'a, and the request completes before 'a ends.
        let r = unsafe {
            sure(
                shared,
                reduction(
                    "immediate_exclusive_scan_into",
                    sendbuf,
                    &mut *data,
                    None,
                    &op,
                ),
            )
        };
        Request::new(
            start(
                shared,
                Call::ExclusiveScan {
                    send: &r.send,
                    recv: &r.recv,
                    op: &r.op,
                    element: r.element,
                },
            ),
            data,
            scope,
        )
    }
}

impl<C: Communicator + ?Sized> CommunicatorCollectives for C {}
