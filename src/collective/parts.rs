//! Slices of differing lengths, one for each rank, and the one buffer that they travel in.
use super::call::Asked;
use crate::coll::Part;
use crate::datatype::Equivalence;
use crate::datatype::room::Room;
use crate::datatype::span::{self, Kind};
use crate::engine::SendSpan;
use crate::model::{Error, ErrorClass};

/// The parts of a buffer in which slices of `lens` elements of `size` packed bytes lie one after the other, and the elements of all.
pub(super) fn in_a_row(lens: &[u64], size: usize) -> (Vec<Part>, u64) {
    let mut elements = 0_u64;
    let parts = lens.iter().map(|&len| {
        let at = elements as usize * size;
        elements += len;
        let bytes = len as usize * size;
        Part { at, bytes }
    });
    (parts.collect(), elements)
}

/// How long each is.
pub(super) fn lengths<T>(values: &[Vec<T>]) -> Vec<u64> {
    values.iter().map(|values| values.len() as u64).collect()
}

/// The slices of `lens` elements that lie in `flat` one after the other.
pub(super) fn split<T>(flat: Vec<T>, lens: &[u64]) -> Vec<Vec<T>> {
    let mut flat = flat.into_iter();
    let part = |&len: &u64| flat.by_ref().take(len as usize).collect();
    lens.iter().map(part).collect()
}

/// Slices, packed one after the other.
pub(super) struct Packed {
    kind: Kind,
    bytes: Vec<u8>,
    pub(super) parts: Vec<Part>,
    /// Packed bytes of an element.
    pub(super) size: usize,
}

impl Packed {
    #[track_caller]
    pub(super) fn of<T: Equivalence>(values: &[Vec<T>]) -> Packed {
        let kind = Kind::of(&T::equivalent_datatype(), Some(size_of::<T>()));
        let size = kind.size();
        let (parts, elements) = in_a_row(&lengths(values), size);
        let mut bytes = vec![0; elements as usize * size];
        for (values, part) in values.iter().zip(&parts) {
            // SAFETY: borrowed until it is packed.
            let span = unsafe { span::send(values) };
            span.pack_at(0, &mut bytes[part.at..part.at + part.bytes]);
        }
        Packed {
            kind,
            bytes,
            parts,
            size,
        }
    }

    /// All of them.
    ///
    /// # Safety
    /// They are not touched until the transfer that takes the span is complete.
    pub(super) unsafe fn send(&self) -> SendSpan {
        // SAFETY: by the contract of this function.
        unsafe { SendSpan::contiguous(self.bytes.as_ptr(), self.bytes.len(), self.kind.code()) }
    }
}

impl Asked<'_> {
    /// Room for `count` elements of a call that others have begun: without it the job cannot go on.
    #[track_caller]
    pub(super) fn room<T: Equivalence>(&self, count: u64) -> Result<Room<T>, Error> {
        let room = usize::try_from(count).ok().and_then(Room::new);
        room.ok_or_else(|| {
            let text = format!(
                "{} has {count} elements of {} bytes to receive, for which there is no memory; receive them in parts",
                self.call,
                size_of::<T>()
            );
            Error::new(ErrorClass::Memory, text)
        })
    }

    /// What the root is to give, of which there must be one for each process; `None` elsewhere.
    pub(super) fn at_root_only<'v, V: ?Sized>(
        &self,
        root: usize,
        values: Option<&'v V>,
        len: fn(&V) -> usize,
    ) -> Result<Option<&'v V>, Error> {
        if self.rank() != root {
            return Ok(None);
        }
        match values {
            Some(values) if len(values) == self.size() => Ok(Some(values)),
            Some(values) => Err(self.not_one_for_each(len(values), " at its root")),
            None => Err(Error::new(
                ErrorClass::Arg,
                format!(
                    "{} was given no values at its root, rank {root}; the root gives Some, one for each rank",
                    self.call
                ),
            )),
        }
    }

    /// The error of `given` values, of which there should be one for each process.
    #[cold]
    pub(super) fn not_one_for_each(&self, given: usize, place: &str) -> Error {
        let (call, ranks) = (self.call, self.size());
        let text =
            format!("{call} was given {given} values{place}, for {ranks} ranks; give one for each");
        Error::new(ErrorClass::Count, text)
    }
}
