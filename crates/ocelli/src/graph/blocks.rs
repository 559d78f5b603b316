//! From operations to what people draw: layers, blocks with their shortcuts, branches side by side.

use ocelli_train::zoo::Part;
use ocelli_train::zoo::nn::autograd::Entry;

use super::series::{Node, series};

/// What a box's colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Conv,
    Grouped,
    Depthwise,
    Deformable,
    Pool,
    Squeeze,
    ResponseNorm,
    Linear,
}

/// A box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    pub kind: Kind,
    /// The window, such as `3×3`, or a word.
    pub window: String,
    /// Its output channels, if it may change them.
    pub channels: Option<usize>,
    pub groups: usize,
    pub stride: usize,
}

/// A part of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Layer(Layer),
    /// Side by side, with their channels joined.
    Branches(Vec<Vec<Piece>>),
}

/// What meets a block's last value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// Nothing.
    None,
    /// Its input is added.
    Sum,
    /// Its input's channels go on beside it.
    Concat,
}

/// Layers that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub pieces: Vec<Piece>,
    pub join: Join,
    /// Whether a convolution gives the added input its new shape.
    pub projects: bool,
}

/// An element of a stage.
#[derive(Debug)]
pub struct Item {
    pub block: Block,
    pub is_framed: bool,
    pub repeats: usize,
    /// How the first of the repeated ones differs.
    pub note: String,
}

/// The elements of a part of a network.
pub fn items(part: &Part) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut open: Option<String> = None;
    for node in series(&part.trace) {
        let key = block_of(&node, &part.path);
        let framed = key.is_some();
        let mut block = Block { pieces: Vec::new(), join: Join::None, projects: false };
        block.take(node);
        if block.pieces.is_empty() {
            continue;
        }
        match items.last_mut() {
            // The layers of a block without a shortcut follow each other.
            Some(last) if framed && open == key && block.join == Join::None => last.block.pieces.extend(block.pieces),
            _ => items.push(Item { block, is_framed: framed, repeats: 1, note: String::new() }),
        }
        open = key;
    }
    for item in &mut items {
        item.is_framed &= item.block.pieces.len() > 1 || item.block.join != Join::None;
    }
    items
}

/// The name of the block to which a node belongs in the part at `path`; none for a layer that stands alone.
fn block_of(node: &Node<'_>, path: &str) -> Option<String> {
    let (scope, is_parallel) = match node {
        Node::Operation(entry) => (entry.scope(), false),
        Node::Parallel(_, join) => (join.scope(), true),
    };
    let inside = scope.strip_prefix(path).unwrap_or(scope).trim_start_matches('.');
    match inside.split_once('.') {
        Some((block, _)) => Some(block.into()),
        None => is_parallel.then(|| inside.into()),
    }
}

impl Block {
    fn take(&mut self, node: Node<'_>) {
        match node {
            Node::Operation(entry) => self.pieces.extend(layer(entry).map(Piece::Layer)),
            Node::Parallel(branches, join) => self.take_parallel(branches, join.name()),
        }
    }

    fn take_parallel(&mut self, branches: Vec<Vec<Node<'_>>>, join: &str) {
        let empty: Vec<bool> = branches.iter().map(Vec::is_empty).collect();
        let mut ways: Vec<Vec<Piece>> = branches.into_iter().map(pieces).collect();
        if let [a, b] = &mut ways[..]
            && a.len() < b.len()
        {
            std::mem::swap(a, b);
        }
        match (join, &mut ways[..]) {
            ("mul", [way, ..]) if empty.contains(&true) => self.pieces.extend(squeeze(way)),
            ("add", [body, shortcut]) if shortcut.len() <= 1 => {
                self.pieces.append(body);
                (self.join, self.projects) = (Join::Sum, !shortcut.is_empty());
            }
            ("concat", [body, shortcut]) if shortcut.is_empty() => {
                self.pieces.append(body);
                self.join = Join::Concat;
            }
            _ => {
                ways.retain(|way| !way.is_empty());
                self.pieces.push(Piece::Branches(ways));
            }
        }
    }
}

fn pieces(nodes: Vec<Node<'_>>) -> Vec<Piece> {
    let mut block = Block { pieces: Vec::new(), join: Join::None, projects: false };
    nodes.into_iter().for_each(|node| block.take(node));
    block.pieces
}

