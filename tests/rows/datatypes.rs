//! Datatypes as values.
use core::mem::offset_of;
use tercio::datatype::{
    DynBuffer, DynBufferMut, MutView, SystemDatatype, UncommittedDatatypeRef,
    UncommittedUserDatatype, UserDatatype, View, address_of,
};
use tercio::topology::SimpleCommunicator;
use tercio::traits::*;

/// The places of `0..24` that one element of `datatype` covers, in its order, after they went to the next rank.
fn places(world: &SimpleCommunicator, datatype: &UserDatatype) -> Vec<i32> {
    let next = world.process_at_rank((world.rank() + 1) % world.size());
    let numbers: Vec<i32> = (0..24).collect();
    // SAFETY: every datatype below covers some of the 24 elements.
    let view = unsafe { View::with_count_and_datatype(&numbers[..], 1, datatype) };
    let mut room = [-1; 24];
    tercio::request::scope(|scope| {
        let send = next.immediate_send(scope, &view);
        // SAFETY: as above.
        let mut view = unsafe { MutView::with_count_and_datatype(&mut room[..], 1, datatype) };
        world.any_process().receive_into(&mut view);
        send.wait();
    });
    // What was covered came to the same places, and nothing else was written.
    let packed: Vec<i32> = world
        .pack(&view)
        .chunks(4)
        .map(|b| i32::from_ne_bytes(b.try_into().unwrap()))
        .collect();
    for place in 0..24 {
        assert_eq!(
            room[place as usize],
            if packed.contains(&place) { place } else { -1 }
        );
    }
    packed
}

#[tercio::test(np = [1, 2, 3])]
fn every_constructor(world: SimpleCommunicator) {
    let int = i32::equivalent_datatype();
    let check = |datatype: UserDatatype, expected: &[i32]| {
        assert_eq!(places(&world, &datatype), expected);
    };
    check(UserDatatype::contiguous(3, &int), &[0, 1, 2]);
    check(UserDatatype::vector(3, 2, 4, &int), &[0, 1, 4, 5, 8, 9]);
    check(
        UserDatatype::heterogeneous_vector(3, 1, 20, &int),
        &[0, 5, 10],
    );
    check(
        UserDatatype::indexed(&[1, 3], &[20, 2], &int),
        &[20, 2, 3, 4],
    );
    check(
        UserDatatype::heterogeneous_indexed(&[2, 1], &[40, 0], &int),
        &[10, 11, 0],
    );
    check(
        UserDatatype::indexed_block(2, &[3, 9, 6], &int),
        &[3, 4, 9, 10, 6, 7],
    );
    check(
        UserDatatype::heterogeneous_indexed_block(1, &[92, 4], &int),
        &[23, 1],
    );
    // Of one another, without committing what is between.
    let pair = UncommittedUserDatatype::contiguous(2, &int);
    let pairs = UncommittedUserDatatype::vector(2, 1, 3, &pair.as_ref());
    check(pairs.clone().commit(), &[0, 1, 6, 7]);
    let both = UserDatatype::structured(
        &[1, 2],
        &[64, 0],
        &[
            UncommittedDatatypeRef::from(&pairs),
            UncommittedDatatypeRef::from(int),
        ],
    );
    check(both, &[16, 17, 22, 23, 0, 1]);
    check(UserDatatype::contiguous(0, &int), &[]);
}

#[tercio::test(np = 1)]
fn duplicates(world: SimpleCommunicator) {
    let column = UserDatatype::vector(2, 1, 3, &i32::equivalent_datatype());
    let copies = [column.dup(), column.clone(), column.as_ref().dup()];
    drop(column);
    for copy in &copies {
        assert_eq!(places(&world, copy), [0, 3]);
    }
    let basic = f64::equivalent_datatype().dup();
    let value = 2.5;
    // SAFETY: one element of its own type.
    let view = unsafe { View::with_count_and_datatype(&value, 1, &basic) };
    world.this_process().send(&view);
    assert_eq!(world.this_process().receive::<f64>().0, 2.5);
}

/// A type whose datatype is written by hand, in another order than its fields have in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct ByHand {
    flag: bool,
    weight: f64,
    number: i16,
}

// SAFETY: each field's type at its offset.
unsafe impl Equivalence for ByHand {
    type Out = UserDatatype;
    fn equivalent_datatype() -> UserDatatype {
        UserDatatype::structured(
            &[1, 1, 1],
            &[
                offset_of!(ByHand, number) as tercio::Address,
                offset_of!(ByHand, flag) as tercio::Address,
                offset_of!(ByHand, weight) as tercio::Address,
            ],
            &[
                i16::equivalent_datatype(),
                bool::equivalent_datatype(),
                f64::equivalent_datatype(),
            ],
        )
    }
}

#[derive(Equivalence, Clone, Copy, Debug, Default, PartialEq)]
struct Unit;

