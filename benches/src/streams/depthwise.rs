//! Depthwise convolutions of EfficientNet-B0 (and one 7×7, as ConvNeXt's), with batches that no cache holds.

use ocelli_tensor::ops::{PackedConv, conv2d_backward_input, conv2d_backward_weight};

use super::{Stream, sound};
use crate::layers::{Layer, depthwise};

const SOUND: &str = "a layer of the list is sound";

/// Layers, and images in a batch.
const LAYERS: [(Layer, usize); 6] = [
    (depthwise(112, 32, 3, 1, 1), 64),
    (depthwise(112, 96, 3, 2, 1), 32),
    (depthwise(28, 240, 5, 1, 2), 128),
    (depthwise(56, 144, 5, 2, 1), 64),
    (depthwise(14, 480, 3, 1, 3), 256),
    (depthwise(56, 96, 7, 1, 3), 64),
];

pub(super) fn streams() -> Vec<Stream> {
    LAYERS.iter().flat_map(|&(layer, batch)| passes(layer, batch)).collect()
}

fn passes(layer: Layer, batch: usize) -> [Stream; 3] {
    let [x, _, _] = layer.shapes(batch);
    let window = layer.window();
    let kernel = format!("depthwise {0}×{0} / {1}", layer.kernel, layer.stride);
    let stream = |pass: &str, prepare| Stream {
        kernel: format!("{kernel}{pass}"),
        shape: x,
        bytes: layer.bytes(batch),
        prepare,
    };
    [
        stream(
            "",
            Box::new(move || {
                let [x, w, _] = layer.operands(batch);
                let packed = PackedConv::new(&w, None, None, window, layer.groups, x.shape()).expect(SOUND);
                sound(move || packed.run(&x, None))
            }),
        ),
        stream(
            " backward input",
            Box::new(move || {
                let [x, w, dy] = layer.operands(batch);
                let shape = *x.shape();
                sound(move || conv2d_backward_input(&dy, &w, &shape, &window, layer.groups))
            }),
        ),
        stream(
            " backward weight",
            Box::new(move || {
                let [x, w, dy] = layer.operands(batch);
                let shape = *w.shape();
                sound(move || conv2d_backward_weight(&x, &dy, &shape, &window, layer.groups))
            }),
        ),
    ]
}
