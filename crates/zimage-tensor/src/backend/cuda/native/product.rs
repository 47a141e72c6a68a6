//! How a product of ours is one of cuBLASLt's.
//!
//! Its matrices lie column by column, so what is `(m, n)` row by row to us is `(n, m)` to it, and what we call
//! `y = x w^T` it calls `y^T = w x^T`, of an `n x k` and a `k x m` matrix:
//!
//! ```text
//!              ours, row by row    its own, column by column              op    rows of it are
//! A = w        (n, k), stride s    k x n, leading dimension s             T     contiguous in k
//! A = w        (k, n), stride s    n x k, leading dimension s             N     contiguous in n
//! B = x        (m, k), stride s    k x m, leading dimension s             N     contiguous in k
//! C = D = y    (m, n), stride s    n x m, leading dimension s                   contiguous in n
//! ```
//!
//! So a leading dimension is always the stride, nothing is ever copied, and a bias of one value per column of ours is
//! its `CUBLASLT_EPILOGUE_BIAS`, of one value per row of D.

use crate::backend::cuda::driver::{Element, Gemm, MatrixAt};

/// A matrix as cuBLASLt sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Columns {
    pub element: Element,
    pub rows: usize,
    pub cols: usize,
    pub leading: usize,
    /// The largest power of two, up to 256, that its address is a multiple of.
    pub alignment: u32,
}

impl Columns {
    fn of(rows: usize, cols: usize, at: &MatrixAt) -> Columns {
        let alignment = 1 << at.address.0.trailing_zeros().min(8);
        Columns { element: at.element, rows, cols, leading: at.stride, alignment }
    }
}

/// A product as cuBLASLt sees it, without its addresses. Equal ones take equally long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Product {
    pub a: Columns,
    pub a_is_turned: bool,
    pub b: Columns,
    pub d: Columns,
    /// The element that a bias must have, if there is one.
    pub bias: Option<Element>,
}

impl Product {
    /// Of a product of ours.
    ///
    /// # Errors
    /// What it demands that this one is not.
    pub fn of(gemm: &Gemm) -> Result<Product, String> {
        let Gemm { m, n, k, x, w, y, .. } = gemm;
        assert_eq!(x.element, w.element, "factors of two elements: this is a bug");
        let (rows, cols) = if gemm.w_is_transposed { (*k, *n) } else { (*n, *k) };
        let product = Product {
            a: Columns::of(rows, cols, w),
            a_is_turned: gemm.w_is_transposed,
            b: Columns::of(*k, *m, x),
            d: Columns::of(*n, *m, y),
            bias: gemm.bias.map(|_| bias_element(x.element, y.element)),
        };
        match product.demands().into_iter().find(|(met, _)| !met) {
            None if gemm.scale == 1.0 || x.element != Element::I8 => Ok(product),
            None => Err(format!("a product of bytes has no factor, and this has {}", gemm.scale)),
            Some((_, demand)) => Err(format!(
                "cannot multiply ({m}, {k}) by ({n}, {k}) of {:?} to {:?}: {demand}; strides are {}, {} and {}",
                x.element, y.element, x.stride, w.stride, y.stride
            )),
        }
    }

    /// What cuBLASLt demands of the elements, and whether it is met.
    fn demands(&self) -> Vec<(bool, String)> {
        use Element::{Bf16, F8, F16, F32, I8, I32};
        let Product { a, b, d, .. } = self;
        let results: &[Element] = match a.element {
            F32 => &[F32],
            Bf16 => &[Bf16, F32],
            F16 => &[F16, F32],
            F8 => &[Bf16, F32],
            I8 => &[I32],
            I32 => &[],
        };
        let mut demands = vec![(results.contains(&d.element), format!("the result may be of {results:?}"))];
        // Rows of bytes are read in whole words: of 16 bytes for fp8, of 4 for integers.
        let unit = match a.element {
            F8 => 16,
            I8 => 4,
            _ => return demands,
        };
        let sizes = [d.rows, a.leading, b.leading, d.leading];
        let whole = b.rows.is_multiple_of(unit) && sizes.iter().all(|size| size.is_multiple_of(unit));
        let aligned = [a, b, d].iter().all(|matrix| matrix.alignment as usize >= unit);
        demands.push((self.a_is_turned, "the right factor must be stored as (n, k)".to_owned()));
        demands.push((whole, format!("n, k and the strides must be multiples of {unit}")));
        demands.push((aligned, format!("addresses must be multiples of {unit}")));
        demands.push((a.element == F8 || self.bias.is_none(), "a product of bytes has no bias".to_owned()));
        demands
    }

    /// About the same size: algorithms are chosen for a range of rows of ours, in steps of an eighth, since the number
    /// of rows follows the length of a text.
    pub fn name(&self) -> String {
        let Product { a, a_is_turned, b, d, bias } = self;
        let rows = d.cols.next_multiple_of((d.cols.next_power_of_two() / 8).max(1));
        let leading = [a.leading, b.leading, d.leading];
        let alignments = [a.alignment, b.alignment, d.alignment];
        format!(
            "{:?} to {:?}, {rows} {} {}, {leading:?}, {alignments:?}, turned {a_is_turned}, bias {bias:?}",
            a.element, d.element, d.rows, b.rows
        )
    }

