//! What the primitives mean here, and that mistakes are found.

use super::super::driver::{Address, Args, Driver, Element, Gemm, Launch, MatrixAt};
use super::{library, open};
use crate::Error;
use zimage_kernels::blocks::{Encoder, Format};

pub(super) fn device() -> Box<dyn Driver> {
    open((9, 0), 96 << 30).expect("a C++ compiler")
}

pub(super) fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 % 101) as f32 - 50.0) / 16.0).collect()
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn words_of(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub(super) fn encoded(encoder: Encoder, values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; encoder.format().row_bytes(values.len())];
    encoder.encode(values, &mut bytes);
    bytes
}

pub(super) fn put(device: &dyn Driver, bytes: &[u8]) -> Address {
    let address = device.allocate(bytes.len()).expect("memory");
    device.upload(address, bytes).expect("an upload");
    address
}

fn words(device: &dyn Driver, address: Address, count: usize) -> Vec<u32> {
    let mut bytes = vec![0; 4 * count];
    device.download(address, &mut bytes).expect("a download");
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes"))).collect()
}

pub(super) fn floats(device: &dyn Driver, address: Address, count: usize) -> Vec<f32> {
    words(device, address, count).into_iter().map(f32::from_bits).collect()
}

pub(super) fn launch(kernel: &'static str, blocks: u32, threads: u32, shared_bytes: u32, args: Args) -> Launch {
    Launch { source: "selftest", kernel, grid: [blocks, 1, 1], threads, shared_bytes, args }
}

fn run(device: &dyn Driver, kernel: &'static str, blocks: u32, threads: u32, shared_bytes: u32, args: Args) {
    device.launch(&launch(kernel, blocks, threads, shared_bytes, args)).expect("a kernel that works");
}

#[test]
fn lanes_exchange_values() {
    let device = &*device();
    let x: Vec<u32> = (100..164).collect();
    let (out, x_at) = (device.allocate(512).expect("memory"), put(device, &words_of(&x)));
    run(device, "exchange", 1, 64, 0, Args::new().address(out).address(x_at));
    let found = words(device, out, 128);
    for i in 0..64 {
        assert_eq!((found[i], found[64 + i]), (x[i / 32 * 32 + 31 - i % 32], x[i ^ 4]), "thread {i}");
    }
}

#[test]
fn blocks_sum_and_find_the_largest() {
    let device = &*device();
    let (blocks, threads) = (70, 96);
    let x = values(blocks * threads);
    let [sums, largest] = [0; 2].map(|_| device.allocate(4 * x.len()).expect("memory"));
    let (least, x_at) = (put(device, &words_of(&[u32::MAX])), put(device, &bytes_of(&x)));
    let args = Args::new().address(sums).address(largest).address(least).address(x_at);
    run(device, "reduce", blocks as u32, threads as u32, 0, args);
    let (sums, largest) = (floats(device, sums, x.len()), floats(device, largest, x.len()));
    for (i, x) in x.chunks(threads).enumerate() {
        let sum = 2.0 * x.iter().sum::<f32>() + threads as f32;
        let most = 2.0 * x.iter().fold(f32::MIN, |most, x| most.max(*x)) - 1.0;
        for thread in i * threads..(i + 1) * threads {
            assert!((sums[thread] - sum).abs() < 1e-3, "{} for {sum}", sums[thread]);
            assert_eq!(largest[thread], most);
        }
    }
    assert_eq!(words(device, least, 1), [0.0f32.to_bits()]);
}

#[test]
fn fragments_multiply_as_matrices_do() {
    for (half, pairs) in [(false, false), (false, true), (true, false), (true, true)] {
        let device = &*device();
        // Multiples of 1/16 up to 3.2 are exact in both elements.
        let (x, w) = (values(16 * 16), values(16 * 8 + 5)[5..].to_vec());
        let encoder = if half { Encoder::F16 } else { Encoder::BF16 };
        let out = device.allocate(4 * 128).expect("memory");
        let (x_at, w_at) = (put(device, &encoded(encoder, &x)), put(device, &encoded(encoder, &w)));
        let args = Args::new().address(out).address(x_at).address(w_at).size(half.into()).size(pairs.into());
        run(device, "multiply", 1, 32, 2 * (16 * 16 + 16 * 8), args);
        let found = floats(device, out, 128);
        let w_of = |k: usize, col: usize| if pairs { w[k * 8 + col] } else { w[col * 16 + k] };
        for (i, found) in found.into_iter().enumerate() {
            let sum = (0..16).map(|k| x[i / 8 * 16 + k] * w_of(k, i % 8)).sum::<f32>();
            assert!((found - sum).abs() < 1e-4, "half {half}, pairs {pairs}, {i}: {found} for {sum}");
        }
    }
}

