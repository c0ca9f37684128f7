//! Operations that programs bring: closures and C functions.
use super::operation::Operation;
use crate::Count;
use crate::datatype::span::Kind;
use crate::datatype::{DatatypeRef, DynBuffer, DynBufferMut};
use crate::engine::RecvSpan;
use crate::ffi::{MPI_Datatype, MPI_Op};
use crate::model::op::UserFunction;
use crate::model::{Layout, Op};
use crate::raw::AsRaw;
use core::ffi::{c_int, c_void};
use core::fmt;
use core::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

/// What a user's operation calls: `(x, y)`, where `y` becomes `x op y`.
type Closure<'a> = dyn Fn(DynBuffer<'_>, DynBufferMut<'_>) + Sync + 'a;

/// What an operation's handle points to.
pub(super) struct Brought {
    function: Function,
    commutative: bool,
}

enum Function {
    /// Its lifetime is that of the [`UserOperation`].
    Closure(Box<Closure<'static>>),
    C(UnsafeUserFunction),
}

impl Brought {
    pub(super) fn is_commutative(&self) -> bool {
        self.commutative
    }

    /// As the engine takes it, for elements of `kind`.
    pub(super) fn prepare(&self, kind: &Kind) -> Op {
        let function = match &self.function {
            Function::Closure(closure) => {
                let closure: &Closure<'static> = closure;
                // SAFETY: blocking calls return, and requests complete, before what is borrowed here goes (`O: 'a` of the request's scope, and
                // closures are lent by reference); nothing calls the function after that.
                let closure: &'static Closure<'static> = unsafe { core::mem::transmute(closure) };
                let call =
                    move |x: *const u8, y: *mut u8, len: Count, datatype: DatatypeRef<'_>| {
                        // SAFETY: `len` elements of `datatype` each, and `y` is nobody else's.
                        let (x, y) = unsafe {
                            (
                                DynBuffer::from_raw(x, len, datatype),
                                DynBufferMut::from_raw(y, len, datatype),
                            )
                        };
                        closure(x, y);
                    };
                packed(kind, call)
            }
            Function::C(function) => {
                let function = *function;
                let call =
                    move |x: *const u8, y: *mut u8, mut len: Count, datatype: DatatypeRef<'_>| {
                        let mut datatype = datatype.as_raw();
                        // SAFETY: promised to `new`; the function does not write to `x`.
                        unsafe {
                            function(
                                x.cast_mut().cast(),
                                y.cast(),
                                &raw mut len,
                                &raw mut datatype,
                            )
                        }
                    };
                packed(kind, call)
            }
        };
        Op::User {
            function,
            commutative: self.commutative,
        }
    }
}

/// What keeps an operation's handle valid.
trait Anchor {}

impl<T> Anchor for T {}

/// An operation that a closure does: called with `(x, y)`, it makes every element of `y` the combination of that of `x` and that of `y`,
/// where `x` comes from the lower ranks. Give it to collectives by reference.
///
/// ```
/// use tercio::{collective::UserOperation, traits::*};
/// tercio::testing::ranks(3, |world| {
///     let shorter = UserOperation::commutative(|x, y| {
///         let (x, y) = (x.downcast::<f64>().unwrap(), y.downcast::<f64>().unwrap());
///         for (x, y) in x.iter().zip(y) {
///             if x.abs() < y.abs() {
///                 *y = *x;
///             }
///         }
///     });
///     let mut nearest = 0.0;
///     world.all_reduce_into(&(f64::from(world.rank()) - 1.25), &mut nearest, &shorter);
///     assert_eq!(nearest, -0.25);
/// });
/// ```
pub struct UserOperation<'a> {
    raw: MPI_Op,
    _anchor: Rc<dyn Anchor + 'a>,
    /// The closure, whose lifetime what is behind the handle has forgotten.
    closure: PhantomData<Box<Closure<'a>>>,
}

// SAFETY: closures are Sync. The anchor is never looked at nor counted, and to drop it takes the operation itself.
unsafe impl Sync for UserOperation<'_> {}