/// A squeeze-and-excitation of the layers between its averages and the product.
fn squeeze(way: &[Piece]) -> Option<Piece> {
    let channels = way.iter().find_map(|piece| match piece {
        Piece::Layer(Layer { kind: Kind::Conv | Kind::Linear, channels, .. }) => *channels,
        _ => None,
    });
    let window = "squeeze-excite".into();
    Some(Piece::Layer(Layer { kind: Kind::Squeeze, window, channels, groups: 1, stride: 1 }))
}

/// The layer that an operation makes; none for those that are not drawn.
fn layer(entry: &Entry) -> Option<Layer> {
    let channels = entry.output_shape().last().copied();
    let window = entry.window();
    let size = window.map_or(String::new(), |w| format!("{}×{}", w.kernel_size[0], w.kernel_size[1]));
    let stride = window.map_or(1, |w| w.stride[0]);
    let plain = |kind, window: String, channels| Some(Layer { kind, window, channels, groups: 1, stride });
    match entry.name() {
        "conv2d" => {
            let [input, weight] = entry.input_shapes() else { return None };
            let groups = input[3] / weight[2].max(1);
            let kind = match groups {
                1 => Kind::Conv,
                groups if groups == input[3] => Kind::Depthwise,
                _ => Kind::Grouped,
            };
            Some(Layer { kind, window: size, channels, groups, stride })
        }
        "deform_conv2d" => plain(Kind::Deformable, size, channels),
        "linear" => plain(Kind::Linear, "linear".into(), channels),
        "max_pool2d" => plain(Kind::Pool, format!("max {size}"), None),
        "avg_pool2d" => plain(Kind::Pool, format!("mean {size}"), None),
        "global_avg_pool2d" => plain(Kind::Pool, "global mean".into(), None),
        "adaptive_avg_pool2d" => {
            let [_, h, w, _] = entry.output_shape()[..] else { return None };
            plain(Kind::Pool, format!("mean to {h}×{w}"), None)
        }
        "local_response_norm" => plain(Kind::ResponseNorm, "response norm".into(), None),
        _ => None,
    }
}

/// Draws neighbours that differ only in strides and projections as one.
pub fn collapse(items: &mut Vec<Item>) {
    let mut kept: Vec<Item> = Vec::new();
    for item in items.drain(..) {
        match kept.last_mut() {
            Some(last) if last.is_like(&item) => {
                if last.repeats == 1 && last.block != item.block {
                    last.note = format!("first: {}", last.block.remarks());
                }
                last.block = item.block;
                last.repeats += 1;
            }
            _ => kept.push(item),
        }
    }
    for item in kept.iter_mut().filter(|item| item.repeats == 1 && item.block.projects) {
        item.note = "projected shortcut".into();
    }
    *items = kept;
}

impl Item {
    /// Whether the two are drawn as one: blocks that are alike, and equal layers.
    fn is_like(&self, other: &Item) -> bool {
        match (self.is_framed, other.is_framed) {
            (true, true) => self.block.alike() == other.block.alike(),
            (false, false) => self.block == other.block,
            _ => false,
        }
    }
}

impl Block {
    /// The block without strides and projections.
    fn alike(&self) -> Block {
        let mut block = self.clone();
        block.projects = false;
        block.pieces.iter_mut().for_each(forget_strides);
        block
    }

    /// Its strides and projections.
    fn remarks(&self) -> String {
        let stride = self.pieces.iter().map(stride).product::<usize>();
        let stride = (stride > 1).then(|| format!("stride {stride}"));
        let projection = self.projects.then(|| "projection".to_owned());
        stride.into_iter().chain(projection).collect::<Vec<_>>().join(", ")
    }
}

fn forget_strides(piece: &mut Piece) {
    match piece {
        Piece::Layer(layer) => layer.stride = 1,
        Piece::Branches(ways) => ways.iter_mut().flatten().for_each(forget_strides),
    }
}

fn stride(piece: &Piece) -> usize {
    match piece {
        Piece::Layer(layer) => layer.stride,
        Piece::Branches(ways) => ways.iter().map(|way| way.iter().map(stride).product()).max().unwrap_or(1),
    }
}
