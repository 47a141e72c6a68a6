//! The list: every operation that the models are written in.
//!
//! Each function checks shapes (a wrong one is a bug in the caller and asserts) and hands the work to the tensor's
//! backend. A layout change is an operation with a name; nothing here is general on purpose.

use crate::activations::{Activations, Rows};
use crate::backend::cuda::{self, Cuda};
use crate::backend::{Attention, Backend, Conv, Conv3x3, Norm, on_device};
use crate::delta::Delta;
use crate::tensor::Storage;
use crate::{Device, Linear, Tensor, Weight};

/// Which keys a query may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// All of them.
    None,
    /// Those at its own position and before.
    Causal,
}

/// Stride and zero padding of a 2-D convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Step between outputs, in both directions.
    pub stride: usize,
    /// Columns of zeros on the left.
    pub left: usize,
    /// Columns of zeros on the right.
    pub right: usize,
    /// Rows of zeros on top.
    pub top: usize,
    /// Rows of zeros at the bottom.
    pub bottom: usize,
}

impl ConvGeometry {
    /// Stride 1 and the same padding on all sides.
    pub fn padded(padding: usize) -> ConvGeometry {
        ConvGeometry { stride: 1, left: padding, right: padding, top: padding, bottom: padding }
    }
}

/// A group norm: `(x - mean) / sqrt(variance + eps) * weight + bias` with the statistics of `groups` groups of channels.
#[derive(Debug)]
pub struct GroupNorm {
    /// A value per channel.
    pub weight: Tensor,
    /// A value per channel.
    pub bias: Tensor,
    /// Number of groups; divides the channels.
    pub groups: usize,
    /// What is added to the variance.
    pub eps: f32,
}

impl GroupNorm {
    /// The parameters as a backend sees them, for `x`.
    fn on<'a, B: Backend>(&'a self, backend: &B, x: &Tensor) -> Norm<'a, B::Buffer> {
        let [channels, ..] = chw(x);
        let GroupNorm { weight, bias, groups, eps } = self;
        assert_eq!((channels, channels, channels % groups), (weight.len(), bias.len(), 0), "group_norm: channels");
        Norm { weight: backend.host(weight), bias: backend.host(bias), groups: *groups, eps: *eps }
    }
}

/// `x W^T + b`, and the layer's deltas: `(tokens, in)` -> `(tokens, out)`. Always exact.
pub fn linear(x: &Tensor, layer: &Linear) -> Tensor {
    with_deltas(weigh(x, &layer.weight, layer.bias.as_ref()), x, layer)
}

/// [`linear`] for the layers of a block: where the device multiplies bytes, activations and weight have 8 bits.
pub fn project(x: &Activations, layer: &Linear) -> Tensor {
    assert_eq!(x.cols(), layer.weight.cols, "project: input features");
    match &x.0 {
        Rows::Exact(x) => linear(x, layer),
        Rows::Quantized { device, rows } => {
            let cpu = device.int8().expect("bytes are made where they are multiplied: this is a bug");
            let bias = layer.bias.as_ref().map(Tensor::host_values);
            let y = Storage::Host(cpu.project(rows, &layer.weight, bias));
            projected(device, (rows.rows(), y), layer, || (rows.cols(), Storage::Host(cpu.dequantize(rows))))
        }
        Rows::OnCuda { device, rows } => {
            let Device::Cuda(cuda) = device else { panic!("rows of a GPU on {device:?}: this is a bug") };
            let bias = layer.bias.as_ref().map(|bias| cuda.host(bias));
            let y = Storage::Cuda(cuda.project(rows, &layer.weight, bias));
            projected(device, (rows.rows(), y), layer, || (rows.cols(), Storage::Cuda(cuda.dequantize(rows))))
        }
    }
}