#[derive(Equivalence, Clone, Copy, Debug, Default, PartialEq)]
struct Tuple(
    (i32, [f32; 2]),
    [Unit; 3],
    [u64; 0],
    ((u8, (i8, bool)), ByHand),
);

#[derive(Equivalence, Clone, Copy, Debug, Default, PartialEq)]
struct Named {
    tuple: [Tuple; 2],
    empty: (),
    #[allow(clippy::struct_field_names)]
    named: [[i16; 2]; 2],
}

#[tercio::test(np = [1, 2, 4])]
fn structs(world: SimpleCommunicator) {
    let sample = |rank: i32| {
        let hand = ByHand {
            flag: rank % 2 == 0,
            weight: f64::from(rank) / 4.0,
            number: rank as i16,
        };
        let tuple = Tuple(
            (rank, [0.5, -0.5]),
            [Unit; 3],
            [],
            ((7, (-7, rank == 1)), hand),
        );
        Named {
            tuple: [tuple, Tuple::default()],
            empty: (),
            named: [[rank as i16; 2], [-1; 2]],
        }
    };
    let mine = sample(world.rank());
    assert_eq!(
        world.pack(&mine).len(),
        2 * (4 + 8 + 1 + 1 + 1 + 2 + 1 + 8) + 8
    );
    let mut all = vec![Named::default(); world.size() as usize];
    world.all_gather_into(&mine, &mut all[..]);
    assert!(all.iter().copied().eq((0..world.size()).map(sample)));
    let next = world.process_at_rank((world.rank() + 1) % world.size());
    let previous = world.process_at_rank((world.rank() + world.size() - 1) % world.size());
    let (theirs, _): (Named, _) = tercio::point_to_point::send_receive(&mine, &next, &previous);
    assert_eq!(theirs, sample(previous.rank()));
    next.send(&[Unit; 4]);
    assert_eq!(
        previous.receive_vec::<Unit>().1.source_rank(),
        previous.rank()
    );
    // Equal items in equal order go together, however they lie in memory.
    next.send(&mine.tuple[0].3.1);
    let mut bytes = Vec::new();
    bytes.extend(world.pack(&sample(previous.rank()).tuple[0].3.1));
    let (theirs, status) = previous.receive::<ByHand>();
    assert_eq!(status.count(ByHand::equivalent_datatype()), 1);
    assert_eq!(world.pack(&theirs), bytes);
}

#[tercio::test(np = [1, 2])]
fn buffers_of_any_type(world: SimpleCommunicator) {
    let mut numbers = [1_u16, 2, 3];
    let shared = DynBuffer::new(&numbers);
    assert!(shared.is::<u16>() && !shared.is::<i16>());
    assert_eq!(
        (shared.len(), shared.is_empty(), shared.downcast::<i16>()),
        (3, false, None)
    );
    assert_eq!(shared.downcast::<u16>(), Some(&[1, 2, 3][..]));
    let me = world.this_process();
    me.send(&shared);
    let mut room = [0_u16; 3];
    {
        let mut buffer = DynBufferMut::new(&mut room);
        me.receive_into(&mut buffer.reborrow_mut());
        assert_eq!(buffer.reborrow().downcast::<u16>(), Some(&[1, 2, 3][..]));
        assert_eq!(buffer.downgrade().len(), 3);
    }
    // SAFETY: as many elements of their type as there are.
    let raw =
        unsafe { DynBufferMut::from_raw(numbers.as_mut_ptr(), 2, u16::equivalent_datatype()) };
    raw.downcast::<u16>().unwrap().fill(9);
    assert_eq!((numbers, room), ([9, 9, 3], [1, 2, 3]));
    let distance = address_of(&numbers[2]) - address_of(&numbers[0]);
    assert_eq!(distance, 4);
    let _: SystemDatatype = usize::equivalent_datatype();
}

#[cfg(feature = "complex")]
#[tercio::test(np = [1, 3])]
fn complex_numbers(world: SimpleCommunicator) {
    use num_complex::{Complex32, Complex64};
    use tercio::collective::SystemOperation;
    let (rank, size) = (world.rank(), world.size());
    let mine = Complex64::new(f64::from(rank + 1), -1.0);
    let (mut sum, mut product) = (Complex64::default(), Complex64::default());
    world.all_reduce_into(&mine, &mut sum, SystemOperation::sum());
    world.all_reduce_into(&mine, &mut product, SystemOperation::product());
    let all = (0..size).map(|rank| Complex64::new(f64::from(rank + 1), -1.0));
    assert_eq!((sum, product), (all.clone().sum(), all.product()));
    let me = world.this_process();
    me.send(&[Complex32::new(0.5, 2.0), Complex32::i()]);
    assert_eq!(me.receive_vec::<Complex32>().0[1], Complex32::i());
}
