//! What programs bring of their own, and handles of the opaque kind.
use std::os::raw::c_void;
use tercio::attribute::AttributeKey;
use tercio::collective::{SystemOperation, UserOperation};
use tercio::datatype::{SystemDatatype, UserDatatype};
use tercio::point_to_point::send_receive;
use tercio::request::{Request, scope};
use tercio::topology::{
    AnyProcess, CartesianCommunicator, CommunicatorRelation, Process, Rank, SimpleCommunicator,
};
use tercio::traits::*;
use tercio::{Count, testing};

/// What a program implements itself.
mod brought {
    use super::*;

    /// A neighbour: a process with a name of the program's own.
    pub struct Neighbour<'a>(pub Process<'a>);

    impl<'a> AsCommunicator for Neighbour<'a> {
        type Out = AnyProcess<'a>;
        fn as_communicator(&self) -> &AnyProcess<'a> {
            self.0.as_communicator()
        }
    }

    // SAFETY: a rank of the communicator.
    unsafe impl Source for Neighbour<'_> {
        fn source_rank(&self) -> Rank {
            self.0.rank()
        }
    }

    impl Destination for Neighbour<'_> {
        fn destination_rank(&self) -> Rank {
            self.0.rank()
        }
    }

    impl Root for Neighbour<'_> {
        fn root_rank(&self) -> Rank {
            self.0.rank()
        }
    }

    /// A group, an operation and a datatype that are another's.
    pub struct Of<T>(pub T);

    // SAFETY: that of what it has.
    unsafe impl<T: AsRaw> AsRaw for Of<T> {
        type Raw = T::Raw;
        fn as_raw(&self) -> T::Raw {
            self.0.as_raw()
        }
    }

    impl<T: Group> Group for Of<T> {}

    impl<'a> Operation for Of<&'a UserOperation<'a>> {}

    impl Operation for Of<SystemOperation> {}

    impl<T: Datatype> UncommittedDatatype for Of<T> {
        type DuplicatedDatatype = UserDatatype;
    }

    impl<T: Datatype> Datatype for Of<T> {}

    /// Part of an array, seen as a buffer.
    pub struct Half<'a>(pub &'a mut [u16]);

    // SAFETY: the elements of the slice, here and below.
    unsafe impl AsDatatype for Half<'_> {
        type Out = SystemDatatype;
        fn as_datatype(&self) -> SystemDatatype {
            u16::equivalent_datatype()
        }
    }
    // SAFETY: see above.
    unsafe impl Collection for Half<'_> {
        fn count(&self) -> Count {
            self.0.len() as Count / 2
        }
    }
    // SAFETY: see above.
    unsafe impl Pointer for Half<'_> {
        fn pointer(&self) -> *const c_void {
            self.0.as_ptr().cast()
        }
    }
    // SAFETY: see above.
    unsafe impl PointerMut for Half<'_> {
        fn pointer_mut(&mut self) -> *mut c_void {
            self.0.as_mut_ptr().cast()
        }
    }
    // SAFETY: see above.
    unsafe impl Buffer for Half<'_> {}
    // SAFETY: see above.
    unsafe impl BufferMut for Half<'_> {}
}

#[test]
fn types_of_a_programs_own_take_the_place_of_the_librarys() {
    use brought::{Half, Neighbour, Of};
    testing::ranks(3, |world| {
        let (rank, size) = (world.rank(), world.size());
        let next = Neighbour(world.process_at_rank((rank + 1) % size));
        let previous = Neighbour(world.process_at_rank((rank + size - 1) % size));
        let (theirs, _): (i32, _) = send_receive(&rank, &next, &previous);
        assert_eq!(theirs, previous.0.rank());

        let mut numbers = [rank as u16; 4];
        Neighbour(world.process_at_rank(1)).broadcast_into(&mut Half(&mut numbers));
        let other = rank as u16;
        assert_eq!(numbers, [1, 1, other, other]);

        let (all, others) = (Of(world.group()), Of(world.group().exclude(&[rank])));
        assert_eq!(all.difference(&others).rank(), Some(0));
        let me = world.split_by_subgroup(&all.difference(&others)).unwrap();
        assert_eq!(me.size(), 1);

        let first = UserOperation::associative(|x, y| {
            y.downcast::<i32>()
                .unwrap()
                .copy_from_slice(x.downcast().unwrap());
        });
        let (mut least, mut sum) = (-1, 0);
        world.all_reduce_into(&rank, &mut least, Of(&first));
        world.all_reduce_into(&rank, &mut sum, Of(SystemOperation::sum()));
        assert_eq!((least, sum), (0, 3));
        assert!(!Of(&first).is_commutative() && Of(SystemOperation::sum()).is_commutative());

        let pair = Of(UserDatatype::contiguous(2, &i32::equivalent_datatype()));
        assert_eq!(world.pack_size(3, &pair), 24);
        assert_eq!(world.pack_size(1, &pair.dup()), 8);
    });
}

#[test]
fn handles_become_what_they_are_of() {
    testing::ranks(2, |world| {
        let grid = world
            .create_cartesian_communicator(&[2], &[true], false)
            .unwrap();
        // SAFETY: all are alive.
        let (again, ring, none) = unsafe {
            (
                SimpleCommunicator::from_raw(world.as_raw()),
                CartesianCommunicator::from_raw(grid.as_raw()),
                CartesianCommunicator::try_from_raw(world.as_raw()),
            )
        };
        assert_eq!(again.compare(&world), CommunicatorRelation::Identical);
        assert!(none.is_none());
        drop(grid);
        assert_eq!(ring.shift(0, 1).1, Some(1 - ring.rank()));

        let (mine, mut theirs) = (ring.rank(), -1);
        let other = ring.process_at_rank(1 - mine);
        scope(|scope| {
            // SAFETY: each goes on as another request in the same scope.
            unsafe {
                let (handle, data, _) = other.immediate_send(scope, &mine).into_raw();
                let send = Request::from_raw(handle, data, scope);
                let (handle, data, _) = other.immediate_receive_into(scope, &mut theirs).into_raw();
                Request::from_raw(handle, data, scope).wait();
                send.wait();
            }
        });
        assert_eq!(theirs, 1 - mine);
    });
}

#[test]
fn attributes_are_kept_under_their_keys() {
    #[derive(Clone)]
    struct Attribute;
    impl CommAttribute for Attribute {}
    #[derive(Clone, PartialEq, Debug)]
    struct Shared(u8);
    impl CommAttribute for Shared {
        const CLONE_ON_DUP: bool = true;
        fn get_key() -> AttributeKey {
            Attribute::get_key()
        }
    }
    testing::ranks(1, |mut world| {
        assert_ne!(Attribute::get_key().as_raw(), 0);
        world.set_attr(Shared(1));
        // Under one key, but another type: there is none of that.
        assert!(world.get_attr::<Attribute>().is_none());
        assert_eq!(world.get_attr(), Some(&Shared(1)));
        let copy = world.duplicate();
        world.set_attr(Shared(2));
        assert_eq!(
            (copy.get_attr(), world.get_attr()),
            (Some(&Shared(1)), Some(&Shared(2)))
        );
    });
}