/// The output of a layer for quantized rows, with its deltas, which need the values again.
fn projected(
    device: &Device,
    (rows, y): (usize, Storage),
    layer: &Linear,
    dequantized: impl FnOnce() -> (usize, Storage),
) -> Tensor {
    let tensor = |cols, storage| Tensor { device: device.clone(), shape: vec![rows, cols], storage };
    let y = tensor(layer.weight.rows, y);
    if layer.deltas.is_empty() {
        return y;
    }
    let (cols, x) = dequantized();
    with_deltas(y, &tensor(cols, x), layer)
}

/// Adds to `y`, the layer's output for `x`, what its deltas make of it.
fn with_deltas(mut y: Tensor, x: &Tensor, layer: &Linear) -> Tensor {
    let reads_base = layer.deltas.iter().any(Delta::reads_base);
    let base = reads_base.then(|| match layer.bias {
        None => slice_rows(&y, 0, y.rows()),
        Some(_) => linear_without_bias(x, layer),
    });
    for delta in &layer.deltas {
        delta.add_to(&mut y, x, layer, base.as_ref());
    }
    y
}

/// `x W^T`, without bias and deltas.
pub fn linear_without_bias(x: &Tensor, layer: &Linear) -> Tensor {
    weigh(x, &layer.weight, None)
}

fn weigh(x: &Tensor, weight: &Weight, bias: Option<&Tensor>) -> Tensor {
    assert_eq!(x.cols(), weight.cols, "linear: input features");
    on_device!(x, b => b.linear(b.host(x), weight, bias.map(|t| b.host(t))), [x.rows(), weight.rows])
}

/// Rows of the table `(vocab, dim)` -> `(ids, dim)`. The ids must be below `vocab`.
pub fn embedding(table: &Weight, ids: &[u32]) -> Tensor {
    assert!(ids.iter().all(|&id| (id as usize) < table.rows), "embedding: id out of range");
    let shape = [ids.len(), table.cols];
    on_device!(table, b => b.embedding(table, ids), shape)
}

/// `x / rms(x) * weight` over rows of `weight.len()` values: whole rows, or heads when the weight is one head long.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Tensor {
    assert_eq!(x.len() % weight.len(), 0, "rms_norm: weight");
    on_device!(x, b => b.rms_norm(b.host(x), b.host(weight), eps), x.shape)
}

/// `rms_norm(x) * scale`, with one factor per column.
pub fn rms_norm_scaled(x: &Tensor, weight: &Tensor, scale: &Tensor, eps: f32) -> Tensor {
    assert_eq!((x.cols(), x.cols()), (weight.len(), scale.len()), "rms_norm_scaled: weight, scale");
    on_device!(x, b => b.rms_norm_scaled(b.host(x), b.host(weight), b.host(scale), eps), x.shape)
}

/// `x += rms_norm(y)`: the sandwich norm of an unmodulated branch.
pub fn add_rms_norm(x: &mut Tensor, y: &Tensor, weight: &Tensor, eps: f32) {
    assert_eq!((&x.shape, x.cols()), (&y.shape, weight.len()), "add_rms_norm: y, weight");
    on_device!(mut x, b => b.add_rms_norm(b.host_mut(x), b.host(y), b.host(weight), eps))
}

/// `x += gate * rms_norm(y)`: the sandwich norm of a modulated branch, with one gate per column.
pub fn add_rms_norm_gated(x: &mut Tensor, y: &Tensor, weight: &Tensor, gate: &Tensor, eps: f32) {
    assert_eq!((&x.shape, x.cols(), x.cols()), (&y.shape, weight.len(), gate.len()), "add_rms_norm_gated: operands");
    on_device!(mut x, b => b.add_rms_norm_gated(b.host_mut(x), b.host(y), b.host(weight), b.host(gate), eps))
}

/// `(x - mean) / std * scale` over rows; no learned weight.
pub fn layer_norm_scaled(x: &Tensor, scale: &Tensor, eps: f32) -> Tensor {
    assert_eq!(x.cols(), scale.len(), "layer_norm_scaled: scale");
    on_device!(x, b => b.layer_norm_scaled(b.host(x), b.host(scale), eps), x.shape)
}

