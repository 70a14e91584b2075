//! Boards: bands of captioned pictures of different sizes on one sheet, with headings and colour legends.

use super::canvas::{Canvas, FAINT, INK, line_height, text_width};
use super::colour::heat;
use crate::data::Picture;
use crate::error::{Error, Result};

/// Space around the board and between its parts, in pixels.
const GAP: usize = 16;
/// Height of a colour legend, in pixels.
const BAR: usize = 10;
/// Largest side of a board, in pixels.
const MAX_SIDE: usize = 16_384;
/// Enlargement of the font in the title, in headings, and elsewhere.
const TITLE: usize = 3;
const HEADING: usize = 2;
const TEXT: usize = 1;

/// The ends of a colour scale.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Legend {
    /// What the darkest colour means.
    pub low: String,
    /// What the brightest colour means.
    pub high: String,
}

impl Legend {
    /// A scale from `low` to `high`.
    pub fn new(low: impl Into<String>, high: impl Into<String>) -> Self {
        Legend { low: low.into(), high: high.into() }
    }
}

/// A picture with its texts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Panel {
    /// Above the picture.
    pub title: String,
    /// The picture; enlarged by a whole factor.
    pub picture: Picture,
    /// Enlarged without visible pixels, as a picture of things is to be seen; otherwise pixels become squares.
    pub smooth: bool,
    /// Lines under it.
    pub captions: Vec<String>,
    /// Colour scale under it.
    pub legend: Option<Legend>,
}

impl Panel {
    /// A picture with a title.
    pub fn new(title: impl Into<String>, picture: Picture) -> Self {
        Panel { title: title.into(), picture, ..Panel::default() }
    }
    /// A picture of things, enlarged without visible pixels.
    pub fn photo(title: impl Into<String>, picture: Picture) -> Self {
        Panel { smooth: true, ..Panel::new(title, picture) }
    }
    /// Adds a line under the picture.
    pub fn caption(mut self, line: impl Into<String>) -> Self {
        self.captions.push(line.into());
        self
    }
    /// Adds a colour scale.
    pub fn legend(mut self, low: impl Into<String>, high: impl Into<String>) -> Self {
        self.legend = Some(Legend::new(low, high));
        self
    }
}

/// Panels side by side; those that do not fit the board's width go on below.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Band {
    /// Above the band; may be empty.
    pub heading: String,
    /// Under the heading; may be empty.
    pub note: String,
    /// Pictures are enlarged by the largest whole factor that keeps them within this many pixels.
    pub side: usize,
    /// Space between panels, in pixels.
    pub gap: usize,
    /// Panels of a row, if fixed; otherwise as many as fit.
    pub columns: Option<usize>,
    /// The panels.
    pub panels: Vec<Panel>,
}

/// A board.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Board {
    /// Large text at the top.
    pub title: String,
    /// Lines under it.
    pub subtitles: Vec<String>,
    /// From the top.
    pub bands: Vec<Band>,
    /// Width in pixels that rows are broken at; the board is wider only if a single row of fixed columns is.
    pub width: usize,
}

/// Where the parts of a band go.
struct Placed {
    columns: usize,
    cell: usize,
    picture: usize,
    rows: Vec<RowHeights>,
    height: usize,
}

#[derive(Clone, Copy, Default)]
struct RowHeights {
    title: usize,
    picture: usize,
    below: usize,
}

impl RowHeights {
    fn all(&self) -> usize {
        self.title + self.picture + self.below
    }
}

