//! What is known of a message.
use crate::datatype::span::Kind;
use crate::datatype::{Datatype, Equivalence};
use crate::ffi::MPI_Status;
use crate::model::{Error, ErrorClass};
use crate::topology::Rank;
use crate::{Count, Tag, model};
use core::fmt;

/// What is known of a message that was received or probed.
///
/// ```
/// use tercio::traits::*;
/// let universe = tercio::initialize().unwrap();
/// let me = universe.world();
/// let me = me.this_process();
/// me.send_with_tag(&[1u16, 2, 3], 5);
/// let status = me.probe();
/// assert_eq!((status.source_rank(), status.tag(), status.count(u16::equivalent_datatype())), (0, 5, 3));
/// # me.receive_vec::<u16>();
/// ```
#[derive(Copy, Clone)]
pub struct Status {
    source: Rank,
    tag: Tag,
    bytes: u64,
    cancelled: bool,
}

/// `MPI_ANY_SOURCE`, `MPI_ANY_TAG` and `MPI_UNDEFINED` of the MPI 5 ABI.
const ANY_SOURCE: Rank = -1;
const ANY_TAG: Tag = -2;
const UNDEFINED: Count = -32766;

impl Status {
    #[inline]
    pub(crate) fn new(status: model::Status) -> Status {
        Status {
            source: status.source.map_or(ANY_SOURCE, |rank| rank as Rank),
            tag: status.tag.unwrap_or(ANY_TAG),
            bytes: status.bytes,
            cancelled: status.cancelled,
        }
    }

    /// The status that a raw one says.
    ///
    /// ```
    /// use tercio::{ffi::MPI_Status, point_to_point::Status};
    /// let mut raw = MPI_Status::default();
    /// (raw.MPI_SOURCE, raw.MPI_TAG) = (3, 7);
    /// assert_eq!(Status::from_raw(raw).source_rank(), 3);
    /// ```
    pub fn from_raw(status: MPI_Status) -> Status {
        Status {
            source: status.MPI_SOURCE,
            tag: status.MPI_TAG,
            bytes: status.bytes(),
            cancelled: status.is_cancelled(),
        }
    }

    /// The sender's rank. For operations that receive nothing it is negative.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send(&1);
    /// assert_eq!(world.any_process().receive::<i32>().1.source_rank(), 0);
    /// ```
    pub fn source_rank(&self) -> Rank {
        self.source
    }

    /// The message's tag. For operations that receive nothing it is negative.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send_with_tag(&1, 9);
    /// assert_eq!(world.any_process().receive::<i32>().1.tag(), 9);
    /// ```
    pub fn tag(&self) -> Tag {
        self.tag
    }

    /// How many elements of `datatype` the message has; negative (`MPI_UNDEFINED`) if it is no whole number of them.
    ///
    /// Corresponds to `MPI_Get_count`. Panics if there are more than a `Count` can say, `i32::MAX`: [`elements`](Self::elements) says it then.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send(&[1u8; 6]);
    /// let (_, status) = world.any_process().receive_vec::<u8>();
    /// assert_eq!(status.count(u8::equivalent_datatype()), 6);
    /// assert!(status.count(u32::equivalent_datatype()) < 0);
    /// ```
    #[track_caller]
    pub fn count<D: Datatype>(&self, datatype: D) -> Count {
        match self.whole(Kind::of(&datatype, None).size()) {
            Some(elements) => Count::try_from(elements).unwrap_or_else(|_| {
                panic!(
                    "the message has {elements} elements, more than the {} that a Count can say; ask for elements::<T>()",
                    Count::MAX
                )
            }),
            None => UNDEFINED,
        }
    }

    /// How many `T`s the message has, however many; `None` if it is no whole number of them.
    ///
    /// Corresponds to `MPI_Get_count_c`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send(&[1u8; 6]);
    /// let (_, status) = world.any_process().receive_vec::<u8>();
    /// assert_eq!((status.elements::<u16>(), status.elements::<u32>()), (Some(3), None));
    /// ```
    pub fn elements<T: Equivalence>(&self) -> Option<usize> {
        let size = Kind::of(&T::equivalent_datatype(), Some(size_of::<T>())).size();
        usize::try_from(self.whole(size)?).ok()
    }

    /// How many elements of `size` packed bytes the message is.
    fn whole(&self, size: usize) -> Option<u64> {
        match size as u64 {
            0 => (self.bytes == 0).then_some(0),
            size => (self.bytes % size == 0).then_some(self.bytes / size),
        }
    }

    /// Whether the receive was taken back before a message came.
    ///
    /// Corresponds to `MPI_Test_cancelled`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// world.this_process().send(&1);
    /// assert!(!world.any_process().receive::<i32>().1.is_cancelled());
    /// ```
    pub fn is_cancelled(&self) -> bool {
        self.cancelled
    }

    /// An error about the message's length.
    #[cold]
    pub(super) fn error(&self, text: String) -> Error {
        let bytes = usize::try_from(self.bytes).ok();
        Error::new(ErrorClass::Count, text).about(Some(self.source), Some(self.tag), bytes)
    }

    /// Packed bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Status")
            .field("source_rank", &self.source)
            .field("tag", &self.tag)
            .finish()
    }
}
