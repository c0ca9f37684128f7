//! Collectives that every process calls alike and that give values, with errors as values.
use super::call::{attempt, contribution};
use super::parts::{Packed, in_a_row, lengths, split};
use super::{Operation, ValueCollectives};
use crate::coll::Call;
use crate::datatype::room::Place;
use crate::datatype::{BufferMut, Equivalence, span};
use crate::model::{Error, ErrorClass};
use crate::topology::Rank;
use crate::topology::communicator::shared;

/// The calls of [`ValueCollectives`] that return errors: each as the one without `try_`, whose panic is an [`Error`] here.
///
/// What is wrong with this process's arguments is found before it takes part: the others wait for its call, so make it again rightly, or end.
/// Processes that call differently, or die, end the job here too.
///
/// ```
/// use tercio::{ErrorClass, prelude::*};
/// tercio::testing::ranks(2, |world| {
///     let error = world.try_gather(-1, &5).unwrap_err();
///     assert_eq!((error.class(), error.operation()), (ErrorClass::Root, Some("gather")));
/// });
/// ```
pub trait TryValueCollectives: ValueCollectives {
    /// [`ValueCollectives::broadcast`] with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// tercio::testing::ranks(3, |world| {
    ///     let error = world.try_broadcast(3, &mut 0).unwrap_err();
    ///     assert_eq!(error.class(), ErrorClass::Root);
    ///     assert!(error.text().starts_with("broadcast was asked for root 3 of a communicator of 3"));
    /// });
    /// ```
    #[track_caller]
    fn try_broadcast<Buf: ?Sized + BufferMut>(
        &self,
        root: Rank,
        buffer: &mut Buf,
    ) -> Result<(), Error> {
        attempt(shared(self), "broadcast", Some(root), |asked| {
            let root = asked.root()?;
            // SAFETY: borrowed until the blocking call returns.
            let span = unsafe { span::recv(buffer) };
            asked.run(Call::Broadcast { root, span: &span })
        })
    }

    /// [`ValueCollectives::broadcast_vec`] with errors as values.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let mut ranks = vec![world.rank(); 1 + world.rank() as usize];
    ///     world.try_broadcast_vec(2, &mut ranks).unwrap();
    ///     assert_eq!(ranks, [2, 2, 2]);
    /// });
    /// ```
    #[track_caller]
    fn try_broadcast_vec<T: Equivalence>(
        &self,
        root: Rank,
        values: &mut Vec<T>,
    ) -> Result<(), Error> {
        attempt(shared(self), "broadcast_vec", Some(root), |asked| {
            asked.broadcast_vec(values)
        })
    }

    /// [`ValueCollectives::gather`] with errors as values.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(3, |world| {
    ///     if let Some(ranks) = world.try_gather(0, &world.rank()).unwrap() {
    ///         assert_eq!(ranks, [0, 1, 2]);
    ///     }
    /// });
    /// ```
    #[track_caller]
    fn try_gather<T: Equivalence>(&self, root: Rank, value: &T) -> Result<Option<Vec<T>>, Error> {
        attempt(shared(self), "gather", Some(root), |asked| {
            let root = asked.root()?;
            // SAFETY: borrowed until the blocking call returns.
            let send = unsafe { span::send(value) };
            if asked.rank() != root {
                let recv = None;
                asked.run(Call::Gather {
                    root,
                    send: &send,
                    recv,
                })?;
                return Ok(None);
            }
            let mut room = asked.room(asked.size() as u64)?;
            // SAFETY: it is not touched until the blocking call returns, and is full then.
            unsafe {
                let recv = room.span();
                asked.run(Call::Gather {
                    root,
                    send: &send,
                    recv: Some(&recv),
                })?;
                Ok(Some(room.values()))
            }
        })
    }

    /// [`ValueCollectives::gather_slices`] with errors as values.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(2, |world| {
    ///     if let Some(words) = world.try_gather_slices(0, ["a", "few"][world.rank() as usize].as_bytes()).unwrap() {
    ///         assert_eq!(words.concat(), b"afew");
    ///     }
    /// });
    /// ```
    #[track_caller]
    fn try_gather_slices<T: Equivalence>(
        &self,
        root: Rank,
        values: &[T],
    ) -> Result<Option<Vec<Vec<T>>>, Error> {
        attempt(shared(self), "gather_slices", Some(root), |asked| {
            asked.gather_slices(values)
        })
    }

