//! Processes in a grid.
use super::sealed::{AsHandle, CommunicatorHandle};
use super::{AsCommunicator, Color, Communicator, IntoTopology, Rank, SimpleCommunicator};
use crate::Count;
use crate::ffi::MPI_Comm;
use crate::raw::{AsRaw, FromRaw};

/// The shape of a grid. Ranks go through it row by row: the last dimension varies fastest.
#[derive(Clone, Debug)]
pub(crate) struct Grid {
    dims: Vec<Count>,
    periods: Vec<bool>,
}

impl Grid {
    #[track_caller]
    pub(super) fn new(call: &str, dims: &[Count], periods: &[bool]) -> Grid {
        assert!(
            dims.len() == periods.len(),
            "{call} was given {} dims but {} periods; each dimension needs one of both",
            dims.len(),
            periods.len()
        );
        assert!(
            dims.iter().all(|&d| d >= 0),
            "{call} was asked for a grid of {dims:?}; dimensions must not be negative"
        );
        Grid {
            dims: dims.to_vec(),
            periods: periods.to_vec(),
        }
    }

    /// How many processes it has a place for.
    pub(super) fn places(&self) -> u64 {
        self.dims
            .iter()
            .fold(1, |places: u64, &d| places.saturating_mul(d as u64))
    }

    fn coordinates(&self, rank: Rank) -> Vec<Count> {
        let mut rest = rank;
        let mut coordinates = vec![0; self.dims.len()];
        for (at, &dim) in self.dims.iter().enumerate().rev() {
            coordinates[at] = rest % dim;
            rest /= dim;
        }
        coordinates
    }

    /// The rank at `coordinates`; a coordinate beyond a dimension that is no ring is given back as an error.
    fn rank(&self, coordinates: &[Count]) -> Result<Rank, usize> {
        let mut rank = 0;
        for (at, (&c, (&dim, &ring))) in coordinates
            .iter()
            .zip(self.dims.iter().zip(&self.periods))
            .enumerate()
        {
            let c = if ring { c.rem_euclid(dim) } else { c };
            if !(0..dim).contains(&c) {
                return Err(at);
            }
            rank = rank * dim + c;
        }
        Ok(rank)
    }
}

/// The shape of a grid and a process's place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CartesianLayout {
    /// Processes along each dimension.
    pub dims: Vec<Count>,
    /// Which dimensions are rings.
    pub periods: Vec<bool>,
    /// The calling process's coordinates.
    pub coords: Vec<Count>,
}

/// A communicator whose processes form a grid; see [`Communicator::create_cartesian_communicator`].
///
/// ```
/// use tercio::traits::*;
/// tercio::testing::ranks(4, |world| {
///     let ring = world.create_cartesian_communicator(&[4], &[true], false).unwrap();
///     let (left, right) = ring.shift(0, 1);
///     assert_eq!(left, Some((ring.rank() + 3) % 4));
///     assert_eq!(right, Some((ring.rank() + 1) % 4));
/// });
/// ```
pub struct CartesianCommunicator(pub(super) SimpleCommunicator);

impl CartesianCommunicator {
    /// A further handle of the communicator that `raw` is of, if that is a grid.
    ///
    /// # Safety
    ///
    /// `raw` must be the handle of a communicator that is alive.
    ///
    /// ```
    /// use tercio::{topology::CartesianCommunicator, traits::*};
    /// let universe = tercio::initialize().unwrap();
    /// let world = universe.world();
    /// let point = world.create_cartesian_communicator(&[1], &[true], false).unwrap();
    /// // SAFETY: both are alive.
    /// unsafe {
    ///     assert!(CartesianCommunicator::try_from_raw(world.as_raw()).is_none());
    ///     assert_eq!(CartesianCommunicator::try_from_raw(point.as_raw()).unwrap().num_dimensions(), 1);
    /// }
    /// ```
    pub unsafe fn try_from_raw(raw: MPI_Comm) -> Option<CartesianCommunicator> {
        // SAFETY: by the contract of this function.
        let handle = unsafe { CommunicatorHandle::of(raw) };
        handle.0.grid()?;
        Some(CartesianCommunicator(SimpleCommunicator(handle)))
    }

    fn grid(&self) -> &Grid {
        match self.0.0.0.grid() {
            Some(grid) => grid,
            None => unreachable!("made of communicators with a grid only"),
        }
    }

    #[track_caller]
    fn check_length(&self, call: &str, what: &str, length: usize) {
        let dimensions = self.grid().dims.len();
        assert!(
            length == dimensions,
            "{call} was given {length} {what} for a grid of {dimensions} dimensions; give one for each"
        );
    }

    /// How many dimensions.
    ///
    /// Corresponds to `MPI_Cartdim_get`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// let universe = tercio::initialize().unwrap();
    /// let point = universe.world().create_cartesian_communicator(&[1, 1, 1], &[false; 3], false).unwrap();
    /// assert_eq!(point.num_dimensions(), 3);
    /// ```
    pub fn num_dimensions(&self) -> Count {
        self.grid().dims.len() as Count
    }

