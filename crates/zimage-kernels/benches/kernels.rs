//! Speed of the kernels on one core at the shapes of Z-Image, beside the core's own peak.
//!
//! `cargo bench -p zimage-kernels [-- NAME]` prints one line per kernel and level; NAME keeps the
//! lines that contain it. Times are the least of several runs, in CPU time of the thread where the
//! system tells it, so that a busy machine disturbs them less.

mod timing;

use std::hint::black_box;

use zimage_kernels::Level;
use zimage_kernels::blocks::{Element, Format, Group, Layout, Matrix, Planes, ScaleType, Scaled};
use zimage_kernels::conv2d::winograd::{self, ChannelNorm, Conv3x3, Input, Output};
use zimage_kernels::tile::{MatrixRef, TileMut, tiles};
use zimage_kernels::{activation, attention, gemm, group_norm, linear, rms_norm, rope};

use timing::{seconds, values};

/// Measures one kernel at a level; the second argument is the peak in GFLOP/s.
type Bench = fn(Level, f64);

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let keep = |name: &str| wanted.is_empty() || wanted.iter().any(|w| name.contains(w.as_str()));
    let benches: [(&str, Bench); 9] = [
        ("gemm", bench_gemm),
        ("linear", bench_linear),
        ("attention", bench_attention),
        ("conv", bench_conv),
        ("decode", bench_decode),
        ("encode", bench_encode),
        ("rms_norm", bench_norms),
        ("silu_mul", bench_silu_mul),
        ("rope", bench_rope),
    ];
    for level in Level::supported().into_iter().filter(|level| *level != Level::Naive) {
        let peak = zimage_kernels::peak::f32_gflops(level);
        println!("{:8} peak {peak:.0} GFLOP/s", level.name());
        for (_, bench) in benches.iter().filter(|(name, _)| keep(name)) {
            bench(level, peak);
        }
    }
}

fn print_flops(level: Level, what: &str, flops: f64, peak: f64, run: impl FnMut()) {
    let speed = flops / seconds(run) / 1e9;
    println!("{:8} {what:44} {speed:7.1} GFLOP/s  {:3.0} % of peak", level.name(), 100.0 * speed / peak);
}

fn print_bytes(level: Level, what: &str, bytes: f64, run: impl FnMut()) {
    println!("{:8} {what:44} {:7.1} GB/s", level.name(), bytes / seconds(run) / 1e9);
}

fn bench_gemm(level: Level, peak: f64) {
    for (m, n, k) in [(1056, 3840, 3840), (1056, 256, 10240), (60, 2560, 2560), (64, 256, 128)] {
        let (a, b, mut out) = (values(m * k), values(n * k), vec![0.0; m * n]);
        let (a, b) = (MatrixRef::contiguous(&a, m, k), MatrixRef::contiguous(&b, n, k));
        print_flops(level, &format!("gemm_nt {m} x {n} x {k}"), 2.0 * (m * n * k) as f64, peak, || {
            gemm::gemm_nt(level, &mut TileMut::whole(&mut out, m, n), a, b, None);
        });
    }
    let (m, n, k) = (256, 2048, 1152);
    let (a, b, mut out) = (values(m * k), values(n * k), vec![0.0; m * n]);
    let (a, b) = (MatrixRef::contiguous(&a, m, k), MatrixRef::contiguous(&b, k, n));
    print_flops(level, &format!("gemm_nn {m} x {n} x {k}"), 2.0 * (m * n * k) as f64, peak, || {
        gemm::gemm_nn(level, &mut TileMut::whole(&mut out, m, n), a, b, true);
    });
}

