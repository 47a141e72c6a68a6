//! Tests of the real device. Where there is none, each says so and is over.

use super::device::Native;
use super::narrow;
use crate::Error;
use crate::backend::cuda::driver::{Address, Args, Driver, Element, Gemm, Launch, MatrixAt, Recordable};
use std::time::{Duration, Instant};

/// Bytes for which uploads go through both staging buffers more than once, and not evenly.
const LARGE: usize = (100 << 20) + 3;

/// Values behind each row of a matrix, which nobody may read or write.
const PAST_ROWS: usize = 16;

fn gpu(test: &str) -> Option<Native> {
    match Native::open(0) {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            println!("{test} is skipped: {}", error.to_string().lines().next().unwrap_or_default());
            None
        }
    }
}

fn pattern(len: usize, step: usize) -> Vec<u8> {
    (0..len).map(|i| (i * step % 251) as u8).collect()
}

fn placed(gpu: &Native, bytes: &[u8]) -> Address {
    let address = gpu.allocate(bytes.len()).expect("memory");
    gpu.upload(address, bytes).expect("an upload");
    address
}

fn read(gpu: &Native, address: Address, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    gpu.download(address, &mut bytes).expect("a download");
    bytes
}

#[test]
fn what_is_uploaded_is_downloaded() {
    let Some(gpu) = gpu("what_is_uploaded_is_downloaded") else { return };
    for len in [0, 1, 4096, LARGE] {
        let mut bytes = pattern(len, 7);
        let address = placed(&gpu, &bytes);
        assert_eq!(address.0 % 256, 0);
        let copy = gpu.allocate(len).expect("memory");
        gpu.copy(copy, address, len).expect("a copy");
        let expected = bytes.clone();
        bytes.fill(0);
        assert!(read(&gpu, copy, len) == expected, "{len} bytes, though the source has changed since");
        gpu.free(address);
        gpu.free(copy);
    }
    let start = Instant::now();
    let address = placed(&gpu, &pattern(LARGE, 3));
    gpu.wait(gpu.mark().expect("a moment")).expect("the copy");
    println!("uploading {LARGE} bytes took {:?}", start.elapsed());
    gpu.free(address);
}

#[test]
fn a_kernel_is_run_over_its_arguments() {
    let Some(gpu) = gpu("a_kernel_is_run_over_its_arguments") else { return };
    let values: Vec<u8> =
        [1.0f32, -2.5, 1.001_953_2, 1.005_859_4].iter().flat_map(|value| value.to_le_bytes()).collect();
    let from = placed(&gpu, &values);
    let to = placed(&gpu, &[0xee; 8]);
    let args = Args::new().address(to).address(from).size(3);
    let launch = |kernel| {
        let args = args.clone();
        gpu.launch(&Launch { source: narrow::SOURCE, kernel, grid: [1, 1, 1], threads: 32, shared_bytes: 0, args })
    };
    launch(narrow::BF16).expect("a kernel");
    let words = [0x3f80u16, 0xc020, 0x3f80, 0xeeee].map(u16::to_le_bytes).concat();
    assert_eq!(read(&gpu, to, 8), words, "rounded to even, and no further than it was told");
    let error = launch("nothing").expect_err("no such kernel").to_string();
    assert!(error.starts_with("cuda:0: the kernel nothing of narrow.cu: CUDA_ERROR_NOT_FOUND"), "{error}");
    let error = gpu.launch(&Launch {
        source: narrow::SOURCE,
        kernel: narrow::BF16,
        grid: [1, 1, 1],
        threads: 32,
        shared_bytes: 16 << 20,
        args: args.clone(),
    });
    let error = error.expect_err("too much shared memory").to_string();
    assert!(error.contains("16777216 bytes of shared memory for narrow.cu"), "{error}");
}

#[test]
fn too_much_memory_is_an_error_that_says_what_is_free() {
    let Some(gpu) = gpu("too_much_memory_is_an_error_that_says_what_is_free") else { return };
    match gpu.allocate(1 << 50) {
        Err(Error::Memory { device, asked_bytes, free_bytes }) => {
            assert_eq!((device.as_str(), asked_bytes), ("cuda:0", 1 << 50));
            assert!(free_bytes > 0 && free_bytes <= gpu.properties().memory_bytes);
        }
        other => panic!("{other:?}"),
    }
    let address = gpu.allocate(1 << 20).expect("there is memory for less");
    gpu.free(address);
}

#[test]
fn copies_ahead_keep_to_their_moments() {
    let Some(gpu) = gpu("copies_ahead_keep_to_their_moments") else { return };
    let (first, second) = (pattern(LARGE, 3), pattern(LARGE, 5));
    let weights = placed(&gpu, &first);
    let pinned = gpu.pin(&second).expect("pinned memory");
    let copy = gpu.allocate(LARGE).expect("memory");
    gpu.copy(copy, weights, LARGE).expect("a copy");
    let read_of_first = gpu.mark().expect("a moment");
    let there = gpu.upload_ahead(weights, pinned, read_of_first).expect("a copy ahead");
    gpu.follow(there).expect("an order");
    let later = gpu.allocate(LARGE).expect("memory");
    gpu.copy(later, weights, LARGE).expect("a copy");
    gpu.forget(there);
    gpu.forget(read_of_first);
    gpu.unpin(pinned);
    assert!(read(&gpu, copy, LARGE) == first, "the copy ahead waited");
    assert!(read(&gpu, later, LARGE) == second, "and was waited for");
    [weights, copy, later].into_iter().for_each(|address| gpu.free(address));
}