    /// The grid's shape, and this process's coordinates, into slices. Panics if one is not as long as there are dimensions.
    ///
    /// Corresponds to `MPI_Cart_get`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(2, |world| {
    ///     let row = world.create_cartesian_communicator(&[2], &[false], false).unwrap();
    ///     let (mut dims, mut periods, mut coords) = ([0], [true], [0]);
    ///     row.get_layout_into(&mut dims, &mut periods, &mut coords);
    ///     assert_eq!((dims, periods, coords), ([2], [false], [world.rank()]));
    /// });
    /// ```
    #[track_caller]
    pub fn get_layout_into(&self, dims: &mut [Count], periods: &mut [bool], coords: &mut [Count]) {
        self.check_length("get_layout_into", "dims", dims.len());
        self.check_length("get_layout_into", "periods", periods.len());
        self.check_length("get_layout_into", "coords", coords.len());
        let layout = self.get_layout();
        dims.copy_from_slice(&layout.dims);
        periods.copy_from_slice(&layout.periods);
        coords.copy_from_slice(&layout.coords);
    }

    /// As [`get_layout_into`](Self::get_layout_into), which checks the lengths; so does this.
    ///
    /// # Safety
    ///
    /// None is needed; the name is rsmpi's.
    #[track_caller]
    pub unsafe fn get_layout_into_unchecked(
        &self,
        dims: &mut [Count],
        periods: &mut [bool],
        coords: &mut [Count],
    ) {
        self.get_layout_into(dims, periods, coords);
    }

    /// The grid's shape, and this process's coordinates.
    ///
    /// Corresponds to `MPI_Cart_get`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(4, |world| {
    ///     let square = world.create_cartesian_communicator(&[2, 2], &[false; 2], false).unwrap();
    ///     assert_eq!(square.get_layout().coords, [world.rank() / 2, world.rank() % 2]);
    /// });
    /// ```
    #[track_caller]
    pub fn get_layout(&self) -> CartesianLayout {
        let grid = self.grid();
        CartesianLayout {
            dims: grid.dims.clone(),
            periods: grid.periods.clone(),
            coords: grid.coordinates(self.rank()),
        }
    }

    /// The rank at `coords`; along rings any number is a place. Panics if there is no such place.
    ///
    /// Corresponds to `MPI_Cart_rank`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(4, |world| {
    ///     let square = world.create_cartesian_communicator(&[2, 2], &[false, true], false).unwrap();
    ///     assert_eq!(square.coordinates_to_rank(&[1, -1]), 3);
    /// });
    /// ```
    #[track_caller]
    pub fn coordinates_to_rank(&self, coords: &[Count]) -> Rank {
        self.check_length("coordinates_to_rank", "coordinates", coords.len());
        match self.grid().rank(coords) {
            Ok(rank) => rank,
            Err(at) => panic!(
                "coordinates_to_rank was asked for {coords:?}, but dimension {at} has {} places and is no ring; stay inside",
                self.grid().dims[at]
            ),
        }
    }

    /// As [`coordinates_to_rank`](Self::coordinates_to_rank), which checks; so does this.
    ///
    /// # Safety
    ///
    /// None is needed; the name is rsmpi's.
    #[track_caller]
    pub unsafe fn coordinates_to_rank_unchecked(&self, coords: &[Count]) -> Rank {
        self.coordinates_to_rank(coords)
    }

    /// The coordinates of `rank`, into a slice. Panics if there is no such rank or the slice is not as long as there are dimensions.
    ///
    /// Corresponds to `MPI_Cart_coords`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(4, |world| {
    ///     let square = world.create_cartesian_communicator(&[2, 2], &[false; 2], false).unwrap();
    ///     let mut coords = [0; 2];
    ///     square.rank_to_coordinates_into(2, &mut coords);
    ///     assert_eq!(coords, [1, 0]);
    /// });
    /// ```
    #[track_caller]
    pub fn rank_to_coordinates_into(&self, rank: Rank, coords: &mut [Count]) {
        self.check_length("rank_to_coordinates_into", "coordinates", coords.len());
        coords.copy_from_slice(&self.rank_to_coordinates(rank));
    }

    /// As [`rank_to_coordinates_into`](Self::rank_to_coordinates_into), which checks; so does this.
    ///
    /// # Safety
    ///
    /// None is needed; the name is rsmpi's.
    #[track_caller]
    pub unsafe fn rank_to_coordinates_into_unchecked(&self, rank: Rank, coords: &mut [Count]) {
        self.rank_to_coordinates_into(rank, coords);
    }

    /// The coordinates of `rank`. Panics if there is no such rank.
    ///
    /// Corresponds to `MPI_Cart_coords`.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(4, |world| {
    ///     let square = world.create_cartesian_communicator(&[2, 2], &[false; 2], false).unwrap();
    ///     assert_eq!(square.rank_to_coordinates(1), [0, 1]);
    /// });
    /// ```
    #[track_caller]
    pub fn rank_to_coordinates(&self, rank: Rank) -> Vec<Count> {
        let size = self.size();
        assert!(
            (0..size).contains(&rank),
            "rank_to_coordinates was asked for rank {rank} of {size}; ranks are 0 to size - 1"
        );
        self.grid().coordinates(rank)
    }

