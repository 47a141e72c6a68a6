//! Which algorithm of cuBLASLt was the fastest for a product, for this process and the next.
//!
//! Its description is 64 bytes that may be stored, for the same version of the library and the same device.

use super::cache::{Cache, hash_of};
use crate::backend::cuda::driver::Properties;
use cudarc::cublaslt::sys::cublasLtMatmulAlgo_t;
use std::collections::HashMap;

/// What was found, by the names of products.
#[derive(Debug)]
pub struct Fastest {
    cache: Cache,
    file: String,
    known: HashMap<String, [u64; 8]>,
}

impl Fastest {
    /// What earlier processes found for such a device and this version of the library.
    pub fn new(cache: Cache, properties: &Properties, version: usize) -> Fastest {
        let device = format!("{} {} {version}", properties.name, properties.multiprocessors);
        let file = format!("fastest-{:032x}.txt", hash_of(&[device.as_bytes()]));
        let known = cache.lines(&file).iter().filter_map(|line| parse(line)).collect();
        Fastest { cache, file, known }
    }

    /// What is known for a product.
    pub fn get(&self, product: &str) -> Option<cublasLtMatmulAlgo_t> {
        self.known.get(product).map(|data| cublasLtMatmulAlgo_t { data: *data })
    }

    /// Takes note of what was found.
    pub fn set(&mut self, product: String, algorithm: cublasLtMatmulAlgo_t) {
        self.cache.add_line(&self.file, &line(&product, &algorithm.data));
        self.known.insert(product, algorithm.data);
    }
}

/// `hash; algorithm; product`.
fn line(product: &str, algorithm: &[u64; 8]) -> String {
    let words: Vec<String> = algorithm.iter().map(|word| format!("{word:016x}")).collect();
    let content = format!("{}; {product}", words.join(" "));
    format!("{:032x}; {content}", hash_of(&[content.as_bytes()]))
}

/// `None` for a line that is not whole: the library would believe whatever stands in it.
fn parse(line: &str) -> Option<(String, [u64; 8])> {
    let (hash, content) = line.split_once("; ")?;
    if u128::from_str_radix(hash, 16).ok()? != hash_of(&[content.as_bytes()]) {
        return None;
    }
    let (words, product) = content.split_once("; ")?;
    let words: Vec<u64> = words.split(' ').map(|word| u64::from_str_radix(word, 16).ok()).collect::<Option<_>>()?;
    Some((product.to_owned(), words.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{line, parse};

    #[test]
    fn a_line_says_what_was_found() {
        let algorithm = [0, 1, u64::MAX, 3, 4, 5, 6, 7];
        let whole = line("F8 to Bf16; and more", &algorithm);
        assert_eq!(parse(&whole), Some(("F8 to Bf16; and more".to_owned(), algorithm)));
        for broken in [&whole[1..], &whole[..whole.len() - 1], &whole.replace("ffff", "fffe"), "", "; ; "] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }
}