#[test]
fn time_passes_between_moments() {
    let Some(gpu) = gpu("time_passes_between_moments") else { return };
    let from = gpu.mark().expect("a moment");
    let start = Instant::now();
    let address = placed(&gpu, &pattern(LARGE, 1));
    let to = gpu.mark().expect("a moment");
    gpu.wait(to).expect("the work");
    let (wall, passed) = (start.elapsed(), gpu.elapsed(from, to).expect("a time"));
    assert!(passed > Duration::ZERO && passed < wall + Duration::from_millis(50), "{passed:?} of {wall:?}");
    gpu.free(address);
}

/// A product whose factors are -1, 0 and 1, so that sums are exact in every element.
struct Exact {
    gemm: Gemm,
    expected: Vec<f32>,
    bytes_of_y: usize,
}

fn encode(element: Element, value: i32) -> Vec<u8> {
    match (element, value) {
        (Element::F32, _) => (value as f32).to_le_bytes().to_vec(),
        (Element::Bf16, _) => (value as f32).to_le_bytes()[2..].to_vec(),
        (Element::F16, _) => [0xbc00u16, 0, 0x3c00][(value + 1) as usize].to_le_bytes().to_vec(),
        (Element::F8, _) => vec![[0xb8, 0, 0x38][(value + 1) as usize]],
        (Element::I8 | Element::I32, _) => vec![value as i8 as u8],
    }
}

fn decode(element: Element, bytes: &[u8]) -> f32 {
    let half = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]);
    match element {
        Element::I32 => i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as f32,
        Element::F32 => f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        Element::Bf16 => f32::from_bits(u32::from(half(bytes)) << 16),
        Element::F16 => {
            let bits = half(bytes);
            let (sign, exponent, fraction) = (bits >> 15, i32::from(bits >> 10 & 31), f32::from(bits & 1023));
            let size = if exponent == 0 {
                fraction / 1024.0 / 16384.0
            } else {
                (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15)
            };
            if sign == 1 { -size } else { size }
        }
        Element::F8 | Element::I8 => panic!("no result is of {element:?}"),
    }
}

/// Rows of -1, 0 and 1, with no pattern that a mistake would keep.
fn ternary(rows: usize, cols: usize, seed: usize) -> Vec<i32> {
    (0..rows * cols).map(|at| ((at / cols * (7 + seed) + at % cols * 5 + at % cols / 7) % 3) as i32 - 1).collect()
}

/// A matrix in device memory whose rows are longer than what is used of them.
fn matrix(gpu: &Native, element: Element, values: &[i32], cols: usize) -> MatrixAt {
    let rows = values.chunks(cols).map(|row| row.iter().copied().chain([1; PAST_ROWS]));
    let bytes: Vec<u8> = rows.flatten().flat_map(|value| encode(element, value)).collect();
    MatrixAt { address: placed(gpu, &bytes), element, stride: cols + PAST_ROWS }
}

fn exact(gpu: &Native, [m, n, k]: [usize; 3], [x, y]: [Element; 2], w_is_transposed: bool, bias: bool) -> Exact {
    let (x_values, w_values) = (ternary(m, k, 0), ternary(n, k, 4));
    let w = match w_is_transposed {
        true => matrix(gpu, x, &w_values, k),
        false => {
            let turned: Vec<i32> = (0..k * n).map(|at| w_values[at % n * k + at / n]).collect();
            matrix(gpu, x, &turned, n)
        }
    };
    let biases: Vec<f32> = (0..n).map(|col| if bias { (col % 9) as f32 } else { 0.0 }).collect();
    let scale = if x == Element::I8 { 1.0 } else { 0.5 };
    let expected = (0..m * n).map(|at| {
        let (row, col) = (at / n, at % n);
        let (x, w) = (&x_values[row * k..][..k], &w_values[col * k..][..k]);
        x.iter().zip(w).map(|(x, w)| x * w).sum::<i32>() as f32 * scale + biases[col]
    });
    let expected = expected.collect();
    let stride = n + PAST_ROWS;
    let bytes_of_y = m * stride * y.bytes();
    let y = MatrixAt { address: placed(gpu, &vec![0xff; bytes_of_y]), element: y, stride };
    let bias = bias.then(|| placed(gpu, &biases.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>()));
    let x = matrix(gpu, x, &x_values, k);
    Exact { gemm: Gemm { m, n, k, x, w, w_is_transposed, y, scale, bias }, expected, bytes_of_y }
}