#[test]
fn matrices_are_loaded_transposed() {
    let device = &*device();
    let x: Vec<u8> = (0..256u16).flat_map(u16::to_le_bytes).collect();
    let (out, x) = (device.allocate(512).expect("memory"), put(device, &x));
    run(device, "transpose_four", 1, 32, 0, Args::new().address(out).address(x));
    for (at, pair) in words(device, out, 128).into_iter().enumerate() {
        let (lane, matrix) = (at as u32 / 4, at as u32 % 4);
        let value = |row: u32| matrix * 64 + row * 8 + lane / 4;
        let row = lane % 4 * 2;
        assert_eq!(pair, value(row) | value(row + 1) << 16, "lane {lane}, matrix {matrix}");
    }
}

#[test]
fn copies_arrive_when_they_are_waited_for() {
    let device = &*device();
    let x = values(256);
    let (out, x_at) = (device.allocate(1024).expect("memory"), put(device, &bytes_of(&x)));
    run(device, "late", 1, 64, 1024, Args::new().address(out).address(x_at).size(1));
    let found = floats(device, out, 256);
    assert!((0..256).all(|i| found[i] == if i / 4 % 2 == 0 { x[i] } else { 0.0 }));
    run(device, "late", 1, 64, 1024, Args::new().address(out).address(x_at).size(0));
    assert!(floats(device, out, 256).iter().all(|value| value.is_nan()), "they have not arrived");
}

#[test]
fn floats_are_rounded_as_the_formats_say() {
    let device = &*device();
    let spread = |i: i32| (1.0 + i as f32 / 41.0) * 2.0f32.powi(i % 47 - 28);
    let mut x: Vec<f32> = (-600..600).map(spread).collect();
    x.extend([0.0, -0.0, 448.0, 464.0, 65504.0, 65519.9, 65520.0, 1e30, f32::INFINITY, 5.9e-8, 2.9e-8, 0.0009765625]);
    for (element, format) in [(Element::Bf16, Format::BF16), (Element::F16, Format::F16), (Element::F8, Format::F8E4M3)]
    {
        let (out, pairs) =
            (device.allocate(4 * x.len()).expect("memory"), device.allocate(8 * x.len()).expect("memory"));
        let x_at = put(device, &bytes_of(&x));
        let args = Args::new().address(out).address(x_at).address(pairs);
        let args = args.size(element.code() as usize).size(x.len());
        run(device, "round_to", x.len().div_ceil(128) as u32, 128, 0, args);
        let found = floats(device, out, x.len());
        let mut all = vec![0.0; 1 << (8 * element.bytes())];
        let codes: Vec<u8> = (0..all.len()).flat_map(|code| code.to_le_bytes()[..element.bytes()].to_vec()).collect();
        format.decode(&codes, &mut all);
        for (x, found) in x.iter().zip(found) {
            let expected = nearest(*x, &all, element == Element::F8);
            assert_eq!(found.to_bits(), expected.to_bits(), "{x} as {element:?}: {found} for {expected}");
        }
    }
}

/// The nearest of the values of a format; the codes of a format are in order, and even ones win ties.
fn nearest(x: f32, all: &[f32], saturates: bool) -> f32 {
    let positive = &all[..all.len() / 2];
    let largest = positive.iter().position(|value| !value.is_finite()).unwrap_or(positive.len()) - 1;
    let last = f64::from(positive[largest]);
    let beyond = last + (last - f64::from(positive[largest - 1])) / 2.0;
    let magnitude = f64::from(x.abs());
    if !saturates && magnitude >= beyond {
        return f32::INFINITY.copysign(x);
    }
    let above = positive[..=largest].partition_point(|value| f64::from(*value) < magnitude).min(largest);
    let below = above.saturating_sub(1);
    let (low, high) = (magnitude - f64::from(positive[below]), f64::from(positive[above]) - magnitude);
    let code = if low < high || (low == high && below % 2 == 0) { below } else { above };
    positive[code].copysign(x)
}

#[test]
fn pairs_have_their_first_value_in_the_lower_half() {
    let device = &*device();
    let (out, pairs) = (device.allocate(4).expect("memory"), device.allocate(8).expect("memory"));
    let x = put(device, &bytes_of(&[1.0]));
    run(device, "round_to", 1, 32, 0, Args::new().address(out).address(x).address(pairs).size(0).size(1));
    assert_eq!(words(device, pairs, 2), [0xbf80_3f80, 0xbc00_3c00]);
}