impl Band {
    fn scale(&self, panel: &Panel) -> usize {
        (self.side / panel.picture.width.max(panel.picture.height).max(1)).max(1)
    }
    fn place(&self, width: usize) -> Placed {
        let picture = self.panels.iter().map(|p| p.picture.width * self.scale(p)).max().unwrap_or(0);
        let texts = |p: &Panel| {
            let captions = p.captions.iter().map(|c| text_width(c, TEXT)).max().unwrap_or(0);
            captions.max(text_width(&p.title, TEXT))
        };
        let cell = self.panels.iter().map(texts).max().unwrap_or(0).max(picture);
        let fit = (width + self.gap) / (cell + self.gap).max(1);
        let columns = self.columns.unwrap_or(fit).clamp(1, self.panels.len().max(1));
        let rows: Vec<RowHeights> = self.panels.chunks(columns).map(|row| self.row_heights(row)).collect();
        let gaps = rows.len().saturating_sub(1) * self.gap.max(4);
        let height = self.head() + rows.iter().map(RowHeights::all).sum::<usize>() + gaps;
        Placed { columns, cell, picture, rows, height }
    }
    fn head(&self) -> usize {
        let line = |text: &str, size: usize, gap: usize| {
            if text.is_empty() { 0 } else { line_height(size) + gap }
        };
        line(&self.heading, HEADING, 6) + line(&self.note, TEXT, 8)
    }
    fn row_heights(&self, row: &[Panel]) -> RowHeights {
        let title = row.iter().any(|p| !p.title.is_empty());
        let below = row.iter().map(|p| {
            let legend = if p.legend.is_some() { 4 + BAR + 3 + line_height(TEXT) } else { 0 };
            legend + p.captions.len() * (line_height(TEXT) + 3)
        });
        RowHeights {
            title: if title { line_height(TEXT) + 4 } else { 0 },
            picture: row.iter().map(|p| p.picture.height * self.scale(p)).max().unwrap_or(0),
            below: below.max().map_or(0, |b| if b > 0 { b + 4 } else { 0 }),
        }
    }
    fn draw(&self, canvas: &mut Canvas, placed: &Placed, mut y: usize) {
        for (text, size, gap, colour) in [(&self.heading, HEADING, 6, INK), (&self.note, TEXT, 8, FAINT)] {
            if !text.is_empty() {
                canvas.text(text, GAP, y, size, colour);
                y += line_height(size) + gap;
            }
        }
        for (row, heights) in self.panels.chunks(placed.columns).zip(&placed.rows) {
            for (column, panel) in row.iter().enumerate() {
                let x = GAP + column * (placed.cell + self.gap);
                self.draw_panel(canvas, panel, placed, *heights, (x, y));
            }
            y += heights.all() + self.gap.max(4);
        }
    }
    fn draw_panel(
        &self,
        canvas: &mut Canvas,
        panel: &Panel,
        placed: &Placed,
        heights: RowHeights,
        (x, y): (usize, usize),
    ) {
        canvas.text(&panel.title, x, y, TEXT, INK);
        let scale = self.scale(panel);
        let top = y + heights.title;
        match panel.smooth {
            true => canvas.enlarged_smoothly(&panel.picture, x, top, scale),
            false => canvas.enlarged(&panel.picture, x, top, scale),
        }
        let mut y = y + heights.title + heights.picture + 4;
        if let Some(legend) = &panel.legend {
            for i in 0..placed.picture {
                canvas.fill(
                    x + i,
                    y,
                    1,
                    BAR,
                    heat(i as f32 / placed.picture.max(2).saturating_sub(1) as f32),
                );
            }
            y += BAR + 3;
            canvas.text(&legend.low, x, y, TEXT, FAINT);
            let right = placed.picture.saturating_sub(text_width(&legend.high, TEXT));
            canvas.text(&legend.high, x + right, y, TEXT, FAINT);
            y += line_height(TEXT);
        }
        for line in &panel.captions {
            canvas.text(line, x, y, TEXT, FAINT);
            y += line_height(TEXT) + 3;
        }
    }
}

impl Board {
    /// Draws the board.
    ///
    /// # Errors
    /// If it passes 16384 pixels a side.
    pub fn draw(&self) -> Result<Picture> {
        let placed: Vec<Placed> = self.bands.iter().map(|b| b.place(self.width)).collect();
        let wide = |(b, p): (&Band, &Placed)| p.columns * (p.cell + b.gap) - b.gap.min(p.cell + b.gap);
        let texts = self.subtitles.iter().map(|t| text_width(t, TEXT)).max().unwrap_or(0);
        let notes = self.bands.iter().map(|b| text_width(&b.note, TEXT).max(text_width(&b.heading, HEADING)));
        let inner = self.bands.iter().zip(&placed).map(wide).chain(notes).max().unwrap_or(0);
        let width = 2 * GAP + inner.max(texts).max(text_width(&self.title, TITLE));
        let mut head = GAP;
        if !self.title.is_empty() {
            head += line_height(TITLE) + 6;
        }
        head += self.subtitles.len() * (line_height(TEXT) + 4);
        let height = head + placed.iter().map(|p| p.height + GAP + 6).sum::<usize>() + GAP;
        if width > MAX_SIDE || height > MAX_SIDE {
            return Err(Error::shape("board too large")
                .expected(format!("at most {MAX_SIDE} pixels a side"))
                .got(format!("{width} x {height}")));
        }
        let mut canvas = Canvas::new(width, height);
        let mut y = GAP;
        if !self.title.is_empty() {
            canvas.text(&self.title, GAP, y, TITLE, INK);
            y += line_height(TITLE) + 6;
        }
        for line in &self.subtitles {
            canvas.text(line, GAP, y, TEXT, FAINT);
            y += line_height(TEXT) + 4;
        }
        y += GAP;
        for (band, placed) in self.bands.iter().zip(&placed) {
            band.draw(&mut canvas, placed, y);
            y += placed.height + GAP + 6;
        }
        Ok(canvas.into_picture())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_finds_its_place() {
        let panel = |side| Panel::new("title", Picture::flat(side, side, [255, 0, 0])).caption("a caption");
        let band = |panels| Band { side: 64, gap: 8, panels, ..Band::default() };
        let board = Board {
            title: "board".into(),
            subtitles: vec!["one line".into()],
            bands: vec![
                Band {
                    heading: "first".into(),
                    note: "note".into(),
                    ..band(vec![panel(32).legend("0", "1"), panel(16)])
                },
                band(vec![panel(8); 9]),
                Band::default(),
            ],
            width: 300,
        };
        let drawn = board.draw().unwrap();
        assert_eq!(board.draw().unwrap(), drawn);
        let red = drawn.rgb.chunks(3).filter(|p| *p == [255, 0, 0]).count();
        assert_eq!(red, 11 * 64 * 64, "every picture is enlarged to 64 pixels and none is covered or cut");
        assert!(drawn.width <= 300 + 2 * GAP);
        let too_long = Board { bands: vec![band(vec![panel(64); 2000])], width: 64, ..Board::default() };
        assert!(too_long.draw().is_err());
    }
}
