//! How the layouts of user datatypes are made from others: MPI's type constructors, as pure functions.
use crate::model::{Basic, Layout};

/// One or more elements of an old type, one after the other.
pub(super) struct Part<'a> {
    /// Bytes from the new element's address to the first old element.
    pub(super) at: isize,
    /// How many old elements.
    pub(super) len: usize,
    pub(super) old: &'a Layout,
}

/// The layout whose typemap is that of `parts` one after the other. The lower and the upper bound are the least and the greatest of the
/// parts' bounds; with `padded` (structures), the extent is rounded up to the strictest alignment of the items, as a compiler would.
///
/// `None` if an address computation overflows.
pub(super) fn layout(parts: &[Part<'_>], padded: bool) -> Option<Layout> {
    let mut items: Vec<(isize, Basic)> = Vec::new();
    let mut bounds: Option<(isize, isize)> = None;
    for part in parts {
        let old = part.old;
        items
            .try_reserve(old.items().len().checked_mul(part.len)?)
            .ok()?;
        for i in 0..part.len {
            let at = part
                .at
                .checked_add(isize::try_from(i).ok()?.checked_mul(old.extent())?)?;
            for &(disp, basic) in old.items() {
                items.push((at.checked_add(disp)?, basic));
            }
            let low = at.checked_add(old.lower_bound())?;
            let high = low.checked_add(old.extent())?;
            let (l, h) = bounds.unwrap_or((low, high));
            bounds = Some((l.min(low), h.max(high)));
        }
    }
    let (low, high) = bounds.unwrap_or((0, 0));
    let mut extent = high.checked_sub(low)?;
    if padded {
        let alignment = items.iter().map(|i| i.1.size()).max().unwrap_or(1);
        extent = isize::try_from(
            usize::try_from(extent)
                .ok()?
                .checked_next_multiple_of(alignment)?,
        )
        .ok()?;
    }
    Some(Layout::new(items, low, extent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_leaves_gaps_and_ends_with_its_last_block() {
        let int = Layout::basic(Basic::I32);
        let parts = [
            Part {
                at: 0,
                len: 2,
                old: &int,
            },
            Part {
                at: 12,
                len: 2,
                old: &int,
            },
        ];
        let vector = layout(&parts, false).unwrap();
        assert_eq!(
            (vector.extent(), vector.size(), vector.blocks().len()),
            (20, 16, 2)
        );
    }

    #[test]
    fn a_structure_is_padded_to_its_alignment() {
        let (double, byte) = (Layout::basic(Basic::F64), Layout::basic(Basic::U8));
        let parts = [
            Part {
                at: 0,
                len: 1,
                old: &double,
            },
            Part {
                at: 8,
                len: 1,
                old: &byte,
            },
        ];
        assert_eq!(layout(&parts, true).unwrap().extent(), 16);
        assert_eq!(layout(&parts, false).unwrap().extent(), 9);
    }

    #[test]
    fn negative_displacements_move_the_lower_bound() {
        let int = Layout::basic(Basic::I32);
        let parts = [
            Part {
                at: 0,
                len: 1,
                old: &int,
            },
            Part {
                at: -8,
                len: 1,
                old: &int,
            },
        ];
        let layout = layout(&parts, false).unwrap();
        assert_eq!((layout.lower_bound(), layout.extent()), (-8, 12));
    }

    #[test]
    fn nothing_has_no_extent_and_overflow_is_seen() {
        let int = Layout::basic(Basic::I32);
        assert_eq!(layout(&[], true).unwrap().extent(), 0);
        assert!(
            layout(
                &[Part {
                    at: isize::MAX - 2,
                    len: 1,
                    old: &int
                }],
                false
            )
            .is_none()
        );
        assert!(
            layout(
                &[Part {
                    at: 0,
                    len: usize::MAX,
                    old: &int
                }],
                false
            )
            .is_none()
        );
    }
}
