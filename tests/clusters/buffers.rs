//! A blocking send that is over has left its buffer to the program: whatever the transport keeps, it keeps copies of.
use std::time::Duration;
use tercio::topology::SimpleCommunicator;
use tercio::traits::*;

/// Around what the transports copy, and what an MPI sends without waiting for its receiver.
const SIZES: [usize; 7] = [8, 64, 300, 512, 513, 1024, 4000];
const ANSWERED: usize = 600;
const IN_A_ROW: usize = 200;

fn filled(buffer: &mut [u8], turn: usize) {
    for (at, byte) in buffer.iter_mut().enumerate() {
        *byte = (at ^ turn) as u8;
    }
}

fn is_of(buffer: &[u8], turn: usize) -> bool {
    let as_filled = |(at, byte): (usize, &u8)| *byte == (at ^ turn) as u8;
    buffer.iter().enumerate().all(as_filled)
}

/// Ranks 0 and 1 send each other messages, by turns and then in a row to one that comes late, out of buffers that they spoil as soon as the send is over.
pub fn spoilt(world: &SimpleCommunicator) {
    let rank = world.rank();
    if rank > 1 {
        return;
    }
    let other = world.process_at_rank(1 - rank);
    let send = |buffer: &mut [u8], turn: usize| {
        filled(buffer, turn);
        other.send(&*buffer);
        buffer.fill(0xAA);
    };
    let receive = |buffer: &mut [u8], turn: usize| {
        other.receive_into(buffer);
        assert!(is_of(buffer, turn), "{} bytes, turn {turn}", buffer.len());
    };
    for size in SIZES {
        let (mut out, mut room) = (vec![0; size], vec![0; size]);
        for turn in 0..ANSWERED {
            if rank == 0 {
                send(&mut out, turn);
                receive(&mut room, turn + 1);
            } else {
                receive(&mut room, turn);
                send(&mut out, turn + 1);
            }
        }
        for sender in 0..2 {
            if rank == sender {
                (0..IN_A_ROW).for_each(|turn| send(&mut out, turn));
                receive(&mut room, IN_A_ROW);
            } else {
                std::thread::sleep(Duration::from_millis(5));
                (0..IN_A_ROW).for_each(|turn| receive(&mut room, turn));
                send(&mut out, IN_A_ROW);
            }
        }
    }
}
