//! Collectives with a root.
use super::Operation;
use super::TryRoot;
use super::call::{
    at_root, contribution, not_at_root, recv_even, recv_parts, reduction, send_even, send_parts,
    start, sure,
};
use super::spawn::{MpiError, spawn};
use crate::coll::Call;
use crate::datatype::{Buffer, BufferMut, PartitionedBuffer, PartitionedBufferMut, span};
use crate::request::{Request, Scope};
use crate::topology::communicator::shared_of as shared;
use crate::topology::{AsCommunicator, InterCommunicator, Process, Rank};
use std::process::Command;

/// What all processes of a communicator do together with this process as the root.
///
/// Where the root has other buffers than the others, there is a form for each: `gather_into_root` at the root, `gather_into` elsewhere.
pub trait Root: AsCommunicator {
    /// The root's rank.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// assert_eq!(universe.world().this_process().root_rank(), 0);
    /// ```
    fn root_rank(&self) -> Rank;

    /// Gives the root's elements to all.
    ///
    /// Corresponds to `MPI_Bcast`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let mut x = if world.rank() == 1 { 42 } else { 0 };
    ///     world.process_at_rank(1).broadcast_into(&mut x);
    ///     assert_eq!(x, 42);
    /// });
    /// ```
    #[track_caller]
    fn broadcast_into<Buf: ?Sized + BufferMut>(&self, buffer: &mut Buf) {
        sure(shared(self), self.try_broadcast_into(buffer));
    }

