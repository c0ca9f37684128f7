//! How many processes to put along each dimension of a grid.
use crate::Count;

/// Fills in the zeros of `dims` so that the grid has `nodes` places and the dimensions filled in are as close to each other as they can be,
/// largest first; or says why that cannot be.
pub(crate) fn balance(nodes: Count, dims: &mut [Count]) -> Result<(), String> {
    let asked = || format!("MPI_Dims_create was asked to divide {nodes} processes into {dims:?}");
    if nodes <= 0 {
        return Err(format!("{}; ask for at least one process", asked()));
    }
    if dims.iter().any(|&d| d < 0) {
        return Err(format!("{}; dimensions must not be negative", asked()));
    }
    let given = dims
        .iter()
        .filter(|&&d| d > 0)
        .try_fold(1, |product: Count, &d| product.checked_mul(d));
    let free = dims.iter().filter(|&&d| d == 0).count();
    let Some(rest) = given
        .filter(|given| nodes % given == 0)
        .map(|given| nodes / given)
    else {
        return Err(format!(
            "{}; those that are given must divide them",
            asked()
        ));
    };
    let Some(mut found) = factors(rest, free, rest) else {
        return Err(format!("{}; leave a dimension open with 0", asked()));
    };
    // `factors` tells the last first.
    for dim in dims.iter_mut().filter(|d| **d == 0) {
        *dim = found.pop().expect("one for each that is open");
    }
    Ok(())
}

/// `count` numbers of which none is above `most`, whose product is `product`, in ascending order: the greatest is as small as it can be, then the
/// next.
fn factors(product: Count, count: usize, most: Count) -> Option<Vec<Count>> {
    match count {
        0 => (product == 1).then(Vec::new),
        1 => (product <= most).then(|| vec![product]),
        _ => (1..=most.min(product)).find_map(|greatest| {
            // Smaller ones could not reach the product.
            if product % greatest != 0
                || i64::from(greatest)
                    .checked_pow(count as u32)
                    .is_some_and(|p| p < i64::from(product))
            {
                return None;
            }
            let mut rest = factors(product / greatest, count - 1, greatest)?;
            rest.push(greatest);
            Some(rest)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balanced(nodes: Count, dims: &[Count]) -> Result<Vec<Count>, String> {
        let mut dims = dims.to_vec();
        balance(nodes, &mut dims).map(|()| dims)
    }

    #[test]
    fn the_examples_of_the_standard() {
        assert_eq!(balanced(6, &[0, 0]).unwrap(), [3, 2]);
        assert_eq!(balanced(7, &[0, 0]).unwrap(), [7, 1]);
        assert_eq!(balanced(6, &[0, 3, 0]).unwrap(), [2, 3, 1]);
        assert!(
            balanced(7, &[0, 3, 0])
                .unwrap_err()
                .contains("must divide them")
        );
    }

    #[test]
    fn as_close_as_can_be() {
        assert_eq!(balanced(12, &[0, 0]).unwrap(), [4, 3]);
        assert_eq!(balanced(64, &[0, 0, 0]).unwrap(), [4, 4, 4]);
        assert_eq!(balanced(36, &[0, 0, 0]).unwrap(), [4, 3, 3]);
        assert_eq!(balanced(2310, &[0, 0, 0]).unwrap(), [15, 14, 11]);
        assert_eq!(balanced(1, &[0, 0, 0]).unwrap(), [1, 1, 1]);
        assert!(balanced(1, &[]).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_is_said() {
        assert!(
            balanced(0, &[0])
                .unwrap_err()
                .contains("at least one process")
        );
        assert!(balanced(4, &[-1, 0]).unwrap_err().contains("negative"));
        assert!(
            balanced(4, &[2])
                .unwrap_err()
                .contains("leave a dimension open")
        );
        assert!(
            balanced(4, &[i32::MAX, 2, 0])
                .unwrap_err()
                .contains("must divide")
        );
    }
}
