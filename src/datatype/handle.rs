//! From an opaque handle to what it stands for.
//!
//! A handle of a basic type is its number in the MPI 5 ABI (all below 4096, where no object can lie); any other is the pointer of an
//! `Arc<Layout>` that something alive owns.
use crate::ffi::MPI_Datatype;
use crate::model::{Basic, Layout};
use core::ptr;
use std::sync::{Arc, OnceLock};

/// Handles below are numbers.
const FIRST_ADDRESS: usize = 4096;

/// The number of a basic type in the MPI 5 ABI.
const fn abi_number(basic: Basic) -> usize {
    match basic {
        Basic::I8 => 0x240,
        Basic::U8 => 0x241,
        Basic::Byte => 0x247,
        Basic::I16 => 0x248,
        Basic::U16 => 0x249,
        Basic::I32 => 0x250,
        Basic::U32 => 0x251,
        Basic::F32 => 0x210,
        Basic::I64 => 0x258,
        Basic::U64 => 0x259,
        Basic::F64 => 0x214,
        Basic::Bool => 0x238,
    }
}

impl MPI_Datatype {
    pub(crate) const fn basic(basic: Basic) -> MPI_Datatype {
        MPI_Datatype(ptr::without_provenance(abi_number(basic)))
    }

    /// The handle owns the count that it was made from.
    pub(crate) fn from_owned(layout: Arc<Layout>) -> MPI_Datatype {
        MPI_Datatype(Arc::into_raw(layout).cast())
    }

    pub(crate) fn borrowed(layout: &Arc<Layout>) -> MPI_Datatype {
        MPI_Datatype(Arc::as_ptr(layout).cast())
    }

    /// `Some` for the handle of a basic type.
    #[inline]
    pub(crate) fn as_basic(self) -> Option<Basic> {
        Some(match self.0.addr() {
            0x240 => Basic::I8,
            0x241 => Basic::U8,
            0x247 => Basic::Byte,
            0x248 => Basic::I16,
            0x249 => Basic::U16,
            0x250 => Basic::I32,
            0x251 => Basic::U32,
            0x210 => Basic::F32,
            0x258 => Basic::I64,
            0x259 => Basic::U64,
            0x214 => Basic::F64,
            0x238 => Basic::Bool,
            _ => return None,
        })
    }

    /// The layout behind the handle, whether it is a basic type's or not.
    ///
    /// # Safety
    ///
    /// The handle must be alive: a basic type's, or one whose owner lives.
    pub(crate) unsafe fn layout(self) -> Arc<Layout> {
        match self.as_basic() {
            Some(basic) => basic_layout(basic).clone(),
            #[cfg(feature = "complex")]
            None if super::complex::layout(self).is_some() => {
                super::complex::layout(self).expect("just looked").clone()
            }
            None => {
                assert!(
                    self.0.addr() >= FIRST_ADDRESS,
                    "{:#x} is not a datatype of this library",
                    self.0.addr()
                );
                let layout: *const Layout = self.0.cast();
                // SAFETY: by the contract `layout` came from an Arc that is alive, so adding to its count and owning that is fine.
                unsafe {
                    Arc::increment_strong_count(layout);
                    Arc::from_raw(layout)
                }
            }
        }
    }
}

/// The one layout of each basic type.
pub(crate) fn basic_layout(basic: Basic) -> &'static Arc<Layout> {
    static LAYOUTS: [OnceLock<Arc<Layout>>; 16] = [const { OnceLock::new() }; 16];
    LAYOUTS[basic as usize].get_or_init(|| Arc::new(Layout::basic(basic)))
}
