//! Blocking messages in all modes.
use tercio::environment::Universe;
use tercio::point_to_point::*;
use tercio::request::scope;
use tercio::topology::SimpleCommunicator;
use tercio::traits::*;

#[tercio::test(np = [1, 2, 3, 4, 7])]
fn exchanges(world: SimpleCommunicator) {
    let (rank, size) = (world.rank(), world.size());
    let next = world.process_at_rank((rank + 1) % size);
    let previous = world.process_at_rank((rank + size - 1) % size);
    let p = previous.rank();

    let (theirs, status): (i32, _) = send_receive(&rank, &next, &previous);
    assert_eq!((theirs, status.source_rank(), status.tag()), (p, p, 0));
    let (theirs, status): (i64, _) =
        send_receive_with_tags(&i64::from(rank), &next, 5, &world.any_process(), 5);
    assert_eq!((theirs, status.tag()), (i64::from(p), 5));

    // An array is a message as a whole.
    let mut three = [0; 3];
    send_receive_into(&[rank, rank + 1, rank + 2], &next, &mut three, &previous);
    assert_eq!(three, [p, p + 1, p + 2]);
    let mut room = [-1; 5];
    let status = send_receive_into_with_tags(&three, &next, 1, &mut room[..], &previous, 1);
    assert_eq!(status.count(i32::equivalent_datatype()), 3);
    assert_eq!(room[3..], [-1, -1]);

    let mut word = rank;
    send_receive_replace_into(&mut word, &next, &previous);
    assert_eq!(word, p);
    let mut words = vec![rank; 50_000];
    send_receive_replace_into_with_tags(&mut words[..], &next, i32::MAX, &previous, i32::MAX);
    assert!(words.iter().all(|word| *word == p));

    // And with oneself.
    let me = world.this_process();
    me.send(&[1.5, 2.5]);
    assert_eq!(me.receive_vec::<f64>().0, [1.5, 2.5]);
}

#[tercio::test(np = [2, 3, 4, 7])]
fn modes(world: SimpleCommunicator) {
    let (rank, size) = (world.rank(), world.size());
    let next = world.process_at_rank((rank + 1) % size);
    let previous = world.process_at_rank((rank + size - 1) % size);
    let data: Vec<u16> = (0..1000).collect();
    let mut got = vec![0; 1000];
    scope(|scope| {
        let receive = previous.immediate_receive_into_with_tag(scope, &mut got[..], 4);
        // All receives are posted.
        world.barrier();
        // SAFETY: see above.
        unsafe { next.ready_send_with_tag(&data[..], 4) };
        assert_eq!(receive.wait().count(u16::equivalent_datatype()), 1000);
    });
    assert_eq!(got, data);

    // A synchronous send is over only when it is received.
    if rank == 0 {
        next.synchronous_send(&data[..10]);
        next.send_with_tag(&7, 1);
        previous.receive_vec::<u16>();
    } else {
        let (theirs, _) = previous.receive_vec::<u16>();
        assert_eq!(theirs, data[..10]);
        next.synchronous_send_with_tag(&data[..10], 0);
    }
    if rank == 1 {
        assert_eq!(previous.receive_with_tag::<i32>(1).0, 7);
    }
}

#[tercio::test(np = [1, 2, 3])]
fn buffered(mut universe: Universe) {
    const SIZE: usize = 10 << 20;
    assert_eq!(universe.buffer_size(), 0);
    universe.set_buffer_size(SIZE);
    assert_eq!(universe.buffer_size(), SIZE);
    let world = universe.world();
    let next = world.process_at_rank((world.rank() + 1) % world.size());
    let previous = world.process_at_rank((world.rank() + world.size() - 1) % world.size());
    let large = vec![world.rank(); 1 << 20];
    // Nobody receives yet, and still it is over.
    next.buffered_send(&large[..]);
    next.buffered_send_with_tag(&[1_u8; 100][..], 2);
    let word = 3;
    scope(|scope| {
        next.immediate_buffered_send(scope, &word).wait();
    });
    world.barrier();
    assert!(
        previous
            .receive_vec_with_tag::<i32>(0)
            .0
            .iter()
            .all(|word| *word == previous.rank())
    );
    assert_eq!(previous.receive_vec::<u8>().0, [1; 100]);
    assert_eq!(previous.receive::<i32>().0, 3);
    universe.detach_buffer();
    assert_eq!(universe.buffer_size(), 0);
}

#[tercio::test(np = [1, 2])]
fn packed(world: SimpleCommunicator) {
    let (numbers, words) = ([1.5_f32, -2.5], [7_u64, 8, 9]);
    let room = world.pack_size(2, &f32::equivalent_datatype())
        + world.pack_size(3, &u64::equivalent_datatype());
    let mut bytes = vec![0; room as usize];
    let middle = world.pack_into(&numbers, &mut bytes, 0);
    assert_eq!(world.pack_into(&words[..], &mut bytes, middle), room);
    assert_eq!(bytes[..middle as usize], world.pack(&numbers));
    // It may travel.
    let other = world.process_at_rank((world.rank() + 1) % world.size());
    other.send(&bytes[..]);
    let (bytes, _) = world.any_process().receive_vec::<u8>();
    let (mut numbers_there, mut words_there) = ([0.0_f32; 2], [0_u64; 3]);
    // SAFETY: packed so above.
    unsafe {
        let middle = world.unpack_into(&bytes, &mut numbers_there, 0);
        assert_eq!(world.unpack_into(&bytes, &mut words_there, middle), room);
    }
    assert_eq!((numbers_there, words_there), (numbers, words));
}

#[tercio::test(np = [2, 3, 4, 7])]
fn a_barrier_holds_all_back(world: SimpleCommunicator) {
    let (rank, size) = (world.rank(), world.size());
    let mut name = std::process::id();
    world.process_at_rank(0).broadcast_into(&mut name);
    let folder = std::env::temp_dir().join(format!("tercio-barrier-{name}"));
    std::fs::create_dir_all(&folder).unwrap();
    for round in 0..20 {
        let mark = |rank: i32| folder.join(format!("{round}-{rank}"));
        std::fs::write(mark(rank), "").unwrap();
        world.barrier();
        for other in 0..size {
            assert!(
                mark(other).exists(),
                "rank {other} had not come to barrier {round}"
            );
        }
    }
    world.barrier();
    if rank == 0 {
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