/// `x += y`.
pub fn add(x: &mut Tensor, y: &Tensor) {
    assert_eq!(x.shape, y.shape, "add: shapes");
    on_device!(mut x, b => b.add(b.host_mut(x), b.host(y)))
}

/// `x = y - x`.
pub fn subtract_from(x: &mut Tensor, y: &Tensor) {
    assert_eq!(x.shape, y.shape, "subtract_from: shapes");
    on_device!(mut x, b => b.subtract_from(b.host_mut(x), b.host(y)))
}

/// `y += z * factors` with one factor per column of `y`; of each row of `z` the columns from `skip` on are used.
pub fn add_scaled(y: &mut Tensor, z: &Tensor, skip: usize, factors: &Tensor) {
    assert_eq!((y.rows(), y.cols()), (z.rows(), factors.len()), "add_scaled: rows, factors");
    assert!(skip + y.cols() <= z.cols(), "add_scaled: columns {skip} + {} of {}", y.cols(), z.cols());
    let z_cols = z.cols();
    on_device!(mut y, b => b.add_scaled(b.host_mut(y), b.host(z), z_cols, skip, b.host(factors)))
}

/// `x * factors`, with one factor per column.
pub fn scale_columns(x: &Tensor, factors: &Tensor) -> Tensor {
    assert_eq!(x.cols(), factors.len(), "scale_columns: factors");
    on_device!(x, b => b.scale_columns(b.host(x), b.host(factors)), x.shape)
}

/// `(tokens, parts * n)` seen as `(tokens * parts, n)`.
pub fn split_columns(x: &Tensor, parts: usize) -> Tensor {
    assert_eq!(x.cols() % parts, 0, "split_columns: parts");
    let shape = [x.rows() * parts, x.cols() / parts];
    on_device!(x, b => b.slice(b.host(x), 0, x.len()), shape)
}

/// `w x` for each of the `groups` matrices `(c, n)` that are stacked in `x`, with `w` `(a, c)`: `(groups * a, n)`.
pub fn mix_rows(x: &Tensor, w: &Tensor, groups: usize) -> Tensor {
    assert_eq!(x.rows(), groups * w.cols(), "mix_rows: rows");
    let (rows, inner, cols) = (w.rows(), w.cols(), x.cols());
    on_device!(x, b => b.mix_rows(b.host(x), b.host(w), groups, inner, cols), [groups * rows, cols])
}

/// `x * sigmoid(x)`, in place.
pub fn silu(x: &mut Tensor) {
    on_device!(mut x, b => b.silu(b.host_mut(x)))
}

/// `silu(gate) * up`, into `gate`.
pub fn silu_mul(gate: &mut Tensor, up: &Tensor) {
    assert_eq!(gate.shape, up.shape, "silu_mul: shapes");
    on_device!(mut gate, b => b.silu_mul(b.host_mut(gate), b.host(up)))
}

/// `tanh(x)`, in place.
pub fn tanh(x: &mut Tensor) {
    on_device!(mut x, b => b.tanh(b.host_mut(x)))
}

/// `1 + x`, in place.
pub fn one_plus(x: &mut Tensor) {
    on_device!(mut x, b => b.one_plus(b.host_mut(x)))
}

/// Rotates neighbouring pairs `(2k, 2k+1)` of each head of `(tokens, heads * head_dim)` by the angles whose cosines
/// and sines are `(tokens, head_dim / 2)`.
pub fn rope_interleaved(x: &mut Tensor, cos: &Tensor, sin: &Tensor) {
    let head_dim = rope_head_dim(x, cos, sin);
    on_device!(mut x, b => b.rope_interleaved(b.host_mut(x), b.host(cos), b.host(sin), head_dim))
}

