//! Masks that a person gives: cells in words, or a picture.

use super::picture::Picture;
use crate::{Error, Result};

/// How cells are written, for messages.
pub const CELLS: &str = "patch numbers such as 0,5,8-11, places ROW:COLUMN, or rectangles 2:3-4:6";

/// Reads a list of cells on a grid of (rows, columns): numbers in row-major order from 0, ranges `8-11`, places
/// `ROW:COLUMN`, rectangles `ROW:COLUMN-ROW:COLUMN` with both ends in it.
///
/// # Errors
/// If a part is none of these or lies outside of the grid.
pub fn parse_cells(text: &str, grid: (usize, usize)) -> Result<Vec<bool>> {
    let mut mask = vec![false; grid.0 * grid.1];
    for part in text.split([',', ' ']).map(str::trim).filter(|p| !p.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (Place::parse(from, grid)?, Place::parse(to, grid)?);
        match (from, to) {
            (Place::Number(a), Place::Number(b)) if a <= b => mask[a..=b].fill(true),
            (Place::At(a), Place::At(b)) if a.0 <= b.0 && a.1 <= b.1 => {
                for row in a.0..=b.0 {
                    mask[row * grid.1 + a.1..=row * grid.1 + b.1].fill(true);
                }
            }
            _ => return Err(wrong(part, grid)),
        }
    }
    Ok(mask)
}

/// Reads one patch: a number or `ROW:COLUMN`.
///
/// # Errors
/// If it is neither or lies outside of the grid.
pub fn parse_patch(text: &str, grid: (usize, usize)) -> Result<usize> {
    Ok(match Place::parse(text.trim(), grid)? {
        Place::Number(n) => n,
        Place::At((row, column)) => row * grid.1 + column,
    })
}

enum Place {
    Number(usize),
    At((usize, usize)),
}

impl Place {
    fn parse(text: &str, grid: (usize, usize)) -> Result<Place> {
        let number = |s: &str, end: usize| s.trim().parse::<usize>().ok().filter(|&n| n < end);
        let place = match text.split_once(':') {
            Some((row, column)) => number(row, grid.0).zip(number(column, grid.1)).map(Place::At),
            None => number(text, grid.0 * grid.1).map(Place::Number),
        };
        place.ok_or_else(|| wrong(text, grid))
    }
}

fn wrong(part: &str, (rows, columns): (usize, usize)) -> Error {
    Error::config("no such cell")
        .expected(format!("{CELLS}, on a grid of {rows} x {columns} patches"))
        .got(part.to_string())
}

/// Reads a mask from a picture: bright (128 of 255 or more) means hidden. It may have a pixel for each patch, or the
/// size of the picture to be masked, which is then cut to a centred square with it; a patch is hidden where more than half
/// of it is.
///
/// # Errors
/// If it has neither size.
pub fn mask_of_picture(mask: &Picture, of: &Picture, grid: (usize, usize)) -> Result<Vec<bool>> {
    let (rows, columns) = grid;
    let crop = match (mask.width, mask.height) {
        size if size == (columns, rows) => mask.whole(),
        size if size == (of.width, of.height) => mask.centred(grid),
        _ => {
            return Err(Error::data("mask of the wrong size")
                .expected(format!(
                    "{columns} x {rows} pixels, one a patch, or {} x {} like the picture",
                    of.width, of.height
                ))
                .got(format!("{} x {}", mask.width, mask.height)));
        }
    };
    let share = |row: usize, column: usize| {
        let (y, x) = (span(row, rows, crop.height), span(column, columns, crop.width));
        let cells = (y.1 - y.0) * (x.1 - x.0);
        let lit = (y.0..y.1).flat_map(|y| (x.0..x.1).map(move |x| (x, y))).filter(|&(x, y)| {
            let at = 3 * ((crop.top + y) * mask.width + crop.left + x);
            mask.rgb.get(at..at + 3).is_some_and(|p| p.iter().map(|&v| u32::from(v)).sum::<u32>() >= 384)
        });
        2 * lit.count() > cells
    };
    Ok((0..rows * columns).map(|p| share(p / columns, p % columns)).collect())
}

/// Pixels of a cell along one axis, at least one.
fn span(cell: usize, cells: usize, pixels: usize) -> (usize, usize) {
    let first = (cell * pixels / cells).min(pixels.saturating_sub(1));
    (first, ((cell + 1) * pixels / cells).max(first + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(text: &str) -> Vec<usize> {
        let mask = parse_cells(text, (3, 4)).unwrap();
        (0..12).filter(|&p| mask[p]).collect()
    }

    #[test]
    fn words() {
        assert_eq!(cells("0, 5,8-11"), [0, 5, 8, 9, 10, 11]);
        assert_eq!(cells("1:2"), [6]);
        assert_eq!(cells("0:1-1:2 11"), [1, 2, 5, 6, 11]);
        assert_eq!(cells(""), Vec::<usize>::new());
        assert_eq!(parse_patch(" 2:3 ", (3, 4)).unwrap(), 11);
        for bad in ["12", "3:0", "0:4", "5-2", "a", "1-0:2", "1:1-0:0", "-1", "1-"] {
            let e = parse_cells(bad, (3, 4)).unwrap_err().to_string();
            assert!(e.contains("3 x 4"), "{bad}: {e}");
        }
    }

    #[test]
    fn pictures() {
        let mut small = Picture::flat(4, 3, [0; 3]);
        small.rgb[3 * 6..3 * 7].fill(255);
        let of = Picture::flat(90, 60, [0; 3]);
        let want: Vec<bool> = (0..12).map(|p| p == 6).collect();
        assert_eq!(mask_of_picture(&small, &of, (3, 4)).unwrap(), want);
        // 90 x 60 is cut to 80 x 60: cells of 20 pixels from column 5 on; paint a bit more than half of cell 6
        let mut large = of.clone();
        for y in 20..40 {
            for x in 45..56 {
                large.rgb[3 * (y * 90 + x)..][..3].fill(200);
            }
        }
        assert_eq!(mask_of_picture(&large, &of, (3, 4)).unwrap(), want);
        let e = mask_of_picture(&Picture::flat(5, 5, [0; 3]), &of, (3, 4)).unwrap_err().to_string();
        assert!(e.contains("4 x 3") && e.contains("90 x 60") && e.contains("5 x 5"), "{e}");
    }
}