/// Tiles as the CPU backend cuts them, at the tokens of a picture, of a prompt, and of one modulation.
fn bench_linear(level: Level, peak: f64) {
    let tokens = [(Format::BF16, 4160), (Format::BF16, 1056), (Format::BF16, 60), (Format::BF16, 8), (Format::BF16, 1)];
    let others = [Format::F32, Format::F16, Format::Q8_0, Format::Q4K].into_iter().flat_map(|f| [(f, 1056), (f, 60)]);
    for (format, m) in tokens.into_iter().chain(others) {
        let (n, k) = (1024, 3840);
        let encoder = format.encoder().expect("a format that is written");
        let mut w = vec![0; format.row_bytes(k) * n];
        encoder.encode(&values(n * k), &mut w);
        let w = Matrix::rows_of(format, n, k, &w).expect("a weight of these sizes");
        bench_weight(level, peak, format.name(), w, m);
    }
    for m in [1056, 60] {
        let (n, k) = (1024, 3840);
        let encoder = Scaled::affine(8, 64, ScaleType::BF16).encoder().expect("a format that is written");
        let layout = Layout::Scaled(encoder.format());
        let [mut packed, mut scales, mut biases] = layout.plane_bytes(n, k).map(|bytes| vec![0; bytes]);
        encoder.encode(&values(n * k), &mut packed, &mut scales, &mut biases);
        let planes = Planes { values: &packed, scales: &scales, biases: &biases };
        let w = Matrix::new(layout, n, k, planes, 1.0).expect("planes of these sizes");
        bench_weight(level, peak, "mlx 8-bit", w, m);
    }
}

fn bench_weight(level: Level, peak: f64, name: &str, w: Matrix, m: usize) {
    let (n, k) = (w.rows(), w.cols());
    let (a, mut out, mut scratch) = (values(m * k), vec![0.0; m * n], Vec::new());
    let a = MatrixRef::contiguous(&a, m, k);
    print_flops(level, &format!("linear {name} {m} x {n} x {k}"), 2.0 * (m * n * k) as f64, peak, || {
        for tile in &mut tiles(&mut out, m, n, 1024, 256) {
            linear::linear_tile(level, tile, a.row_range(tile.row0(), tile.rows()), w, None, &mut scratch);
        }
    });
}

fn bench_attention(level: Level, peak: f64) {
    // Heads of the transformer at 512 and 1024 pixels, and the VAE's one head.
    for (keys, d, heads) in [(1088, 128, 30), (4160, 128, 30), (4096, 512, 1), (16384, 512, 1)] {
        let (stride, queries) = (heads * d, attention::QUERIES);
        let (q, out) = (values(queries * stride), &mut vec![0.0; queries * d]);
        let (k, v) = (values(keys * stride), values(keys * stride));
        let q = MatrixRef::new(&q, queries, d, stride);
        let (k, v) = (MatrixRef::new(&k, keys, d, stride), MatrixRef::new(&v, keys, d, stride));
        let (flops, scale) = (4.0 * (queries * keys * d) as f64, 1.0 / (d as f32).sqrt());
        let mut scratch = Vec::new();
        let what = format!("attention {queries} of {keys} tokens, head {d}");
        print_flops(level, &what, flops, peak, || {
            attention::attention(level, &mut TileMut::whole(out, queries, d), q, k, v, scale, None, &mut scratch);
        });
        if d == 128 {
            let head = attention::int16::Head::new(level, keys, d, d);
            let mut packed = vec![0; head.words()];
            print_bytes(level, &format!("int16 pack {keys} tokens, head {d}"), (2 * keys * d * 4) as f64, || {
                head.pack(&mut packed, k, v);
            });
            print_flops(level, &format!("int16 {what}"), flops, peak, || {
                head.attend(&mut TileMut::whole(out, queries, d), q, &packed, scale, None, &mut scratch);
            });
        }
    }
}