    /// [`ValueCollectives::all_gather`] with errors as values.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(3, |world| {
    ///     assert_eq!(world.try_all_gather(&true).unwrap(), [true; 3]);
    /// });
    /// ```
    #[track_caller]
    fn try_all_gather<T: Equivalence>(&self, value: &T) -> Result<Vec<T>, Error> {
        attempt(shared(self), "all_gather", None, |asked| {
            let mut room = asked.room(asked.size() as u64)?;
            // SAFETY: borrowed, or not touched, until the blocking call returns; then it is full.
            unsafe {
                asked.run(Call::AllGather {
                    send: &span::send(value),
                    recv: &room.span(),
                })?;
                Ok(room.values())
            }
        })
    }

    /// [`ValueCollectives::all_gather_slices`] with errors as values.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(2, |world| {
    ///     let all = world.try_all_gather_slices(&[1.5, 2.5][..1 + world.rank() as usize]).unwrap();
    ///     assert_eq!(all, [vec![1.5], vec![1.5, 2.5]]);
    /// });
    /// ```
    #[track_caller]
    fn try_all_gather_slices<T: Equivalence>(&self, values: &[T]) -> Result<Vec<Vec<T>>, Error> {
        attempt(shared(self), "all_gather_slices", None, |asked| {
            asked.all_gather_slices(values)
        })
    }

    /// [`ValueCollectives::scatter`] with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let error = world.try_scatter(0, Some(&[1, 2])).unwrap_err();
    /// assert_eq!(error.class(), ErrorClass::Count);
    /// assert!(error.text().starts_with("scatter was given 2 values at its root, for 1 ranks"));
    /// ```
    #[track_caller]
    fn try_scatter<T: Equivalence>(&self, root: Rank, values: Option<&[T]>) -> Result<T, Error> {
        attempt(shared(self), "scatter", Some(root), |asked| {
            let root = asked.root()?;
            let values = asked.at_root_only(root, values, <[T]>::len)?;
            let mut place = Place::new();
            // SAFETY: borrowed, or not touched, until the blocking call returns; then it is full.
            unsafe {
                let send = values.map(|values| span::send(values));
                asked.run(Call::Scatter {
                    root,
                    send: send.as_ref(),
                    recv: &place.span(),
                })?;
                Ok(place.value())
            }
        })
    }

    /// [`ValueCollectives::scatter_slices`] with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let error = universe.world().try_scatter_slices::<i32>(0, None).unwrap_err();
    /// assert_eq!(error.class(), ErrorClass::Arg);
    /// assert!(error.text().starts_with("scatter_slices was given no values at its root, rank 0"));
    /// ```
    #[track_caller]
    fn try_scatter_slices<T: Equivalence>(
        &self,
        root: Rank,
        values: Option<&[Vec<T>]>,
    ) -> Result<Vec<T>, Error> {
        attempt(shared(self), "scatter_slices", Some(root), |asked| {
            asked.scatter_slices(values)
        })
    }

    /// [`ValueCollectives::all_to_all`] with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// tercio::testing::ranks(3, |world| {
    ///     let error = world.try_all_to_all(&[1, 2]).unwrap_err(); // two for three
    ///     assert_eq!(error.class(), ErrorClass::Count);
    /// });
    /// ```
    #[track_caller]
    fn try_all_to_all<T: Equivalence>(&self, values: &[T]) -> Result<Vec<T>, Error> {
        attempt(shared(self), "all_to_all", None, |asked| {
            let (len, ranks) = (values.len(), asked.size());
            if len % ranks != 0 {
                let text = format!(
                    "{} was given {len} values for {ranks} ranks; give as many for each",
                    asked.call
                );
                return Err(Error::new(ErrorClass::Count, text));
            }
            let mut room = asked.room(len as u64)?;
            // SAFETY: borrowed, or not touched, until the blocking call returns; then it is full.
            unsafe {
                asked.run(Call::AllToAll {
                    send: &span::send(values),
                    recv: &room.span(),
                })?;
                Ok(room.values())
            }
        })
    }

