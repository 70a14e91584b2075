//! Contact sheets: a grid of small pictures with titles and captions, as one PNG.

use super::canvas::{Canvas, EMPTY, FAINT, INK};
use super::font;
use crate::data::{Picture, decode::encode_png};
use crate::error::{Error, Result};

/// A small RGB picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    picture: Picture,
    smooth: bool,
}

impl Tile {
    /// A tile that is enlarged without visible pixels, as a picture of things is to be seen.
    pub fn photo(picture: Picture) -> Self {
        Tile { picture, smooth: true }
    }

    /// A tile whose pixel count is checked; its pixels are enlarged as squares.
    pub fn new(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self> {
        let expected = width.checked_mul(height).and_then(|n| n.checked_mul(3));
        if width == 0 || height == 0 || expected != Some(rgb.len()) {
            return Err(Error::shape("wrong number of bytes in a picture")
                .expected(format!("{width} × {height} × 3"))
                .got(rgb.len().to_string()));
        }
        Ok(Tile { picture: Picture { width, height, rgb }, smooth: false })
    }
}

/// One row of a sheet: a sample and what was made of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SheetRow {
    /// Text under the row, such as its loss; may be empty.
    pub caption: String,
    /// One tile per column; a missing one leaves its place empty.
    pub tiles: Vec<Tile>,
}

/// A contact sheet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sheet {
    /// Text above everything; may be empty.
    pub title: String,
    /// Titles over the columns, such as `original`, `corrupted`, `reconstructed`.
    pub columns: Vec<String>,
    /// Rows from the top.
    pub rows: Vec<SheetRow>,
}

/// A finished sheet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SheetPng {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The PNG file.
    pub png: Vec<u8>,
}

/// Tiles are enlarged by the largest whole factor that keeps them within this many pixels.
const TILE_TARGET: usize = 192;
/// Space around tiles and texts, in pixels.
const GAP: usize = 10;
/// Enlargement of the font in the title, and elsewhere where it fits.
const LARGE: usize = 2;
/// Largest side of a sheet, in pixels.
const MAX_SIDE: usize = 16_384;

impl Sheet {
    /// Draws the sheet.
    pub fn to_png(&self) -> Result<SheetPng> {
        self.to_png_with(&[])
    }

    /// Draws the sheet with a legend of colours under it.
    ///
    /// # Errors
    /// If it is too large.
    pub fn to_png_with(&self, legend: &[LegendItem]) -> Result<SheetPng> {
        let plan = Plan::of(self)?;
        let items = Legend::of(legend, plan.width);
        let mut canvas = Canvas::new(plan.width.max(items.width), plan.height + items.height);
        items.draw(&mut canvas, plan.height);
        let mut y = GAP;
        if !self.title.is_empty() {
            canvas.text(&self.title, GAP, y, plan.title_size, INK);
            y += plan.title_size * font::LINE + GAP;
        }
        for (column, title) in self.columns.iter().enumerate() {
            // titles stand centred over their column
            let x = plan.column_x(column)
                + plan.cell_width.saturating_sub(font::text_width(title) * plan.size) / 2;
            canvas.text(title, x, y, plan.size, INK);
        }
        y += plan.header_height;
        for row in &self.rows {
            for column in 0..plan.columns {
                let (x, tile) = (plan.column_x(column), row.tiles.get(column));
                match tile {
                    Some(tile) if tile.smooth => canvas.enlarged_smoothly(&tile.picture, x, y, plan.scale),
                    Some(tile) => canvas.enlarged(&tile.picture, x, y, plan.scale),
                    None => canvas.fill(x, y, plan.cell_width, plan.cell_height, EMPTY),
                }
            }
            y += plan.cell_height + GAP / 2;
            canvas.text(&row.caption, GAP, y, plan.caption_size, FAINT);
            y += plan.caption_height + GAP / 2;
        }
        let picture = canvas.into_picture();
        // both sides were checked against MAX_SIDE
        let (width, height) = (picture.width as u32, picture.height as u32);
        Ok(SheetPng { width, height, png: encode_png(&picture)? })
    }
}

/// A colour and what it stands for.
pub type LegendItem = ([u8; 3], String);

/// A legend: items flow into lines as wide as the sheet.
struct Legend<'a> {
    /// Item, left edge, line.
    items: Vec<(&'a LegendItem, usize, usize)>,
    width: usize,
    height: usize,
}

/// Side of a legend's colour field, in pixels.
const FIELD: usize = font::LINE * LARGE;

impl<'a> Legend<'a> {
    fn of(legend: &'a [LegendItem], width: usize) -> Self {
        let (mut x, mut line, mut widest, mut items) = (GAP, 0, 0, Vec::new());
        for item in legend {
            let own = FIELD + GAP / 2 + font::text_width(&item.1) * LARGE + 2 * GAP;
            if x > GAP && x + own > width {
                (x, line) = (GAP, line + 1);
            }
            items.push((item, x, line));
            x += own;
            widest = widest.max(x);
        }
        let lines = if legend.is_empty() { 0 } else { line + 1 };
        Legend { items, width: widest, height: lines * (FIELD + GAP) }
    }

    fn draw(&self, canvas: &mut Canvas, top: usize) {
        for ((colour, text), x, line) in &self.items {
            let y = top + line * (FIELD + GAP);
            canvas.fill(*x, y, FIELD, FIELD, *colour);
            canvas.text(text, x + FIELD + GAP / 2, y + LARGE, LARGE, INK);
        }
    }
}

