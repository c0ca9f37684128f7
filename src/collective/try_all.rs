//! Collectives without a root, with errors as values.
use super::call::{attempt, recv_even, recv_parts, reducing, send_even, send_parts};
use super::{CommunicatorCollectives, Operation};
use crate::coll::Call;
use crate::datatype::{Buffer, BufferMut, PartitionedBuffer, PartitionedBufferMut, span};
use crate::model::Error;
use crate::topology::communicator::shared;

/// The blocking calls of [`CommunicatorCollectives`] that return errors: each as the one without `try_`, whose panic is an [`Error`] here.
///
/// What is wrong with this process's arguments is found before it takes part: the others wait for its call, so make it again rightly, or end.
/// Processes that call differently, or die, end the job here too.
///
/// ```
/// use tercio::{ErrorClass, collective::SystemOperation, prelude::*};
/// tercio::testing::ranks(3, |world| {
///     let (mine, op) = ([world.rank(), 1], SystemOperation::sum());
///     let error = world.try_all_reduce_into(&mine, &mut [0], op).unwrap_err();
///     assert_eq!(error.class(), ErrorClass::Count);
///     assert!(error.text().contains("2 elements into a buffer of 1"));
///     // Nobody has done anything yet.
///     let mut sums = [0; 2];
///     world.try_all_reduce_into(&mine, &mut sums, op).unwrap();
///     assert_eq!(sums, [3, 3]);
/// });
/// ```
pub trait TryCollectives: CommunicatorCollectives {
    /// [`CommunicatorCollectives::barrier`] with errors as values.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(3, |world| world.try_barrier().unwrap());
    /// ```
    #[track_caller]
    fn try_barrier(&self) -> Result<(), Error> {
        attempt(shared(self), "barrier", None, |asked| {
            asked.run(Call::Barrier)
        })
    }

    /// [`CommunicatorCollectives::all_gather_into`] with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// tercio::testing::ranks(3, |world| {
    ///     let mut all = vec![0; 2]; // too short for three
    ///     let error = world.try_all_gather_into(&world.rank(), &mut all[..]).unwrap_err();
    ///     assert_eq!(error.class(), ErrorClass::Count);
    /// });
    /// ```
    #[track_caller]
    fn try_all_gather_into<S, R>(&self, sendbuf: &S, recvbuf: &mut R) -> Result<(), Error>
    where
        S: ?Sized + Buffer,
        R: ?Sized + BufferMut,
    {
        attempt(shared(self), "all_gather_into", None, |asked| {
            // SAFETY: both are borrowed until the blocking call returns.
            let (send, recv) = unsafe { (span::send(sendbuf), recv_even(recvbuf, asked.size())) };
            asked.run(Call::AllGather {
                send: &send,
                recv: &recv,
            })
        })
    }

    /// [`CommunicatorCollectives::all_gather_varcount_into`] with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, datatype::PartitionMut, prelude::*};
    /// tercio::testing::ranks(3, |world| {
    ///     let mut all = [0; 3];
    ///     let mut parts = PartitionMut::new(&mut all, [1, 2], [0, 1]); // of two processes
    ///     let error = world.try_all_gather_varcount_into(&[1], &mut parts).unwrap_err();
    ///     assert_eq!(error.class(), ErrorClass::Count);
    /// });
    /// ```
    #[track_caller]
    fn try_all_gather_varcount_into<S, R>(&self, sendbuf: &S, recvbuf: &mut R) -> Result<(), Error>
    where
        S: ?Sized + Buffer,
        R: ?Sized + PartitionedBufferMut,
    {
        attempt(shared(self), "all_gather_varcount_into", None, |asked| {
            // SAFETY: both are borrowed until the blocking call returns.
            let (send, recv) = unsafe {
                let recv = recv_parts(asked.call, recvbuf, asked.size())?;
                (span::send(sendbuf), recv)
            };
            asked.run(Call::AllGatherVar {
                send: &send,
                recv: &recv.span,
                parts: &recv.parts,
            })
        })
    }

    /// [`CommunicatorCollectives::all_to_all_into`] with errors as values.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let mut theirs = [0; 3];
    ///     world.try_all_to_all_into(&[world.rank(); 3], &mut theirs).unwrap();
    ///     assert_eq!(theirs, [0, 1, 2]);
    /// });
    /// ```
    #[track_caller]
    fn try_all_to_all_into<S, R>(&self, sendbuf: &S, recvbuf: &mut R) -> Result<(), Error>
    where
        S: ?Sized + Buffer,
        R: ?Sized + BufferMut,
    {
        attempt(shared(self), "all_to_all_into", None, |asked| {
            let size = asked.size();
            // SAFETY: both are borrowed until the blocking call returns.
            let (send, recv) = unsafe { (send_even(sendbuf, size), recv_even(recvbuf, size)) };
            asked.run(Call::AllToAll {
                send: &send,
                recv: &recv,
            })
        })
    }

