//! What travels is the packed typemap.
use tercio::collective::UserOperation;
use tercio::datatype::{MutView, UserDatatype, View};
use tercio::traits::*;

#[derive(Equivalence, Clone, Copy, Debug, Default, PartialEq)]
struct Inner(u8, [i16; 3], (f32, bool));

#[derive(Equivalence, Clone, Copy, Debug, Default, PartialEq)]
struct Outer {
    flag: bool,
    inner: [Inner; 2],
    weight: f64,
}

#[derive(Equivalence, Clone, Copy, Debug, Default, PartialEq)]
struct Nothing;

fn sample(i: i16) -> Outer {
    let inner = Inner(i as u8, [i, -i, 2 * i], (f32::from(i) / 2.0, i % 2 == 0));
    Outer {
        flag: i % 3 == 0,
        inner: [inner, Inner::default()],
        weight: f64::from(i),
    }
}

#[test]
fn structs_travel_without_padding_and_come_out_whole() {
    tercio::testing::ranks(2, |world| {
        let other = world.process_at_rank(1 - world.rank());
        let all: Vec<Outer> = (0..100).map(sample).collect();
        assert_eq!(world.pack(&all[0]).len(), 1 + 2 * (1 + 6 + 4 + 1) + 8);
        if world.rank() == 0 {
            other.send(&all[..]);
            other.send(&Nothing);
        } else {
            assert_eq!(other.receive_vec::<Outer>().0, all);
            assert_eq!(other.receive::<Nothing>().0, Nothing);
        }
        let mut one = if world.rank() == 1 {
            sample(7)
        } else {
            Outer::default()
        };
        world.process_at_rank(1).broadcast_into(&mut one);
        assert_eq!(one, sample(7));
        let mut both = [Outer::default(); 2];
        world.all_gather_into(&sample(world.rank() as i16), &mut both);
        assert_eq!(both, [sample(0), sample(1)]);
    });
}

#[test]
fn a_struct_of_equal_items_is_an_array() {
    #[derive(Equivalence)]
    struct Point {
        x: i32,
        y: i32,
        z: i32,
    }
    tercio::testing::ranks(1, |world| {
        let me = world.this_process();
        me.send(&[Point { x: 1, y: 2, z: 3 }, Point { x: 4, y: 5, z: 6 }]);
        assert_eq!(me.receive_vec::<i32>().0, [1, 2, 3, 4, 5, 6]);
        me.send(&[7, 8, 9]);
        let point = me.receive::<Point>().0;
        assert_eq!((point.x, point.y, point.z), (7, 8, 9));
    });
}

#[test]
fn columns_become_rows() {
    tercio::testing::ranks(2, |world| {
        let other = world.process_at_rank(1 - world.rank());
        let matrix: Vec<i32> = (0..12).collect(); // 3 x 4
        let column = UserDatatype::vector(3, 1, 4, &i32::equivalent_datatype());
        if world.rank() == 0 {
            // SAFETY: a column of a 3 x 4 matrix.
            let view = unsafe { View::with_count_and_datatype(&matrix[1..], 1, &column) };
            other.send(&view);
            other.send(&[10, 20, 30]);
        } else {
            assert_eq!(other.receive_vec::<i32>().0, [1, 5, 9]);
            let mut copy = matrix.clone();
            {
                // SAFETY: as above.
                let mut view =
                    unsafe { MutView::with_count_and_datatype(&mut copy[..], 1, &column) };
                other.receive_into(&mut view);
            }
            assert_eq!(copy, [10, 1, 2, 3, 20, 5, 6, 7, 30, 9, 10, 11]);
        }
    });
}

#[test]
fn a_datatype_may_leave_out_the_last_field() {
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    #[repr(C)]
    struct Cached {
        value: u32,
        // Not sent; 8 bytes further than the datatype's extent says.
        cache: [u32; 2],
    }
    // SAFETY: the value at its offset; the cache may be zero.
    unsafe impl Equivalence for Cached {
        type Out = UserDatatype;
        fn equivalent_datatype() -> UserDatatype {
            UserDatatype::structured(&[1], &[0], &[u32::equivalent_datatype()])
        }
    }
    tercio::testing::ranks(1, |world| {
        let me = world.this_process();
        me.send(&[1, 2, 3].map(|value| Cached {
            value,
            cache: [9; 2],
        }));
        let received = me.receive_vec::<Cached>().0;
        assert_eq!(
            received,
            [1, 2, 3].map(|value| Cached {
                value,
                cache: [0; 2]
            })
        );
    });
}

#[test]
fn a_users_operation_gets_structs_as_they_are_in_memory() {
    tercio::testing::ranks(3, |world| {
        let heavier = UserOperation::associative(|x, y| {
            let (x, y) = (
                x.downcast::<Outer>().unwrap(),
                y.downcast::<Outer>().unwrap(),
            );
            for (x, y) in x.iter().zip(y) {
                if x.weight >= y.weight {
                    *y = *x;
                }
            }
        });
        let mine: Vec<Outer> = (0..1000)
            .map(|i| sample((i * 7 + 13 * world.rank() as i16) % 50))
            .collect();
        let mut most = vec![Outer::default(); 1000];
        world.all_reduce_into(&mine[..], &mut most[..], &heavier);
        for (i, most) in (0..1000).zip(most) {
            let weights = (0..3).map(|rank| (i * 7 + 13 * rank) % 50);
            assert_eq!(most, sample(weights.max().unwrap()));
        }
    });
}

#[test]
fn the_derive_finds_the_library_where_it_is_said_to_be() {
    mod elsewhere {
        pub use tercio as renamed;
    }
    #[derive(elsewhere::renamed::traits::Equivalence)]
    #[mpi(crate = "elsewhere::renamed")]
    struct Pair(#[allow(dead_code)] i8, #[allow(dead_code)] u64);
    tercio::testing::ranks(1, |world| {
        assert_eq!(world.pack(&Pair(1, 2)).len(), 9);
    });
}
