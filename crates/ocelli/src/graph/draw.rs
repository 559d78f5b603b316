//! The layout of a diagram, and its SVG.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::blocks::{Block, Item, Join, Kind, Layer, Piece};
use super::{Diagram, Panel};
use crate::output::size;

/// Width of a box that stands alone, and of one among branches.
const WIDE: f64 = 150.0;
const NARROW: f64 = 60.0;
const BOX_HEIGHT: f64 = 26.0;
/// Height of a box with two lines.
const TALL_HEIGHT: f64 = 38.0;
const GAP: f64 = 9.0;
/// Between a block's frame and its boxes: room for the shortcut at the sides.
const SIDE: f64 = 22.0;
const PANEL_PADDING: f64 = 14.0;
const PANEL_HEAD: f64 = 52.0;
const PANEL_FOOT: f64 = 44.0;
const ARROW: f64 = 74.0;
const MARGIN: f64 = 28.0;
const TITLE: f64 = 88.0;
const LEGEND: f64 = 46.0;
const INK: &str = "#1f2933";
const GREY: &str = "#5f6c7b";
const LINE: &str = "#8a97a6";

impl Kind {
    /// Fill, stroke, and the name in the legend.
    fn style(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Kind::Conv => ("#d3e5f8", "#3f77b0", "convolution"),
            Kind::Grouped => ("#dfd8f5", "#6f5bb5", "grouped convolution"),
            Kind::Depthwise => ("#cfeee2", "#2f9170", "depthwise convolution"),
            Kind::Deformable => ("#f9d9e6", "#b84a76", "deformable convolution"),
            Kind::Pool => ("#fde8c8", "#c27f22", "pooling"),
            Kind::Squeeze => ("#f8d4d0", "#bb5148", "squeeze-and-excitation"),
            Kind::ResponseNorm => ("#e5e8ec", "#77828f", "response normalisation"),
            Kind::Linear => ("#dcebc9", "#64923c", "fully connected"),
        }
    }
}

impl Layer {
    /// The text in a wide box, one line or two.
    fn wide_text(&self) -> Vec<String> {
        let mut text = match self.kind {
            Kind::Conv | Kind::Grouped => format!("{} conv", self.window),
            Kind::Depthwise => format!("{} depthwise", self.window),
            Kind::Deformable => format!("{} deformable", self.window),
            _ => self.window.clone(),
        };
        // A depthwise convolution has as many as its input.
        if let Some(channels) = self.channels.filter(|_| self.kind != Kind::Depthwise) {
            let _ = write!(text, ", {channels}");
        }
        if self.stride > 1 {
            let _ = write!(text, ", /{}", self.stride);
        }
        let groups = (self.kind == Kind::Grouped).then(|| format!("{} groups", self.groups));
        [text].into_iter().chain(groups).collect()
    }

    /// The two lines in a narrow box.
    fn narrow_text(&self) -> [String; 2] {
        let stride = if self.stride > 1 { format!(", /{}", self.stride) } else { String::new() };
        match (self.channels, self.window.split_once(' ')) {
            (Some(channels), _) => [self.window.clone(), format!("{channels}{stride}")],
            (None, Some((word, window))) => [word.into(), format!("{window}{stride}")],
            (None, None) => [self.window.clone(), stride],
        }
    }
}

/// Width and height.
type Extent = [f64; 2];

fn layer_height(layer: &Layer) -> f64 {
    if layer.wide_text().len() > 1 { TALL_HEIGHT } else { BOX_HEIGHT }
}

fn stacked(heights: impl Iterator<Item = f64>) -> f64 {
    heights.map(|height| height + GAP).sum::<f64>() - GAP
}

fn piece_extent(piece: &Piece) -> Extent {
    match piece {
        Piece::Layer(layer) => [WIDE, layer_height(layer)],
        Piece::Branches(ways) => {
            let width = ways.len() as f64 * (NARROW + GAP) - GAP;
            let tallest = ways.iter().map(|way| stacked(way.iter().map(|_| TALL_HEIGHT))).fold(0.0, f64::max);
            // Room for the lines that part and join.
            [width, tallest + 4.0 * GAP]
        }
    }
}

impl Item {
    fn extent(&self) -> Extent {
        let width = self.block.pieces.iter().map(|piece| piece_extent(piece)[0]).fold(0.0, f64::max);
        let height = stacked(self.block.pieces.iter().map(|piece| piece_extent(piece)[1]));
        let join = if self.block.join == Join::None { 0.0 } else { 26.0 };
        let note = if self.note.is_empty() { 0.0 } else { 16.0 };
        match self.is_framed {
            true => [width + 2.0 * SIDE, height + 2.0 * 14.0 + join + note],
            false => [width, height + note],
        }
    }
}

