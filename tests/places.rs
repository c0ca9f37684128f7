//! Whatever is wrong with a call, the panic names the place in the program that made it: each public call, asked after finalize or with
//! arguments that cannot be. In a process of its own, which takes part in a job and leaves it.
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use tercio::collective::{SystemOperation, UserOperation, reduce_local_into};
use tercio::datatype::{DynBuffer, MutView, Partition, PartitionMut, UserDatatype, View};
use tercio::point_to_point::{
    send_receive, send_receive_into, send_receive_into_with_tags, send_receive_replace_into,
    send_receive_replace_into_with_tags, send_receive_with_tags,
};
use tercio::request::scope;
use tercio::topology::{Color, Process, SimpleCommunicator};
use tercio::traits::*;

/// Where the last panic was.
static PLACE: Mutex<(String, u32)> = Mutex::new((String::new(), 0));

/// Each call panics, here and not in the library.
macro_rules! panic_here {
    ($($call:expr;)*) => {$({
        let panicked = catch_unwind(AssertUnwindSafe(|| { let _ = $call; })).is_err();
        assert!(panicked, "{} does not panic", stringify!($call));
        let place = PLACE.lock().unwrap().clone();
        assert_eq!(place.0, file!(), "{} panics elsewhere, at line {}", stringify!($call), place.1);
    })*};
}

#[test]
fn a_wrong_call_is_told_at_its_own_place() {
    let universe = tercio::initialize().unwrap();
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().expect("a place");
        *PLACE.lock().unwrap() = (place.file().to_string(), place.line());
    }));
    let world = universe.world();
    let me = world.this_process();
    wrong_arguments(&world);
    me.send(&1);
    let (message, _) = me.matched_probe();
    drop(universe);
    panic_here! { message.matched_receive::<i32>(); }
    topology(&world);
    messages(&world, me);
    collectives(&world);
    rooted(me);
    assert!(tercio::initialize().is_none());
}

/// What is wrong whether or not there is a job.
fn wrong_arguments(world: &SimpleCommunicator) {
    let me = world.this_process();
    let i32s = i32::equivalent_datatype();
    let (far, mut room) = ([i32::MAX; 1], [0; 1]);
    panic_here! {
        world.process_at_rank(1);
        Color::with_value(-1);
        me.send_with_tag(&1, -1);
        me.receive_with_tag::<i32>(-1);
        Partition::new(&[1, 2], vec![3], vec![0]);
        PartitionMut::new(&mut [1, 2], vec![1, 1], vec![0, 0]);
        UserDatatype::contiguous(-1, &i32s);
        UserDatatype::vector(-1, 1, 1, &i32s);
        UserDatatype::heterogeneous_vector(1, -1, 1, &i32s);
        UserDatatype::indexed(&[-1], &[0], &i32s);
        UserDatatype::heterogeneous_indexed(&[1], &[0, 1], &i32s);
        UserDatatype::indexed_block(-1, &[0], &i32s);
        UserDatatype::heterogeneous_indexed_block(-1, &[0], &i32s);
        UserDatatype::structured(&[1], &[0, 4], &[i32s]);
        // SAFETY: the call is refused before it does anything.
        unsafe { View::with_count_and_datatype(&far[..], -1, &i32s) };
        // SAFETY: the call is refused before it does anything.
        unsafe { MutView::with_count_and_datatype(&mut room[..], -1, &i32s) };
        // SAFETY: the call is refused before it does anything.
        unsafe { DynBuffer::from_raw(core::ptr::null::<i32>(), 1, i32s) };
        world.pack_size(i32::MAX, &i32s);
        world.pack_into(&1, &mut [0; 3], 0);
        // SAFETY: the call is refused before it does anything.
        unsafe { world.unpack_into(&[0; 3], &mut 1, 0) };
        me.buffered_send(&1);
        reduce_local_into(&[1, 2][..], &mut [0; 1][..], SystemOperation::sum());
        world.all_gather_into(&[1, 2], &mut [0; 1]);
        world.all_to_all_into(&[1, 2], &mut [0; 1]);
        me.gather_into(&1);
        me.scatter_into(&mut 1);
        me.reduce_into(&1, SystemOperation::sum());
        me.gather_into_root(&[1, 2], &mut [0; 1]);
        me.scatter_into_root(&[1, 2], &mut [0; 1]);
        world.all_reduce_into(&1.5, &mut 0.0, SystemOperation::bitwise_or());
        world.scan_into(&1.5, &mut 0, SystemOperation::sum());
        world.create_cartesian_communicator(&[2], &[false], false);
        world.cartesian_map(&[2], &[false]);
    }
}

fn topology(world: &SimpleCommunicator) {
    panic_here! {
        SimpleCommunicator::world();
        SimpleCommunicator::self_comm();
        world.size();
        world.rank();
        world.target_size();
        world.this_process();
        world.process_at_rank(0);
        world.duplicate();
        world.split_by_color(Color::with_value(0));
        world.split_by_color_with_key(Color::with_value(0), 1);
        world.split_shared(0);
        world.group();
        world.set_name("late");
        world.get_name();
        world.create_cartesian_communicator(&[1], &[false], false);
    }
}