/// Normalizes each head of `(tokens, heads * head_dim)` as [`rms_norm`] does, then rotates it as [`rope_interleaved`]
/// does, in one pass over memory.
pub fn rms_norm_rope(x: &mut Tensor, weight: &Tensor, eps: f32, cos: &Tensor, sin: &Tensor) {
    assert_eq!(rope_head_dim(x, cos, sin), weight.len(), "rms_norm_rope: weight");
    on_device!(mut x, b => b.rms_norm_rope(b.host_mut(x), b.host(weight), eps, b.host(cos), b.host(sin)))
}

/// Rotates the pairs `(i, i + head_dim / 2)` of each head; otherwise like [`rope_interleaved`].
pub fn rope_halves(x: &mut Tensor, cos: &Tensor, sin: &Tensor) {
    let head_dim = rope_head_dim(x, cos, sin);
    on_device!(mut x, b => b.rope_halves(b.host_mut(x), b.host(cos), b.host(sin), head_dim))
}

fn rope_head_dim(x: &Tensor, cos: &Tensor, sin: &Tensor) -> usize {
    assert_eq!((cos.rows(), &cos.shape), (x.rows(), &sin.shape), "rope: tables");
    let head_dim = 2 * cos.cols();
    assert_eq!(x.cols() % head_dim, 0, "rope: heads");
    head_dim
}

/// `softmax(q k^T / sqrt(head_dim)) v` per head, without a score matrix in memory.
///
/// `q` is `(queries, heads * head_dim)`, `k` and `v` are `(keys, kv_heads * head_dim)`; query head `h` reads key head
/// `h / (heads / kv_heads)`. Returns `(queries, heads * head_dim)`.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize, mask: Mask) -> Tensor {
    let head_dim = q.cols() / heads;
    let kv_heads = k.cols() / head_dim;
    assert_eq!((heads * head_dim, kv_heads * head_dim), (q.cols(), k.cols()), "attention: heads");
    assert_eq!((&k.shape, heads % kv_heads), (&v.shape, 0), "attention: keys and values");
    let geometry = Attention { queries: q.rows(), keys: k.rows(), heads, kv_heads, head_dim, mask };
    on_device!(q, b => b.attention(b.host(q), b.host(k), b.host(v), geometry), q.shape)
}

/// Rows of `a`, then rows of `b`.
pub fn concat_rows(a: &Tensor, b: &Tensor) -> Tensor {
    assert_eq!(a.cols(), b.cols(), "concat_rows: columns");
    let shape = [a.rows() + b.rows(), a.cols()];
    on_device!(a, d => d.concat_rows(d.host(a), d.host(b)), shape)
}

/// The rows `start..end` of a matrix, or planes of a `(channels, height, width)` tensor.
pub fn slice_rows(x: &Tensor, start: usize, end: usize) -> Tensor {
    assert!(start <= end && end <= x.shape[0], "slice_rows: {start}..{end} of {:?}", x.shape);
    let mut shape = x.shape.clone();
    shape[0] = end - start;
    let row: usize = x.shape[1..].iter().product();
    on_device!(x, b => b.slice(b.host(x), start * row, end * row), shape)
}

/// The `(1, parts * n)` row cut into `parts` rows of `n`.
pub fn chunk(x: &Tensor, parts: usize) -> Vec<Tensor> {
    assert_eq!((x.rows(), x.cols() % parts), (1, 0), "chunk: shape");
    let n = x.cols() / parts;
    (0..parts).map(|i| on_device!(x, b => b.slice(b.host(x), i * n, (i + 1) * n), [1, n])).collect()
}

/// `x` followed by `count` copies of the row `token`.
pub fn append_token(x: &Tensor, token: &Tensor, count: usize) -> Tensor {
    assert_eq!(x.cols(), token.len(), "append_token: columns");
    let shape = [x.rows() + count, x.cols()];
    on_device!(x, b => b.append_token(b.host(x), b.host(token), count), shape)
}

