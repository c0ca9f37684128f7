//! Collectives of objects: values of any type that serde can serialize.
use super::call::{attempt, sure};
use crate::datatype::object::{decode, encode};
use crate::model::Error;
use crate::topology::communicator::shared;
use crate::topology::{Communicator, Rank};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Collectives of objects, which every process calls alike. What an object is, [`SendObject`](crate::point_to_point::SendObject) says.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tercio::prelude::*;
///
/// #[derive(Serialize, Deserialize)]
/// struct Settings {
///     title: String,
///     seeds: Vec<u64>,
/// }
///
/// tercio::testing::ranks(3, |world| {
///     let read = (world.rank() == 0).then(|| Settings { title: "a run".into(), seeds: vec![3, 5, 8] });
///     let settings = world.broadcast_object(0, read);
///     let seed = settings.seeds[world.rank() as usize];
///     let lines = world.gather_objects(0, &format!("{}: {seed}", settings.title));
///     if let Some(lines) = lines {
///         assert_eq!(lines, ["a run: 3", "a run: 5", "a run: 8"]);
///     }
/// });
/// ```
pub trait ObjectCollectives: Communicator {
    /// Gives the root's object to all. The root gives `Some`; what the others give is dropped.
    ///
    /// Two broadcasts (`MPI_Bcast`): of the length, and of the bytes. Panics at the root if it gives none or it cannot be serialized.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let words = (world.rank() == 1).then(|| vec!["to".to_string(), "all".to_string()]);
    ///     assert_eq!(world.broadcast_object(1, words), ["to", "all"]);
    /// });
    /// ```
    #[track_caller]
    fn broadcast_object<T>(&self, root: Rank, object: Option<T>) -> T
    where
        T: Serialize + DeserializeOwned,
    {
        sure(shared(self), self.try_broadcast_object(root, object))
    }

    /// The objects of all processes, in the order of ranks, at the root; `None` at the others.
    ///
    /// Gathers the lengths and then the bytes (`MPI_Gather`, `MPI_Gatherv`). Panics if the object cannot be serialized.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let names = world.gather_objects(0, &format!("rank {}", world.rank()));
    ///     assert_eq!(names.is_some(), world.rank() == 0);
    ///     assert!(names.is_none_or(|names| names == ["rank 0", "rank 1", "rank 2"]));
    /// });
    /// ```
    #[track_caller]
    fn gather_objects<T>(&self, root: Rank, object: &T) -> Option<Vec<T>>
    where
        T: Serialize + DeserializeOwned,
    {
        sure(shared(self), self.try_gather_objects(root, object))
    }

    /// The objects of all processes, in the order of ranks, at all of them.
    ///
    /// Gathers the lengths and then the bytes (`MPI_Allgather`, `MPI_Allgatherv`). Panics if the object cannot be serialized.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let odd = world.all_gather_objects(&(world.rank() % 2 == 1).then_some("odd".to_string()));
    ///     assert_eq!(odd, [None, Some("odd".to_string()), None]);
    /// });
    /// ```
    #[track_caller]
    fn all_gather_objects<T>(&self, object: &T) -> Vec<T>
    where
        T: Serialize + DeserializeOwned,
    {
        sure(shared(self), self.try_all_gather_objects(object))
    }

    /// One of the root's objects for each process, in the order of ranks. The root gives `Some`; what the others give is not looked at.
    ///
    /// Scatters the lengths and then the bytes (`MPI_Scatter`, `MPI_Scatterv`). Panics at the root if there is not one for each process, or one
    /// cannot be serialized.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(3, |world| {
    ///     let words = (world.rank() == 0).then(|| ["a", "few", "words"].map(String::from));
    ///     let mine = world.scatter_objects(0, words.as_ref().map(|words| &words[..]));
    ///     assert_eq!(mine, ["a", "few", "words"][world.rank() as usize]);
    /// });
    /// ```
    #[track_caller]
    fn scatter_objects<T>(&self, root: Rank, objects: Option<&[T]>) -> T
    where
        T: Serialize + DeserializeOwned,
    {
        sure(shared(self), self.try_scatter_objects(root, objects))
    }

