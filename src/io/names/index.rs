//! The index buffers of relative position bias (beit-spec §2.3): recomputed for files whose readers want them.

use super::INDEX_BUFFER;
use crate::error::Result;
use crate::io::tensors::{Tensor, TensorData, Tensors};

/// End of the name of a table.
const TABLE: &str = "relative_position_bias_table";

/// Row of the table for every pair of tokens, `[N,N]` with N = rows·columns + 1; token 0 is the class token.
pub fn relative_position_index(grid: (usize, usize)) -> Vec<i64> {
    entries(grid).collect()
}

fn entries(grid: (usize, usize)) -> impl Iterator<Item = i64> {
    let (rows, columns) = grid;
    let span = 2 * columns as i64 - 1;
    let last = (2 * rows as i64 - 1) * span + 2; // R - 1
    let tokens = rows * columns + 1;
    let place = move |token: usize| (((token - 1) / columns) as i64, ((token - 1) % columns) as i64);
    let row = move |query: usize, key: usize| match (query, key) {
        (0, 0) => last,
        (_, 0) => last - 1,
        (0, _) => last - 2,
        _ => {
            let ((r, c), (s, d)) = (place(query), place(key));
            (r - s + rows as i64 - 1) * span + c - d + columns as i64 - 1
        }
    };
    (0..tokens).flat_map(move |query| (0..tokens).map(move |key| (query, key))).map(move |(q, k)| row(q, k))
}

/// The patch grid that an index buffer of a file was made for, if it is one: it tells 3×5 from 5×3.
pub fn grid_of_index(index: &Tensor) -> Option<(usize, usize)> {
    let TensorData::I64(values) = &index.data else { return None };
    let &[tokens, keys] = index.shape.as_slice() else { return None };
    let patches = tokens.checked_sub(1).filter(|&n| n > 0 && tokens == keys && n <= 1 << 12)?;
    let mut grids =
        (1..=patches).filter(|rows| patches.is_multiple_of(*rows)).map(|rows| (rows, patches / rows));
    grids.find(|&grid| entries(grid).eq(values.iter().copied()))
}

/// Adds the index buffer beside every table whose name `wanted` accepts.
pub(super) fn insert(
    tensors: &mut Tensors,
    grid: (usize, usize),
    wanted: impl Fn(&str) -> bool,
) -> Result<()> {
    let tables: Vec<String> = tensors
        .keys()
        .filter_map(|n| n.strip_suffix(TABLE).filter(|_| wanted(n)).map(str::to_owned))
        .collect();
    if tables.is_empty() {
        return Ok(());
    }
    let tokens = grid.0 * grid.1 + 1;
    let buffer = Tensor::new(vec![tokens, tokens], TensorData::I64(relative_position_index(grid)))?;
    for module in tables {
        tensors.insert(format!("{module}{INDEX_BUFFER}"), buffer.clone());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vectors of beit-spec §2.3.
    #[test]
    fn index_is_the_published_one() {
        let two = [[11, 9, 9, 9, 9], [10, 4, 3, 1, 0], [10, 5, 4, 2, 1], [10, 7, 6, 4, 3], [10, 8, 7, 5, 4]];
        assert_eq!(relative_position_index((2, 2)), two.concat());
        let big = relative_position_index((14, 14));
        assert_eq!(big.iter().sum::<i64>(), 14_270_119);
        assert_eq!((big[197 + 15], big[15 * 197 + 1], big[196], big[197 * 196 + 1]), (337, 391, 729, 728));
    }

    #[test]
    fn index_tells_the_grid() {
        for grid in [(3, 5), (5, 3), (1, 1), (4, 4)] {
            let n = grid.0 * grid.1 + 1;
            let data = TensorData::I64(relative_position_index(grid));
            assert_eq!(grid_of_index(&Tensor::new(vec![n, n], data).unwrap()), Some(grid));
        }
        let odd = Tensor::new(vec![2, 2], TensorData::I64(vec![0; 4])).unwrap();
        assert_eq!(grid_of_index(&odd), None);
    }
}