fn messages(world: &SimpleCommunicator, me: Process<'_>) {
    let any = world.any_process();
    let (mut x, mut y) = (0, [0; 2]);
    panic_here! {
        any.probe();
        any.probe_with_tag(1);
        any.matched_probe();
        any.matched_probe_with_tag(1);
        any.immediate_probe();
        any.immediate_probe_with_tag(1);
        any.immediate_matched_probe();
        any.immediate_matched_probe_with_tag(1);
        any.receive::<i32>();
        any.receive_with_tag::<i32>(1);
        any.receive_into(&mut x);
        any.receive_into_with_tag(&mut x, 1);
        any.receive_vec::<i32>();
        any.receive_vec_with_tag::<i32>(1);
        any.immediate_receive::<i32>();
        any.immediate_receive_with_tag::<i32>(1);
        scope(|s| any.immediate_receive_into(s, &mut x).wait());
        scope(|s| any.immediate_receive_into_with_tag(s, &mut y, 1).wait());
        me.is_self();
        me.send(&1);
        me.send_with_tag(&1, 1);
        me.synchronous_send(&1);
        me.synchronous_send_with_tag(&1, 1);
        me.buffered_send(&1);
        me.buffered_send_with_tag(&1, 1);
        // SAFETY: the call is refused before it does anything.
        unsafe { me.ready_send(&1) };
        // SAFETY: the call is refused before it does anything.
        unsafe { me.ready_send_with_tag(&1, 1) };
        scope(|s| me.immediate_send(s, &1).wait());
        scope(|s| me.immediate_send_with_tag(s, &1, 1).wait());
        scope(|s| me.immediate_synchronous_send(s, &1).wait());
        scope(|s| me.immediate_synchronous_send_with_tag(s, &1, 1).wait());
        scope(|s| me.immediate_buffered_send(s, &1).wait());
        scope(|s| me.immediate_buffered_send_with_tag(s, &1, 1).wait());
        // SAFETY: the call is refused before it does anything.
        scope(|s| unsafe { me.immediate_ready_send(s, &1) }.wait());
        // SAFETY: the call is refused before it does anything.
        scope(|s| unsafe { me.immediate_ready_send_with_tag(s, &1, 1) }.wait());
        send_receive::<i32, _, _, _>(&1, &me, &me);
        send_receive_with_tags::<_, _, i32, _>(&1, &me, 1, &me, 1);
        send_receive_into(&1, &me, &mut x, &me);
        send_receive_into_with_tags(&1, &me, 1, &mut x, &me, 1);
        send_receive_replace_into(&mut x, &me, &me);
        send_receive_replace_into_with_tags(&mut x, &me, 1, &me, 1);
    }
}

fn collectives(world: &SimpleCommunicator) {
    let sum = SystemOperation::sum();
    let user = UserOperation::commutative(|_, _| {});
    let (mut x, mut y) = (0, 0);
    panic_here! {
        world.barrier();
        world.immediate_barrier();
        world.all_gather_into(&1, &mut x);
        world.all_gather_varcount_into(&1, &mut PartitionMut::new(&mut x, [1], [0]));
        world.all_to_all_into(&1, &mut x);
        world.all_to_all_varcount_into(&Partition::new(&1, [1], [0]), &mut PartitionMut::new(&mut x, [1], [0]));
        world.all_reduce_into(&1, &mut x, sum);
        world.all_reduce_into(&1, &mut x, &user);
        world.reduce_scatter_block_into(&1, &mut x, sum);
        world.scan_into(&1, &mut x, sum);
        world.exclusive_scan_into(&1, &mut x, sum);
        scope(|s| world.immediate_all_gather_into(s, &1, &mut y).wait());
        scope(|s| world.immediate_all_to_all_into(s, &1, &mut y).wait());
        scope(|s| world.immediate_all_reduce_into(s, &1, &mut y, sum).wait());
        scope(|s| world.immediate_reduce_scatter_block_into(s, &1, &mut y, sum).wait());
        scope(|s| world.immediate_scan_into(s, &1, &mut y, sum).wait());
        scope(|s| world.immediate_exclusive_scan_into(s, &1, &mut y, sum).wait());
    }
}

fn rooted(root: Process<'_>) {
    let sum = SystemOperation::sum();
    let (mut x, mut y) = (0, 0);
    panic_here! {
        root.broadcast_into(&mut x);
        root.gather_into_root(&1, &mut x);
        root.gather_varcount_into_root(&1, &mut PartitionMut::new(&mut x, [1], [0]));
        root.scatter_into_root(&1, &mut x);
        root.scatter_varcount_into_root(&Partition::new(&1, [1], [0]), &mut x);
        root.reduce_into_root(&1, &mut x, sum);
        scope(|s| root.immediate_broadcast_into(s, &mut y).wait());
        scope(|s| root.immediate_gather_into_root(s, &1, &mut y).wait());
        scope(|s| root.immediate_scatter_into_root(s, &1, &mut y).wait());
        scope(|s| root.immediate_reduce_into_root(s, &1, &mut y, sum).wait());
    }
}
