//! Collectives with a root, with errors as values.
use super::call::{attempt, contribution, recv_even, recv_parts, reducing, send_even, send_parts};
use super::{Operation, Root};
use crate::coll::Call;
use crate::datatype::{Buffer, BufferMut, PartitionedBuffer, PartitionedBufferMut, span};
use crate::model::Error;
use crate::topology::communicator::shared_of as shared;

/// The blocking calls of [`Root`] that return errors: each as the one without `try_`, whose panic is an [`Error`] here.
///
/// What is wrong with this process's arguments is found before it takes part: the others wait for its call, so make it again rightly, or end.
/// Processes that call differently, or die, end the job here too.
///
/// ```
/// use tercio::{ErrorClass, prelude::*};
/// tercio::testing::ranks(2, |world| {
///     let root = world.process_at_rank(1);
///     if world.rank() == 0 {
///         let error = root.try_gather_into_root(&5, &mut [0; 2]).unwrap_err();
///         assert_eq!((error.class(), error.peer()), (ErrorClass::Root, Some(1)));
///         assert!(error.text().contains("it is the root's form, and gather_into is for the others"));
///     }
/// });
/// ```
pub trait TryRoot: Root {
    /// [`Root::broadcast_into`] with errors as values.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let mut x = if world.rank() == 1 { 42 } else { 0 };
    ///     world.process_at_rank(1).try_broadcast_into(&mut x).unwrap();
    ///     assert_eq!(x, 42);
    /// });
    /// ```
    #[track_caller]
    fn try_broadcast_into<Buf: ?Sized + BufferMut>(&self, buffer: &mut Buf) -> Result<(), Error> {
        attempt(
            shared(self),
            "broadcast_into",
            Some(self.root_rank()),
            |asked| {
                let root = asked.root()?;
                // SAFETY: borrowed until the blocking call returns.
                let span = unsafe { span::recv(buffer) };
                asked.run(Call::Broadcast { root, span: &span })
            },
        )
    }

    /// [`Root::gather_into`] with errors as values.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let root = world.process_at_rank(0);
    ///     if world.rank() == 0 {
    ///         let mut all = [0; 3];
    ///         root.try_gather_into_root(&world.rank(), &mut all).unwrap();
    ///         assert_eq!(all, [0, 1, 2]);
    ///     } else {
    ///         root.try_gather_into(&world.rank()).unwrap();
    ///     }
    /// });
    /// ```
    #[track_caller]
    fn try_gather_into<S>(&self, sendbuf: &S) -> Result<(), Error>
    where
        S: ?Sized + Buffer,
    {
        attempt(
            shared(self),
            "gather_into",
            Some(self.root_rank()),
            |asked| {
                let root = asked.not_at_root()?;
                // SAFETY: it is borrowed until the blocking call returns.
                let send = unsafe { span::send(sendbuf) };
                asked.run(Call::Gather {
                    root,
                    send: &send,
                    recv: None,
                })
            },
        )
    }

    /// [`Root::gather_into_root`] with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let error = world.this_process().try_gather_into_root(&[1, 2], &mut [0; 1]).unwrap_err();
    /// assert_eq!((error.class(), error.size()), (ErrorClass::Count, Some(8)));
    /// ```
    #[track_caller]
    fn try_gather_into_root<S, R>(&self, sendbuf: &S, recvbuf: &mut R) -> Result<(), Error>
    where
        S: ?Sized + Buffer,
        R: ?Sized + BufferMut,
    {
        attempt(
            shared(self),
            "gather_into_root",
            Some(self.root_rank()),
            |asked| {
                let root = asked.at_root()?;
                // SAFETY: both are borrowed until the blocking call returns.
                let (send, recv) =
                    unsafe { (span::send(sendbuf), recv_even(recvbuf, asked.size())) };
                asked.run(Call::Gather {
                    root,
                    send: &send,
                    recv: Some(&recv),
                })
            },
        )
    }

