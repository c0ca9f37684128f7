//! Contributions that lie in a member's heap, and are read there.
use super::*;

/// A buffer in this rank's heap, or an ordinary one.
enum Lent {
    Heap(crate::job::HeapBlock, usize),
    Own(Vec<u8>),
}

impl Lent {
    fn new(engine: &Engine, in_heap: bool, bytes: usize) -> Lent {
        match engine.take_from_heap(bytes) {
            Some(block) if in_heap => Lent::Heap(block, bytes),
            _ => Lent::Own(vec![0; bytes]),
        }
    }

    fn bytes(&mut self) -> &mut [u8] {
        match self {
            Lent::Heap(block, len) => &mut block.bytes()[..*len],
            Lent::Own(bytes) => bytes,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("PROPTEST_CASES").map_or(12, |_| ProptestConfig::default().cases), max_shrink_iters: 20, ..ProptestConfig::default() })]

    /// Some members contribute from their heaps, in place, some from other memory. Each writes its buffer again as soon as a call is over: results are those of
    /// what was in it during the call.
    #[test]
    fn contributions_in_place_are_what_they_were(size in 2..=4_usize, shared: u32, long: u32, calls in prop::collection::vec((0..4_usize, 0..4_usize, 8_000..200_000_usize), 1..12)) {
        let operator = Operator::ProductI32;
        let places = ranks(size, 2, |engine| {
            let world = with_cells(engine, long);
            let (rank, is_shared) = (engine.rank(), shared >> engine.rank() & 1 == 1);
            world.choice.lock().unwrap().force(true);
            let mut own = Lent::new(engine, is_shared, 200_000);
            let mut in_place = 0;
            for (number, &(kind, root, bytes)) in calls.iter().enumerate() {
                let (bytes, root) = (bytes / 4 * 4, root % size);
                let all: Vec<Vec<u8>> = (0..size).map(|r| operator.contribution(r, number, bytes / 4)).collect();
                own.bytes()[..bytes].copy_from_slice(&all[rank]);
                let (op, element) = operator.op();
                let mut result = vec![0; if kind == 3 { bytes * size } else { bytes }];
                {
                    let mut room = RecvSpan::bytes_of(&mut result);
                    let send = SendSpan::bytes_of(&own.bytes()[..bytes]);
                    in_place += usize::from(engine.place_in_heap(&send).is_some());
                    let recv = (rank == root).then_some(&room);
                    let call = match kind {
                        0 => {
                            if rank == root {
                                room = RecvSpan::bytes_of(&mut own.bytes()[..bytes]);
                            }
                            Call::Broadcast { root, span: &room }
                        }
                        1 => Call::Reduce { root, send: &send, recv, op: &op, element },
                        2 => Call::AllReduce { send: &send, recv: &room, op: &op, element },
                        _ => Call::Gather { root, send: &send, recv },
                    };
                    run(engine, &world, call, here()).unwrap();
                }
                own.bytes().fill(0xa5);
                let want = match kind {
                    0 if rank != root => Some(all[root].clone()),
                    1 if rank == root => Some(operator.left_fold(&all)),
                    2 => Some(operator.left_fold(&all)),
                    3 if rank == root => Some(all.concat()),
                    _ => None,
                };
                if let Some(want) = want {
                    assert!(result == want, "call {number} of {bytes} bytes, kind {kind}, rank {rank}");
                }
            }
            run(engine, &world, Call::Barrier, here()).unwrap();
            (is_shared, in_place)
        });
        for (is_shared, in_place) in places {
            prop_assert_eq!(in_place, if is_shared { calls.len() } else { 0 });
        }
    }
}

/// Readers of a shared contribution map its heap when they are asked for it by the first one, and the second one is read in place.
#[test]
fn the_second_contribution_is_in_place() {
    let bytes = 20_000;
    ranks(3, 2, |engine| {
        let world = with_cells(engine, 0);
        world.choice.lock().unwrap().force(true);
        let cells = world.cells().unwrap();
        let mut own = Lent::new(engine, engine.rank() == 1, bytes);
        for call in 0..3 {
            if engine.rank() == 1 {
                own.bytes().fill(call);
            }
            let span = RecvSpan::bytes_of(own.bytes());
            run(
                engine,
                &world,
                Call::Broadcast {
                    root: 1,
                    span: &span,
                },
                here(),
            )
            .unwrap();
            assert!(own.bytes().iter().all(|&byte| byte == call));
            run(engine, &world, Call::Barrier, here()).unwrap();
            for member in 0..3 {
                for owner in 0..3 {
                    assert_eq!(cells.has_mapped(member, owner), owner == 1 && member != 1);
                }
            }
            // Buffers are taken with the first copy: the others never copied anything.
            let has_buffers = world
                .has_buffers
                .load(core::sync::atomic::Ordering::Relaxed);
            assert_eq!(has_buffers, engine.rank() == 1);
            run(engine, &world, Call::Barrier, here()).unwrap();
        }
    });
}