/// `(channels, height, width)` -> `(height/2 * width/2, 4 * channels)`, the channel fastest within a token.
pub fn patchify(x: &Tensor) -> Tensor {
    let [channels, height, width] = chw(x);
    assert_eq!((height % 2, width % 2), (0, 0), "patchify: odd size");
    let shape = [height / 2 * (width / 2), 4 * channels];
    on_device!(x, b => b.patchify(b.host(x), channels, height, width), shape)
}

/// The inverse of [`patchify`].
pub fn unpatchify(x: &Tensor, height: usize, width: usize) -> Tensor {
    let channels = x.cols() / 4;
    assert_eq!(x.len(), channels * height * width, "unpatchify: shape");
    on_device!(x, b => b.unpatchify(b.host(x), channels, height, width), [channels, height, width])
}

/// 2-D convolution: `(in, height, width)`, weight `(out, in, kh, kw)`, bias `(out)` -> `(out, height', width')`.
pub fn conv2d(x: &Tensor, weight: &Tensor, bias: &Tensor, geometry: ConvGeometry) -> Tensor {
    let conv = conv_of(x, weight, bias, geometry);
    let shape = [conv.cout, conv.out_height(), conv.out_width()];
    on_device!(x, b => b.conv2d(b.host(x), b.host(weight), b.host(bias), &conv), shape)
}

/// The convolution of 1x1 of `x`, which is taken because its memory is used again where the output is not larger.
pub fn conv1x1(mut x: Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    let conv = conv_of(&x, weight, bias, ConvGeometry::padded(0));
    assert_eq!((conv.kh, conv.kw), (1, 1), "conv1x1: weight");
    if conv.cout > conv.cin {
        return conv2d(&x, weight, bias, ConvGeometry::padded(0));
    }
    on_device!(mut x, b => {
        let x = b.host_mut(&mut x);
        b.conv1x1_in_place(x, b.host(weight), b.host(bias), &conv);
        x.truncate(conv.cout * conv.height * conv.width);
    });
    x.shape[0] = conv.cout;
    x
}

/// `conv2d(x, every pixel four times)` with a 3x3 kernel that keeps the size: `(in, height, width)` ->
/// `(out, 2 height, 2 width)`. What lies between them is never stored.
pub fn upsample_conv2d(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    let [_, height, width] = chw(x);
    let conv = Conv3x3 { height: 2 * height, width: 2 * width, ..conv3x3_of(x, weight, bias) };
    let shape = [conv.cout, conv.height, conv.width];
    on_device!(x, b => b.upsample_conv3x3(b.host(x), b.host(weight), b.host(bias), &conv), shape)
}

/// `conv2d(silu(group_norm(x)))` with a 3x3 kernel that keeps the size; what lies between them is never stored.
pub fn norm_silu_conv2d(x: &Tensor, norm: &GroupNorm, weight: &Tensor, bias: &Tensor) -> Tensor {
    let conv = conv3x3_of(x, weight, bias);
    let shape = [conv.cout, conv.height, conv.width];
    on_device!(x, b => b.norm_silu_conv3x3(b.host(x), &norm.on(b, x), b.host(weight), b.host(bias), &conv), shape)
}

/// `x += conv2d(silu(group_norm(y)))`: the end of a residual block.
pub fn add_norm_silu_conv2d(x: &mut Tensor, y: &Tensor, norm: &GroupNorm, weight: &Tensor, bias: &Tensor) {
    let conv = conv3x3_of(y, weight, bias);
    assert_eq!(x.shape, [conv.cout, conv.height, conv.width], "add_norm_silu_conv2d: x");
    on_device!(mut x, b => {
        let norm = norm.on(&b, y);
        b.add_norm_silu_conv3x3(b.host_mut(x), b.host(y), &norm, b.host(weight), b.host(bias), &conv);
    });
}