    /// The ranks `displacement` steps before and after this process along `dimension`: where a shift's message comes from and goes to. `None`
    /// where the grid ends.
    ///
    /// Corresponds to `MPI_Cart_shift`. Panics if there is no such dimension.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let row = world.create_cartesian_communicator(&[3], &[false], false).unwrap();
    ///     let expected = [(None, Some(1)), (Some(0), Some(2)), (Some(1), None)][world.rank() as usize];
    ///     assert_eq!(row.shift(0, 1), expected);
    /// });
    /// ```
    #[track_caller]
    pub fn shift(&self, dimension: Count, displacement: Count) -> (Option<Rank>, Option<Rank>) {
        let grid = self.grid();
        let at = usize::try_from(dimension)
            .ok()
            .filter(|&at| at < grid.dims.len());
        let Some(at) = at else {
            panic!(
                "shift was asked for dimension {dimension} of {}; dimensions are counted from 0",
                grid.dims.len()
            )
        };
        let here = grid.coordinates(self.rank());
        let moved = |by: i64| {
            let mut there = here.clone();
            let dim = i64::from(grid.dims[at]);
            let place = i64::from(here[at]) + by;
            let place = if grid.periods[at] {
                place.rem_euclid(dim)
            } else {
                place
            };
            there[at] = Count::try_from(place).ok()?;
            grid.rank(&there).ok()
        };
        (
            moved(-i64::from(displacement)),
            moved(i64::from(displacement)),
        )
    }

    /// As [`shift`](Self::shift), which checks; so does this.
    ///
    /// # Safety
    ///
    /// None is needed; the name is rsmpi's.
    #[track_caller]
    pub unsafe fn shift_unchecked(
        &self,
        dimension: Count,
        displacement: Count,
    ) -> (Option<Rank>, Option<Rank>) {
        self.shift(dimension, displacement)
    }

    /// The part of the grid through this process along the dimensions that `retain` says (collective).
    ///
    /// Corresponds to `MPI_Cart_sub`. Panics if `retain` is not as long as there are dimensions.
    ///
    /// ```
    /// use tercio::traits::*;
    /// tercio::testing::ranks(6, |world| {
    ///     let grid = world.create_cartesian_communicator(&[2, 3], &[false; 2], false).unwrap();
    ///     let row = grid.subgroup(&[false, true]);
    ///     assert_eq!((row.size(), row.rank()), (3, world.rank() % 3));
    /// });
    /// ```
    #[track_caller]
    pub fn subgroup(&self, retain: &[bool]) -> CartesianCommunicator {
        self.check_length("subgroup", "flags", retain.len());
        let grid = self.grid();
        let kept = |wanted: bool| (0..retain.len()).filter(move |&d| retain[d] == wanted);
        let here = grid.coordinates(self.rank());
        // Those that agree in the dimensions that are left out stay together.
        let color = kept(false).fold(0, |color, d| color * grid.dims[d] + here[d]);
        let part = Grid {
            dims: kept(true).map(|d| grid.dims[d]).collect(),
            periods: kept(true).map(|d| grid.periods[d]).collect(),
        };
        match super::communicator::split(
            super::communicator::shared(self),
            Color::with_value(color).value(),
            0,
            Some(part),
        ) {
            Some(comm) => CartesianCommunicator(SimpleCommunicator::from_shared(comm)),
            None => unreachable!("a color gives a communicator"),
        }
    }

    /// As [`subgroup`](Self::subgroup), which checks; so does this.
    ///
    /// # Safety
    ///
    /// None is needed; the name is rsmpi's.
    #[track_caller]
    pub unsafe fn subgroup_unchecked(&self, retain: &[bool]) -> CartesianCommunicator {
        self.subgroup(retain)
    }
}

// SAFETY: that of the handle.
unsafe impl AsRaw for CartesianCommunicator {
    type Raw = MPI_Comm;
    fn as_raw(&self) -> MPI_Comm {
        self.0.as_raw()
    }
}

/// A further handle of the same communicator. Panics if that is no grid.
impl FromRaw for CartesianCommunicator {
    #[track_caller]
    unsafe fn from_raw(raw: MPI_Comm) -> Self {
        // SAFETY: by the contract of FromRaw.
        match unsafe { Self::try_from_raw(raw) } {
            Some(grid) => grid,
            None => panic!(
                "CartesianCommunicator::from_raw was given the handle of a communicator without a grid; try_from_raw tells before"
            ),
        }
    }
}

impl AsHandle for CartesianCommunicator {
    fn as_handle(&self) -> &CommunicatorHandle {
        self.0.as_handle()
    }
}

impl Communicator for CartesianCommunicator {}

impl AsCommunicator for CartesianCommunicator {
    type Out = CartesianCommunicator;
    fn as_communicator(&self) -> &CartesianCommunicator {
        self
    }
}

impl From<CartesianCommunicator> for IntoTopology {
    fn from(comm: CartesianCommunicator) -> IntoTopology {
        IntoTopology::Cartesian(comm)
    }
}