fn bench_conv(level: Level, peak: f64) {
    let shapes = [
        (512, 512, 64),
        (512, 512, 128),
        (512, 512, 256),
        (512, 256, 512),
        (256, 256, 512),
        (256, 128, 1024),
        (128, 128, 1024),
        (16, 512, 128),
        (128, 3, 1024),
    ];
    for (cin, cout, size) in shapes {
        let conv = Conv3x3 { cin, cout, height: size, width: size };
        let (x, weight, bias) = (values(cin * size * size), values(cout * cin * 9), values(cout));
        let columns = conv.band_rows() * size;
        let (mut out, mut scratch) = (vec![0.0; cout * size * size], Vec::new());
        let (rows, cols) = (Conv3x3::packed_rows(level), conv.packed_cols(level));
        let mut packed = vec![0.0; rows * cols];
        let direct = 2.0 * (cout * cin * 9 * columns) as f64;
        let mut run = |what: &str, input: Input, output: Output| {
            let what = format!("conv 3x3 {cin} to {cout} at {size}, a band {what}");
            let mut tile = tiles(&mut out, cout, size * size, cout, columns).swap_remove(1);
            print_flops(level, &what, direct, peak, || {
                winograd::conv3x3_band(level, &conv, &mut tile, input, &packed, &bias, output, &mut scratch);
            });
        };
        let (mean, factor) = (values(cin), values(cin));
        let norm = ChannelNorm { mean: &mean, factor: &factor, bias: &mean };
        run("plain", Input::Plain(&x), Output::Replace);
        run("after a norm", Input::NormSilu(&x, norm), Output::Add);
        run("of a double", Input::Doubled(&x[..x.len() / 4]), Output::Replace);
        print_bytes(level, &format!("conv 3x3 {cin} to {cout}, packing"), 4.0 * (rows * cols) as f64, || {
            for mut tile in tiles(&mut packed, rows, cols, rows, conv.packed_block_cols(level)) {
                winograd::pack(level, &conv, &mut tile, &weight);
            }
        });
    }
}

fn bench_decode(level: Level, _peak: f64) {
    if level != Level::detect() {
        return;
    }
    let n = 1 << 16;
    for format in Format::ALL {
        // Zeros are blocks of every format, and no decoder takes another way for them.
        let (mut bytes, mut out) = (vec![0; format.row_bytes(n)], vec![0.0; n]);
        if let Some(encoder) = format.encoder() {
            encoder.encode(&values(n), &mut bytes);
        }
        let rounds = 100;
        print_bytes(level, &format!("decode {}", format.name()), (rounds * (bytes.len() + 4 * n)) as f64, || {
            for _ in 0..rounds {
                format.decode(black_box(&bytes), black_box(&mut out));
            }
        });
    }
    bench_decode_scaled(level);
}

/// Formats with scales apart: those that models are published in.
fn scaled_formats() -> Vec<Scaled> {
    let plain = |element, group, scale| Scaled {
        element,
        high_first: false,
        group,
        scale,
        biased: false,
        swizzled: false,
        rotated: false,
    };
    let affine = [(8, 64), (8, 32), (6, 64), (5, 64), (4, 64), (4, 32), (3, 64), (2, 64)];
    let mut formats: Vec<Scaled> = affine.map(|(bits, n)| Scaled::affine(bits, n, ScaleType::BF16)).into();
    formats.push(plain(Element::E4M3, Group::Tensor, ScaleType::F32));
    formats.push(plain(Element::E5M2, Group::Tensor, ScaleType::F32));
    formats.push(plain(Element::I8, Group::Row, ScaleType::F32));
    formats.push(Scaled { rotated: true, ..plain(Element::I8, Group::Row, ScaleType::F32) });
    formats.push(Scaled { rotated: true, ..plain(Element::I4, Group::Row, ScaleType::F32) });
    formats.push(plain(Element::E2M1, Group::Columns(32), ScaleType::E8M0));
    let swizzled = |scaled| Scaled { swizzled: true, high_first: true, ..scaled };
    formats.push(swizzled(plain(Element::E4M3, Group::Columns(32), ScaleType::E8M0)));
    formats.push(swizzled(plain(Element::E2M1, Group::Columns(16), ScaleType::E4M3)));
    formats
}