    /// [`Root::gather_varcount_into`] with errors as values.
    ///
    /// ```
    /// use tercio::{datatype::PartitionMut, prelude::*};
    /// tercio::testing::ranks(3, |world| {
    ///     let root = world.process_at_rank(0);
    ///     if world.rank() == 0 {
    ///         let mut all = [0; 4];
    ///         let mut parts = PartitionMut::new(&mut all, [1, 2, 1], [0, 1, 3]);
    ///         root.try_gather_varcount_into_root(&[7], &mut parts).unwrap();
    ///         assert_eq!(all, [7, 8, 8, 9]);
    ///     } else {
    ///         let mine = if world.rank() == 1 { vec![8, 8] } else { vec![9] };
    ///         root.try_gather_varcount_into(&mine[..]).unwrap();
    ///     }
    /// });
    /// ```
    #[track_caller]
    fn try_gather_varcount_into<S>(&self, sendbuf: &S) -> Result<(), Error>
    where
        S: ?Sized + Buffer,
    {
        attempt(
            shared(self),
            "gather_varcount_into",
            Some(self.root_rank()),
            |asked| {
                let root = asked.not_at_root()?;
                // SAFETY: it is borrowed until the blocking call returns.
                let send = unsafe { span::send(sendbuf) };
                asked.run(Call::GatherVar {
                    root,
                    send: &send,
                    recv: None,
                })
            },
        )
    }

    /// [`Root::gather_varcount_into_root`] with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, datatype::PartitionMut, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let mut all = [0; 4];
    /// let mut parts = PartitionMut::new(&mut all, [2, 2], [0, 2]); // of two processes
    /// let error = world.this_process().try_gather_varcount_into_root(&[7], &mut parts).unwrap_err();
    /// assert_eq!(error.class(), ErrorClass::Count);
    /// ```
    #[track_caller]
    fn try_gather_varcount_into_root<S, R>(&self, sendbuf: &S, recvbuf: &mut R) -> Result<(), Error>
    where
        S: ?Sized + Buffer,
        R: ?Sized + PartitionedBufferMut,
    {
        attempt(
            shared(self),
            "gather_varcount_into_root",
            Some(self.root_rank()),
            |asked| {
                let root = asked.at_root()?;
                // SAFETY: both are borrowed until the blocking call returns.
                let (send, recv) = unsafe {
                    let recv = recv_parts(asked.call, recvbuf, asked.size())?;
                    (span::send(sendbuf), recv)
                };
                asked.run(Call::GatherVar {
                    root,
                    send: &send,
                    recv: Some((&recv.span, &recv.parts)),
                })
            },
        )
    }

    /// [`Root::scatter_into`] with errors as values.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let root = world.process_at_rank(0);
    ///     if world.rank() == 0 {
    ///         let mut mine = 0;
    ///         root.try_scatter_into_root(&[5, 6, 7], &mut mine).unwrap();
    ///         assert_eq!(mine, 5);
    ///     } else {
    ///         let mut mine = 0;
    ///         root.try_scatter_into(&mut mine).unwrap();
    ///         assert_eq!(mine, 5 + world.rank());
    ///     }
    /// });
    /// ```
    #[track_caller]
    fn try_scatter_into<R>(&self, recvbuf: &mut R) -> Result<(), Error>
    where
        R: ?Sized + BufferMut,
    {
        attempt(
            shared(self),
            "scatter_into",
            Some(self.root_rank()),
            |asked| {
                let root = asked.not_at_root()?;
                // SAFETY: it is borrowed until the blocking call returns.
                let recv = unsafe { span::recv(recvbuf) };
                asked.run(Call::Scatter {
                    root,
                    send: None,
                    recv: &recv,
                })
            },
        )
    }

    /// [`Root::scatter_into_root`] with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let error = world.this_process().try_scatter_into_root(&[1, 2], &mut 0).unwrap_err();
    /// assert_eq!(error.class(), ErrorClass::Count);
    /// ```
    #[track_caller]
    fn try_scatter_into_root<S, R>(&self, sendbuf: &S, recvbuf: &mut R) -> Result<(), Error>
    where
        S: ?Sized + Buffer,
        R: ?Sized + BufferMut,
    {
        attempt(
            shared(self),
            "scatter_into_root",
            Some(self.root_rank()),
            |asked| {
                let root = asked.at_root()?;
                // SAFETY: both are borrowed until the blocking call returns.
                let (send, recv) =
                    unsafe { (send_even(sendbuf, asked.size()), span::recv(recvbuf)) };
                asked.run(Call::Scatter {
                    root,
                    send: Some(&send),
                    recv: &recv,
                })
            },
        )
    }

