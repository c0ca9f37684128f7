//! Messages in a byte vector: the packed typemap itself.
use super::{Buffer, BufferMut, span};
use crate::Count;

/// The bytes of `count` packed elements of size `size`, as a count.
#[track_caller]
pub(crate) fn size(count: Count, size: usize) -> Count {
    let bytes = usize::try_from(count)
        .ok()
        .and_then(|count| count.checked_mul(size))
        .and_then(|bytes| Count::try_from(bytes).ok());
    match bytes {
        Some(bytes) => bytes,
        None => panic!(
            "{count} elements of {size} packed bytes are not a size that a Count can say; pack fewer elements"
        ),
    }
}

/// Packs all of `from`.
#[track_caller]
pub(crate) fn pack<B: ?Sized + Buffer>(from: &B) -> Vec<u8> {
    // SAFETY: `from` is borrowed for the whole call.
    unsafe { span::send(from) }.to_packed()
}

/// Packs all of `from` to byte `position` of `to`; where the next may go.
#[track_caller]
pub(crate) fn pack_into<B: ?Sized + Buffer>(from: &B, to: &mut [u8], position: Count) -> Count {
    // SAFETY: `from` is borrowed for the whole call.
    let from = unsafe { span::send(from) };
    let room = to.len();
    let part = usize::try_from(position)
        .ok()
        .and_then(|at| to.get_mut(at..)?.get_mut(..from.len()));
    let Some(part) = part else {
        panic!(
            "pack_into was asked for {} bytes at position {position} of a buffer of {room}; give it more room",
            from.len()
        )
    };
    // SAFETY: `part` has as many bytes as the span; a mutable and a shared borrow do not overlap.
    unsafe { from.pack(0, part.len(), part.as_mut_ptr()) };
    size(1, position as usize + part.len())
}

/// Fills all of `to` from byte `position` of `from`; where the next begins.
#[track_caller]
pub(crate) fn unpack_into<B: ?Sized + BufferMut>(
    from: &[u8],
    to: &mut B,
    position: Count,
) -> Count {
    // SAFETY: `to` is mutably borrowed for the whole call.
    let to = unsafe { span::recv(to) };
    let part = usize::try_from(position)
        .ok()
        .and_then(|at| from.get(at..)?.get(..to.len()));
    let Some(part) = part else {
        panic!(
            "unpack_into was asked for {} bytes from position {position} of {} packed bytes; unpack what was packed",
            to.len(),
            from.len()
        )
    };
    to.fill_at(0, part);
    let invalid = to.has_bools().then(|| to.invalid_bool(part.len()));
    if let Some(Some(value)) = invalid {
        panic!(
            "unpack_into was asked for a bool where the packed byte is {value}; unpack what was packed"
        );
    }
    size(1, position as usize + part.len())
}
