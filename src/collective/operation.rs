//! What reductions combine elements with: the trait, and MPI's own operations.
use super::user::Brought;
use crate::coll::Element;
use crate::datatype::span::Kind;
use crate::ffi::MPI_Op;
use crate::model::{Error, ErrorClass, Op, Predefined};
use crate::raw::AsRaw;

/// Combines two elements to one, in reductions and scans.
///
/// For operations where the order of combination matters (every one on floats, and users'), it is `((x0 op x1) op x2) ...` in the order of
/// ranks, on every run and on all ranks alike.
///
/// A type of a program's own can be one too, with the handle of another: that must then be valid until the collectives that were begun with it
/// are complete.
pub trait Operation: AsRaw<Raw = MPI_Op> {
    /// Whether the order of the operands is said not to matter.
    ///
    /// ```
    /// use tercio::{collective::SystemOperation, traits::*};
    /// assert!(SystemOperation::sum().is_commutative());
    /// ```
    fn is_commutative(&self) -> bool {
        match Handle::of(self) {
            Handle::System(_) => true,
            Handle::User(brought) => brought.is_commutative(),
        }
    }
}

impl<T: Operation> Operation for &T {}

/// What an operation's handle stands for.
enum Handle<'o> {
    System(SystemOperation),
    User(&'o Brought),
}

impl Handle<'_> {
    fn of<O: ?Sized + Operation>(operation: &O) -> Handle<'_> {
        let handle = operation.as_raw();
        match SystemOperation::of(handle) {
            Some(system) => Handle::System(system),
            // SAFETY: by the contract of AsRaw it lives as long as `operation`, and what is no number points to what a program brought.
            None => Handle::User(unsafe { &*handle.0.cast::<Brought>() }),
        }
    }
}

/// The operation, if it is one of MPI's.
#[inline(always)]
pub(super) fn predefined<O: ?Sized + Operation>(operation: &O) -> Option<Predefined> {
    SystemOperation::of(operation.as_raw()).map(|system| system.0)
}

/// The operation as the engine takes it, for elements of a kind; or a sentence.
pub(super) fn prepare<O: ?Sized + Operation>(
    operation: &O,
    call: &str,
    kind: &Kind,
) -> Result<Op, Error> {
    match Handle::of(operation) {
        Handle::System(system) => system.prepare(call, kind),
        Handle::User(brought) => Ok(brought.prepare(kind)),
    }
}

/// An operation of MPI's. It works on elements of one basic type.
///
/// ```
/// use tercio::{collective::SystemOperation, traits::*};
/// tercio::testing::ranks(4, |world| {
///     let mut largest = 0;
///     world.all_reduce_into(&world.rank(), &mut largest, SystemOperation::max());
///     assert_eq!(largest, 3);
/// });
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SystemOperation(Predefined);

macro_rules! system_operations {
    ($($(#[$doc:meta])* $name:ident => $op:ident, $abi:literal;)*) => {
        impl SystemOperation {
            $($(#[$doc])*
            ///
            /// ```
            /// use tercio::collective::SystemOperation;
            #[doc = concat!("let _ = SystemOperation::", stringify!($name), "();")]
            /// ```
            pub fn $name() -> SystemOperation {
                SystemOperation(Predefined::$op)
            })*

            /// The number in the MPI 5 ABI.
            fn abi_number(self) -> usize {
                match self.0 {
                    $(Predefined::$op => $abi,)*
                }
            }

            /// The operation with a number of the ABI.
            #[inline(always)]
            fn of(handle: MPI_Op) -> Option<SystemOperation> {
                match handle.0.addr() {
                    $($abi => Some(SystemOperation(Predefined::$op)),)*
                    _ => None,
                }
            }
        }
    };
}

system_operations! {
    /// The larger. Of floats a NaN if any is one.
    max => Max, 0x23;
    /// The smaller. Of floats a NaN if any is one; -0 is smaller than +0.
    min => Min, 0x22;
    /// The sum; that of integers wraps around.
    sum => Sum, 0x21;
    /// The product; that of integers wraps around.
    product => Product, 0x24;
    /// 1 or `true` if both are not 0.
    logical_and => LogicalAnd, 0x30;
    /// The bits that both have.
    bitwise_and => BitwiseAnd, 0x28;
    /// 1 or `true` if one is not 0.
    logical_or => LogicalOr, 0x31;
    /// The bits that one has.
    bitwise_or => BitwiseOr, 0x29;
    /// 1 or `true` if exactly one is not 0.
    logical_xor => LogicalXor, 0x32;
    /// The bits that exactly one has.
    bitwise_xor => BitwiseXor, 0x2a;
}

// SAFETY: a number of the ABI.
unsafe impl AsRaw for SystemOperation {
    type Raw = MPI_Op;
    fn as_raw(&self) -> MPI_Op {
        MPI_Op(core::ptr::without_provenance(self.abi_number()))
    }
}

impl Operation for SystemOperation {}

impl SystemOperation {
    fn prepare(self, call: &str, kind: &Kind) -> Result<Op, Error> {
        #[cfg(feature = "complex")]
        if let Some(op) = crate::datatype::complex::operation(self.0, kind) {
            return Ok(op);
        }
        let defined = kind.single().is_some_and(|basic| self.0.defined_for(basic));
        if !defined {
            let (operation, kind) = (self.0.name(), kind.name());
            let text = format!(
                "{call} was asked for SystemOperation::{operation} of {kind}, for which it is not defined; take another operation, or a UserOperation"
            );
            return Err(Error::new(ErrorClass::Op, text));
        }
        Ok(Op::Predefined(self.0))
    }
}

/// What coll needs to know of elements of a kind.
pub(super) fn element(kind: &Kind) -> Element {
    match kind {
        Kind::Basic(basic) => Element::of(*basic),
        Kind::User(layout) => Element::of_layout(layout),
    }
}