fn conv_of(x: &Tensor, weight: &Tensor, bias: &Tensor, geometry: ConvGeometry) -> Conv {
    let [cin, height, width] = chw(x);
    let [cout, weight_cin, kh, kw] = weight.shape[..] else { panic!("conv2d: weight {:?}", weight.shape) };
    assert_eq!((cin, cout), (weight_cin, bias.len()), "conv2d: channels");
    let ConvGeometry { stride, left: pad_left, right: pad_right, top: pad_top, bottom: pad_bottom } = geometry;
    Conv { cin, cout, kh, kw, stride, pad_left, pad_right, pad_top, pad_bottom, height, width }
}

fn conv3x3_of(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Conv3x3 {
    Conv3x3::of(&conv_of(x, weight, bias, ConvGeometry::padded(1))).expect("a kernel of 3x3: this is a bug")
}

/// Group normalization of `(channels, height, width)` with a weight and a bias per channel.
pub fn group_norm(x: &Tensor, norm: &GroupNorm) -> Tensor {
    on_device!(x, b => b.group_norm(b.host(x), &norm.on(b, x)), x.shape)
}

/// `(channels, height, width)` -> `(height * width, channels)`.
pub fn channels_to_tokens(x: &Tensor) -> Tensor {
    let [channels, height, width] = chw(x);
    on_device!(x, b => b.transpose(b.host(x), channels, height * width), [height * width, channels])
}

/// `(height * width, channels)` -> `(channels, height, width)`.
pub fn tokens_to_channels(x: &Tensor, height: usize, width: usize) -> Tensor {
    assert_eq!(x.rows(), height * width, "tokens_to_channels: tokens");
    on_device!(x, b => b.transpose(b.host(x), x.rows(), x.cols()), [x.cols(), height, width])
}

/// Where the first value that is infinite or not a number stands, if there is one. A GPU tells it later: it works on
/// while nobody waits for the answer.
#[derive(Debug)]
pub enum Finding {
    /// The answer.
    Known(Option<usize>),
    /// The answer is to be had from the device.
    Later(Later),
}

/// An answer that a device is working on.
#[derive(Debug)]
pub struct Later {
    cuda: Cuda,
    first: cuda::Buffer,
}

impl Finding {
    /// The answer, waited for.
    pub fn wait(&self) -> Option<usize> {
        Finding::wait_for_all([self])[0]
    }

    /// The answers of findings of one device, which is waited for once.
    pub fn wait_for_all<'f>(findings: impl IntoIterator<Item = &'f Finding>) -> Vec<Option<usize>> {
        let (mut answers, mut later) = (Vec::new(), Vec::new());
        for (at, finding) in findings.into_iter().enumerate() {
            match finding {
                Finding::Known(index) => answers.push(*index),
                Finding::Later(answer) => {
                    answers.push(None);
                    later.push((at, answer));
                }
            }
        }
        if let Some((_, Later { cuda, .. })) = later.first() {
            let firsts: Vec<&cuda::Buffer> = later.iter().map(|(_, answer)| &answer.first).collect();
            for ((at, _), found) in later.iter().zip(cuda.first_found(&firsts)) {
                answers[*at] = found;
            }
        }
        answers
    }
}

/// Looks for a value that is infinite or not a number.
pub fn find_non_finite(x: &Tensor) -> Finding {
    match &x.device {
        Device::Reference(b) => Finding::Known(b.first_non_finite(b.host(x))),
        Device::Cpu(b) => Finding::Known(b.first_non_finite(b.host(x))),
        Device::Cuda(b) => Finding::Later(Later { cuda: b.clone(), first: b.find_non_finite(b.host(x)) }),
        // Here MLX computes what it was only told so far, and so never more than a block at once.
        Device::Mlx(b) => Finding::Known(b.first_non_finite(b.host(x))),
    }
}

fn chw(x: &Tensor) -> [usize; 3] {
    x.shape[..].try_into().unwrap_or_else(|_| panic!("expected (channels, height, width), found {:?}", x.shape))
}