impl Panel {
    fn extent(&self) -> Extent {
        let width = self.items.iter().map(|item| item.extent()[0]).fold(WIDE + 2.0 * SIDE, f64::max);
        let height = stacked(self.items.iter().map(|item| item.extent()[1] + GAP)) - GAP;
        [width + 2.0 * PANEL_PADDING, height.max(0.0) + PANEL_HEAD + PANEL_FOOT]
    }
}

/// The picture.
pub fn svg(diagram: &Diagram) -> String {
    let extents: Vec<Extent> = diagram.panels.iter().map(Panel::extent).collect();
    let tallest = extents.iter().map(|extent| extent[1]).fold(0.0, f64::max);
    let panels: f64 = extents.iter().map(|extent| extent[0] + ARROW).sum();
    let mut canvas = Canvas::default();
    let mut x = MARGIN;
    let middle = TITLE + tallest / 2.0;
    let [height, width, channels] = diagram.input;
    let mut shape = vec![height, width, channels];
    for (panel, [width, height]) in diagram.panels.iter().zip(&extents) {
        canvas.flow([x, middle], &shape);
        x += ARROW;
        canvas.panel(panel, [x, middle - height / 2.0], [*width, *height]);
        x += width;
        shape.clone_from(&panel.output);
    }
    let kinds: BTreeSet<Kind> = diagram.panels.iter().flat_map(|panel| &panel.items).flat_map(kinds).collect();
    let legend_width = canvas.legend(diagram, &kinds, TITLE + tallest + 28.0);
    let width = (2.0 * MARGIN + panels).max(legend_width + MARGIN).max(640.0);
    canvas.text([MARGIN, 44.0], 28.0, INK, "start", "bold", &diagram.title);
    canvas.text([MARGIN, 68.0], 15.0, GREY, "start", "normal", &diagram.subtitle);
    canvas.finish([width, TITLE + tallest + LEGEND + 8.0])
}

fn kinds(item: &Item) -> Vec<Kind> {
    fn of(piece: &Piece) -> Vec<Kind> {
        match piece {
            Piece::Layer(layer) => vec![layer.kind],
            Piece::Branches(ways) => ways.iter().flatten().flat_map(of).collect(),
        }
    }
    item.block.pieces.iter().flat_map(of).collect()
}

/// SVG elements: lines lie below boxes.
#[derive(Default)]
struct Canvas {
    below: String,
    above: String,
}

