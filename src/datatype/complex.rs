//! Complex numbers, as pairs of floats.
use super::span::Kind;
use super::{DatatypeRef, Equivalence, SystemDatatype};
use crate::ffi::MPI_Datatype;
use crate::model::{Basic, Layout, Op, Predefined};
use core::ptr;
use num_complex::{Complex32, Complex64};
use std::sync::{Arc, LazyLock};

/// The numbers of `MPI_C_FLOAT_COMPLEX` and `MPI_C_DOUBLE_COMPLEX` in the MPI 5 ABI.
const FLOAT: MPI_Datatype = MPI_Datatype(ptr::without_provenance(0x212));
const DOUBLE: MPI_Datatype = MPI_Datatype(ptr::without_provenance(0x216));

fn pair(basic: Basic) -> Arc<Layout> {
    let size = basic.size() as isize;
    Arc::new(Layout::new(vec![(0, basic), (size, basic)], 0, 2 * size))
}

static FLOAT_LAYOUT: LazyLock<Arc<Layout>> = LazyLock::new(|| pair(Basic::F32));
static DOUBLE_LAYOUT: LazyLock<Arc<Layout>> = LazyLock::new(|| pair(Basic::F64));

/// The layout of a complex type's handle.
pub(super) fn layout(handle: MPI_Datatype) -> Option<&'static Arc<Layout>> {
    match handle {
        FLOAT => Some(&FLOAT_LAYOUT),
        DOUBLE => Some(&DOUBLE_LAYOUT),
        _ => None,
    }
}

/// The handle of the complex type that has `layout`.
pub(crate) fn handle(layout: &Arc<Layout>) -> Option<MPI_Datatype> {
    let is = |known: &LazyLock<Arc<Layout>>| Arc::ptr_eq(layout, known);
    if is(&FLOAT_LAYOUT) {
        Some(FLOAT)
    } else {
        is(&DOUBLE_LAYOUT).then_some(DOUBLE)
    }
}

/// What a predefined operation does with complex numbers, if `kind` is such and it is defined.
pub(crate) fn operation(op: Predefined, kind: &Kind) -> Option<Op> {
    let Kind::User(layout) = kind else {
        return None;
    };
    let handle = handle(layout)?;
    match op {
        // Part by part.
        Predefined::Sum => Some(Op::Predefined(op)),
        Predefined::Product if handle == FLOAT => Some(product::<Complex32, 4>(
            |x| Complex32::new(f32::from_ne_bytes(x[0]), f32::from_ne_bytes(x[1])),
            |x| [x.re.to_ne_bytes(), x.im.to_ne_bytes()],
        )),
        Predefined::Product => Some(product::<Complex64, 8>(
            |x| Complex64::new(f64::from_ne_bytes(x[0]), f64::from_ne_bytes(x[1])),
            |x| [x.re.to_ne_bytes(), x.im.to_ne_bytes()],
        )),
        _ => None,
    }
}

/// The product of packed complex numbers, whose parts have `N` bytes.
fn product<T: core::ops::Mul<Output = T> + 'static, const N: usize>(
    read: fn([[u8; N]; 2]) -> T,
    write: fn(T) -> [[u8; N]; 2],
) -> Op {
    let parts = |bytes: &[u8]| {
        let mut parts = [[0; N]; 2];
        parts[0].copy_from_slice(&bytes[..N]);
        parts[1].copy_from_slice(&bytes[N..]);
        parts
    };
    let function = move |input: &[u8], inout: &mut [u8]| {
        for (x, y) in input.chunks_exact(2 * N).zip(inout.chunks_exact_mut(2 * N)) {
            let result = write(read(parts(x)) * read(parts(y)));
            y[..N].copy_from_slice(&result[0]);
            y[N..].copy_from_slice(&result[1]);
        }
    };
    Op::User {
        function: Arc::new(function),
        commutative: true,
    }
}

// SAFETY: num-complex lays a complex number out as its two parts (repr(C)), and any parts are valid.
unsafe impl Equivalence for Complex32 {
    type Out = SystemDatatype;
    fn equivalent_datatype() -> SystemDatatype {
        DatatypeRef::new(FLOAT)
    }
}

// SAFETY: as above.
unsafe impl Equivalence for Complex64 {
    type Out = SystemDatatype;
    fn equivalent_datatype() -> SystemDatatype {
        DatatypeRef::new(DOUBLE)
    }
}