impl<'a> UserOperation<'a> {
    /// An operation whose operands must stay in order.
    ///
    /// ```
    /// use tercio::{collective::UserOperation, traits::*};
    /// let op = UserOperation::associative(|_first, _second| {});
    /// assert!(!(&op).is_commutative());
    /// ```
    pub fn associative<F>(function: F) -> Self
    where
        F: Fn(DynBuffer<'_>, DynBufferMut<'_>) + Sync + 'a,
    {
        UserOperation::new(false, function)
    }

    /// An operation whose operands may change places.
    ///
    /// ```
    /// use tercio::{collective::UserOperation, traits::*};
    /// let op = UserOperation::commutative(|_one, _other| {});
    /// assert!((&op).is_commutative());
    /// ```
    pub fn commutative<F>(function: F) -> Self
    where
        F: Fn(DynBuffer<'_>, DynBufferMut<'_>) + Sync + 'a,
    {
        UserOperation::new(true, function)
    }

    /// An operation whose operands may change places if `commute`.
    ///
    /// Corresponds to `MPI_Op_create`.
    ///
    /// ```
    /// use tercio::collective::UserOperation;
    /// let _op = UserOperation::new(true, |_one, _other| {});
    /// ```
    pub fn new<F>(commute: bool, function: F) -> Self
    where
        F: Fn(DynBuffer<'_>, DynBufferMut<'_>) + Sync + 'a,
    {
        let closure: Box<Closure<'a>> = Box::new(function);
        // SAFETY: only the lifetime changes. The operation keeps the true one, and the closure goes with it.
        let closure: Box<Closure<'static>> = unsafe { core::mem::transmute(closure) };
        let brought = Rc::new(Brought {
            function: Function::Closure(closure),
            commutative: commute,
        });
        UserOperation {
            raw: handle(&brought),
            _anchor: brought,
            closure: PhantomData,
        }
    }

    /// The operation of a handle, and what keeps that valid.
    ///
    /// # Safety
    ///
    /// `op` must be the handle of an operation that is valid while `anchor` is there.
    ///
    /// ```
    /// use tercio::{collective::{self, UserOperation}, traits::*};
    /// let last = Box::new(UserOperation::associative(|_first, _second| {}));
    /// // SAFETY: the anchor is the operation itself.
    /// let same = unsafe { UserOperation::from_raw(last.as_raw(), last) };
    /// let mut y = 2;
    /// collective::reduce_local_into(&1, &mut y, &same);
    /// assert_eq!(y, 2);
    /// ```
    pub unsafe fn from_raw<T: 'a>(op: MPI_Op, anchor: Box<T>) -> Self {
        UserOperation {
            raw: op,
            _anchor: Rc::new(anchor),
            closure: PhantomData,
        }
    }
}

fn handle(brought: &Rc<Brought>) -> MPI_Op {
    MPI_Op(Rc::as_ptr(brought).cast())
}

impl fmt::Debug for UserOperation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserOperation")
            .field("commutative", &(&self).is_commutative())
            .finish_non_exhaustive()
    }
}

// SAFETY: the anchor keeps it.
unsafe impl AsRaw for UserOperation<'_> {
    type Raw = MPI_Op;
    fn as_raw(&self) -> MPI_Op {
        self.raw
    }
}

// By reference only: the closure must outlive the operations that are under way with it.
impl Operation for &UserOperation<'_> {}

/// A function for [`UnsafeUserOperation`]: two vectors of elements, of which the second becomes the combination, their length, and their
/// datatype.
pub type UnsafeUserFunction =
    unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_int, *mut MPI_Datatype);

