//! `#[mpi(crate = "...")]`, and derives without it, where the dependency has a name of its own.
use message_passing::datatype::UserDatatype;
use message_passing::topology::SimpleCommunicator;
use message_passing::traits::*;

/// Found under the name that Cargo.toml gives it.
#[derive(Equivalence, Clone, Copy, Debug, Default, PartialEq)]
struct Found(i16, Said, Through);

/// Said as it is.
#[derive(Equivalence, Clone, Copy, Debug, Default, PartialEq)]
#[mpi(crate = "::message_passing")]
struct Said {
    number: u32,
    byte: u8,
}

/// Said as another crate hands it on; nothing of that name is in this crate's Cargo.toml.
#[derive(
    tercio_as_other::prelude::ranks::traits::Equivalence, Clone, Copy, Debug, Default, PartialEq,
)]
#[mpi(crate = "tercio_as_other::prelude::ranks")]
struct Through([bool; 2]);

mod local {
    pub mod deep {
        pub use message_passing as here;
    }
    /// A path from the module that the struct is in.
    #[derive(deep::here::traits::Equivalence, Clone, Copy, Debug, Default, PartialEq)]
    #[mpi(crate = "deep::here")]
    pub struct Relative(pub f32, pub ());
}

#[message_passing::test(np = 2)]
fn all_of_them_travel(world: SimpleCommunicator) {
    let other = world.process_at_rank(1 - world.rank());
    let sent = Found(
        -3,
        Said {
            number: 9,
            byte: world.rank() as u8,
        },
        Through([true, false]),
    );
    assert_eq!(world.pack(&sent).len(), 2 + 5 + 2);
    other.send(&sent);
    other.send(&local::Relative(0.5, ()));
    let (mut got, _) = other.receive::<Found>();
    assert_eq!(got.1.byte, other.rank() as u8);
    got.1.byte = sent.1.byte;
    assert_eq!(got, sent);
    assert_eq!(
        other.receive::<local::Relative>().0,
        local::Relative(0.5, ())
    );
    // They are ordinary datatypes.
    let _: UserDatatype = UserDatatype::contiguous(2, &Found::equivalent_datatype());
}
