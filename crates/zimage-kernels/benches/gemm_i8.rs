//! Speed of the integer products on one core at the shapes of Z-Image, beside the core's own peak.
//!
//! `cargo bench -p zimage-kernels --bench gemm_i8`. Times are the least of several runs, in CPU time of the thread.

mod timing;

use std::hint::black_box;
use zimage_kernels::Level;
use zimage_kernels::blocks::{Encoder, Format, Layout, Matrix, Planes, ScaleType, Scaled};
use zimage_kernels::gemm_i8::{self, Line, PANEL, Quantized};
use zimage_kernels::tile::tiles;

use timing::{seconds, values};

fn main() {
    for level in Level::supported().into_iter().filter(|level| *level != Level::Naive) {
        let peak = zimage_kernels::peak::int8_gops(level);
        println!("{:8} peak {peak:.0} GOP/s ({})", level.name(), gemm_i8::describe(level));
        for (m, k, n) in [(1088, 3840, 1024), (1088, 10240, 512), (4160, 3840, 256), (60, 2560, 1024), (8, 2560, 1024)]
        {
            bench_product(level, m, k, n, peak);
        }
        bench_quantize(level);
        bench_pack(level);
    }
}

fn bench_product(level: Level, m: usize, k: usize, n: usize, peak: f64) {
    let (x, bytes) = (values(m * k), f32_bytes(&values(n * k)));
    let w = Matrix::rows_of(Format::F32, n, k, &bytes).expect("a weight of these sizes");
    let lines = gemm_i8::panel_lines(k);
    let mut panels = vec![Line::ZERO; n / PANEL * lines];
    for (i, panel) in panels.chunks_exact_mut(lines).enumerate() {
        gemm_i8::pack_panel(level, panel, w, i * PANEL, &mut vec![0.0; gemm_i8::pack_scratch(k)]);
    }
    let (mut bytes, mut scales) = buffers(m, k);
    gemm_i8::quantize_rows(level, &mut bytes, &mut scales, &x, k);
    let mut out = vec![0.0; m * n];
    let time = seconds(|| {
        let a = Quantized::new(&bytes, &scales, m, k);
        for (tile, panel) in tiles(&mut out, m, n, m, PANEL).iter_mut().zip(panels.chunks_exact(lines)) {
            gemm_i8::gemm_i8(level, tile, a, panel, None);
        }
    });
    let speed = 2.0 * (m * n * k) as f64 / time / 1e9;
    println!(
        "{:8} product {m:4} x {k:5} x {n:4} {speed:7.1} GOP/s  {:3.0} % of peak",
        level.name(),
        100.0 * speed / peak
    );
}

fn bench_quantize(level: Level) {
    let (rows, cols) = (64, 3840);
    let x = values(rows * cols);
    let (mut bytes, mut scales) = buffers(rows, cols);
    let time = seconds(|| gemm_i8::quantize_rows(level, &mut bytes, black_box(&mut scales), &x, cols));
    println!("{:8} quantize {:7.1} GB/s of f32", level.name(), (4 * rows * cols) as f64 / time / 1e9);
}

/// Packing one panel from each of the formats that models come in.
fn bench_pack(level: Level) {
    let cols = 3840;
    let mut panel = vec![Line::ZERO; gemm_i8::panel_lines(cols)];
    let mut scratch = vec![0.0; gemm_i8::pack_scratch(cols)];
    let mut pack = |name: &str, w: Matrix| {
        let time = seconds(|| gemm_i8::pack_panel(level, black_box(&mut panel), w, 0, &mut scratch));
        let speed = (PANEL * cols) as f64 / time / 1e9;
        println!("{:8} pack {name:24} {speed:7.2} billion weights/s", level.name());
    };
    for format in [Format::BF16, Format::Q8_0, Format::Q4_0] {
        let mut bytes = vec![0; format.row_bytes(cols) * PANEL];
        format.encoder().expect("it can be written").encode(&values(PANEL * cols), &mut bytes);
        pack(format.name(), Matrix::rows_of(format, PANEL, cols, &bytes).expect("a weight of these sizes"));
    }
    for bits in [8, 4] {
        let scaled = Scaled::affine(bits, 64, ScaleType::BF16);
        let planes = Layout::Scaled(scaled).plane_bytes(PANEL, cols).map(|bytes| vec![0x3f; bytes]);
        let planes = Planes { values: &planes[0], scales: &planes[1], biases: &planes[2] };
        let w = Matrix::new(Layout::Scaled(scaled), PANEL, cols, planes, 1.0).expect("planes of these sizes");
        pack(&scaled.to_string(), w);
    }
}

fn buffers(rows: usize, cols: usize) -> (Vec<u8>, Vec<f32>) {
    let chunks = gemm_i8::Chunks::of(cols).count();
    (vec![0; rows * gemm_i8::row_stride(cols)], vec![0.0; rows * chunks])
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; 4 * values.len()];
    Encoder::F32.encode(values, &mut bytes);
    bytes
}