/// An operation that a C function does. Give it to collectives by reference or by value.
///
/// ```
/// use core::ffi::{c_int, c_void};
/// use tercio::{collective::UnsafeUserOperation, ffi::MPI_Datatype, traits::*};
///
/// unsafe extern "C" fn add(x: *mut c_void, y: *mut c_void, len: *mut c_int, _: *mut MPI_Datatype) {
///     for i in 0..unsafe { *len } as usize {
///         unsafe { *y.cast::<i32>().add(i) += *x.cast::<i32>().add(i) };
///     }
/// }
///
/// tercio::testing::ranks(3, |world| {
///     let op = unsafe { UnsafeUserOperation::commutative(add) };
///     let mut sum = 0;
///     world.all_reduce_into(&world.rank(), &mut sum, &op);
///     assert_eq!(sum, 3);
/// });
/// ```
pub struct UnsafeUserOperation(Rc<Brought>);

// SAFETY: what is behind the handle is a function that any thread may call, which was promised to `new`; the count of one never changes.
unsafe impl Send for UnsafeUserOperation {}
// SAFETY: as above.
unsafe impl Sync for UnsafeUserOperation {}

impl UnsafeUserOperation {
    /// An operation whose operands must stay in order.
    ///
    /// # Safety
    ///
    /// See [`new`](Self::new).
    ///
    /// ```
    /// # use core::ffi::{c_int, c_void};
    /// use tercio::{collective::UnsafeUserOperation, ffi::MPI_Datatype, traits::*};
    /// unsafe extern "C" fn second(_: *mut c_void, _: *mut c_void, _: *mut c_int, _: *mut MPI_Datatype) {}
    /// let op = unsafe { UnsafeUserOperation::associative(second) };
    /// assert!(!op.is_commutative());
    /// ```
    pub unsafe fn associative(function: UnsafeUserFunction) -> Self {
        // SAFETY: that of `new`.
        unsafe { UnsafeUserOperation::new(false, function) }
    }

    /// An operation whose operands may change places.
    ///
    /// # Safety
    ///
    /// See [`new`](Self::new).
    ///
    /// ```
    /// # use core::ffi::{c_int, c_void};
    /// use tercio::{collective::UnsafeUserOperation, ffi::MPI_Datatype, traits::*};
    /// unsafe extern "C" fn nothing(_: *mut c_void, _: *mut c_void, _: *mut c_int, _: *mut MPI_Datatype) {}
    /// let op = unsafe { UnsafeUserOperation::commutative(nothing) };
    /// assert!(op.is_commutative());
    /// ```
    pub unsafe fn commutative(function: UnsafeUserFunction) -> Self {
        // SAFETY: that of `new`.
        unsafe { UnsafeUserOperation::new(true, function) }
    }

    /// An operation whose operands may change places if `commute`.
    ///
    /// Corresponds to `MPI_Op_create`.
    ///
    /// # Safety
    ///
    /// The function must stay within so many elements of the datatype that collectives are called with, must not change the first vector, must
    /// leave valid elements in the second, may be called by several threads at once, and must not unwind.
    ///
    /// ```
    /// # use core::ffi::{c_int, c_void};
    /// use tercio::{collective::UnsafeUserOperation, ffi::MPI_Datatype};
    /// unsafe extern "C" fn nothing(_: *mut c_void, _: *mut c_void, _: *mut c_int, _: *mut MPI_Datatype) {}
    /// let _op = unsafe { UnsafeUserOperation::new(true, nothing) };
    /// ```
    pub unsafe fn new(commute: bool, function: UnsafeUserFunction) -> Self {
        UnsafeUserOperation(Rc::new(Brought {
            function: Function::C(function),
            commutative: commute,
        }))
    }
}

impl fmt::Debug for UnsafeUserOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnsafeUserOperation")
            .field("commutative", &self.is_commutative())
            .finish_non_exhaustive()
    }
}

// SAFETY: this owns what the handle points to.
unsafe impl AsRaw for UnsafeUserOperation {
    type Raw = MPI_Op;
    fn as_raw(&self) -> MPI_Op {
        handle(&self.0)
    }
}

impl Operation for UnsafeUserOperation {}

