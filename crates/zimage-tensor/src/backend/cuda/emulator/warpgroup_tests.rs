//! What products of warpgroups mean here: factors in shared memory are laid out by the table of canonical layouts in
//! the PTX manual.

use super::super::driver::{Args, Driver};
use super::tests::{device, encoded, floats, launch, put, values};
use zimage_kernels::blocks::Encoder;

const ROWS: usize = 64;
const COLUMNS: usize = 128;
const DEPTH: usize = 16;
/// Where the right factor begins, and the image of shared memory ends.
const B_AT: usize = 32 << 10;
const IMAGE: usize = 96 << 10;

/// How a factor lies.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// The number of the mode in a descriptor.
    mode: u32,
    /// Chunks of 16 bytes that the mode exchanges.
    chunks: usize,
    /// MN-major.
    across: bool,
    leading: usize,
    stride: usize,
}

impl Layout {
    fn all(across: bool) -> [Layout; 4] {
        [(0, 1), (1, 8), (2, 4), (3, 2)].map(|(mode, chunks)| {
            let stride = if mode == 0 { 256 } else { 2048 };
            Layout { mode, chunks, across, leading: 8192, stride }
        })
    }

    /// Bytes from the begin of the factor to a value, by the manual's `((T,1,m),(8,k)):((1,T,SBO),(1T,LBO))` and so on,
    /// where T is 8, and `Swizzle<log2(chunks), 4, 3>` after it.
    fn place(self, i: usize, k: usize) -> usize {
        let Layout { chunks, leading, stride, .. } = self;
        // From the inside to the outside: how many, and bytes from each to the next.
        let (of_i, of_k) = match (self.across, self.mode) {
            (true, 0) => ([(8, 2), (1, 16), (16, stride)], [(8, 16), (2, leading)]),
            (true, _) => ([(8, 2), (chunks, 16), (16, leading)], [(8, chunks * 16), (2, stride)]),
            (false, 0) => ([(8, 16), (16, stride), (1, 0)], [(8, 2), (2, leading)]),
            (false, _) => ([(8, chunks * 16), (16, stride), (1, 0)], [(8, 2), (2, 16)]),
        };
        let offset = |index: usize, modes: &[(usize, usize)]| {
            modes.iter().fold((index, 0), |(index, at), (count, step)| (index / count, at + index % count * step)).1
        };
        let at = offset(i, &of_i) + offset(k, &of_k);
        at ^ ((at >> 7) & (chunks - 1)) << 4
    }

    /// Both halves of a descriptor without its begin.
    fn describe(self, args: Args) -> Args {
        args.size((self.leading >> 4) << 16).size(self.stride >> 4 | (self.mode as usize) << 30)
    }
}

/// Runs `multiply_together` over (64, 16) and (16, 128).
fn multiply(device: &dyn Driver, [a, b]: [Layout; 2], left_out: usize) -> crate::Result<Vec<f32>> {
    let (x, w) = factors();
    let mut image = vec![0xff; IMAGE];
    let mut lay = |layout: Layout, begin: usize, bytes: &[u8], rows: usize, at: &dyn Fn(usize, usize) -> usize| {
        for (i, k) in (0..rows).flat_map(|i| (0..DEPTH).map(move |k| (i, k))) {
            image[begin + layout.place(i, k)..][..2].copy_from_slice(&bytes[2 * at(i, k)..][..2]);
        }
    };
    let (x, w) = (encoded(Encoder::BF16, &x), encoded(Encoder::BF16, &w));
    lay(a, 0, &x, ROWS, &|i, k| i * DEPTH + k);
    lay(b, B_AT, &w, COLUMNS, &|j, k| k * COLUMNS + j);
    multiply_image(device, &x, &image, [a, b], left_out)
}

fn multiply_image(
    device: &dyn Driver,
    x: &[u8],
    image: &[u8],
    [a, b]: [Layout; 2],
    left_out: usize,
) -> crate::Result<Vec<f32>> {
    let out = device.allocate(4 * ROWS * COLUMNS).expect("memory");
    let args = Args::new().address(out).address(put(device, x)).address(put(device, image)).size(IMAGE);
    let args = b.describe(a.describe(args)).size(B_AT).size(b.across.into()).size(left_out);
    device.launch(&launch("multiply_together", 1, 128, IMAGE as u32 + 1024, args))?;
    Ok(floats(device, out, ROWS * COLUMNS))
}

/// Multiples of 1/16 up to 3.2, which are exact.
fn factors() -> (Vec<f32>, Vec<f32>) {
    (values(ROWS * DEPTH), values(DEPTH * COLUMNS + 5)[5..].to_vec())
}

#[test]
fn warpgroups_multiply_as_matrices_do_in_every_layout() {
    let device = &*device();
    let (x, w) = factors();
    for across in [false, true] {
        for layouts in Layout::all(false).map(|a| Layout::all(across).map(|b| [a, b])).concat() {
            let found = multiply(device, layouts, 0).expect("a product");
            for (at, found) in found.into_iter().enumerate() {
                let (i, j) = (at / COLUMNS, at % COLUMNS);
                let sum = (0..DEPTH).map(|k| x[i * DEPTH + k] * w[k * COLUMNS + j]).sum::<f32>();
                let expected = if across { 1.0 + sum } else { 2.0 * sum };
                assert!((found - expected).abs() < 1e-3, "{layouts:?} {i} {j}: {found} for {expected}");
            }
        }
    }
}

#[test]
fn what_a_product_needs_around_it_is_missed() {
    let device = &*device();
    let layouts = [Layout::all(false)[1], Layout::all(false)[1]];
    let told = [
        "a product reads a copy that no fence made visible to it",
        "no fence stands between a thread's registers and a product that takes them",
        "nobody waits for a product of a warpgroup",
        "the warps of a warpgroup do not all wait for its products",
        "the threads of a warpgroup do not all ask for the same product",
    ];
    for (left_out, told) in (1..).zip(told) {
        let error = multiply(device, layouts, left_out).expect_err(told).to_string();
        assert!(error.contains(told), "{error}");
    }
    let outside = [layouts[0], Layout { stride: 1 << 17, ..layouts[1] }];
    let error = multiply_image(device, &[0; 2 * ROWS * DEPTH], &[0; IMAGE], outside, 0);
    let error = error.expect_err("it is outside").to_string();
    assert!(error.contains("a factor is not within shared memory"), "{error}");
}