    /// [`ValueCollectives::all_to_all_slices`] with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// tercio::testing::ranks(3, |world| {
    ///     let error = world.try_all_to_all_slices(&[vec![1], vec![2]]).unwrap_err();
    ///     assert_eq!(error.class(), ErrorClass::Count);
    /// });
    /// ```
    #[track_caller]
    fn try_all_to_all_slices<T: Equivalence>(
        &self,
        values: &[Vec<T>],
    ) -> Result<Vec<Vec<T>>, Error> {
        attempt(shared(self), "all_to_all_slices", None, |asked| {
            if values.len() != asked.size() {
                return Err(asked.not_one_for_each(values.len(), ""));
            }
            let (lens, mut their_lens) = (lengths(values), vec![0_u64; asked.size()]);
            // SAFETY: both are borrowed until the blocking call returns.
            unsafe {
                asked.run(Call::AllToAll {
                    send: &span::send(&lens),
                    recv: &span::recv(&mut their_lens),
                })?;
            }
            let all = Packed::of(values);
            let (parts, total) = in_a_row(&their_lens, all.size);
            let mut room = asked.room(total)?;
            // SAFETY: it is not touched until the blocking call returns, and is full then.
            let flat = unsafe {
                if all.size > 0 {
                    asked.run(Call::AllToAllVar {
                        send: &all.send(),
                        send_parts: &all.parts,
                        recv: &room.span(),
                        recv_parts: &parts,
                    })?;
                }
                room.values()
            };
            Ok(split(flat, &their_lens))
        })
    }

    /// [`ValueCollectives::reduce`] with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, collective::SystemOperation, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let error = universe.world().try_reduce(0, 1.5, SystemOperation::bitwise_and()).unwrap_err();
    /// assert_eq!(error.class(), ErrorClass::Op);
    /// ```
    #[track_caller]
    fn try_reduce<T: Equivalence, O: Operation>(
        &self,
        root: Rank,
        value: T,
        op: O,
    ) -> Result<Option<T>, Error> {
        attempt(shared(self), "reduce", Some(root), |asked| {
            let root = asked.root()?;
            let mut place = Place::new();
            // SAFETY: borrowed, or not touched, until the blocking call returns; then it is full at the root.
            unsafe {
                let r = contribution(asked.call, &value, &op)?;
                let recv = place.span();
                asked.run(Call::Reduce {
                    root,
                    send: &r.send,
                    recv: (asked.rank() == root).then_some(&recv),
                    op: &r.op,
                    element: r.element,
                })?;
                Ok((asked.rank() == root).then(|| place.value()))
            }
        })
    }

    /// [`ValueCollectives::reduce_slice`] with errors as values.
    ///
    /// ```
    /// use tercio::{collective::SystemOperation, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let sums = universe.world().try_reduce_slice(0, &[1, 2], SystemOperation::sum());
    /// assert_eq!(sums.unwrap().unwrap(), [1, 2]);
    /// ```
    #[track_caller]
    fn try_reduce_slice<T: Equivalence, O: Operation>(
        &self,
        root: Rank,
        values: &[T],
        op: O,
    ) -> Result<Option<Vec<T>>, Error> {
        attempt(shared(self), "reduce_slice", Some(root), |asked| {
            let root = asked.root()?;
            // SAFETY: borrowed until the blocking call returns.
            let r = unsafe { contribution(asked.call, values, &op)? };
            let at_root = asked.rank() == root;
            let mut room = asked.room(if at_root { values.len() as u64 } else { 0 })?;
            // SAFETY: it is not touched until the blocking call returns, and is full then.
            unsafe {
                let recv = room.span();
                asked.run(Call::Reduce {
                    root,
                    send: &r.send,
                    recv: at_root.then_some(&recv),
                    op: &r.op,
                    element: r.element,
                })?;
                Ok(at_root.then(|| room.values()))
            }
        })
    }