/// `call` of packed bytes, by calls of elements in memory as their type wants them: in place where the packed bytes are that, else through
/// scratch memory.
fn packed(
    kind: &Kind,
    call: impl Fn(*const u8, *mut u8, Count, DatatypeRef<'_>) + Send + Sync + 'static,
) -> UserFunction {
    let (kind, layout) = (kind.clone(), kind.layout().clone());
    Arc::new(move |input, inout| {
        let size = kind.size();
        let Some(count) = input.len().checked_div(size) else {
            return;
        };
        let datatype = DatatypeRef::new(match &kind {
            Kind::Basic(basic) => MPI_Datatype::basic(*basic),
            Kind::User(layout) => datatype_of(layout),
        });
        let aligned = alignment(&layout);
        let in_place = layout.is_contiguous()
            && (input.as_ptr().addr() | inout.as_ptr().addr()) % aligned == 0;
        let most = Count::MAX as usize;
        if in_place {
            for at in (0..count).step_by(most) {
                let len = (count - at).min(most);
                // SAFETY: `at + len` elements of `size` bytes are in both slices.
                let (x, y) = unsafe {
                    (
                        input.as_ptr().add(at * size),
                        inout.as_mut_ptr().add(at * size),
                    )
                };
                call(x, y, len as Count, datatype);
            }
            return;
        }
        // Elements at a time, so that the scratch memory stays in the cache.
        let step = (SCRATCH / layout.extent().unsigned_abs().max(1)).clamp(1, count.max(1));
        let (x, y) = (
            Scratch::new(&layout, step, aligned),
            Scratch::new(&layout, step, aligned),
        );
        for at in (0..count).step_by(step) {
            let len = (count - at).min(step);
            let part = at * size..(at + len) * size;
            x.span(len).fill_at(0, &input[part.clone()]);
            y.span(len).fill_at(0, &inout[part.clone()]);
            call(x.first, y.first, len as Count, datatype);
            // SAFETY: the scratch memory is initialized; the slice has `len` packed elements.
            unsafe {
                y.span(len)
                    .as_send()
                    .pack(0, part.len(), inout[part].as_mut_ptr())
            };
        }
    })
}

/// The handle by which elements of `layout` are known.
fn datatype_of(layout: &Arc<Layout>) -> MPI_Datatype {
    #[cfg(feature = "complex")]
    if let Some(handle) = crate::datatype::complex::handle(layout) {
        return handle;
    }
    MPI_Datatype::borrowed(layout)
}

/// Bytes of scratch memory that a user's function gets at a time where elements are not packed.
const SCRATCH: usize = 64 * 1024;

/// The strictest alignment that a type of that extent can have (a type's size is a multiple of its alignment), up to a page.
fn alignment(layout: &Layout) -> usize {
    match layout.extent().unsigned_abs() {
        0 => 1,
        extent => 1 << extent.trailing_zeros().min(12),
    }
}

/// Memory for elements that are not packed, all zero at first.
struct Scratch<'l> {
    _memory: Vec<u8>,
    /// The first element.
    first: *mut u8,
    layout: &'l Arc<Layout>,
}

impl<'l> Scratch<'l> {
    fn new(layout: &'l Arc<Layout>, count: usize, aligned: usize) -> Scratch<'l> {
        let low = layout
            .blocks()
            .iter()
            .map(|b| b.disp)
            .min()
            .unwrap_or(0)
            .min(0);
        let high = layout
            .blocks()
            .iter()
            .map(|b| b.disp + b.len as isize)
            .max()
            .unwrap_or(0);
        let reach = layout.extent() * (count as isize - 1).max(0);
        let (low, high) = (
            low + reach.min(0),
            (high + reach.max(0)).max(layout.extent() * count as isize),
        );
        let before = low.unsigned_abs().next_multiple_of(aligned);
        let mut memory = vec![0; before + high.unsigned_abs() + aligned];
        let start = memory.as_ptr().align_offset(aligned);
        let first = memory[start + before..].as_mut_ptr();
        Scratch {
            _memory: memory,
            first,
            layout,
        }
    }

    fn span(&self, count: usize) -> RecvSpan {
        // SAFETY: there is memory for more elements, before and after the first, and it is not used otherwise while the span is.
        unsafe { RecvSpan::strided(self.first, count, self.layout) }
    }
}
