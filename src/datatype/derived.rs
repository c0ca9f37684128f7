//! What `#[derive(Equivalence)]` expands to calls of.
use super::user::layout_of;
use super::{DatatypeRef, Equivalence, SystemDatatype};
use crate::ffi::MPI_Datatype;
use crate::model::{Basic, Layout};
use std::sync::{Arc, OnceLock};

/// The datatype of a struct, made at first use and kept.
pub struct DerivedType {
    layout: OnceLock<Arc<Layout>>,
}

impl DerivedType {
    /// Not made yet.
    #[allow(clippy::new_without_default)] // for statics only
    pub const fn new() -> DerivedType {
        DerivedType {
            layout: OnceLock::new(),
        }
    }

    /// The datatype of `T`, whose fields `describe` tells.
    ///
    /// Panics where rsmpi does, so that programs behave alike: when it is made before `initialize`, after the `Universe` was dropped,
    /// or by another thread than the initializing one below `Threading::Multiple`.
    #[track_caller]
    pub fn get<T>(&'static self, name: &str, describe: fn(&mut Fields)) -> SystemDatatype {
        if self.layout.get().is_none() {
            crate::environment::check_derived(name);
        }
        let layout = self.layout.get_or_init(|| {
            let mut fields = Fields { items: Vec::new() };
            describe(&mut fields);
            Arc::new(Layout::new(fields.items, 0, size_of::<T>() as isize))
        });
        DatatypeRef::new(MPI_Datatype::borrowed(layout))
    }
}

/// The fields of a struct, in the order of their declaration.
pub struct Fields {
    items: Vec<(isize, Basic)>,
}

impl Fields {
    /// A field of type `F` at `offset`.
    #[track_caller]
    pub fn add<F: Field>(&mut self, offset: usize) {
        F::describe(offset, self);
    }
}

/// What can be a field: an [`Equivalence`] type, an array or a tuple of such.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be part of a message",
    label = "this type has no MPI datatype",
    note = "fields of a struct that derives Equivalence are Equivalence types, or arrays or tuples of such"
)]
pub trait Field {
    /// Adds the items of a field at `at`.
    fn describe(at: usize, fields: &mut Fields);
}

impl<T: Equivalence> Field for T {
    #[track_caller]
    fn describe(at: usize, fields: &mut Fields) {
        let layout = layout_of(&T::equivalent_datatype());
        for &(disp, basic) in layout.items() {
            assert!(
                disp >= 0 && disp as usize + basic.size() <= size_of::<T>(),
                "the datatype of {} has an item at offset {disp}, which is outside of its {} bytes; correct its Equivalence",
                core::any::type_name::<T>(),
                size_of::<T>()
            );
            fields.items.push((at as isize + disp, basic));
        }
    }
}

impl<T: Field, const N: usize> Field for [T; N] {
    #[track_caller]
    fn describe(at: usize, fields: &mut Fields) {
        for i in 0..N {
            T::describe(at + i * size_of::<T>(), fields);
        }
    }
}

macro_rules! tuples {
    ($($name:ident . $index:tt),*) => {
        impl<$($name: Field),*> Field for ($($name,)*) {
            #[track_caller]
            fn describe(_at: usize, _fields: &mut Fields) {
                $($name::describe(_at + core::mem::offset_of!(Self, $index), _fields);)*
            }
        }
    };
}

tuples!();
tuples!(A.0);
tuples!(A.0, B.1);
tuples!(A.0, B.1, C.2);
tuples!(A.0, B.1, C.2, D.3);
tuples!(A.0, B.1, C.2, D.3, E.4);
tuples!(A.0, B.1, C.2, D.3, E.4, F.5);
tuples!(A.0, B.1, C.2, D.3, E.4, F.5, G.6);
tuples!(A.0, B.1, C.2, D.3, E.4, F.5, G.6, H.7);
tuples!(A.0, B.1, C.2, D.3, E.4, F.5, G.6, H.7, I.8);
tuples!(A.0, B.1, C.2, D.3, E.4, F.5, G.6, H.7, I.8, J.9);
tuples!(A.0, B.1, C.2, D.3, E.4, F.5, G.6, H.7, I.8, J.9, K.10);
tuples!(A.0, B.1, C.2, D.3, E.4, F.5, G.6, H.7, I.8, J.9, K.10, L.11);