    /// Starts [`broadcast_into`](Self::broadcast_into).
    ///
    /// Corresponds to `MPI_Ibcast`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let mut x = if world.rank() == 1 { 42 } else { 0 };
    ///     tercio::request::scope(|scope| {
    ///         world.process_at_rank(1).immediate_broadcast_into(scope, &mut x).wait();
    ///     });
    ///     assert_eq!(x, 42);
    /// });
    /// ```
    #[track_caller]
    fn immediate_broadcast_into<'a, Buf, Sc>(
        &self,
        scope: Sc,
        buffer: &'a mut Buf,
    ) -> Request<'a, Buf, Sc>
    where
        Buf: 'a + ?Sized + BufferMut,
        Sc: Scope<'a>,
    {
        let data: *mut Buf = buffer;
        // SAFETY: borrowed for 'a, and the request completes before 'a ends.
        let span = unsafe { span::recv(&mut *data) };
        Request::new(
            start(
                shared(self),
                Call::Broadcast {
                    root: root(self),
                    span: &span,
                },
            ),
            data,
            scope,
        )
    }

    /// Sends this process's elements to the root; for the others than the root.
    ///
    /// Corresponds to `MPI_Gather`. Panics at the root.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let root = world.process_at_rank(0);
    ///     if world.rank() == 0 {
    ///         let mut all = [0; 3];
    ///         root.gather_into_root(&world.rank(), &mut all);
    ///         assert_eq!(all, [0, 1, 2]);
    ///     } else {
    ///         root.gather_into(&world.rank());
    ///     }
    /// });
    /// ```
    #[track_caller]
    fn gather_into<S>(&self, sendbuf: &S)
    where
        S: ?Sized + Buffer,
    {
        sure(shared(self), self.try_gather_into(sendbuf));
    }

    /// Starts [`gather_into`](Self::gather_into).
    ///
    /// Corresponds to `MPI_Igather`. Panics at the root.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (root, mine) = (world.process_at_rank(0), world.rank());
    ///     let mut all = [0; 3];
    ///     tercio::request::scope(|scope| match mine {
    ///         0 => { root.immediate_gather_into_root(scope, &mine, &mut all).wait(); }
    ///         _ => { root.immediate_gather_into(scope, &mine).wait(); }
    ///     });
    ///     assert!(mine != 0 || all == [0, 1, 2]);
    /// });
    /// ```
    #[track_caller]
    fn immediate_gather_into<'a, S, Sc>(&self, scope: Sc, sendbuf: &'a S) -> Request<'a, S, Sc>
    where
        S: 'a + ?Sized + Buffer,
        Sc: Scope<'a>,
    {
        let shared = shared(self);
        let root = sure(
            shared,
            not_at_root(shared, root(self), "immediate_gather_into"),
        );
        // SAFETY: it is borrowed for 'a, and the request completes before 'a ends.
        let send = unsafe { span::send(sendbuf) };
        Request::new(
            start(
                shared,
                Call::Gather {
                    root,
                    send: &send,
                    recv: None,
                },
            ),
            sendbuf,
            scope,
        )
    }

    /// Gathers the elements of all processes, in the order of ranks; for the root.
    ///
    /// Corresponds to `MPI_Gather`. Panics at any other process.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let root = world.process_at_rank(0);
    ///     if world.rank() == 0 {
    ///         let mut all = [0; 3];
    ///         root.gather_into_root(&world.rank(), &mut all);
    ///         assert_eq!(all, [0, 1, 2]);
    ///     } else {
    ///         root.gather_into(&world.rank());
    ///     }
    /// });
    /// ```
    #[track_caller]
    fn gather_into_root<S, R>(&self, sendbuf: &S, recvbuf: &mut R)
    where
        S: ?Sized + Buffer,
        R: ?Sized + BufferMut,
    {
        sure(shared(self), self.try_gather_into_root(sendbuf, recvbuf));
    }

    /// Starts [`gather_into_root`](Self::gather_into_root).
    ///
    /// Corresponds to `MPI_Igather`. Panics at any other process.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (root, mine) = (world.process_at_rank(0), world.rank());
    ///     let mut all = [0; 3];
    ///     tercio::request::scope(|scope| match mine {
    ///         0 => { root.immediate_gather_into_root(scope, &mine, &mut all).wait(); }
    ///         _ => { root.immediate_gather_into(scope, &mine).wait(); }
    ///     });
    ///     assert!(mine != 0 || all == [0, 1, 2]);
    /// });
    /// ```
    #[track_caller]
    fn immediate_gather_into_root<'a, S, R, Sc>(
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
        let root = sure(
            shared,
            at_root(shared, root(self), "immediate_gather_into_root"),
        );
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
                Call::Gather {
                    root,
                    send: &send,
                    recv: Some(&recv),
                },
            ),
            data,
            scope,
        )
    }

    /// Sends this process's elements, however many, to the root; for the others than the root.
    ///
    /// Corresponds to `MPI_Gatherv`. Panics at the root.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (root, mine) = (world.process_at_rank(0), vec![world.rank(); world.rank() as usize]);
    ///     if world.rank() == 0 {
    ///         let mut all = [0; 3];
    ///         let mut parts = tercio::datatype::PartitionMut::new(&mut all, vec![0, 1, 2], vec![0, 0, 1]);
    ///         root.gather_varcount_into_root(&mine[..], &mut parts);
    ///         assert_eq!(all, [1, 2, 2]);
    ///     } else {
    ///         root.gather_varcount_into(&mine[..]);
    ///     }
    /// });
    /// ```
    #[track_caller]
    fn gather_varcount_into<S>(&self, sendbuf: &S)
    where
        S: ?Sized + Buffer,
    {
        sure(shared(self), self.try_gather_varcount_into(sendbuf));
    }

    /// Starts [`gather_varcount_into`](Self::gather_varcount_into).
    ///
    /// Corresponds to `MPI_Igatherv`. Panics at the root.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (root, mine) = (world.process_at_rank(0), vec![world.rank(); world.rank() as usize]);
    ///     let mut all = [0; 3];
    ///     let mut parts = tercio::datatype::PartitionMut::new(&mut all, vec![0, 1, 2], vec![0, 0, 1]);
    ///     tercio::request::scope(|scope| match world.rank() {
    ///         0 => { root.immediate_gather_varcount_into_root(scope, &mine[..], &mut parts).wait(); }
    ///         _ => { root.immediate_gather_varcount_into(scope, &mine[..]).wait(); }
    ///     });
    ///     assert!(world.rank() != 0 || all == [1, 2, 2]);
    /// });
    /// ```
    #[track_caller]
    fn immediate_gather_varcount_into<'a, Sc, S>(
        &self,
        scope: Sc,
        sendbuf: &'a S,
    ) -> Request<'a, S, Sc>
    where
        S: 'a + ?Sized + Buffer,
        Sc: Scope<'a>,
    {
        let shared = shared(self);
        let root = sure(
            shared,
            not_at_root(shared, root(self), "immediate_gather_varcount_into"),
        );
        // SAFETY: it is borrowed for 'a, and the request completes before 'a ends.
        let send = unsafe { span::send(sendbuf) };
        Request::new(
            start(
                shared,
                Call::GatherVar {
                    root,
                    send: &send,
                    recv: None,
                },
            ),
            sendbuf,
            scope,
        )
    }

    /// Gathers the elements of all processes, each into its part; for the root.
    ///
    /// Corresponds to `MPI_Gatherv`. Panics at any other process.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (root, mine) = (world.process_at_rank(0), vec![world.rank(); world.rank() as usize]);
    ///     if world.rank() == 0 {
    ///         let mut all = [0; 3];
    ///         let mut parts = tercio::datatype::PartitionMut::new(&mut all, vec![0, 1, 2], vec![0, 0, 1]);
    ///         root.gather_varcount_into_root(&mine[..], &mut parts);
    ///         assert_eq!(all, [1, 2, 2]);
    ///     } else {
    ///         root.gather_varcount_into(&mine[..]);
    ///     }
    /// });
    /// ```
    #[track_caller]
    fn gather_varcount_into_root<S, R>(&self, sendbuf: &S, recvbuf: &mut R)
    where
        S: ?Sized + Buffer,
        R: ?Sized + PartitionedBufferMut,
    {
        sure(
            shared(self),
            self.try_gather_varcount_into_root(sendbuf, recvbuf),
        );
    }

    /// Starts [`gather_varcount_into_root`](Self::gather_varcount_into_root).
    ///
    /// Corresponds to `MPI_Igatherv`. Panics at any other process.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (root, mine) = (world.process_at_rank(0), vec![world.rank(); world.rank() as usize]);
    ///     let mut all = [0; 3];
    ///     let mut parts = tercio::datatype::PartitionMut::new(&mut all, vec![0, 1, 2], vec![0, 0, 1]);
    ///     tercio::request::scope(|scope| match world.rank() {
    ///         0 => { root.immediate_gather_varcount_into_root(scope, &mine[..], &mut parts).wait(); }
    ///         _ => { root.immediate_gather_varcount_into(scope, &mine[..]).wait(); }
    ///     });
    ///     assert!(world.rank() != 0 || all == [1, 2, 2]);
    /// });
    /// ```
    #[track_caller]
    fn immediate_gather_varcount_into_root<'a, Sc, S, R>(
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
        let root = sure(
            shared,
            at_root(shared, root(self), "immediate_gather_varcount_into_root"),
        );
        let data: *mut R = recvbuf;
        // SAFETY: both are borrowed for 'a, and the request completes before 'a ends.
        let (send, recv) = unsafe {
            (
                span::send(sendbuf),
                sure(
                    shared,
                    recv_parts(
                        "immediate_gather_varcount_into_root",
                        &mut *data,
                        shared.coll().size(),
                    ),
                ),
            )
        };
        Request::new(
            start(
                shared,
                Call::GatherVar {
                    root,
                    send: &send,
                    recv: Some((&recv.span, &recv.parts)),
                },
            ),
            data,
            scope,
        )
    }

    /// Receives this process's part of the root's elements; for the others than the root.
    ///
    /// Corresponds to `MPI_Scatter`. Panics at the root.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (root, mut mine) = (world.process_at_rank(0), 0);
    ///     if world.rank() == 0 {
    ///         root.scatter_into_root(&[5, 6, 7], &mut mine);
    ///     } else {
    ///         root.scatter_into(&mut mine);
    ///     }
    ///     assert_eq!(mine, 5 + world.rank());
    /// });
    /// ```
    #[track_caller]
    fn scatter_into<R>(&self, recvbuf: &mut R)
    where
        R: ?Sized + BufferMut,
    {
        sure(shared(self), self.try_scatter_into(recvbuf));
    }

    /// Starts [`scatter_into`](Self::scatter_into).
    ///
    /// Corresponds to `MPI_Iscatter`. Panics at the root.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (root, all, mut mine) = (world.process_at_rank(0), [5, 6, 7], 0);
    ///     tercio::request::scope(|scope| match world.rank() {
    ///         0 => { root.immediate_scatter_into_root(scope, &all, &mut mine).wait(); }
    ///         _ => { root.immediate_scatter_into(scope, &mut mine).wait(); }
    ///     });
    ///     assert_eq!(mine, 5 + world.rank());
    /// });
    /// ```
    #[track_caller]
    fn immediate_scatter_into<'a, Sc, R>(&self, scope: Sc, recvbuf: &'a mut R) -> Request<'a, R, Sc>
    where
        R: 'a + ?Sized + BufferMut,
        Sc: Scope<'a>,
    {
        let shared = shared(self);
        let root = sure(
            shared,
            not_at_root(shared, root(self), "immediate_scatter_into"),
        );
        let data: *mut R = recvbuf;
        // SAFETY: it is borrowed for 'a, and the request completes before 'a ends.
        let recv = unsafe { span::recv(&mut *data) };
        Request::new(
            start(
                shared,
                Call::Scatter {
                    root,
                    send: None,
                    recv: &recv,
                },
            ),
            data,
            scope,
        )
    }

    /// Gives each process its part of the elements, all parts being equally long; for the root.
    ///
    /// Corresponds to `MPI_Scatter`. Panics at any other process.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (root, mut mine) = (world.process_at_rank(0), 0);
    ///     if world.rank() == 0 {
    ///         root.scatter_into_root(&[5, 6, 7], &mut mine);
    ///     } else {
    ///         root.scatter_into(&mut mine);
    ///     }
    ///     assert_eq!(mine, 5 + world.rank());
    /// });
    /// ```
    #[track_caller]
    fn scatter_into_root<S, R>(&self, sendbuf: &S, recvbuf: &mut R)
    where
        S: ?Sized + Buffer,
        R: ?Sized + BufferMut,
    {
        sure(shared(self), self.try_scatter_into_root(sendbuf, recvbuf));
    }

    /// Starts [`scatter_into_root`](Self::scatter_into_root).
    ///
    /// Corresponds to `MPI_Iscatter`. Panics at any other process.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (root, all, mut mine) = (world.process_at_rank(0), [5, 6, 7], 0);
    ///     tercio::request::scope(|scope| match world.rank() {
    ///         0 => { root.immediate_scatter_into_root(scope, &all, &mut mine).wait(); }
    ///         _ => { root.immediate_scatter_into(scope, &mut mine).wait(); }
    ///     });
    ///     assert_eq!(mine, 5 + world.rank());
    /// });
    /// ```
    #[track_caller]
    fn immediate_scatter_into_root<'a, Sc, S, R>(
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
        let root = sure(
            shared,
            at_root(shared, root(self), "immediate_scatter_into_root"),
        );
        let data: *mut R = recvbuf;
        // SAFETY: both are borrowed for 'a, and the request completes before 'a ends.
        let (send, recv) = unsafe {
            (
                send_even(sendbuf, shared.coll().size()),
                span::recv(&mut *data),
            )
        };
        Request::new(
            start(
                shared,
                Call::Scatter {
                    root,
                    send: Some(&send),
                    recv: &recv,
                },
            ),
            data,
            scope,
        )
    }

    /// Receives this process's part, however long, of the root's elements; for the others than the root.
    ///
    /// Corresponds to `MPI_Scatterv`. Panics at the root.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (root, mut mine) = (world.process_at_rank(0), vec![0; world.rank() as usize]);
    ///     if world.rank() == 0 {
    ///         let all = [1, 2, 2];
    ///         let parts = tercio::datatype::Partition::new(&all, vec![0, 1, 2], vec![0, 0, 1]);
    ///         root.scatter_varcount_into_root(&parts, &mut mine[..]);
    ///     } else {
    ///         root.scatter_varcount_into(&mut mine[..]);
    ///     }
    ///     assert_eq!(mine, vec![world.rank(); world.rank() as usize]);
    /// });
    /// ```
    #[track_caller]
    fn scatter_varcount_into<R>(&self, recvbuf: &mut R)
    where
        R: ?Sized + BufferMut,
    {
        sure(shared(self), self.try_scatter_varcount_into(recvbuf));
    }

    /// Starts [`scatter_varcount_into`](Self::scatter_varcount_into).
    ///
    /// Corresponds to `MPI_Iscatterv`. Panics at the root.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (root, mut mine) = (world.process_at_rank(0), vec![0; world.rank() as usize]);
    ///     let all = [1, 2, 2];
    ///     let parts = tercio::datatype::Partition::new(&all, vec![0, 1, 2], vec![0, 0, 1]);
    ///     tercio::request::scope(|scope| match world.rank() {
    ///         0 => { root.immediate_scatter_varcount_into_root(scope, &parts, &mut mine[..]).wait(); }
    ///         _ => { root.immediate_scatter_varcount_into(scope, &mut mine[..]).wait(); }
    ///     });
    ///     assert_eq!(mine, vec![world.rank(); world.rank() as usize]);
    /// });
    /// ```
    #[track_caller]
    fn immediate_scatter_varcount_into<'a, Sc, R>(
        &self,
        scope: Sc,
        recvbuf: &'a mut R,
    ) -> Request<'a, R, Sc>
    where
        R: 'a + ?Sized + BufferMut,
        Sc: Scope<'a>,
    {
        let shared = shared(self);
        let root = sure(
            shared,
            not_at_root(shared, root(self), "immediate_scatter_varcount_into"),
        );
        let data: *mut R = recvbuf;
        // SAFETY: it is borrowed for 'a, and the request completes before 'a ends.
        let recv = unsafe { span::recv(&mut *data) };
        Request::new(
            start(
                shared,
                Call::ScatterVar {
                    root,
                    send: None,
                    recv: &recv,
                },
            ),
            data,
            scope,
        )
    }

    /// Gives each process its part of the elements; for the root.
    ///
    /// Corresponds to `MPI_Scatterv`. Panics at any other process.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (root, mut mine) = (world.process_at_rank(0), vec![0; world.rank() as usize]);
    ///     if world.rank() == 0 {
    ///         let all = [1, 2, 2];
    ///         let parts = tercio::datatype::Partition::new(&all, vec![0, 1, 2], vec![0, 0, 1]);
    ///         root.scatter_varcount_into_root(&parts, &mut mine[..]);
    ///     } else {
    ///         root.scatter_varcount_into(&mut mine[..]);
    ///     }
    ///     assert_eq!(mine, vec![world.rank(); world.rank() as usize]);
    /// });
    /// ```
    #[track_caller]
    fn scatter_varcount_into_root<S, R>(&self, sendbuf: &S, recvbuf: &mut R)
    where
        S: ?Sized + PartitionedBuffer,
        R: ?Sized + BufferMut,
    {
        sure(
            shared(self),
            self.try_scatter_varcount_into_root(sendbuf, recvbuf),
        );
    }

    /// Starts [`scatter_varcount_into_root`](Self::scatter_varcount_into_root).
    ///
    /// Corresponds to `MPI_Iscatterv`. Panics at any other process.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (root, mut mine) = (world.process_at_rank(0), vec![0; world.rank() as usize]);
    ///     let all = [1, 2, 2];
    ///     let parts = tercio::datatype::Partition::new(&all, vec![0, 1, 2], vec![0, 0, 1]);
    ///     tercio::request::scope(|scope| match world.rank() {
    ///         0 => { root.immediate_scatter_varcount_into_root(scope, &parts, &mut mine[..]).wait(); }
    ///         _ => { root.immediate_scatter_varcount_into(scope, &mut mine[..]).wait(); }
    ///     });
    ///     assert_eq!(mine, vec![world.rank(); world.rank() as usize]);
    /// });
    /// ```
    #[track_caller]
    fn immediate_scatter_varcount_into_root<'a, Sc, S, R>(
        &self,
        scope: Sc,
        sendbuf: &'a S,
        recvbuf: &'a mut R,
    ) -> Request<'a, R, Sc>
    where
        S: 'a + ?Sized + PartitionedBuffer,
        R: 'a + ?Sized + BufferMut,
        Sc: Scope<'a>,
    {
        let shared = shared(self);
        let root = sure(
            shared,
            at_root(shared, root(self), "immediate_scatter_varcount_into_root"),
        );
        let data: *mut R = recvbuf;
        // SAFETY: both are borrowed for 'a, and the request completes before 'a ends.
        let (send, recv) = unsafe {
            (
                sure(
                    shared,
                    send_parts(
                        "immediate_scatter_varcount_into_root",
                        sendbuf,
                        shared.coll().size(),
                    ),
                ),
                span::recv(&mut *data),
            )
        };
        Request::new(
            start(
                shared,
                Call::ScatterVar {
                    root,
                    send: Some((&send.span, &send.parts)),
                    recv: &recv,
                },
            ),
            data,
            scope,
        )
    }

    /// Contributes this process's elements to a reduction at the root; for the others than the root.
    ///
    /// Corresponds to `MPI_Reduce`. Panics at the root.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (root, op) = (world.process_at_rank(0), tercio::collective::SystemOperation::sum());
    ///     if world.rank() == 0 {
    ///         let mut sum = 0;
    ///         root.reduce_into_root(&world.rank(), &mut sum, op);
    ///         assert_eq!(sum, 3);
    ///     } else {
    ///         root.reduce_into(&world.rank(), op);
    ///     }
    /// });
    /// ```
    #[track_caller]
    fn reduce_into<S, O>(&self, sendbuf: &S, op: O)
    where
        S: ?Sized + Buffer,
        O: Operation,
    {
        sure(shared(self), self.try_reduce_into(sendbuf, op));
    }

    /// Starts [`reduce_into`](Self::reduce_into).
    ///
    /// Corresponds to `MPI_Ireduce`. Panics at the root.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (root, op) = (world.process_at_rank(0), tercio::collective::SystemOperation::sum());
    ///     let (mine, mut sum) = (world.rank(), 0);
    ///     tercio::request::scope(|scope| match mine {
    ///         0 => { root.immediate_reduce_into_root(scope, &mine, &mut sum, op).wait(); }
    ///         _ => { root.immediate_reduce_into(scope, &mine, op).wait(); }
    ///     });
    ///     assert!(mine != 0 || sum == 3);
    /// });
    /// ```
    #[track_caller]
    fn immediate_reduce_into<'a, Sc, S, O>(
        &self,
        scope: Sc,
        sendbuf: &'a S,
        op: O,
    ) -> Request<'a, S, Sc>
    where
        S: 'a + ?Sized + Buffer,
        O: 'a + Operation,
        Sc: Scope<'a>,
    {
        let shared = shared(self);
        let root = sure(
            shared,
            not_at_root(shared, root(self), "immediate_reduce_into"),
        );
        // SAFETY: it is borrowed for 'a, and the request completes before 'a ends.
        let r = unsafe { sure(shared, contribution("immediate_reduce_into", sendbuf, &op)) };
        Request::new(
            start(
                shared,
                Call::Reduce {
                    root,
                    send: &r.send,
                    recv: None,
                    op: &r.op,
                    element: r.element,
                },
            ),
            sendbuf,
            scope,
        )
    }

    /// Combines the elements of all processes, each with those in its place; for the root.
    ///
    /// Corresponds to `MPI_Reduce`. Panics at any other process.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (root, op) = (world.process_at_rank(0), tercio::collective::SystemOperation::sum());
    ///     if world.rank() == 0 {
    ///         let mut sum = 0;
    ///         root.reduce_into_root(&world.rank(), &mut sum, op);
    ///         assert_eq!(sum, 3);
    ///     } else {
    ///         root.reduce_into(&world.rank(), op);
    ///     }
    /// });
    /// ```
    #[track_caller]
    fn reduce_into_root<S, R, O>(&self, sendbuf: &S, recvbuf: &mut R, op: O)
    where
        S: ?Sized + Buffer,
        R: ?Sized + BufferMut,
        O: Operation,
    {
        sure(
            shared(self),
            self.try_reduce_into_root(sendbuf, recvbuf, op),
        );
    }

    /// Starts [`reduce_into_root`](Self::reduce_into_root).
    ///
    /// Corresponds to `MPI_Ireduce`. Panics at any other process.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let (root, op) = (world.process_at_rank(0), tercio::collective::SystemOperation::sum());
    ///     let (mine, mut sum) = (world.rank(), 0);
    ///     tercio::request::scope(|scope| match mine {
    ///         0 => { root.immediate_reduce_into_root(scope, &mine, &mut sum, op).wait(); }
    ///         _ => { root.immediate_reduce_into(scope, &mine, op).wait(); }
    ///     });
    ///     assert!(mine != 0 || sum == 3);
    /// });
    /// ```
    #[track_caller]
    fn immediate_reduce_into_root<'a, Sc, S, R, O>(
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
        let root = sure(
            shared,
            at_root(shared, root(self), "immediate_reduce_into_root"),
        );
        let data: *mut R = recvbuf;
        // SAFETY: both are borrowed for 'a, and the request completes before 'a ends.
        let r = unsafe {
            sure(
                shared,
                reduction("immediate_reduce_into_root", sendbuf, &mut *data, None, &op),
            )
        };
        Request::new(
            start(
                shared,
                Call::Reduce {
                    root,
                    send: &r.send,
                    recv: Some(&r.recv),
                    op: &r.op,
                    element: r.element,
                },
            ),
            data,
            scope,
        )
    }

    /// Starts `maxprocs` more ranks, which run `command` (collective over this communicator; the command and the number of the root count).
    /// They begin with the environment of the root, as the command changes it, in its directory or the command's, and have a world of their
    /// own; what comes back is the communicator with them. The spawned ranks get the other end of it from
    /// [`parent`](crate::topology::Communicator::parent). Returns once they all run; they may still be about to initialize.
    ///
    /// They are ranks of the job like the others, numbered on in what the launcher shows: if one fails, all end.
    ///
    /// Corresponds to `MPI_Comm_spawn`.
    ///
    /// Panics if the number is not positive.
    ///
    /// # Errors
    /// [`MpiError::Spawn`] on all processes if they cannot all be started: then none is, and the root says on standard error why. A job
    /// has room for 16 more ranks than it begins with, unless it was started with `--universe-size`. On the root it is
    /// [`MpiError::StringNul`] if the command holds a zero byte. That `Command::env_clear` was called, nobody can see: the environment stays.
    ///
    /// ```no_run
    /// use std::process::Command;
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let workers = world.process_at_rank(0).spawn(Command::new("./worker").arg("--fast"), 4).unwrap();
    /// if world.rank() == 0 {
    ///     for rank in 0..workers.remote_size() {
    ///         workers.process_at_rank(rank).send(&rank);
    ///     }
    /// }
    /// ```
    #[track_caller]
    fn spawn(&self, command: &Command, maxprocs: Rank) -> Result<InterCommunicator, MpiError> {
        spawn("spawn", shared(self), root(self), &[command], &[maxprocs])
    }

    /// As [`spawn`](Self::spawn), with several programs: `maxprocs[i]` ranks run `commands[i]`. All are one world, ranks in the order of the
    /// programs; [`appnum`](crate::environment::Universe::appnum) tells which program it is.
    ///
    /// Corresponds to `MPI_Comm_spawn_multiple`.
    ///
    /// Panics if the slices differ in length or are empty, or a number is not positive.
    ///
    /// # Errors
    /// Those of [`spawn`](Self::spawn).
    ///
    /// ```no_run
    /// use std::process::Command;
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let programs = [Command::new("./ocean"), Command::new("./atmosphere")];
    /// let models = universe.world().process_at_rank(0).spawn_multiple(&programs, &[2, 6]).unwrap();
    /// assert_eq!(models.remote_size(), 8);
    /// ```
    #[track_caller]
    fn spawn_multiple(
        &self,
        commands: &[Command],
        maxprocs: &[Rank],
    ) -> Result<InterCommunicator, MpiError> {
        let commands: Vec<&Command> = commands.iter().collect();
        spawn(
            "spawn_multiple",
            shared(self),
            root(self),
            &commands,
            maxprocs,
        )
    }
}

impl Root for Process<'_> {
    fn root_rank(&self) -> Rank {
        self.rank()
    }
}

pub(super) fn root<R: ?Sized + Root>(root: &R) -> usize {
    // A process's rank was checked when it was made.
    root.root_rank() as usize
}