    /// [`broadcast_object`](Self::broadcast_object) with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let error = universe.world().try_broadcast_object::<String>(0, None).unwrap_err();
    /// assert_eq!(error.class(), ErrorClass::Arg);
    /// assert!(error.text().starts_with("broadcast_object was given no object at its root"));
    /// ```
    #[track_caller]
    fn try_broadcast_object<T>(&self, root: Rank, object: Option<T>) -> Result<T, Error>
    where
        T: Serialize + DeserializeOwned,
    {
        attempt(shared(self), "broadcast_object", Some(root), |asked| {
            if asked.rank() == asked.root()? {
                let object = object.ok_or_else(|| asked.nothing_at_root("object"))?;
                asked.broadcast_vec(&mut encode(asked.call, &object)?)?;
                return Ok(object);
            }
            let mut bytes = Vec::new();
            asked.broadcast_vec(&mut bytes)?;
            decode(asked.call, &bytes, root)
        })
    }

    /// [`gather_objects`](Self::gather_objects) with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let error = universe.world().try_gather_objects(1, &5).unwrap_err();
    /// assert_eq!(error.class(), ErrorClass::Root); // of a world of one
    /// ```
    #[track_caller]
    fn try_gather_objects<T>(&self, root: Rank, object: &T) -> Result<Option<Vec<T>>, Error>
    where
        T: Serialize + DeserializeOwned,
    {
        attempt(shared(self), "gather_objects", Some(root), |asked| {
            asked.root()?;
            match asked.gather_slices(&encode(asked.call, object)?)? {
                Some(all) => decode_all(asked.call, &all).map(Some),
                None => Ok(None),
            }
        })
    }

    /// [`all_gather_objects`](Self::all_gather_objects) with errors as values.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// tercio::testing::ranks(2, |world| {
    ///     assert_eq!(world.try_all_gather_objects(&()).unwrap(), [(), ()]);
    /// });
    /// ```
    #[track_caller]
    fn try_all_gather_objects<T>(&self, object: &T) -> Result<Vec<T>, Error>
    where
        T: Serialize + DeserializeOwned,
    {
        attempt(shared(self), "all_gather_objects", None, |asked| {
            let all = asked.all_gather_slices(&encode(asked.call, object)?)?;
            decode_all(asked.call, &all)
        })
    }

    /// [`scatter_objects`](Self::scatter_objects) with errors as values.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let error = universe.world().try_scatter_objects(0, Some(&[1, 2])).unwrap_err();
    /// assert_eq!(error.class(), ErrorClass::Count); // two for one process
    /// ```
    #[track_caller]
    fn try_scatter_objects<T>(&self, root: Rank, objects: Option<&[T]>) -> Result<T, Error>
    where
        T: Serialize + DeserializeOwned,
    {
        attempt(shared(self), "scatter_objects", Some(root), |asked| {
            let objects = asked.at_root_only(asked.root()?, objects, <[T]>::len)?;
            let encoded = objects.map(|objects| {
                let bytes = objects.iter().map(|object| encode(asked.call, object));
                bytes.collect::<Result<Vec<_>, _>>()
            });
            let bytes = asked.scatter_slices(encoded.transpose()?.as_deref())?;
            decode(asked.call, &bytes, root)
        })
    }
}

impl<C: ?Sized + Communicator> ObjectCollectives for C {}

/// The objects of all ranks.
fn decode_all<T: DeserializeOwned>(call: &str, all: &[Vec<u8>]) -> Result<Vec<T>, Error> {
    let objects = (0..)
        .zip(all)
        .map(|(rank, bytes)| decode(call, bytes, rank));
    objects.collect()
}