    /// [`CommunicatorCollectives::all_to_all_varcount_into`] with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, datatype::{Partition, PartitionMut}, prelude::*};
    /// tercio::testing::ranks(2, |world| {
    ///     let (mine, mut theirs) = ([1, 2], [0; 2]);
    ///     let send = Partition::new(&mine, [1, 1], [0, 1]);
    ///     let mut receive = PartitionMut::new(&mut theirs, [2], [0]); // of one process
    ///     let error = world.try_all_to_all_varcount_into(&send, &mut receive).unwrap_err();
    ///     assert_eq!(error.class(), ErrorClass::Count);
    /// });
    /// ```
    #[track_caller]
    fn try_all_to_all_varcount_into<S, R>(&self, sendbuf: &S, recvbuf: &mut R) -> Result<(), Error>
    where
        S: ?Sized + PartitionedBuffer,
        R: ?Sized + PartitionedBufferMut,
    {
        attempt(shared(self), "all_to_all_varcount_into", None, |asked| {
            // SAFETY: both are borrowed until the blocking call returns.
            let (send, recv) = unsafe {
                (
                    send_parts(asked.call, sendbuf, asked.size())?,
                    recv_parts(asked.call, recvbuf, asked.size())?,
                )
            };
            asked.run(Call::AllToAllVar {
                send: &send.span,
                send_parts: &send.parts,
                recv: &recv.span,
                recv_parts: &recv.parts,
            })
        })
    }

    /// [`CommunicatorCollectives::all_reduce_into`] with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, collective::SystemOperation, prelude::*};
    /// tercio::testing::ranks(3, |world| {
    ///     let op = SystemOperation::bitwise_or(); // not of floats
    ///     let error = world.try_all_reduce_into(&1.5, &mut 0.0, op).unwrap_err();
    ///     assert_eq!(error.class(), ErrorClass::Op);
    /// });
    /// ```
    #[track_caller]
    fn try_all_reduce_into<S, R, O>(&self, sendbuf: &S, recvbuf: &mut R, op: O) -> Result<(), Error>
    where
        S: ?Sized + Buffer,
        R: ?Sized + BufferMut,
        O: Operation,
    {
        attempt(shared(self), "all_reduce_into", None, |asked| {
            // SAFETY: both are borrowed until the blocking call returns.
            unsafe {
                reducing(asked, (sendbuf, recvbuf), None, &op, true, |r| {
                    asked.run(Call::AllReduce {
                        send: &r.send,
                        recv: &r.recv,
                        op: &r.op,
                        element: r.element,
                    })
                })
            }
        })
    }

    /// [`CommunicatorCollectives::reduce_scatter_block_into`] with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, collective::SystemOperation, prelude::*};
    /// tercio::testing::ranks(3, |world| {
    ///     let op = SystemOperation::sum();
    ///     let error = world.try_reduce_scatter_block_into(&[1, 2], &mut 0, op).unwrap_err();
    ///     assert_eq!(error.class(), ErrorClass::Count); // three are wanted
    /// });
    /// ```
    #[track_caller]
    fn try_reduce_scatter_block_into<S, R, O>(
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
        attempt(shared(self), "reduce_scatter_block_into", None, |asked| {
            let ranks = Some(asked.size());
            // SAFETY: both are borrowed until the blocking call returns.
            unsafe {
                reducing(asked, (sendbuf, recvbuf), ranks, &op, true, |r| {
                    asked.run(Call::ReduceScatterBlock {
                        send: &r.send,
                        recv: &r.recv,
                        op: &r.op,
                        element: r.element,
                    })
                })
            }
        })
    }

    /// [`CommunicatorCollectives::scan_into`] with errors as values.
    ///
    /// ```
    /// use tercio::{collective::SystemOperation, prelude::*};
    /// tercio::testing::ranks(3, |world| {
    ///     let mut sum = 0;
    ///     world.try_scan_into(&1, &mut sum, SystemOperation::sum()).unwrap();
    ///     assert_eq!(sum, world.rank() + 1);
    /// });
    /// ```
    #[track_caller]
    fn try_scan_into<S, R, O>(&self, sendbuf: &S, recvbuf: &mut R, op: O) -> Result<(), Error>
    where
        S: ?Sized + Buffer,
        R: ?Sized + BufferMut,
        O: Operation,
    {
        attempt(shared(self), "scan_into", None, |asked| {
            // SAFETY: both are borrowed until the blocking call returns.
            unsafe {
                reducing(asked, (sendbuf, recvbuf), None, &op, true, |r| {
                    asked.run(Call::Scan {
                        send: &r.send,
                        recv: &r.recv,
                        op: &r.op,
                        element: r.element,
                    })
                })
            }
        })
    }

    /// [`CommunicatorCollectives::exclusive_scan_into`] with errors as values.
    ///
    /// ```
    /// use tercio::{collective::SystemOperation, prelude::*};
    /// tercio::testing::ranks(3, |world| {
    ///     let mut sum = 0; // stays so at rank 0
    ///     world.try_exclusive_scan_into(&1, &mut sum, SystemOperation::sum()).unwrap();
    ///     assert_eq!(sum, world.rank());
    /// });
    /// ```
    #[track_caller]
    fn try_exclusive_scan_into<S, R, O>(
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
        attempt(shared(self), "exclusive_scan_into", None, |asked| {
            // At the first rank there is no result.
            let has_result = asked.rank() != 0;
            // SAFETY: both are borrowed until the blocking call returns.
            unsafe {
                reducing(asked, (sendbuf, recvbuf), None, &op, has_result, |r| {
                    asked.run(Call::ExclusiveScan {
                        send: &r.send,
                        recv: &r.recv,
                        op: &r.op,
                        element: r.element,
                    })
                })
            }
        })
    }
}

impl<C: ?Sized + CommunicatorCollectives> TryCollectives for C {}
