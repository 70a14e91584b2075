//! Colours, sizes and spacing of the window, light and dark.

use egui::style::{Selection, WidgetVisuals};
use egui::{Color32, Context, CornerRadius, FontFamily, FontId, Stroke, TextStyle, Theme, Visuals, vec2};

/// The colours that differ between the themes.
struct Palette {
    ground: Color32,
    card: Color32,
    edge: Color32,
    text: Color32,
    weak: Color32,
    button: Color32,
    hover: Color32,
    accent: Color32,
    on_accent: Color32,
}

const DARK: Palette = Palette {
    ground: Color32::from_rgb(17, 19, 24),
    card: Color32::from_rgb(25, 28, 35),
    edge: Color32::from_rgb(42, 46, 56),
    text: Color32::from_rgb(236, 239, 245),
    weak: Color32::from_rgb(150, 157, 171),
    button: Color32::from_rgb(40, 45, 56),
    hover: Color32::from_rgb(54, 60, 74),
    accent: Color32::from_rgb(62, 110, 214),
    on_accent: Color32::WHITE,
};

const LIGHT: Palette = Palette {
    ground: Color32::from_rgb(241, 242, 245),
    card: Color32::from_rgb(254, 254, 255),
    edge: Color32::from_rgb(221, 224, 231),
    text: Color32::from_rgb(28, 32, 41),
    weak: Color32::from_rgb(94, 101, 115),
    button: Color32::from_rgb(233, 235, 240),
    hover: Color32::from_rgb(220, 224, 232),
    accent: Color32::from_rgb(38, 92, 205),
    on_accent: Color32::WHITE,
};

fn widget(fill: Color32, text: Color32, edge: Stroke) -> WidgetVisuals {
    WidgetVisuals {
        bg_fill: fill,
        weak_bg_fill: fill,
        bg_stroke: edge,
        corner_radius: CornerRadius::same(6),
        fg_stroke: Stroke::new(1.2, text),
        expansion: 0.0,
    }
}

fn visuals(base: Visuals, p: &Palette) -> Visuals {
    let mut v = base;
    v.panel_fill = p.ground;
    v.window_fill = p.card;
    v.window_stroke = Stroke::new(1.0, p.edge);
    v.window_corner_radius = CornerRadius::same(10);
    v.menu_corner_radius = CornerRadius::same(8);
    v.faint_bg_color = p.button.gamma_multiply(0.6);
    v.extreme_bg_color = p.ground;
    v.weak_text_color = Some(p.weak);
    v.override_text_color = None;
    v.selection = Selection { bg_fill: p.accent, stroke: Stroke::new(1.2, p.on_accent) };
    v.hyperlink_color = p.accent;
    let none = Stroke::NONE;
    v.widgets.noninteractive = widget(p.card, p.text, Stroke::new(1.0, p.edge));
    v.widgets.inactive = widget(p.button, p.text, none);
    v.widgets.hovered = widget(p.hover, p.text, none);
    // Strong text takes the colour of pressed widgets.
    v.widgets.active = widget(p.edge, p.text, none);
    v.widgets.open = widget(p.hover, p.text, none);
    v
}

/// Puts the look in place for both themes.
pub(super) fn apply(context: &Context) {
    context.set_visuals_of(Theme::Dark, visuals(Visuals::dark(), &DARK));
    context.set_visuals_of(Theme::Light, visuals(Visuals::light(), &LIGHT));
    context.all_styles_mut(|style| {
        style.spacing.item_spacing = vec2(8.0, 7.0);
        style.spacing.button_padding = vec2(10.0, 5.0);
        style.spacing.interact_size.y = 26.0;
        style.spacing.slider_width = 150.0;
        style.interaction.selectable_labels = false;
        let sizes = [
            (TextStyle::Heading, 18.0),
            (TextStyle::Body, 14.0),
            (TextStyle::Button, 14.0),
            (TextStyle::Small, 12.0),
        ];
        for (text, size) in sizes {
            style.text_styles.insert(text, FontId::new(size, FontFamily::Proportional));
        }
    });
}