    /// [`ValueCollectives::all_reduce`] with errors as values.
    ///
    /// ```
    /// use tercio::{collective::SystemOperation, prelude::*};
    /// tercio::testing::ranks(3, |world| {
    ///     let largest = world.try_all_reduce(f64::from(world.rank()), SystemOperation::max());
    ///     assert_eq!(largest.unwrap(), 2.0);
    /// });
    /// ```
    #[track_caller]
    fn try_all_reduce<T: Equivalence, O: Operation>(&self, value: T, op: O) -> Result<T, Error> {
        attempt(shared(self), "all_reduce", None, |asked| {
            let mut place = Place::new();
            // SAFETY: borrowed, or not touched, until the blocking call returns; then it is full.
            unsafe {
                let r = contribution(asked.call, &value, &op)?;
                asked.run(Call::AllReduce {
                    send: &r.send,
                    recv: &place.span(),
                    op: &r.op,
                    element: r.element,
                })?;
                Ok(place.value())
            }
        })
    }

    /// [`ValueCollectives::all_reduce_slice`] with errors as values.
    ///
    /// ```
    /// use tercio::{collective::SystemOperation, prelude::*};
    /// tercio::testing::ranks(2, |world| {
    ///     let all = world.try_all_reduce_slice(&[true, world.rank() == 0], SystemOperation::logical_and());
    ///     assert_eq!(all.unwrap(), [true, false]);
    /// });
    /// ```
    #[track_caller]
    fn try_all_reduce_slice<T: Equivalence, O: Operation>(
        &self,
        values: &[T],
        op: O,
    ) -> Result<Vec<T>, Error> {
        attempt(shared(self), "all_reduce_slice", None, |asked| {
            // SAFETY: borrowed until the blocking call returns.
            let r = unsafe { contribution(asked.call, values, &op)? };
            let mut room = asked.room(values.len() as u64)?;
            // SAFETY: it is not touched until the blocking call returns, and is full then.
            unsafe {
                asked.run(Call::AllReduce {
                    send: &r.send,
                    recv: &room.span(),
                    op: &r.op,
                    element: r.element,
                })?;
                Ok(room.values())
            }
        })
    }

    /// [`ValueCollectives::scan`] with errors as values.
    ///
    /// ```
    /// use tercio::{collective::SystemOperation, prelude::*};
    /// tercio::testing::ranks(3, |world| {
    ///     let count = world.try_scan(1, SystemOperation::sum());
    ///     assert_eq!(count.unwrap(), world.rank() + 1);
    /// });
    /// ```
    #[track_caller]
    fn try_scan<T: Equivalence, O: Operation>(&self, value: T, op: O) -> Result<T, Error> {
        attempt(shared(self), "scan", None, |asked| {
            let mut place = Place::new();
            // SAFETY: borrowed, or not touched, until the blocking call returns; then it is full.
            unsafe {
                let r = contribution(asked.call, &value, &op)?;
                asked.run(Call::Scan {
                    send: &r.send,
                    recv: &place.span(),
                    op: &r.op,
                    element: r.element,
                })?;
                Ok(place.value())
            }
        })
    }

    /// [`ValueCollectives::exclusive_scan`] with errors as values.
    ///
    /// ```
    /// use tercio::{collective::SystemOperation, prelude::*};
    /// tercio::testing::ranks(3, |world| {
    ///     let before = world.try_exclusive_scan(1, SystemOperation::sum());
    ///     assert_eq!(before.unwrap(), (world.rank() > 0).then_some(world.rank()));
    /// });
    /// ```
    #[track_caller]
    fn try_exclusive_scan<T: Equivalence, O: Operation>(
        &self,
        value: T,
        op: O,
    ) -> Result<Option<T>, Error> {
        attempt(shared(self), "exclusive_scan", None, |asked| {
            let mut place = Place::new();
            // SAFETY: borrowed, or not touched, until the blocking call returns; then it is full but at the first rank.
            unsafe {
                let r = contribution(asked.call, &value, &op)?;
                asked.run(Call::ExclusiveScan {
                    send: &r.send,
                    recv: &place.span(),
                    op: &r.op,
                    element: r.element,
                })?;
                Ok((asked.rank() > 0).then(|| place.value()))
            }
        })
    }
}

impl<C: ?Sized + ValueCollectives> TryValueCollectives for C {}
