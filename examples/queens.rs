// In how many ways can n queens stand on a board of n x n squares so that none of them attacks another?
//
//     cargo run --release -- run -n 4 --features serde --example queens -- 12
//
// Rank 0 hands out boards on which the first queens stand, to whoever is free; the others say how many ways there are to go on.
// Orders and answers are enums and structs with vectors inside: they travel as objects. Lines that begin with # tell how it
// went; all others are the same for any number of ranks.
use serde::{Deserialize, Serialize};
use tercio::{prelude::*, topology::SimpleCommunicator};

/// The column of the queen in each row that has one.
type Board = Vec<usize>;

/// What rank 0 asks of the others.
#[derive(Serialize, Deserialize)]
enum Order {
    Solve(Board),
    Stop,
}

/// What they answer.
#[derive(Serialize, Deserialize, Default)]
struct Answer {
    ways: u64,
    first: Option<Board>,
}

fn main() {
    let universe = tercio::initialize().unwrap();
    let world = universe.world();
    let start = tercio::time();

    // Rank 0 reads the command line and tells the others.
    let word = (world.rank() == 0).then(|| std::env::args().nth(1));
    let size = match world.broadcast_object(0, word) {
        Some(word) => word.parse().expect("the argument is the number of queens"),
        None => 11,
    };

    let mut answer = Answer::default();
    let boards = match (world.rank(), world.size()) {
        (0, 1) => solve(&mut Board::new(), size, &mut answer),
        (0, _) => hand_out(&world, size, &mut answer),
        _ => work(&world, size),
    };

    let reports = world.gather_objects(
        0,
        &format!("# rank {} went through {boards} boards", world.rank()),
    );
    if let Some(reports) = reports {
        println!("{size} queens stand in {} ways", answer.ways);
        if let Some(columns) = answer.first {
            println!("in the first of them in the columns {columns:?}");
        }
        println!("# {} ranks, {:.3} s", world.size(), tercio::time() - start);
        println!("{}", reports.join("\n"));
    }
}

/// Rank 0: gives each rank a board, then whoever is free the next. Returns how many boards it went through itself: none.
fn hand_out(world: &SimpleCommunicator, size: usize, all: &mut Answer) -> u64 {
    let mut boards = openings(size).into_iter();
    let mut next = || boards.next().map_or(Order::Stop, Order::Solve);
    let mut busy = 0;
    for worker in 1..world.size() {
        let order = next();
        busy += u32::from(matches!(order, Order::Solve(_)));
        world.process_at_rank(worker).send_object(&order);
    }
    while busy > 0 {
        let (answer, status) = world.any_process().receive_object::<Answer>();
        all.ways += answer.ways;
        // The first in the order of columns, in whatever order the answers come.
        all.first = all.first.take().into_iter().chain(answer.first).min();
        let order = next();
        busy -= u32::from(matches!(order, Order::Stop));
        world
            .process_at_rank(status.source_rank())
            .send_object(&order);
    }
    0
}

/// Every other rank: does what it is told until it is told to stop. Returns how many boards it went through.
fn work(world: &SimpleCommunicator, size: usize) -> u64 {
    let root = world.process_at_rank(0);
    let mut boards = 0;
    while let (Order::Solve(mut board), _) = root.receive_object() {
        let mut answer = Answer::default();
        boards += solve(&mut board, size, &mut answer);
        root.send_object(&answer);
    }
    boards
}

/// All boards with queens in the first two rows, or in as many as there are.
fn openings(size: usize) -> Vec<Board> {
    let mut boards = vec![Board::new()];
    for _ in 0..size.min(2) {
        let longer = boards.iter().flat_map(|board| {
            let free = (0..size).filter(|&column| is_free(board, column));
            free.map(|column| [&board[..], &[column]].concat())
        });
        boards = longer.collect();
    }
    boards
}

/// Counts the ways to go on from a board, and returns how many boards that led through.
fn solve(board: &mut Board, size: usize, answer: &mut Answer) -> u64 {
    if board.len() == size {
        answer.ways += 1;
        answer.first.get_or_insert_with(|| board.clone());
        return 1;
    }
    let mut boards = 1;
    for column in 0..size {
        if is_free(board, column) {
            board.push(column);
            boards += solve(board, size, answer);
            board.pop();
        }
    }
    boards
}

/// Whether no queen of the board attacks that column of the next row.
fn is_free(board: &[usize], column: usize) -> bool {
    let rows = board.iter().rev().zip(1..);
    rows.into_iter()
        .all(|(&other, distance)| other != column && other.abs_diff(column) != distance)
}