fn bench_decode_scaled(level: Level) {
    let (rows, cols) = (16, 3840);
    let mut out = vec![0.0; rows * cols];
    for scaled in scaled_formats() {
        let layout = Layout::Scaled(scaled);
        let planes = layout.plane_bytes(rows, cols).map(|bytes| (0..bytes).map(|at| (at * 37 % 113) as u8).collect());
        let [values, scales, biases]: [Vec<u8>; 3] = planes;
        let planes = Planes { values: &values, scales: &scales, biases: &biases };
        let matrix = Matrix::new(layout, rows, cols, planes, 1.0).expect("planes of these sizes");
        let rounds = 100;
        let bytes = values.len() + scales.len() + biases.len() + 4 * rows * cols;
        print_bytes(level, &format!("decode {layout}"), (rounds * bytes) as f64, || {
            for _ in 0..rounds {
                black_box(matrix).decode_rows(0..rows, black_box(&mut out));
            }
        });
    }
}

fn bench_encode(level: Level, _peak: f64) {
    if level != Level::detect() {
        return;
    }
    let n = 1 << 14;
    let values = values(n);
    for encoder in Format::ALL.into_iter().filter_map(Format::encoder) {
        let mut bytes = vec![0; encoder.format().row_bytes(n)];
        let rounds = 10;
        let time = seconds(|| {
            for _ in 0..rounds {
                encoder.encode(black_box(&values), black_box(&mut bytes));
            }
        });
        let speed = (rounds * n) as f64 / time / 1e6;
        println!(
            "{:8} {:44} {speed:7.1} million values/s",
            level.name(),
            format!("encode {}", encoder.format().name())
        );
    }
    for encoder in scaled_formats().into_iter().filter_map(Scaled::encoder) {
        let planes = Layout::Scaled(encoder.format()).plane_bytes(1, n);
        let [mut packed, mut scales, mut biases] = planes.map(|bytes| vec![0; bytes]);
        let time = seconds(|| encoder.encode(black_box(&values), &mut packed, &mut scales, &mut biases));
        let speed = n as f64 / time / 1e6;
        println!("{:8} {:44} {speed:7.1} million values/s", level.name(), format!("encode {}", encoder.format()));
    }
}

fn bench_norms(level: Level, _peak: f64) {
    let (rows, cols) = (64, 3840);
    let (x, weight, mut out) = (values(rows * cols), values(cols), vec![0.0; rows * cols]);
    let rounds = 50;
    let bytes = (rounds * rows * cols * 8) as f64;
    print_bytes(level, "rms_norm_scaled 3840", bytes, || {
        for _ in 0..rounds {
            rms_norm::rms_norm_scaled(level, black_box(&mut out), &x, &weight, &weight, 1e-5);
        }
    });
    print_bytes(level, "add_rms_norm_gated 3840", bytes, || {
        for _ in 0..rounds {
            rms_norm::add_rms_norm_gated(level, black_box(&mut out), &x, &weight, &weight, 1e-5);
        }
    });
    print_bytes(level, "group_norm, statistics", bytes / 2.0, || {
        for _ in 0..rounds {
            black_box(group_norm::moments(level, black_box(&x)));
        }
    });
    print_bytes(level, "group_norm, applied", bytes, || {
        for _ in 0..rounds {
            group_norm::normalize(level, black_box(&mut out), &x, 0.1, 2.0, 0.5);
        }
    });
}

fn bench_silu_mul(level: Level, _peak: f64) {
    let n = 1 << 18;
    let (mut gate, up) = (values(n), values(n));
    let rounds = 50;
    print_bytes(level, "silu_mul", (rounds * n * 12) as f64, || {
        for _ in 0..rounds {
            activation::silu_mul(level, black_box(&mut gate), &up);
        }
    });
}

fn bench_rope(level: Level, _peak: f64) {
    let (tokens, heads, d) = (64, 30, 128);
    let (mut x, angles) = (values(tokens * heads * d), values(tokens * d / 2));
    let rounds = 50;
    let bytes = (rounds * tokens * heads * d * 8) as f64;
    print_bytes(level, "rope_interleaved", bytes, || {
        for _ in 0..rounds {
            rope::rope_interleaved(level, black_box(&mut x), heads, d, &angles, &angles);
        }
    });
    print_bytes(level, "rope_halves", bytes, || {
        for _ in 0..rounds {
            rope::rope_halves(level, black_box(&mut x), heads, d, &angles, &angles);
        }
    });
}