#[test]
fn functions_are_accurate() {
    let device = &*device();
    let x: Vec<f32> = (1..33).map(|i| i as f32 / 8.0).collect();
    let (out, x_at) = (device.allocate(4 * 9 * 32).expect("memory"), put(device, &bytes_of(&x)));
    run(device, "functions", 1, 32, 0, Args::new().address(out).address(x_at));
    for (x, found) in x.iter().zip(floats(device, out, 9 * 32).chunks(9)) {
        let x = f64::from(*x);
        let expected =
            [x.exp(), x.exp2(), x.tanh(), 1.0 / x.sqrt(), x.sqrt(), x * x + 1.0, x.exp2(), x.max(1.0), x.min(1.0)];
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() <= 3e-7 * expected, "{x}: {found} for {expected}");
        }
    }
}

#[test]
fn packs_and_parameters_are_read_in_both_elements() {
    let device = &*device();
    let x = values(256);
    let add = put(device, &encoded(Encoder::BF16, &x));
    for (kernel, encoder) in [("widen_f32", Encoder::F32), ("widen_bf16", Encoder::BF16)] {
        let (out, x_at) = (device.allocate(1024).expect("memory"), put(device, &encoded(encoder, &x)));
        let threads = if encoder.format() == Format::F32 { 64 } else { 32 };
        let args = Args::new().address(out).address(x_at).address(add).size(1).size(0);
        run(device, kernel, 1, threads, 0, args);
        assert!(floats(device, out, 256).iter().zip(&x).all(|(found, x)| *found == 2.0 * x));
    }
}

#[test]
fn mistakes_of_kernels_are_told() {
    let device = &*device();
    let told = [
        "some threads of a block are done while others wait at a barrier",
        "the threads of a warp do not all come to the same barrier, shuffle or product",
        "wrote behind 256 bytes of allocated memory",
        "a block wrote behind its shared memory",
    ];
    for (kind, told) in told.into_iter().enumerate() {
        let out = device.allocate(256).expect("memory");
        let args = Args::new().address(out).size(kind);
        let error = device.launch(&launch("mistake", 1, 64, 256, args)).expect_err(told).to_string();
        // A lane that is missing is found in its warp.
        let told = if kind == 0 { "the threads of a warp do not all come" } else { told };
        assert!(error.starts_with("emulator: mistake of selftest: ") && error.contains(told), "{error}");
    }
    let out = device.allocate(256).expect("memory");
    run(device, "mistake", 1, 64, 256, Args::new().address(out).size(9));
    assert!(floats(device, out, 64).iter().all(|value| *value == 1.0), "it works again");
}

#[test]
fn launches_that_do_not_fit_are_refused() {
    let device = &*device();
    let refused = |launch: Launch, why: &str| {
        let error = device.launch(&launch).expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
    };
    let args = || Args::new().address(Address(0));
    refused(launch("nothing", 1, 32, 0, args()), "there is no nothing");
    refused(launch("exchange", 1, 32, 0, args()), "it takes 16 bytes of arguments, and 8 are given");
    refused(launch("exchange", 1, 32, 0, args().address(Address(0)).size(1)), "and 20 are given");
    refused(launch("exchange", 1, 33, 0, args().address(Address(0))), "blocks of 33 threads");
    let four = args().address(Address(0)).address(Address(0)).address(Address(0));
    refused(launch("reduce", 1, 512, 0, four), "blocks of 512 threads, of at most 256");
    refused(launch("exchange", 1, 32, 1 << 20, args().address(Address(0))), "bytes of shared memory");
}

#[test]
fn a_missing_compiler_is_named() {
    let error = library::runs("no-such-compiler".as_ref()).expect_err("it is missing");
    assert!(matches!(error, Error::Unavailable { .. }));
    assert!(
        error.to_string().starts_with("the emulator needs a C++ compiler, and no-such-compiler does not run\nhint: ")
    );
}

#[test]
fn memory_has_its_bounds() {
    let device = &*open((9, 0), 1000).expect("a C++ compiler");
    let a = device.allocate(600).expect("memory");
    assert_eq!(device.free_bytes().expect("a number"), 400);
    let error = device.allocate(401).expect_err("no memory");
    assert!(matches!(error, Error::Memory { asked_bytes: 401, free_bytes: 400, .. }));
    assert!(device.upload(a.offset(1), &[0; 600]).is_err() && device.download(a.offset(600), &mut [0]).is_err());
    assert!(device.copy(a, a.offset(10), 11).is_err() && device.copy(a, a.offset(300), 301).is_err());
    device.copy(a, a.offset(300), 300).expect("it fits");
    device.free(a);
    assert_eq!(device.free_bytes().expect("a number"), 1000);
}