    /// Operations that it takes.
    pub fn flop(&self) -> f64 {
        2.0 * self.d.rows as f64 * self.d.cols as f64 * self.b.rows as f64
    }
}

/// The element of a bias: the result's, but 16 bits for fp8, whatever the result is.
fn bias_element(factors: Element, result: Element) -> Element {
    if factors == Element::F8 { Element::Bf16 } else { result }
}

#[cfg(test)]
mod tests {
    use super::{Columns, Product};
    use crate::backend::cuda::driver::{Address, Element, Gemm, MatrixAt};

    fn gemm([m, n, k]: [usize; 3], [x, w, y]: [usize; 3], element: Element, w_is_transposed: bool) -> Gemm {
        let at = |stride, element| MatrixAt { address: Address(256), element, stride };
        let (x, w, y) = (at(x, element), at(w, element), at(y, Element::F32));
        Gemm { m, n, k, x, w, w_is_transposed, y, scale: 1.0, bias: None }
    }

    /// A value of a matrix that lies column by column.
    fn value(values: &[f32], columns: &Columns, row: usize, col: usize) -> f32 {
        assert!(row < columns.rows && col < columns.cols && columns.rows <= columns.leading);
        values[col * columns.leading + row]
    }

    #[test]
    fn a_product_by_columns_is_ours_by_rows() {
        let ([m, n, k], [xs, ws_by_n, ws_by_k, ys]) = ([3, 4, 5], [6, 7, 8, 9]);
        let x: Vec<f32> = (0..m * xs).map(|i| (i % 7) as f32).collect();
        let w: Vec<f32> = (0..n.max(k) * 9).map(|i| (i % 5) as f32 - 2.0).collect();
        for transposed in [true, false] {
            let ws = if transposed { ws_by_n } else { ws_by_k };
            let product = Product::of(&gemm([m, n, k], [xs, ws, ys], Element::F32, transposed)).expect("a product");
            let Product { a, b, d, .. } = product;
            for (row, col) in (0..m).flat_map(|row| (0..n).map(move |col| (row, col))) {
                let at = |i: usize| if transposed { w[col * ws + i] } else { w[i * ws + col] };
                let ours: f32 = (0..k).map(|i| x[row * xs + i] * at(i)).sum();
                let of_a = |i| if product.a_is_turned { value(&w, &a, i, col) } else { value(&w, &a, col, i) };
                let theirs: f32 = (0..k).map(|i| of_a(i) * value(&x, &b, i, row)).sum();
                assert_eq!(ours, theirs);
                assert_eq!(row * ys + col, row * d.leading + col, "row `col` and column `row` of D");
                assert!(col < d.rows && row < d.cols);
            }
        }
    }

    #[test]
    fn what_cublaslt_demands_is_said() {
        let error = |gemm: &Gemm| Product::of(gemm).expect_err("a demand that is not met");
        let fp8 = gemm([5, 32, 64], [64, 64, 32], Element::F8, true);
        assert!(Product::of(&fp8).is_ok());
        assert!(error(&Gemm { w_is_transposed: false, ..fp8 }).contains("stored as (n, k)"));
        assert!(error(&Gemm { k: 40, ..fp8 }).contains("multiples of 16"));
        let mut odd = fp8;
        odd.x.address = Address(8);
        assert!(error(&odd).contains("addresses must be multiples of 16"));
        let bytes = gemm([5, 8, 12], [12, 12, 8], Element::I8, true);
        assert!(error(&bytes).contains("the result may be of [I32]"));
        let bytes = Gemm { y: MatrixAt { element: Element::I32, ..bytes.y }, ..bytes };
        assert!(Product::of(&bytes).is_ok());
        assert!(error(&Gemm { n: 6, ..bytes }).contains("multiples of 4"));
        assert!(error(&Gemm { bias: Some(Address(256)), ..bytes }).contains("no bias"));
        assert!(error(&Gemm { scale: 0.5, ..bytes }).contains("no factor"));
    }

    #[test]
    fn a_bias_has_the_element_that_is_asked_for() {
        let with_bias = |x, y| {
            let gemm = gemm([16, 16, 16], [16, 16, 16], x, true);
            let gemm = Gemm { y: MatrixAt { element: y, ..gemm.y }, bias: Some(Address(256)), ..gemm };
            Product::of(&gemm).expect("a product").bias
        };
        assert_eq!(with_bias(Element::F32, Element::F32), Some(Element::F32));
        assert_eq!(with_bias(Element::Bf16, Element::Bf16), Some(Element::Bf16));
        assert_eq!(with_bias(Element::F16, Element::F32), Some(Element::F32));
        assert_eq!(with_bias(Element::F8, Element::F32), Some(Element::Bf16));
    }

    #[test]
    fn near_numbers_of_rows_share_an_algorithm() {
        let name = |m| Product::of(&gemm([m, 64, 64], [64; 3], Element::Bf16, true)).expect("a product").name();
        assert_eq!(name(4130), name(4200));
        assert_ne!(name(4096), name(2048));
        assert_ne!(name(1), name(2));
    }
}