fn check(gpu: &Native, exact: &Exact) {
    let Exact { gemm, expected, bytes_of_y } = exact;
    gpu.gemm(gemm).unwrap_or_else(|error| panic!("{error}"));
    let (bytes, size) = (read(gpu, gemm.y.address, *bytes_of_y), gemm.y.element.bytes());
    for (row, bytes) in bytes.chunks(gemm.y.stride * size).enumerate() {
        let (used, beyond) = bytes.split_at(gemm.n * size);
        let values: Vec<f32> = used.chunks(size).map(|bytes| decode(gemm.y.element, bytes)).collect();
        assert_eq!(values, expected[row * gemm.n..][..gemm.n], "row {row} of {gemm:?}");
        assert!(beyond.iter().all(|byte| *byte == 0xff), "beyond row {row} of {gemm:?}");
    }
    let factors = [gemm.x.address, gemm.w.address, gemm.y.address].into_iter();
    factors.chain(gemm.bias).for_each(|address| gpu.free(address));
}

#[test]
fn products_are_exact_where_they_can_be() {
    let Some(gpu) = gpu("products_are_exact_where_they_can_be") else { return };
    use Element::{Bf16, F8, F16, F32, I8, I32};
    let capability = gpu.properties().capability;
    for elements in [[F32, F32], [Bf16, Bf16], [Bf16, F32], [F16, F16], [F16, F32], [F8, Bf16], [F8, F32], [I8, I32]] {
        let bytes = matches!(elements[0], F8 | I8);
        let needed = match elements[0] {
            F8 => (8, 9),
            Bf16 => (8, 0),
            _ => (7, 5),
        };
        let transposed = [true, false].into_iter().filter(|transposed| *transposed || !bytes);
        let biases = [false, true].into_iter().filter(|bias| !bias || elements[0] != I8);
        for (transposed, bias) in transposed.flat_map(|transposed| biases.clone().map(move |bias| (transposed, bias))) {
            for shape in [[5, 48, 64], [1, 16, 32], [130, 64, 48]] {
                if capability >= needed {
                    check(&gpu, &exact(&gpu, shape, elements, transposed, bias));
                }
            }
        }
    }
}

#[test]
fn recorded_work_is_done_when_it_is_replayed() {
    let Some(gpu) = gpu("recorded_work_is_done_when_it_is_replayed") else { return };
    // Large enough that its algorithm is chosen by timing, which must be over before the work is captured.
    let Exact { gemm, expected, bytes_of_y } = exact(&gpu, [1000, 1024, 512], [Element::F16, Element::F16], true, true);
    let bytes_of_x = 1000 * gemm.x.stride * 2;
    let (given, words) = (placed(&gpu, &read(&gpu, gemm.x.address, bytes_of_x)), placed(&gpu, &[0; 16]));
    let args = Args::new().address(words.offset(8)).address(words).size(2);
    let narrow =
        Launch { source: narrow::SOURCE, kernel: narrow::BF16, grid: [1; 3], threads: 32, shared_bytes: 0, args };
    let recording = gpu.record(&[
        Recordable::Copy { to: gemm.x.address, from: given, bytes: bytes_of_x },
        Recordable::Fill { to: words, word: 1.5f32.to_bits(), count: 2 },
        Recordable::Launch(narrow),
        Recordable::Gemm(gemm),
    ]);
    let recording = recording.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(read(&gpu, words, 16), [0; 16], "nothing is done yet");
    let product = || -> Vec<f32> {
        let bytes = read(&gpu, gemm.y.address, bytes_of_y);
        let rows = bytes.chunks(gemm.y.stride * 2);
        rows.flat_map(|row| row[..gemm.n * 2].chunks(2).map(|value| decode(Element::F16, value))).collect()
    };
    gpu.replay(recording).expect("a replay");
    assert!(product() == expected);
    assert_eq!(read(&gpu, words, 12)[8..], [0xc0, 0x3f, 0xc0, 0x3f]);
    gpu.upload(given, &vec![0; bytes_of_x]).expect("an upload");
    gpu.replay(recording).expect("another replay");
    let biases: Vec<f32> = (0..expected.len()).map(|at| (at % gemm.n % 9) as f32).collect();
    assert!(product() == biases, "of other values");
    gpu.forget_recording(recording);
    let factors = [gemm.x.address, gemm.w.address, gemm.y.address, given, words].into_iter();
    factors.chain(gemm.bias).for_each(|address| gpu.free(address));
}

#[test]
fn the_fastest_algorithm_serves_near_sizes() {
    let Some(gpu) = gpu("the_fastest_algorithm_serves_near_sizes") else { return };
    for m in [1000, 1001, 1024] {
        let start = Instant::now();
        let product = exact(&gpu, [m, 1024, 512], [Element::F16, Element::F32], true, true);
        check(&gpu, &product);
        println!("{m} rows took {:?}", start.elapsed());
    }
}

#[test]
fn an_impossible_product_is_named() {
    let Some(gpu) = gpu("an_impossible_product_is_named") else { return };
    let mut product = exact(&gpu, [4, 16, 32], [Element::F16, Element::F16], true, false).gemm;
    product.y.element = Element::I32;
    let error = gpu.gemm(&product).expect_err("an error").to_string();
    assert!(error.starts_with("cuda:0: cannot multiply (4, 32) by (16, 32) of F16 to I32"), "{error}");
}
