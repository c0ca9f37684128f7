//! Nonblocking messages.
use std::time::Duration;
use tercio::request::{CancelGuard, WaitGuard, scope, wait_any};
use tercio::topology::SimpleCommunicator;
use tercio::traits::*;

#[tercio::test(np = [1, 2, 3, 4, 7])]
fn all_modes(world: SimpleCommunicator) {
    let (rank, size) = (world.rank(), world.size());
    let next = world.process_at_rank((rank + 1) % size);
    let previous = world.process_at_rank((rank + size - 1) % size);
    let sent: Vec<Vec<i32>> = (0..4)
        .map(|mode| vec![rank * 10 + mode; 1 << (mode * 5)])
        .collect();
    let mut got: Vec<Vec<i32>> = sent.iter().map(|sent| vec![0; sent.len()]).collect();
    scope(|scope| {
        let mut receives = Vec::new();
        for (tag, buffer) in got.iter_mut().enumerate() {
            receives.push(previous.immediate_receive_into_with_tag(
                scope,
                &mut buffer[..],
                tag as i32,
            ));
        }
        world.barrier();
        let ready = &sent[2][..];
        let sends = [
            next.immediate_send_with_tag(scope, &sent[0][..], 0),
            next.immediate_synchronous_send_with_tag(scope, &sent[1][..], 1),
            // SAFETY: all receives are posted.
            unsafe { next.immediate_ready_send_with_tag(scope, ready, 2) },
            next.immediate_synchronous_send_with_tag(scope, &sent[3][..], 3),
        ];
        for (tag, receive) in receives.into_iter().enumerate() {
            let data = receive.wait_for_data();
            assert!(
                data.iter()
                    .all(|word| *word == previous.rank() * 10 + tag as i32)
            );
        }
        for send in sends {
            send.wait_without_status();
        }
    });
}

#[tercio::test(np = [1, 2, 3])]
fn probes(world: SimpleCommunicator) {
    let (rank, size) = (world.rank(), world.size());
    let next = world.process_at_rank((rank + 1) % size);
    let previous = world.process_at_rank((rank + size - 1) % size);
    assert!(previous.immediate_probe_with_tag(9).is_none());
    assert!(
        world
            .any_process()
            .immediate_matched_probe_with_tag(9)
            .is_none()
    );
    world.barrier();
    next.send_with_tag(&[rank; 3], 9);
    next.send_with_tag(&[rank + 1; 2], 9);
    let status = loop {
        if let Some(status) = previous.immediate_probe_with_tag(9) {
            break status;
        }
    };
    assert_eq!(status.count(i32::equivalent_datatype()), 3);
    let (message, status) = world.any_process().matched_probe();
    assert!(!message.is_no_proc());
    assert_eq!((status.source_rank(), status.tag()), (previous.rank(), 9));
    // It is out of matching: the next one comes for others first.
    assert_eq!(previous.receive_vec::<i32>().0, [previous.rank() + 1; 2]);
    let mut three = [0; 3];
    scope(|scope| {
        message
            .immediate_matched_receive_into(scope, &mut three)
            .wait();
    });
    assert_eq!(three, [previous.rank(); 3]);
}

#[tercio::test(np = [1, 2, 3])]
fn futures(world: SimpleCommunicator) {
    let (rank, size) = (world.rank(), world.size());
    let next = world.process_at_rank((rank + 1) % size);
    let previous = world.process_at_rank((rank + size - 1) % size);
    let mut future = previous.immediate_receive_with_tag::<u64>(1);
    for _ in 0..3 {
        future = future.r#try().expect_err("nobody has sent yet");
    }
    let later = world.any_process().immediate_receive_with_tag::<f32>(2);
    world.barrier();
    next.send_with_tag(&(rank as u64), 1);
    next.send_with_tag(&0.5_f32, 2);
    let (value, status) = loop {
        match future.r#try() {
            Ok(done) => break done,
            Err(open) => future = open,
        }
    };
    assert_eq!(
        (value, status.source_rank()),
        (previous.rank() as u64, previous.rank())
    );
    assert_eq!(later.get().0, 0.5);
}

/// Rank n sends after n others have, and the requests come back in that order.
#[tercio::test(np = [2, 3, 4])]
fn first_come(world: SimpleCommunicator) {
    let size = world.size();
    if world.rank() != 0 {
        let turn = world.process_at_rank(world.rank() - 1).receive::<i32>().0;
        assert_eq!(turn, world.rank());
        world.process_at_rank(0).send_with_tag(&(turn * 11), 1);
        if turn + 1 < size {
            // The root must have seen this one before the next is sent.
            world.process_at_rank(0).receive::<i32>();
            world.process_at_rank(turn + 1).send(&(turn + 1));
        }
        return;
    }
    let mut results = vec![0; size as usize];
    scope(|scope| {
        let mut open: Vec<_> = results[1..]
            .iter_mut()
            .zip(1..)
            .map(|(result, rank)| {
                world
                    .process_at_rank(rank)
                    .immediate_receive_into_with_tag(scope, result, 1)
            })
            .collect();
        world.process_at_rank(1).send(&1);
        for rank in 1..size {
            let (place, status) = wait_any(&mut open).unwrap();
            assert_eq!((place, status.source_rank()), (0, rank));
            if rank + 1 < size {
                world.process_at_rank(rank).send(&0);
            }
        }
        assert!(wait_any(&mut open).is_none());
    });
    assert!(results.into_iter().eq((0..size).map(|rank| rank * 11)));
}

#[tercio::test(np = 2)]
fn guards_wait_and_cancel(world: SimpleCommunicator) {
    let other = world.process_at_rank(1 - world.rank());
    let (mine, mut theirs, mut never) = ([world.rank(); 40_000], [0; 40_000], 0);
    scope(|scope| {
        let _cancelled =
            CancelGuard::from(other.immediate_receive_into_with_tag(scope, &mut never, 99));
        let _received = WaitGuard::from(other.immediate_receive_into(scope, &mut theirs));
        let sent = WaitGuard::from(other.immediate_send(scope, &mine));
        std::thread::sleep(Duration::from_millis(1));
        // A guard gives its request back.
        tercio::request::Request::from(sent).wait();
    });
    assert_eq!((theirs, never), ([1 - world.rank(); 40_000], 0));
}
