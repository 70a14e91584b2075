//! A picture on screen, seen as a grid of patches: where they lie, and meshes over some of them.

use beit::pictures::colour::heat;
use egui::{Color32, Mesh, Painter, Pos2, Rect, Shape, Stroke, StrokeKind, TextureId, Ui, Vec2, pos2, vec2};

/// The whole of a texture.
const WHOLE: Rect = Rect { min: Pos2 { x: 0.0, y: 0.0 }, max: Pos2 { x: 1.0, y: 1.0 } };

/// A picture's rectangle and its grid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub rect: Rect,
    pub rows: usize,
    pub columns: usize,
}

impl Field {
    pub(crate) fn cells(&self) -> usize {
        self.rows * self.columns
    }
    /// Row and column of a patch.
    pub(crate) fn place(&self, patch: usize) -> (usize, usize) {
        (patch / self.columns, patch % self.columns)
    }
    fn share(&self, patch: usize) -> Rect {
        let (row, column) = self.place(patch);
        let size = vec2(1.0 / self.columns as f32, 1.0 / self.rows as f32);
        Rect::from_min_size(pos2(column as f32 * size.x, row as f32 * size.y), size)
    }
    /// Where a patch lies on screen.
    pub(crate) fn cell(&self, patch: usize) -> Rect {
        let share = self.share(patch);
        let at = |p: Pos2| self.rect.min + p.to_vec2() * self.rect.size();
        Rect::from_min_max(at(share.min), at(share.max))
    }
    /// The patch under a point.
    pub(crate) fn patch_at(&self, at: Pos2) -> Option<usize> {
        let share = (at - self.rect.min) / self.rect.size();
        let inside = self.rect.contains(at) && share.x < 1.0 && share.y < 1.0;
        let (row, column) = (share.y * self.rows as f32, share.x * self.columns as f32);
        inside.then(|| row.max(0.0) as usize * self.columns + column.max(0.0) as usize)
    }
    /// The patches that a line between two points meets, both ends included.
    pub(crate) fn patches_between(&self, from: Pos2, to: Pos2) -> Vec<usize> {
        let step = self.rect.width() / self.columns as f32 / 3.0;
        let count = ((to - from).length() / step.max(1.0)).ceil().max(1.0) as usize;
        let points =
            (0..=count).filter_map(|i| self.patch_at(from + (to - from) * (i as f32 / count as f32)));
        let mut all: Vec<usize> = points.collect();
        all.dedup();
        all
    }

    /// The whole texture.
    pub(crate) fn picture(&self, painter: &Painter, texture: TextureId) {
        painter.image(texture, self.rect, WHOLE, Color32::WHITE);
    }
    /// The texture in some patches.
    pub(crate) fn patches(&self, painter: &Painter, texture: TextureId, of: impl Fn(usize) -> bool) {
        let mut mesh = Mesh::with_texture(texture);
        for p in (0..self.cells()).filter(|&p| of(p)) {
            mesh.add_rect_with_uv(self.cell(p), self.share(p), Color32::WHITE);
        }
        painter.add(Shape::mesh(mesh));
    }
    /// A value 0..1 in each patch as a colour of the heat map; `None` is left alone.
    pub(crate) fn heat(&self, painter: &Painter, strength: f32, value: impl Fn(usize) -> Option<f32>) {
        let mut mesh = Mesh::default();
        for p in 0..self.cells() {
            if let Some(v) = value(p) {
                let [r, g, b] = heat(v);
                let alpha = (strength.clamp(0.0, 1.0) * 255.0) as u8;
                mesh.add_colored_rect(self.cell(p), Color32::from_rgba_unmultiplied(r, g, b, alpha));
            }
        }
        painter.add(Shape::mesh(mesh));
    }
    /// Shadow over each patch, 0 none to 1 dark.
    pub(crate) fn shade(&self, painter: &Painter, shadow: impl Fn(usize) -> f32) {
        let mut mesh = Mesh::default();
        for p in 0..self.cells() {
            let alpha = (shadow(p).clamp(0.0, 1.0) * 255.0) as u8;
            mesh.add_colored_rect(self.cell(p), Color32::from_black_alpha(alpha));
        }
        painter.add(Shape::mesh(mesh));
    }
    /// Hidden patches: a grey ground with a fine hatch, which no picture shows.
    pub(crate) fn hidden(&self, painter: &Painter, mask: &[bool], opacity: f32) {
        let ground = Color32::from_rgb(104, 108, 118).gamma_multiply(opacity);
        let hatch = Stroke::new(1.0, Color32::from_white_alpha(34));
        let hidden = |p: usize| mask.get(p) == Some(&true);
        let mut mesh = Mesh::default();
        for p in (0..self.cells()).filter(|&p| hidden(p)) {
            mesh.add_colored_rect(self.cell(p), ground);
        }
        painter.add(Shape::mesh(mesh));
        for p in (0..self.cells()).filter(|&p| hidden(p)) {
            let c = self.cell(p);
            painter.line_segment([c.left_bottom(), c.right_top()], hatch);
        }
    }
    /// Thin lines between patches.
    pub(crate) fn lines(&self, painter: &Painter) {
        let stroke = Stroke::new(1.0, Color32::from_black_alpha(46));
        for c in 1..self.columns {
            painter.vline(
                self.rect.left() + self.rect.width() * c as f32 / self.columns as f32,
                self.rect.y_range(),
                stroke,
            );
        }
        for r in 1..self.rows {
            painter.hline(
                self.rect.x_range(),
                self.rect.top() + self.rect.height() * r as f32 / self.rows as f32,
                stroke,
            );
        }
    }
    /// A frame around a patch, legible on every ground.
    pub(crate) fn frame(&self, painter: &Painter, patch: usize, colour: Color32) {
        let cell = self.cell(patch);
        painter.rect_stroke(cell, 2, Stroke::new(4.0, Color32::from_black_alpha(130)), StrokeKind::Middle);
        painter.rect_stroke(cell, 2, Stroke::new(2.0, colour), StrokeKind::Middle);
    }
}

/// The largest rectangle of an aspect (height, width) in the available width, at most `most` points wide.
pub(crate) fn picture_size(ui: &Ui, (height, width): (usize, usize), most: f32) -> Vec2 {
    let across = ui.available_width().min(most).max(48.0);
    vec2(across, across * height as f32 / width.max(1) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field() -> Field {
        Field { rect: Rect::from_min_size(pos2(10.0, 20.0), vec2(80.0, 40.0)), rows: 2, columns: 4 }
    }

    #[test]
    fn points_and_patches_fit() {
        let f = field();
        for p in 0..f.cells() {
            assert_eq!(f.patch_at(f.cell(p).center()), Some(p));
        }
        for outside in [pos2(9.0, 30.0), pos2(90.0, 30.0), pos2(30.0, 60.5), pos2(30.0, 19.0)] {
            assert_eq!(f.patch_at(outside), None, "{outside:?}");
        }
        assert_eq!((f.patch_at(pos2(10.0, 20.0)), f.patch_at(pos2(89.9, 59.9))), (Some(0), Some(7)));
    }

    #[test]
    fn a_quick_stroke_leaves_no_gap() {
        let f = field();
        let hit = f.patches_between(f.cell(0).center(), f.cell(3).center());
        assert_eq!(hit, [0, 1, 2, 3]);
        assert_eq!(f.patches_between(f.cell(5).center(), f.cell(5).center()), [5]);
    }
}
