//! Numbers beyond `i32::MAX`: a `Count` that cannot say one is a panic with the number, and what needs no `Count` works.
//!
//! No test needs the memory: a unit struct has a size of 0 in memory and on the way, and pages of zeros that nobody touches are not there.
use super::sentences::{panic_of, says};
use tercio::datatype::{
    DynBuffer, DynBufferMut, MutView, Partition, PartitionMut, UserDatatype, View,
};
use tercio::traits::*;
use tercio::{Count, ErrorClass, prelude::*};

/// More than a `Count` can say.
const MANY: usize = 3_000_000_000;
const MOST: Count = Count::MAX;

/// It has no bytes, here and on the way.
#[derive(Clone, Copy)]
struct Nothing;

// SAFETY: no bytes are described, and there are none.
unsafe impl Equivalence for Nothing {
    type Out = UserDatatype;
    fn equivalent_datatype() -> UserDatatype {
        UserDatatype::contiguous(0, &u8::equivalent_datatype())
    }
}

#[derive(Equivalence)]
struct Seven {
    _bytes: [u8; 7],
}

/// Many of them, in no memory.
fn nothings() -> Vec<Nothing> {
    let nothings = (Box::new([Nothing; MANY]) as Box<[Nothing]>).into_vec();
    assert_eq!(size_of_val(&nothings[..]), 0);
    nothings
}

#[test]
fn a_buffer_says_its_count_or_why_it_cannot() {
    let _universe = tercio::initialize().unwrap();
    let mut nothings = nothings();
    let parts = ["3000000000 elements", "2147483647", "in parts"];
    says(&panic_of(|| nothings.count()), &parts);
    says(&panic_of(|| nothings[..].count()), &parts);
    says(&panic_of(|| [Nothing; MANY].count()), &parts);
    says(&panic_of(|| DynBuffer::new(&nothings).len()), &parts);
    says(&panic_of(|| DynBufferMut::new(&mut nothings).len()), &parts);
    assert_eq!(nothings[..MOST as usize].count(), MOST);
    assert_eq!(
        DynBuffer::new(&nothings[..MOST as usize]).len(),
        MOST as usize
    );
}

#[test]
fn packed_sizes_and_positions_are_counts() {
    tercio::testing::ranks(1, |world| {
        let double = f64::equivalent_datatype();
        assert_eq!(world.pack_size(MOST / 8, &double), MOST / 8 * 8);
        let text = panic_of(|| world.pack_size(MOST / 8 + 1, &double));
        says(&text, &["268435456 elements of 8 packed bytes", "fewer"]);
        says(&panic_of(|| world.pack_size(-1, &double)), &["-1 elements"]);
        let text = panic_of(|| world.pack_into(&5_i32, &mut [0; 8], MOST));
        says(&text, &["position 2147483647 of a buffer of 8"]);
        let text = panic_of(|| world.pack_into(&5_i32, &mut [0; 8], -4));
        says(&text, &["position -4"]);
        // SAFETY: any bytes are an i32.
        let text = panic_of(|| unsafe { world.unpack_into(&[0; 8], &mut 0_i32, MOST) });
        says(&text, &["2147483647"]);
        // What has no bytes is packed to none, however many there are.
        assert_eq!(world.pack(&nothings()), []);
        assert_eq!(world.pack_into(&nothings(), &mut [0; 8], 3), 3);
    });
}

#[test]
fn parts_do_not_wrap_around() {
    let mut few = [0_u8; 8];
    for (count, displ) in [(MOST, MOST), (1, MOST), (MOST, 1)] {
        let text = panic_of(|| Partition::new(&few, [count], [displ]).counts().len());
        says(&text, &[&format!("{count} elements from {displ} on")]);
        let text = panic_of(|| PartitionMut::new(&mut few, [count], [displ]).counts().len());
        says(&text, &["but the buffer has 8"]);
    }
    // The last element of a part may be beyond what a Count can say.
    let mut nothings = nothings();
    let far = 800_000_000;
    assert_eq!(Partition::new(&nothings, [MOST], [far]).displs(), [far]);
    let text = panic_of(|| Partition::new(&nothings, [MOST], [MOST]).counts().len());
    says(&text, &["but the buffer has 3000000000"]);
    let text = panic_of(|| {
        let parts = PartitionMut::new(&mut nothings, [MOST, 5], [far, MOST]);
        parts.counts().len()
    });
    says(&text, &["overlap (elements 800000000..2947483647 and"]);
}

#[test]
fn many_elements_go_through_calls_that_need_no_count() {
    tercio::testing::ranks(2, |world| {
        let (mine, mut theirs) = (nothings(), nothings());
        let other = world.process_at_rank(1 - world.rank());
        tercio::point_to_point::send_receive_into(&mine, &other, &mut theirs, &other);
        world.process_at_rank(0).broadcast_into(&mut theirs);
        world.all_gather_into(&mine[..MANY / 2], &mut theirs);
        other.send(&mine);
        assert_eq!(other.receive_vec::<Nothing>().0.len(), 0); // of no bytes, nobody knows how many
        world.broadcast_vec(0, &mut theirs);
        assert_eq!(theirs.len(), MANY);
    });
}

#[test]
fn a_status_says_its_count_or_why_it_cannot() {
    tercio::testing::ranks(1, |world| {
        // Pages of zeros: those that are looked at are one page of the kernel's.
        let zeros = vec![0_u8; MANY];
        let me = world.this_process();
        tercio::request::scope(|scope| {
            let sending = me.immediate_send(scope, &zeros[..]);
            let status = me.probe();
            let text = panic_of(|| status.count(u8::equivalent_datatype()));
            says(&text, &["3000000000 elements", "elements::<T>()"]);
            assert_eq!(status.elements::<u8>(), Some(MANY));
            assert_eq!(status.elements::<Seven>(), None);
            assert_eq!(status.count(u16::equivalent_datatype()), 1_500_000_000);
            assert!(status.count(f64::equivalent_datatype()) > 0);
            // Eleven bytes do not divide them: the count is undefined, as in MPI.
            let eleven = UserDatatype::contiguous(11, &u8::equivalent_datatype());
            assert!(status.count(&eleven) < 0);
            // It does not fit; nothing of it is copied.
            let error = me.try_receive_into(&mut [0_u8; 16]).unwrap_err();
            assert_eq!(error.class(), ErrorClass::Truncate);
            assert_eq!(error.size(), Some(MANY));
            sending.wait();
        });
    });
}

#[test]
fn datatypes_and_views_of_counts_that_make_no_sense() {
    tercio::testing::ranks(1, |_| {
        let byte = u8::equivalent_datatype();
        let text = panic_of(|| UserDatatype::contiguous(-1, &byte));
        says(&text, &["contiguous", "-1"]);
        let text = panic_of(|| UserDatatype::vector(2, Count::MIN, 1, &byte));
        says(&text, &["-2147483648"]);
        let (from, mut to) = ([0_u8; 4], [0_u8; 4]);
        // SAFETY: no element is looked at.
        let text = panic_of(|| unsafe { View::with_count_and_datatype(&from, -1, &byte).count() });
        says(&text, &["a View of -1 elements", "negative"]);
        // SAFETY: as above.
        let text =
            panic_of(|| unsafe { MutView::with_count_and_datatype(&mut to, -7, &byte).count() });
        says(&text, &["-7 elements"]);
    });
}