/// Sizes of everything on a sheet, in pixels.
struct Plan {
    columns: usize,
    scale: usize,
    cell_width: usize,
    cell_height: usize,
    /// Font enlargement of the column titles.
    size: usize,
    title_size: usize,
    caption_size: usize,
    header_height: usize,
    caption_height: usize,
    width: usize,
    height: usize,
}

impl Plan {
    fn of(sheet: &Sheet) -> Result<Self> {
        let tiles = || sheet.rows.iter().flat_map(|row| &row.tiles);
        let widest = tiles().map(|t| t.picture.width).max().unwrap_or(1);
        let highest = tiles().map(|t| t.picture.height).max().unwrap_or(1);
        let scale = (TILE_TARGET / widest.max(highest)).max(1);
        let text =
            |texts: &mut dyn Iterator<Item = &String>| texts.map(|t| font::text_width(t)).max().unwrap_or(0);
        let titles = text(&mut sheet.columns.iter());
        let captions = text(&mut sheet.rows.iter().map(|row| &row.caption));
        let fits = |text: usize, space: usize| if text * LARGE <= space { LARGE } else { 1 };
        let size = fits(titles, widest * scale + GAP);
        // a column is as wide as its title, so that titles never run into each other
        let cell_width = (widest * scale).max((titles * size).saturating_sub(GAP / 2));
        let cell_height = highest * scale;
        let columns =
            sheet.rows.iter().map(|row| row.tiles.len()).max().unwrap_or(0).max(sheet.columns.len());
        let inner = (columns * (cell_width + GAP)).saturating_sub(GAP);
        let title_size = fits(font::text_width(&sheet.title), inner);
        let caption_size = fits(captions, inner).min(size);
        let text_width = (font::text_width(&sheet.title) * title_size).max(captions * caption_size);
        let header_height = if sheet.columns.is_empty() { 0 } else { size * font::LINE + GAP };
        let caption_height = if captions == 0 { 0 } else { caption_size * font::LINE + GAP / 2 };
        let title_height = if sheet.title.is_empty() { 0 } else { title_size * font::LINE + GAP };
        let width = inner.max(text_width) + 2 * GAP;
        let height = GAP
            + title_height
            + header_height
            + sheet.rows.len() * (cell_height + GAP + caption_height)
            + GAP / 2;
        if width > MAX_SIDE || height > MAX_SIDE {
            return Err(Error::shape("contact sheet too large")
                .expected(format!("at most {MAX_SIDE} pixels a side"))
                .got(format!("{width} × {height}"))
                .hint("use fewer rows or columns"));
        }
        Ok(Plan {
            columns,
            scale,
            cell_width,
            cell_height,
            size,
            title_size,
            caption_size,
            header_height,
            caption_height,
            width,
            height,
        })
    }

    fn column_x(&self, column: usize) -> usize {
        GAP + column * (self.cell_width + GAP)
    }
}

#[cfg(test)]
mod tests {
    use super::super::canvas::PAPER;
    use super::*;

    fn tile(side: usize, colour: [u8; 3]) -> Tile {
        Tile::new(side, side, colour.repeat(side * side)).unwrap()
    }

    #[test]
    fn tiles_stand_where_the_plan_says() {
        let row = SheetRow {
            caption: "loss 1.5".into(),
            tiles: vec![tile(32, [255, 0, 0]), tile(32, [0, 0, 255])],
        };
        let sheet = Sheet {
            title: String::new(),
            columns: vec!["a".into(), "b".into()],
            rows: vec![row.clone(), row],
        };
        let drawn = sheet.to_png().unwrap();
        assert_eq!(sheet.to_png().unwrap(), drawn);
        let picture = image::load_from_memory(&drawn.png).unwrap().to_rgb8();
        assert_eq!((picture.width(), picture.height()), (drawn.width, drawn.height));
        assert_eq!(drawn.width, 2 * 192 + 3 * 10); // 32 pixels are enlarged six times
        assert_eq!(picture.get_pixel(10 + 64, 100).0, [255, 0, 0]);
        assert_eq!(picture.get_pixel(10 + 192 + 10 + 64, 100).0, [0, 0, 255]);
        assert_eq!(picture.get_pixel(207, 100).0, PAPER);
    }

    #[test]
    fn odd_sheets_are_drawn_or_refused() {
        assert!(Sheet::default().to_png().is_ok());
        let ragged = Sheet {
            title: "a title longer than the pictures are wide, by far".into(),
            columns: vec!["one".into()],
            rows: vec![SheetRow {
                caption: "\u{1f600}".into(),
                tiles: vec![tile(8, [0; 3]), tile(200, [9; 3])],
            }],
        };
        assert!(ragged.to_png().unwrap().width >= 410);
        let rows = vec![SheetRow { caption: String::new(), tiles: vec![tile(100, [0; 3])] }; 200];
        assert!(Sheet { rows, ..Sheet::default() }.to_png().is_err());
        assert!(Tile::new(2, 2, vec![0; 11]).is_err());
        assert!(Tile::new(usize::MAX, 2, vec![]).is_err());
        assert!(Tile::new(0, 2, vec![]).is_err());
    }
}