    /// [`Root::scatter_varcount_into`] with errors as values.
    ///
    /// ```
    /// use tercio::{datatype::Partition, prelude::*};
    /// tercio::testing::ranks(3, |world| {
    ///     let root = world.process_at_rank(0);
    ///     if world.rank() == 0 {
    ///         let parts = Partition::new(&[5, 6, 6, 7], [1, 2, 1], [0, 1, 3]);
    ///         root.try_scatter_varcount_into_root(&parts, &mut [0]).unwrap();
    ///     } else {
    ///         let mut mine = vec![0; if world.rank() == 1 { 2 } else { 1 }];
    ///         root.try_scatter_varcount_into(&mut mine[..]).unwrap();
    ///         assert_eq!(mine[0], 5 + world.rank());
    ///     }
    /// });
    /// ```
    #[track_caller]
    fn try_scatter_varcount_into<R>(&self, recvbuf: &mut R) -> Result<(), Error>
    where
        R: ?Sized + BufferMut,
    {
        attempt(
            shared(self),
            "scatter_varcount_into",
            Some(self.root_rank()),
            |asked| {
                let root = asked.not_at_root()?;
                // SAFETY: it is borrowed until the blocking call returns.
                let recv = unsafe { span::recv(recvbuf) };
                asked.run(Call::ScatterVar {
                    root,
                    send: None,
                    recv: &recv,
                })
            },
        )
    }

    /// [`Root::scatter_varcount_into_root`] with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, datatype::Partition, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let parts = Partition::new(&[5, 6], [1, 1], [0, 1]); // for two processes
    /// let error = world.this_process().try_scatter_varcount_into_root(&parts, &mut 0).unwrap_err();
    /// assert_eq!(error.class(), ErrorClass::Count);
    /// ```
    #[track_caller]
    fn try_scatter_varcount_into_root<S, R>(
        &self,
        sendbuf: &S,
        recvbuf: &mut R,
    ) -> Result<(), Error>
    where
        S: ?Sized + PartitionedBuffer,
        R: ?Sized + BufferMut,
    {
        attempt(
            shared(self),
            "scatter_varcount_into_root",
            Some(self.root_rank()),
            |asked| {
                let root = asked.at_root()?;
                // SAFETY: both are borrowed until the blocking call returns.
                let (send, recv) = unsafe {
                    let send = send_parts(asked.call, sendbuf, asked.size())?;
                    (send, span::recv(recvbuf))
                };
                asked.run(Call::ScatterVar {
                    root,
                    send: Some((&send.span, &send.parts)),
                    recv: &recv,
                })
            },
        )
    }

    /// [`Root::reduce_into`] with errors as values.
    ///
    /// ```
    /// use tercio::{collective::SystemOperation, prelude::*};
    /// tercio::testing::ranks(3, |world| {
    ///     let root = world.process_at_rank(0);
    ///     if world.rank() == 0 {
    ///         let mut sum = 0;
    ///         root.try_reduce_into_root(&1, &mut sum, SystemOperation::sum()).unwrap();
    ///         assert_eq!(sum, 3);
    ///     } else {
    ///         root.try_reduce_into(&1, SystemOperation::sum()).unwrap();
    ///     }
    /// });
    /// ```
    #[track_caller]
    fn try_reduce_into<S, O>(&self, sendbuf: &S, op: O) -> Result<(), Error>
    where
        S: ?Sized + Buffer,
        O: Operation,
    {
        attempt(
            shared(self),
            "reduce_into",
            Some(self.root_rank()),
            |asked| {
                let root = asked.not_at_root()?;
                // SAFETY: it is borrowed until the blocking call returns.
                let r = unsafe { contribution(asked.call, sendbuf, &op)? };
                asked.run(Call::Reduce {
                    root,
                    send: &r.send,
                    recv: None,
                    op: &r.op,
                    element: r.element,
                })
            },
        )
    }

    /// [`Root::reduce_into_root`] with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, collective::SystemOperation, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let (root, op) = (world.this_process(), SystemOperation::sum());
    /// let error = root.try_reduce_into_root(&300, &mut 0_u8, op).unwrap_err();
    /// assert_eq!(error.class(), ErrorClass::Arg); // the sum does not fit
    /// assert!(error.text().contains("gave 300 as element 0"));
    /// ```
    #[track_caller]
    fn try_reduce_into_root<S, R, O>(
        &self,
        sendbuf: &S,
        recvbuf: &mut R,
        op: O,
    ) -> Result<(), Error>
    where
        S: ?Sized + Buffer,
        R: ?Sized + BufferMut,
        O: Operation,
    {
        attempt(
            shared(self),
            "reduce_into_root",
            Some(self.root_rank()),
            |asked| {
                let root = asked.at_root()?;
                // SAFETY: both are borrowed until the blocking call returns.
                unsafe {
                    reducing(asked, (sendbuf, recvbuf), None, &op, true, |r| {
                        asked.run(Call::Reduce {
                            root,
                            send: &r.send,
                            recv: Some(&r.recv),
                            op: &r.op,
                            element: r.element,
                        })
                    })
                }
            },
        )
    }
}

impl<P: ?Sized + Root> TryRoot for P {}