impl Canvas {
    fn finish(self, [width, height]: Extent) -> String {
        let Canvas { below, above } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
             height=\"{height:.0}\" font-family=\"Helvetica, Arial, 'Liberation Sans', sans-serif\">\n\
             <defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" markerHeight=\"7\" \
             orient=\"auto\"><path d=\"M0 0 8 4 0 8z\" fill=\"{LINE}\"/></marker></defs>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{below}{above}</svg>\n"
        )
    }

    fn text(&mut self, [x, y]: [f64; 2], size: f64, colour: &str, anchor: &str, weight: &str, text: &str) {
        let _ = writeln!(
            self.above,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{colour}\" text-anchor=\"{anchor}\" \
             font-weight=\"{weight}\">{text}</text>"
        );
    }

    fn centred(&mut self, at: [f64; 2], size: f64, colour: &str, text: &str) {
        self.text(at, size, colour, "middle", "normal", text);
    }

    fn frame(&mut self, [x, y]: [f64; 2], [width, height]: Extent, radius: f64, fill: &str, stroke: &str) {
        let _ = writeln!(
            self.below,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"{radius}\" \
             fill=\"{fill}\" stroke=\"{stroke}\"/>"
        );
    }

    fn filled(&mut self, [x, y]: [f64; 2], [width, height]: Extent, kind: Kind) {
        let (fill, stroke, _) = kind.style();
        let _ = writeln!(
            self.above,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"4\" fill=\"{fill}\" \
             stroke=\"{stroke}\"/>"
        );
    }

    /// A line along a path of SVG.
    fn line(&mut self, path: &str, attributes: &str) {
        let _ = writeln!(self.below, "<path d=\"{path}\" fill=\"none\" stroke=\"{LINE}\" {attributes}/>");
    }

    fn vertical(&mut self, x: f64, from: f64, to: f64) {
        self.line(&format!("M{x:.1} {from:.1}V{to:.1}"), "");
    }

    /// An arrow into a panel, with the shape of what flows.
    fn flow(&mut self, [x, y]: [f64; 2], shape: &[usize]) {
        self.line(
            &format!("M{:.1} {y:.1}H{:.1}", x + 6.0, x + ARROW - 6.0),
            "stroke-width=\"2\" marker-end=\"url(#tip)\"",
        );
        let centre = x + ARROW / 2.0 - 2.0;
        match shape {
            [height, width, channels] => {
                self.centred([centre, y - 9.0], 13.0, INK, &format!("{height}×{width}"));
                self.centred([centre, y + 19.0], 13.0, INK, &format!("×{channels}"));
            }
            _ => self.centred([centre, y - 9.0], 13.0, INK, &shape.last().map_or(String::new(), usize::to_string)),
        }
    }

    fn panel(&mut self, panel: &Panel, [x, y]: [f64; 2], [width, height]: Extent) {
        self.frame([x, y], [width, height], 10.0, "#f6f8fa", "#d3dbe3");
        let centre = x + width / 2.0;
        self.text([centre, y + 23.0], 15.0, INK, "middle", "bold", &panel.title);
        self.centred([centre, y + 39.0], 11.0, GREY, &panel.subtitle);
        let mut top = y + PANEL_HEAD;
        for (i, item) in panel.items.iter().enumerate() {
            if i > 0 {
                self.vertical(centre, top - 2.0 * GAP, top);
            }
            let extent = item.extent();
            self.item(item, [centre, top], extent);
            top += extent[1] + 2.0 * GAP;
        }
        let count = |n: u64, what: &str| format!("{} {what}", size(n));
        let foot = y + height - PANEL_FOOT;
        self.centred([centre, foot + 22.0], 11.0, GREY, &count(panel.parameters as u64, "parameters"));
        self.centred([centre, foot + 36.0], 11.0, GREY, &count(panel.macs, "MACs"));
    }

    /// An element whose top has its middle at `centre`.
    fn item(&mut self, item: &Item, [centre, top]: [f64; 2], [width, height]: Extent) {
        let left = centre - width / 2.0;
        let note = if item.note.is_empty() { 0.0 } else { 16.0 };
        if item.is_framed {
            self.frame([left, top], [width, height], 8.0, "#ffffff", "#b8c3cf");
        }
        let inner = if item.is_framed { top + 14.0 } else { top };
        let bottom = self.pieces(&item.block, [centre, inner]);
        if item.is_framed {
            self.shortcut(&item.block, [centre, top], bottom, width);
        }
        if note > 0.0 {
            self.centred([centre, top + height - 6.0], 11.0, GREY, &item.note);
        }
        if item.repeats > 1 {
            let text = format!("×{}", item.repeats);
            let pill = 14.0 + 8.0 * text.chars().count() as f64;
            let [x, y] = [left + width - pill + if item.is_framed { 8.0 } else { 14.0 }, top - 10.0];
            let _ = writeln!(
                self.above,
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{pill:.1}\" height=\"21\" rx=\"10.5\" fill=\"{INK}\"/>"
            );
            self.text([x + pill / 2.0, y + 15.0], 13.0, "#ffffff", "middle", "bold", &text);
        }
    }

    /// A block's boxes from `top` on; returns where they end.
    fn pieces(&mut self, block: &Block, [centre, top]: [f64; 2]) -> f64 {
        let mut y = top;
        for (i, piece) in block.pieces.iter().enumerate() {
            if i > 0 {
                self.vertical(centre, y - GAP, y);
            }
            let [width, height] = piece_extent(piece);
            match piece {
                Piece::Layer(layer) => {
                    self.layer_box(&layer.wide_text(), [centre - width / 2.0, y], [width, height], layer.kind);
                }
                Piece::Branches(ways) => self.branches(ways, [centre - width / 2.0, y], [width, height]),
            }
            y += height + GAP;
        }
        y - GAP
    }

    fn layer_box(&mut self, lines: &[String], [x, y]: [f64; 2], [width, height]: Extent, kind: Kind) {
        self.filled([x, y], [width, height], kind);
        let centre = x + width / 2.0;
        match lines {
            [one] => self.centred([centre, y + height / 2.0 + 4.5], 13.0, INK, one),
            [first, second, ..] => {
                let size = if width < NARROW { 10.0 } else { 12.0 };
                self.centred([centre, y + 16.0], if width > NARROW { 13.0 } else { size }, INK, first);
                self.centred([centre, y + 31.0], size, if width > NARROW { GREY } else { INK }, second);
            }
            [] => {}
        }
    }

    /// Branches side by side, from the middle of their top to that of their bottom.
    fn branches(&mut self, ways: &[Vec<Piece>], [left, top]: [f64; 2], [width, height]: Extent) {
        let centre = left + width / 2.0;
        let bottom = top + height;
        for (i, way) in ways.iter().enumerate() {
            let x = left + i as f64 * (NARROW + GAP);
            let middle = x + NARROW / 2.0;
            self.line(
                &format!("M{centre:.1} {top:.1}L{middle:.1} {:.1}V{:.1}", top + 2.0 * GAP, bottom - 2.0 * GAP),
                "",
            );
            self.line(&format!("M{middle:.1} {:.1}L{centre:.1} {bottom:.1}", bottom - 2.0 * GAP), "");
            let mut y = top + 2.0 * GAP;
            for piece in way {
                match piece {
                    Piece::Layer(layer) => {
                        self.layer_box(&layer.narrow_text(), [x, y], [NARROW, TALL_HEIGHT], layer.kind);
                    }
                    Piece::Branches(ends) => self.ends(ends, [x, y]),
                }
                y += TALL_HEIGHT + GAP;
            }
        }
    }

    /// Single layers side by side within a branch.
    fn ends(&mut self, ends: &[Vec<Piece>], [x, y]: [f64; 2]) {
        let width = (NARROW - 3.0 * (ends.len() as f64 - 1.0)) / ends.len() as f64;
        let layers = ends.iter().flatten().filter_map(|piece| match piece {
            Piece::Layer(layer) => Some(layer),
            Piece::Branches(_) => None,
        });
        for (i, layer) in layers.enumerate() {
            self.layer_box(&layer.narrow_text(), [x + i as f64 * (width + 3.0), y], [width, TALL_HEIGHT], layer.kind);
        }
    }

    /// The way of a block's input around it, and where the two meet.
    fn shortcut(&mut self, block: &Block, [centre, top]: [f64; 2], bottom: f64, width: f64) {
        self.vertical(centre, top, top + 14.0);
        let Some(sign) = sign(block.join) else {
            self.vertical(centre, bottom, bottom + 14.0);
            return;
        };
        let meet = bottom + 19.0;
        self.vertical(centre, bottom, meet);
        let (x, dashes) = (centre - width / 2.0 + 10.0, if block.projects { "stroke-dasharray=\"4 3\"" } else { "" });
        let path = format!(
            "M{centre:.1} {:.1}H{:.1}Q{x:.1} {:.1} {x:.1} {:.1}V{:.1}Q{x:.1} {meet:.1} {:.1} {meet:.1}H{:.1}",
            top + 7.0,
            x + 8.0,
            top + 7.0,
            top + 15.0,
            meet - 8.0,
            x + 8.0,
            centre - 9.0
        );
        self.line(&path, &format!("stroke-width=\"1.5\" {dashes}"));
        self.meeting([centre, meet], sign);
    }

    fn meeting(&mut self, [x, y]: [f64; 2], sign: &str) {
        let _ = writeln!(
            self.above,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"8.5\" fill=\"#ffffff\" stroke=\"{GREY}\" stroke-width=\"1.3\"/>"
        );
        self.text([x, y + 5.0], 14.0, INK, "middle", "bold", sign);
    }

    /// Returns where it ends.
    fn legend(&mut self, diagram: &Diagram, kinds: &BTreeSet<Kind>, y: f64) -> f64 {
        let mut x = MARGIN;
        let advance = |text: &str| 7.0 * text.chars().count() as f64 + 24.0;
        for kind in kinds {
            let (_, _, name) = kind.style();
            self.filled([x, y - 11.0], [18.0, 14.0], *kind);
            self.text([x + 25.0, y + 1.0], 13.0, INK, "start", "normal", name);
            x += 25.0 + advance(name);
        }
        let joins: Vec<Join> =
            diagram.panels.iter().flat_map(|panel| &panel.items).map(|item| item.block.join).collect();
        for (join, name) in [(Join::Sum, "added"), (Join::Concat, "joined channels")] {
            if let Some(sign) = sign(join).filter(|_| joins.contains(&join)) {
                self.meeting([x + 9.0, y - 4.0], sign);
                self.text([x + 25.0, y + 1.0], 13.0, INK, "start", "normal", name);
                x += 25.0 + advance(name);
            }
        }
        if !diagram.silent.is_empty() {
            let names = diagram.silent.iter().copied().collect::<Vec<_>>().join(" and ");
            let text = format!("{names} not drawn");
            self.text([x, y + 1.0], 13.0, GREY, "start", "normal", &text);
            x += advance(&text);
        }
        x
    }
}

fn sign(join: Join) -> Option<&'static str> {
    match join {
        Join::None => None,
        Join::Sum => Some("+"),
        Join::Concat => Some("‖"),
    }
}