#[test]
fn copies_beside_the_work_arrive_when_they_are_followed() {
    let device = &*device();
    let to = put(device, &[1; 16]);
    let pinned = device.pin(&[2; 16]).expect("memory");
    let now = device.mark().expect("a moment");
    let there = device.upload_ahead(to, pinned, now).expect("a moment");
    device.unpin(pinned);
    let mut found = [0; 16];
    device.download(to, &mut found).expect("a download");
    assert_eq!(found, [1; 16], "nobody has waited for it");
    device.follow(there).expect("a moment");
    device.download(to, &mut found).expect("a download");
    assert_eq!(found, [2; 16]);
    device.elapsed(now, there).expect("two moments");
    assert!(device.wait(there).is_err(), "it is forgotten");
}

#[test]
fn products_take_strides_scales_and_biases() {
    let device = &*device();
    let (m, n, k) = (70, 9, 24);
    let (x, w, bias) = (values(m * (k + 3)), values(n * k), values(n));
    let bias_at = put(device, &bytes_of(&bias));
    for encoder in [Encoder::F32, Encoder::BF16, Encoder::F16] {
        for w_is_transposed in [true, false] {
            let element = match encoder.format() {
                Format::F32 => Element::F32,
                Format::BF16 => Element::Bf16,
                _ => Element::F16,
            };
            let at = |bytes: &[u8], element, stride| MatrixAt { address: put(device, bytes), element, stride };
            let y = at(&bytes_of(&vec![0.0; m * (n + 1)]), Element::F32, n + 1);
            let (x_at, w_at) = (at(&encoded(encoder, &x), element, k + 3), at(&encoded(encoder, &w), element, k));
            let w_at = MatrixAt { stride: if w_is_transposed { k } else { n }, ..w_at };
            let gemm = Gemm { m, n, k, x: x_at, w: w_at, w_is_transposed, y, scale: 0.5, bias: Some(bias_at) };
            device.gemm(&gemm).expect("a product");
            for (i, row) in floats(device, y.address, m * (n + 1)).chunks(n + 1).enumerate() {
                assert_eq!(row[n], 0.0, "between the rows nothing is written");
                for (j, found) in row[..n].iter().enumerate() {
                    let w_of = |at: usize| if w_is_transposed { w[j * k + at] } else { w[at * n + j] };
                    let sum = (0..k).map(|at| x[i * (k + 3) + at] * w_of(at)).sum::<f32>() * 0.5 + bias[j];
                    assert!((sum - found).abs() < 1e-4, "{element:?} {w_is_transposed} {i} {j}: {found} for {sum}");
                }
            }
        }
    }
}

#[test]
fn products_of_bytes_are_exact() {
    let device = &*device();
    let (m, n, k) = (3, 8, 32);
    let byte = |i: usize| (i * 89 % 255) as i8 as u8;
    let (x, w): (Vec<u8>, Vec<u8>) = ((0..m * k).map(byte).collect(), (7..7 + n * k).map(byte).collect());
    let at = |bytes: &[u8], element, stride| MatrixAt { address: put(device, bytes), element, stride };
    let y = at(&[0; 96], Element::I32, n);
    let (x_at, w_at) = (at(&x, Element::I8, k), at(&w, Element::I8, k));
    let gemm = Gemm { m, n, k, x: x_at, w: w_at, w_is_transposed: true, y, scale: 1.0, bias: None };
    device.gemm(&gemm).expect("a product");
    for (at, found) in words(device, y.address, m * n).into_iter().enumerate() {
        let sum: i32 = (0..k).map(|i| i32::from(x[at / n * k + i] as i8) * i32::from(w[at % n * k + i] as i8)).sum();
        assert_eq!(found as i32, sum);
    }
    let error = device.gemm(&Gemm { scale: 2.0, ..gemm }).expect_err("bytes have no scale");
    assert!(error.to_string().contains("no product of I8 and I8 gives I32 with scale 2"), "{error}");
    for gemm in [Gemm { n: 5, ..gemm }, Gemm { k: 30, ..gemm }, Gemm { w_is_transposed: false, ..gemm }] {
        let error = device.gemm(&gemm).expect_err("bytes are read in words");
        assert!(error.to_string().contains("in multiples of 4"), "{error}");
    }
}
