//! The mask: patches are hidden and shown by pointer, touch or keyboard, drawn at random, turned around.

use beit::data::MaskKind;
use egui::{PointerButton, Pos2, Response, Role, Sense, Slider, Ui, WidgetInfo};

use super::{CHOSEN, MOST, not_ready};
use crate::Beit;
use crate::field::{Field, picture_size};

/// A stroke under way: whether it hides, and where the pointer was.
#[derive(Debug, Clone, Copy)]
struct Brush {
    hides: bool,
    last: Pos2,
}

/// The picture with its mask. A click or the space bar turns a patch around, a stroke paints what its first patch turned
/// to; arrow keys walk over the patches.
pub struct MaskEditor<'a> {
    beit: &'a mut Beit,
    width: f32,
    tools: bool,
}

impl<'a> MaskEditor<'a> {
    /// An editor of the mask of `beit`.
    pub fn new(beit: &'a mut Beit) -> Self {
        MaskEditor { beit, width: MOST, tools: true }
    }
    /// Most points that the picture is wide.
    pub fn width(mut self, width: f32) -> Self {
        self.width = width;
        self
    }
    /// Whether buttons for drawn masks stand under the picture.
    pub fn tools(mut self, tools: bool) -> Self {
        self.tools = tools;
        self
    }

    /// Shows the editor; the response is that of the picture, changed if the mask was.
    pub fn show(self, ui: &mut Ui) -> Response {
        if let Some(response) = not_ready(self.beit, ui) {
            return response;
        }
        let (Some((rows, columns)), Some(image)) = (self.beit.grid(), self.beit.model().map(|m| m.image))
        else {
            return ui.label("");
        };
        let (rect, mut response) = ui.allocate_exact_size(picture_size(ui, image, self.width), Sense::drag());
        let field = Field { rect, rows, columns };
        let mut mask = self.beit.mask().to_vec();
        let painted = stroke(ui, &response, &field, &mut mask);
        let touched = cells(ui, &response, &field, &mut mask).or(painted);
        if touched.is_some() {
            self.beit.choose_patch(touched);
        }
        let hidden = mask.iter().filter(|&&m| m).count();
        response.widget_info(|| {
            let text = format!("Mask: {hidden} of {} patches hidden", field.cells());
            WidgetInfo::labeled(Role::Image, true, text)
        });
        if mask != self.beit.mask() {
            self.beit.set_mask(mask);
            response.mark_changed();
        }
        self.paint(ui, &field, &response);
        if self.tools && tools(self.beit, ui) {
            response.mark_changed();
        }
        response
    }

    fn paint(&self, ui: &Ui, field: &Field, response: &Response) {
        let painter = ui.painter_at(field.rect.expand(3.0));
        if let Some(original) = self.beit.original() {
            field.picture(&painter, original);
        }
        field.hidden(&painter, self.beit.mask(), 0.93);
        field.lines(&painter);
        if let Some(patch) = response.hover_pos().and_then(|at| field.patch_at(at)) {
            painter.rect_filled(field.cell(patch), 0, egui::Color32::from_white_alpha(40));
        }
        if let Some(patch) = self.beit.chosen_patch() {
            field.frame(&painter, patch, CHOSEN);
        }
    }
}

/// Paints with the pointer, from the moment it is pressed; gives the patch where that was.
fn stroke(ui: &Ui, response: &Response, field: &Field, mask: &mut [bool]) -> Option<usize> {
    let id = response.id.with("brush");
    let (origin, now) = ui.input(|i| (i.pointer.press_origin(), i.pointer.interact_pos()));
    let mut first = None;
    if response.drag_started()
        && let Some(origin) = origin
    {
        first = field.patch_at(origin);
        let brush = first.map(|p| Brush { hides: !mask[p], last: origin });
        ui.data_mut(|d| d.insert_temp(id, brush));
    }
    let brush = ui.data(|d| d.get_temp::<Option<Brush>>(id)).flatten();
    if let (Some(brush), Some(now)) = (brush, now)
        && (response.dragged() || response.drag_stopped())
    {
        field.patches_between(brush.last, now).into_iter().for_each(|p| mask[p] = brush.hides);
        ui.data_mut(|d| d.insert_temp(id, Some(Brush { last: now, ..brush })));
    }
    first
}

/// A box for each patch, for the keyboard and screen readers; gives the patch that was touched.
fn cells(ui: &Ui, board: &Response, field: &Field, mask: &mut [bool]) -> Option<usize> {
    let mut touched = None;
    for (p, hidden) in mask.iter_mut().enumerate() {
        let (row, column) = field.place(p);
        let cell = ui.interact(field.cell(p), board.id.with(p), Sense::click());
        // The pointer has painted already when it was pressed.
        if cell.clicked() && !cell.clicked_by(PointerButton::Primary) {
            *hidden = !*hidden;
            touched = Some(p);
        }
        if cell.secondary_clicked() || cell.gained_focus() {
            touched = Some(p);
        }
        let (hidden, text) = (*hidden, format!("row {}, column {}", row + 1, column + 1));
        cell.widget_info(|| WidgetInfo::selected(Role::CheckBox, true, hidden, &text));
    }
    touched
}

/// Buttons for drawn masks; whether the mask changed.
fn tools(beit: &mut Beit, ui: &mut Ui) -> bool {
    let id = ui.scope_id().with("hidden share");
    let mut share = ui.data(|d| d.get_temp::<f64>(id)).unwrap_or(0.4);
    let before = beit.mask().to_vec();
    ui.horizontal_wrapped(|ui| {
        if ui.button("Blocks").on_hover_text("hide rectangles, as in pre-training").clicked() {
            beit.draw_mask(MaskKind::Blockwise, share);
        }
        if ui.button("Scattered").on_hover_text("hide single patches at random").clicked() {
            beit.draw_mask(MaskKind::Random, share);
        }
        if ui.button("Invert").on_hover_text("hide what is seen, show what is hidden").clicked() {
            beit.set_mask(beit.mask().iter().map(|m| !m).collect());
        }
        if ui.button("Clear").on_hover_text("hide nothing").clicked() {
            beit.set_mask(vec![false; beit.mask().len()]);
        }
    });
    let slider = Slider::new(&mut share, 0.05..=0.95)
        .text("hidden")
        .custom_formatter(|v, _| format!("{:.0} %", 100.0 * v))
        .custom_parser(|s| s.trim_end_matches([' ', '%']).parse::<f64>().ok().map(|v| v / 100.0));
    let slider = ui.add(slider).on_hover_text("share of the patches that Blocks and Scattered hide");
    if slider.changed() {
        ui.data_mut(|d| d.insert_temp(id, share));
        beit.draw_mask(MaskKind::Blockwise, share);
    }
    before != beit.mask()
}
